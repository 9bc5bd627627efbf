"""Requests that no client should send: drawn field by field, broken on the wire, or noise; the same for the same seed."""

from __future__ import annotations

import random
from functools import cache
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from terrace.v1 import recommendation_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.message import Message

T = TypeVar("T")
RawRequest: TypeAlias = tuple[str, bytes]
"""Name of a method and the bytes of its request."""

MARKER = "hunter2"
"""Stands in whatever drawn text breaks a bound; nothing that a server says may repeat it."""
KINDS: dict[str, type[Message]] = {
    "Recommend": pb.RecommendRequest,
    "SimilarItems": pb.SimilarItemsRequest,
    "RankItems": pb.RankItemsRequest,
}
# The first three of each are good.
_USERS = ("ada", "bob", "Aa0_:.@-+/=| é", "", "a" * 257, f"{MARKER}\t", f"{MARKER}\0", f"\x85{MARKER}", "é" * 300)
_ITEMS = ("item-11", "item-02", "item-59", "", "unheard-of", MARKER * 40, "é" * 129, f"\0{MARKER}", "\U0010ffff")
_NAMES = ("view", "purchase", "dismiss", "", "V", f"{MARKER}!", "a" * 65, "\ud7ff", "null\0")
_LIMITS = (1, 20, 200, 0, 201, -1, 10**9, 2**31 - 1, -(2**31))
_NUMBERS = (0.0, 1.0, 2.5, -0.0, 1e308, 5e-324, -1.0, float("nan"), float("inf"), float("-inf"))
_SECONDS = (0, 1, 999, 2**31, -1, -(2**63), 2**63 - 1, 253_402_300_800, -62_135_596_801)
_NANOS = (0, 1, 999_999_999, -1, 10**9, 2**31 - 1, -(2**31))
_SIZES = (0, 1, 5, 0, 21, 101, 501, 1001)
_BYTES = 240 * 1024
"""Longest request made: what is longer never reaches the program (``server.app.MAX_MESSAGE_BYTES``)."""


