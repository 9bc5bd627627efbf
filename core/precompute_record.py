"""What a run of ``terrace precompute`` notes of itself: one record for each shard, kept beside the lists that it writes.

A user's place, a hash, decides the shard and the order in which the users of a shard are computed. So the place of the
last user that was computed says which part is done, whatever order users are found in.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RECORD_FORMAT = 1
SAMPLED = 200
"""Users of a shard whose lists are read again before a version may be promoted."""
RESUMABLE_SHARE = 0.5
"""A run is gone on with until this part of the lists' lifetime has passed; after that its first lists would expire soon."""
_SHARE_BYTES = 8


class PrecomputeError(Exception):
    """A precompute cannot begin or go on, or its record cannot be read; the message says what to do."""


def place_of(user_id: str) -> str:
    """A user's place: 32 hexadecimal digits, evenly spread, the same everywhere."""
    return hashlib.blake2b(user_id.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of all users: number ``index`` of ``count``, from 0."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``index/count``.

        Raises:
            ValueError: it is none.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isascii() and count.isascii() and index.isdecimal() and count.isdecimal()):
            raise ValueError(f"{text}: expected INDEX/COUNT, such as 0/4")
        if int(index) >= int(count):
            raise ValueError(f"{text}: shards of {count} are numbered from 0 to {int(count) - 1}")
        return cls(int(index), int(count))

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        return f"{self.index}/{self.count}"

    def owns(self, place: str) -> bool:
        """Whether the user at a place belongs to this shard."""
        return int(place[: 2 * _SHARE_BYTES], 16) % self.count == self.index


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of users.

    Attributes:
        users: that were looked at: the sum of the next three and of ``failed``.

        written: have a list now.

        inactive: did nothing for longer than was asked for, and have no new list.

        no_history: nothing is known of them that the catalogue knows too.

        failed: reason -> users whom the deep rung had no answer for.

        partly_read: of those written: values of the user could not be read, and the list was made without them.

        without: source -> of those written: made without that generator.
    """

    users: int = 0
    written: int = 0
    inactive: int = 0
    no_history: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    partly_read: int = 0
    without: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(
            self.users + other.users,
            self.written + other.written,
            self.inactive + other.inactive,
            self.no_history + other.no_history,
            dict(Counter(self.failed) + Counter(other.failed)),
            self.partly_read + other.partly_read,
            dict(Counter(self.without) + Counter(other.without)),
        )

    @property
    def agree(self) -> bool:
        """Whether every user is accounted for."""
        return self.users == self.written + self.inactive + self.no_history + sum(self.failed.values())


@dataclass(frozen=True, slots=True)
class Task:
    """What a run is to do; its shards agree in everything but the shard.

    Attributes:
        version: of the bundle.

        bundle: SHA-256 of its manifest.

        items: rows of its catalogue.

        shard: which part of the users.

        users: which users there are, in words.

        limit: rows of a list at most.

        ttl_s: lifetime of a list before jitter, seconds.
    """

    version: str
    bundle: str
    items: int
    shard: Shard
    users: str
    limit: int
    ttl_s: float


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """How far a shard is.

    Attributes:
        run: id of the run that began it.

        attempt: 1, and one more each time it was gone on with.

        started_s: when it was begun, seconds since the epoch.

        updated_s: when this was written.

        position: users up to this place are done; empty = none is.

        complete: whether all are.

        counts: of the users who are done.

        sample: at most ``SAMPLED`` users with a list, drawn evenly.
    """

    task: Task
    run: str
    attempt: int
    started_s: float
    updated_s: float
    position: str = ""
    complete: bool = False
    counts: Counts = field(default_factory=Counts)
    sample: tuple[str, ...] = ()

    def after(self, position: str, counts: Counts, written: Iterable[str], now_s: float) -> ShardRecord:
        """The record once more users are done.

        Args:
            position: place of the last of them.
            counts: of them.
            written: ids of those who have a list.
            now_s: seconds since the epoch.
        """
        drawn = sorted({*self.sample, *written}, key=self._draw)[:SAMPLED]
        return replace(self, position=position, counts=self.counts + counts, sample=tuple(drawn), updated_s=now_s)

    def to_json(self) -> str:
        """The record as it is stored."""
        raw = {**asdict(self), "format_version": RECORD_FORMAT}
        raw["task"]["shard"] = str(self.task.shard)
        return json.dumps(raw, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ShardRecord:
        """The record from its stored form.

        Raises:
            PrecomputeError: it is none, or of another format.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            found = raw.pop("format_version")
            if found != RECORD_FORMAT:
                raise PrecomputeError(
                    f"a record of `terrace precompute` has format_version {found}, this program reads {RECORD_FORMAT}. "
                    "Precompute the version again with --again"
                )
            task = Task(**raw["task"] | {"shard": Shard.parse(raw["task"]["shard"])})
            counts = Counts(**raw["counts"])
            return cls(**raw | {"task": task, "counts": counts, "sample": tuple(raw["sample"])})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PrecomputeError(
                f"a record of `terrace precompute` is not readable ({error}). Precompute the version again with --again"
            ) from error

    def _draw(self, user_id: str) -> bytes:
        """A number that is another one in each run: those who have the smallest are the sample."""
        return hashlib.blake2b(user_id.encode(), key=self.run.encode()[:64], digest_size=8).digest()


def begin(
    task: Task, found: ShardRecord | None, run: str, now_s: float, *, resume: bool = False, again: bool = False
) -> ShardRecord:
    """The record that a process begins from: a new one, or that of a run to go on with, or a complete one.

    Args:
        task: what is to be done.
        found: the stored record of the shard.
        run: id of a new run.
        now_s: seconds since the epoch.
        resume: go on with a run that stopped half way, unless it is too old.
        again: begin anew where the shard is complete, or where a run that stopped half way had another task; without
            ``resume`` wherever one stopped half way.

    Raises:
        PrecomputeError: a run stopped half way and neither is asked for, or it had another task.
    """
    new = ShardRecord(task, run, 1, now_s, now_s)
    if found is None or (again and (found.complete or not resume)):
        return new
    if not (found.complete or resume):
        raise PrecomputeError(
            f"shard {task.shard} of {task.version} stopped half way: {found.counts.users:,} users are done. "
            "--resume goes on with it, --again begins anew"
        )
    if not found.complete and not 0 <= now_s - found.started_s <= RESUMABLE_SHARE * task.ttl_s:
        return new
    before, asked = asdict(found.task), asdict(task)
    different = [name for name, value in asked.items() if before[name] != value]
    if different and again:
        return new
    if different:
        name = different[0]
        raise PrecomputeError(
            f"shard {task.shard} of {task.version} was begun with another {name}: {before[name]}, now it is "
            f"{asked[name]}. Use what it was begun with, or begin anew with --again"
        )
    return found if found.complete else replace(found, attempt=found.attempt + 1, updated_s=now_s)
