"""CPU time of one DEEP request in ``terrace serve`` over the sum of its parts run bare.

Everything is measured by the CPU clock of the process that does it, over many operations. Rounds take turns between the
server and the parts, so that a busy machine slows both. The parts run twice: in a row, which keeps the caches warm for
them as no server has it (``overhead_ratio``), and at the server's pace, once in a request's time (``overhead_paced_ratio``).
"""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import redis

from core.events import encode_event
from loadtests.bare import KEY
from loadtests.figures import overhead
from loadtests.processes import Child, Server
from terrace.v1 import recommendation_pb2 as pb
from terrace.v1.recommendation_pb2_grpc import RecommendationServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loadtests.workspace import SyntheticData, Workspace

LIMIT = 20
LEAST_ROWS = 500
TARGET = 1.35
TIMEOUT_S = 2.0
_LOOPS = ("ann", "tower", "ranker", "get")
_NO_EXERCISE = (("terrace-exercise", "off"),)  # answers lowered on purpose are not what is measured


class Asker:
    """Asks a server for one user after the other over one connection, and looks at every answer.

    Attributes:
        asked: requests so far.

        others: answers so far that were not DEEP, or with too few scored rows: on a busy machine a stage may be late.

        rows: least and most rows that the model scored for a DEEP answer.
    """

    def __init__(self, address: str, user_ids: Sequence[str], most_others: float) -> None:
        self._most_others = most_others
        self._channel = grpc.insecure_channel(address)
        self._stub: Any = RecommendationServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self._requests: Iterator[pb.RecommendRequest] = itertools.cycle(
            [pb.RecommendRequest(user_id=user_id, limit=LIMIT) for user_id in user_ids]
        )
        self.asked, self.others, self.rows = 0, 0, (2**31, 0)

    def ask(self) -> pb.RecommendResponse:
        """The answer for the next user.

        Raises:
            RuntimeError: it has another number of items.
        """
        answer: pb.RecommendResponse = self._stub.Recommend(
            next(self._requests), timeout=TIMEOUT_S, metadata=_NO_EXERCISE
        )
        info = answer.info
        self.asked += 1
        if len(answer.items) != LIMIT:
            raise RuntimeError(f"not the answer that is measured: {len(answer.items)} items, {info}")
        if not _is_measured(info):
            self.others += 1
        else:
            self.rows = min(self.rows[0], info.scored_rows), max(self.rows[1], info.scored_rows)
        return answer

    def cost_ms(self, server: Child, count: int, pause_s: float = 0.0) -> float:
        """CPU milliseconds that one request costs the server, over ``count`` with a rest before each.

        Raises:
            RuntimeError: too many answers are not those that are measured.
        """
        before, start_s = self.others, server.cpu_s()
        answers = []
        for _ in range(count):
            if pause_s:
                time.sleep(pause_s)
            answers.append(self.ask())
        cost_ms = (server.cpu_s() - start_s) / count * 1000
        if self.others - before > count * self._most_others:
            last = next(answer for answer in reversed(answers) if not _is_measured(answer.info))
            raise RuntimeError(f"{self.others - before} of {count} answers are not those measured, such as {last.info}")
        return cost_ms

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def _is_measured(info: pb.AnswerInfo) -> bool:
    return info.tier == pb.TIER_DEEP and info.scored_rows >= LEAST_ROWS


def run(workspace: Workspace) -> dict[str, Any]:
    """Measure; the headline is ``overhead_ratio``."""
    data = workspace.benchmark_data()
    rounds, count, warm_up = (2, 50, 10) if workspace.quick else (5, 2_000, 1_000)
    with ExitStack() as stack:
        store_url = stack.enter_context(data.store())
        server = stack.enter_context(Server(data.bundle, store_url))
        asker = Asker(server.address, data.users.ids, workspace.most_others)
        stack.callback(asker.close)
        asker.cost_ms(server, warm_up)
        _store_value(store_url, data)
        parts = {part: stack.enter_context(_part(part, data, store_url)) for part in _LOOPS}
        sample = data.folder / "answer.pb"
        sample.write_bytes(asker.ask().SerializeToString())
        empty = stack.enter_context(Child("loadtests.bare", "rpc", str(sample)))
        empty_asker = Asker(empty.ready, data.users.ids, workspace.most_others)
        stack.callback(empty_asker.close)
        empty_asker.cost_ms(empty, warm_up)
        measured: list[dict[str, float]] = []
        paced: list[dict[str, float]] = []
        for _ in range(rounds):
            start_s = time.monotonic()
            server_ms = asker.cost_ms(server, count)
            pace_s = (time.monotonic() - start_s) / count
            for costs, times, pause_s in ((measured, count, 0.0), (paced, count // 4, pace_s)):
                parts_ms = {part: float(child.ask(f"{times} {pause_s}")) for part, child in parts.items()}
                rpc_ms = empty_asker.cost_ms(empty, times, pause_s)
                costs.append({"server": server_ms, **parts_ms, "rpc": rpc_ms})
    found, at_pace = overhead(measured), overhead(paced)
    return {
        "overhead_ratio": found["ratio"],
        "overhead_target": TARGET,
        "overhead_ratios": found["ratios"],
        "overhead_ms": found["ms"],
        "overhead_rounds": measured,
        "overhead_paced_ratio": at_pace["ratio"],
        "overhead_paced_ratios": at_pace["ratios"],
        "overhead_paced_ms": at_pace["ms"],
        "overhead_requests_per_round": count,
        "overhead_scored_rows": asker.rows,
        "overhead_not_deep_share": asker.others / asker.asked,
    }


def _part(part: str, data: SyntheticData, store_url: str) -> Child:
    given = (store_url,) if part == "get" else (str(data.bundle), str(data.folder))
    return Child("loadtests.bare", part, *given)


def _store_value(store_url: str, data: SyntheticData) -> None:
    """One value of the size of a stored history."""
    users = data.users
    events = [encode_event(event, 0) for event in users.events(data.ids)[users.ids[0]]]
    with redis.Redis.from_url(store_url) as client:
        client.set(KEY, b"".join(events))