class Fuzzer:
    """Draws requests; every method in turn, every way of making them as often as ``_WAYS`` says."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._seeds = {name: [m.SerializeToString(deterministic=True) for m in good(name)] for name in KINDS}

    def requests(self, count: int) -> Iterator[RawRequest]:
        """So many requests, the next ones of the sequence."""
        names = tuple(KINDS)
        for number in range(count):
            name = names[number % len(names)]
            way = self._rng.choice(_WAYS)
            yield name, way(self, name)[:_BYTES]

    def _drawn(self, name: str) -> bytes:
        """A message whose every field is drawn from values of all sorts."""
        return self._DRAW[name](self).SerializeToString(deterministic=True)

    def _noise(self, _: str) -> bytes:
        return self._rng.randbytes(self._rng.choice((0, 1, 2, 10, 100, 2000)))

    def _flipped(self, name: str) -> bytes:
        """A good message with up to eight bits turned."""
        data = bytearray(self._seed(name))
        for _ in range(self._rng.randint(1, 8)):
            data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
        return bytes(data)

    def _spliced(self, name: str) -> bytes:
        """The head of one message and the tail of another, of any method."""
        head, tail = self._seed(name), self._seed(self._rng.choice(tuple(KINDS)))
        return head[: self._rng.randint(0, len(head))] + tail[self._rng.randint(0, len(tail)) :]

    def _stretched(self, name: str) -> bytes:
        """A byte range left out, repeated, or replaced by bytes of the longest numbers."""
        data = self._seed(name)
        start, end = sorted(self._rng.randint(0, len(data)) for _ in range(2))
        middle = self._rng.choice((b"", data[start:end] * self._rng.choice((2, 100)), b"\xff" * (end - start)))
        return data[:start] + middle + data[end:]

    def _cut(self, name: str) -> bytes:
        data = self._seed(name)
        return data[: self._rng.randint(0, len(data) - 1)]

    def _with_strangers(self, name: str) -> bytes:
        """A good message and fields that nobody knows: of every wire type, groups in groups, fields of a wrong type."""
        extra = self._rng.choice(
            (
                nested_groups(self._rng.choice((1, 50, 5000))),
                nested_messages(self._rng.choice((1, 50, 5000)), field=self._rng.choice((1, 4, 6, 99))),
                _tag(self._rng.randint(1, 12), self._rng.randrange(8)) + self._rng.randbytes(9),
                _tag(2**29 - 1, 2) + b"\x03abc",
                _tag(77, 0) + b"\xff" * 9 + b"\x01",
            )
        )
        data = self._seed(name)
        return data + extra if self._rng.random() < 0.5 else extra + data

    def _good(self, name: str) -> bytes:
        return self._seed(name)

    def _seed(self, name: str) -> bytes:
        return self._rng.choice(self._seeds[name])

    def _pick(self, values: Sequence[T]) -> T:
        """Nearly always one of the good ones, so that the checks behind the first one are reached too."""
        return self._rng.choice(values if self._rng.random() < 0.06 else values[:3])

    def _some(self, values: Sequence[str]) -> list[str]:
        return [self._pick(values)] * self._pick(_SIZES)

    def _events(self) -> list[pb.Event]:
        return [self._event()] * self._pick((0, 1, 3, 100, 101))

    def _event(self) -> pb.Event:
        event = pb.Event(item_id=self._pick(_ITEMS), event_type=self._pick(_NAMES), value=self._pick(_NUMBERS))
        if self._rng.random() < 0.5:
            event.time.CopyFrom(Timestamp(seconds=self._pick(_SECONDS), nanos=self._pick(_NANOS)))
        return event

    def _filters(self) -> pb.Filters | None:
        if self._rng.random() < 0.5:
            return None
        return pb.Filters(
            categories=self._some(_NAMES),
            exclude_categories=self._some(_NAMES),
            include_unavailable=self._pick((True, False)),
            min_price=self._pick((None, 0.0, 1.0, *_NUMBERS)),
            max_price=self._pick((None, 1e9, 2.5, *_NUMBERS)),
            attributes={
                f"{self._pick(_NAMES)}{i}": pb.AttributeValues(values=["red", *self._some(_NAMES)])
                for i in range(self._pick((0, 1, 2, 20, 21)))
            },
        )

    def _recommend(self) -> pb.RecommendRequest:
        return pb.RecommendRequest(
            user_id=self._pick(_USERS),
            surface=self._pick(_NAMES),
            limit=self._pick(_LIMITS),
            filters=self._filters(),
            exclude_item_ids=self._some(_ITEMS),
            recent_events=self._events(),
            context=self._context(),
        )

    def _similar(self) -> pb.SimilarItemsRequest:
        return pb.SimilarItemsRequest(
            item_id=self._pick(_ITEMS),
            surface=self._pick(_NAMES),
            limit=self._pick(_LIMITS),
            filters=self._filters(),
            exclude_item_ids=self._some(_ITEMS),
        )

    def _rank(self) -> pb.RankItemsRequest:
        return pb.RankItemsRequest(
            user_id=self._pick(_USERS),
            surface=self._pick(_NAMES),
            item_ids=[f"item-{i:02}" for i in range(self._pick((1, 2, 60, 500)))] + self._some(_ITEMS)[:501],
            recent_events=self._events(),
            context=self._context(),
        )

    def _context(self) -> dict[str, str]:
        return {f"{self._pick(_NAMES)}{i}": self._pick(_NAMES) for i in range(self._pick((0, 1, 2, 20, 21, 500)))}

    _DRAW = {"Recommend": _recommend, "SimilarItems": _similar, "RankItems": _rank}  # noqa: RUF012 - never changed


_WAYS = (
    *(Fuzzer._drawn,) * 6,
    *(Fuzzer._flipped,) * 2,
    Fuzzer._spliced,
    Fuzzer._stretched,
    Fuzzer._cut,
    Fuzzer._with_strangers,
    Fuzzer._noise,
    Fuzzer._good,
)


def good(method: str) -> list[Message]:
    """Requests that every server answers, among them one that uses every field."""
    event = pb.Event(item_id="item-11", event_type="view", time=Timestamp(seconds=900, nanos=5), value=2.5)
    filters = pb.Filters(
        categories=["toy", "book"],
        exclude_categories=["nonsense"],
        min_price=1.0,
        max_price=25.0,
        include_unavailable=True,
        attributes={"colour": pb.AttributeValues(values=["red", "blue"])},
    )
    context = {"device": "phone", "hour": "12"}
    if method == "SimilarItems":
        return [
            pb.SimilarItemsRequest(item_id="item-11"),
            pb.SimilarItemsRequest(
                item_id="item-11", surface="page", limit=9, filters=filters, exclude_item_ids=["item-12"]
            ),
        ]
    if method == "RankItems":
        return [
            pb.RankItemsRequest(user_id="ada", item_ids=["item-11", "item-12"]),
            pb.RankItemsRequest(
                user_id="bob", surface="cart", item_ids=["item-20", "zz"], recent_events=[event], context=context
            ),
        ]
    return [
        pb.RecommendRequest(user_id="ada", recent_events=[pb.Event(item_id="item-11", event_type="view")]),
        pb.RecommendRequest(
            user_id="bob",
            surface="home",
            limit=7,
            filters=filters,
            exclude_item_ids=["item-12", "zz"],
            recent_events=[event],
            context=context,
        ),
    ]


@cache
def nested_groups(depth: int, field: int = 99) -> bytes:
    """Groups in groups, which every parser has to walk through though nobody knows the field."""
    return _tag(field, 3) * depth + _tag(field, 4) * depth


@cache
def nested_messages(depth: int, field: int = 4) -> bytes:
    """Length-prefixed fields in each other; field 4 of a request is a message, others are not."""
    data = b""
    for _ in range(depth):
        data = _tag(field, 2) + _varint(len(data)) + data
        if len(data) > _BYTES:
            break
    return data


def _tag(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)
    return bytes(data)
