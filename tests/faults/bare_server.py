"""A ``grpc.aio`` server with nothing behind it: ``python -m tests.faults.bare_server WAIT_MS COMPUTE_MS ANSWER_BYTES``.

Its one method computes on the event loop, waits, computes again and answers with an id of that length, whether its caller
is still there or not. What it keeps of a
call, gRPC keeps of every call, so that the memory of a real server can be judged beside it. Prints one JSON object, with its
port, once it answers calls.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import suppress
from typing import Any

import grpc
import uvloop

from server.edge.servicer import SERVICE
from terrace.v1 import recommendation_pb2 as pb


async def main(wait_s: float, compute_s: float, answer_bytes: int) -> None:
    """Serve until killed."""
    answer = pb.RecommendResponse(info=pb.AnswerInfo(recommendation_id="x" * answer_bytes)).SerializeToString()

    async def recommend(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        del request, context
        _compute(compute_s)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(wait_s)
        _compute(compute_s)
        return answer

    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    methods: dict[str, Any] = {"Recommend": grpc.unary_unary_rpc_method_handler(recommend)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(json.dumps({"port": port}) + "\n")
    sys.stdout.flush()
    await server.wait_for_termination()


def _compute(seconds: float) -> None:
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        pass


if __name__ == "__main__":
    wait_ms, compute_ms, size = sys.argv[1:]
    uvloop.run(main(float(wait_ms) / 1000, float(compute_ms) / 1000, int(size)))
