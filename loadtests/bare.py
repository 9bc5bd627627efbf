"""The parts of a DEEP request run bare, each in a process of its own: what any server would have to pay for.

``python -m loadtests.bare PART [BUNDLE USERS | STORE_URL | ANSWER]`` prints a line when it is ready, then answers each line
"n pause" on standard input with the CPU milliseconds that one of n more operations took, with so many seconds of rest, which
do not count, before each.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import redis.asyncio as redis
import uvloop

from candidate_gen.merge import merge
from loadtests.users import Users
from server.loader import load_bundle
from terrace.v1 import recommendation_pb2 as pb
from terrace.v1.recommendation_pb2_grpc import (
    RecommendationServiceServicer,
    add_RecommendationServiceServicer_to_server,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "bench:value"
_USERS = 300


class Recorder:
    """Stands before a search index or an ONNX session and remembers what it is asked."""

    def __init__(self, behind: Any) -> None:
        self.behind = behind
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def knn_query(self, *positional: Any, **named: Any) -> Any:
        """As the index."""
        self.calls.append((positional, named))
        return self.behind.knn_query(*positional, **named)

    def run(self, *positional: Any) -> Any:
        """As the session."""
        self.calls.append((positional, {}))
        return self.behind.run(*positional)

    def replay(self, ask: Callable[..., Any]) -> Callable[[], object]:
        """An operation that asks the same again, one call after the other."""
        calls: Iterator[tuple[tuple[Any, ...], dict[str, Any]]] = itertools.cycle(self.calls)

        def operation() -> None:
            positional, named = next(calls)
            ask(*positional, **named)

        return operation


def computing(part: str, bundle_folder: Path, users: Users) -> Callable[[], object]:
    """An operation of ``ann`` (index search), ``tower`` or ``ranker`` (ONNX runs) that replays what serving asks of them."""
    bundle: Any = load_bundle(bundle_folder)
    generator = next(g for g in bundle.generators if g.name == "ann")
    index = generator._index = Recorder(generator._index)  # noqa: SLF001 - the very index, and not what is around it
    tower = bundle.encoder._session = Recorder(bundle.encoder._session)  # noqa: SLF001 - the same
    ranker = bundle.scorer._session = Recorder(bundle.scorer._session)  # noqa: SLF001 - the same
    sources = tuple(g.name for g in bundle.generators)
    for query in users.queries(bundle)[:_USERS]:
        candidates = [g.generate(query, bundle.limits[g.name]) for g in bundle.generators]
        bundle.scorer.score(query, merge(candidates, query, sources, bundle.prior))
    operations = {
        "ann": index.replay(index.behind.knn_query),
        "tower": tower.replay(tower.behind.run),
        "ranker": ranker.replay(ranker.behind.run),
    }
    return operations[part]


def repeat(operation: Callable[[], object]) -> None:
    """Answer lines on standard input until it ends."""
    _print_line("ready")
    for line in sys.stdin:
        count, pause_s = _parse(line)
        spent_s = 0.0
        for _ in range(count):
            if pause_s:
                time.sleep(pause_s)
            start_s = time.process_time()
            operation()
            spent_s += time.process_time() - start_s
        _print_line(spent_s / count * 1000)


async def get(store_url: str) -> None:
    """The same for one GET of redis-py under asyncio."""
    client = redis.Redis.from_url(store_url)
    await client.get(KEY)
    _print_line("ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        count, pause_s = _parse(line)
        spent_s = 0.0
        for _ in range(count):
            if pause_s:
                await asyncio.sleep(pause_s)
            start_s = time.process_time()
            await client.get(KEY)
            spent_s += time.process_time() - start_s
        _print_line(spent_s / count * 1000)
    await client.aclose()


def _parse(line: str) -> tuple[int, float]:
    count, pause_s = line.split()
    return int(count), float(pause_s)


async def echo(answer: pb.RecommendResponse) -> NoReturn:
    """A gRPC server that parses the request and has its answer ready; prints its address."""

    class Empty(RecommendationServiceServicer):
        async def Recommend(  # noqa: N802 - gRPC's name
            self, request: pb.RecommendRequest, context: grpc.aio.ServicerContext[Any, Any]
        ) -> pb.RecommendResponse:
            del request, context
            return answer

    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    add_RecommendationServiceServicer_to_server(Empty(), server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    _print_line(f"127.0.0.1:{port}")
    await asyncio.Event().wait()
    raise AssertionError


def _print_line(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(part: str, *given: str) -> None:
    """Run one part until standard input ends or the process is ended."""
    if part == "get":
        uvloop.run(get(given[0]))
    elif part == "rpc":
        uvloop.run(echo(pb.RecommendResponse.FromString(Path(given[0]).read_bytes())))
    else:
        bundle, users = given
        repeat(computing(part, Path(bundle), Users.load(Path(users))))


if __name__ == "__main__":
    main(*sys.argv[1:])
