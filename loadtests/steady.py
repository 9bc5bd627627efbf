"""``python -m loadtests.steady``: many users at a steady pace through the client, 20 s, and targets that must hold.

Locust runs on gevent, which patches the standard library, so nothing else imports this module.
"""
# ruff: noqa: E402 - gevent must patch before anything else is imported

from __future__ import annotations

import gevent.monkey  # type: ignore[import-untyped]  # gevent ships no types

gevent.monkey.patch_all()

import grpc.experimental.gevent

grpc.experimental.gevent.init_gevent()

import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import gevent
import grpc
from locust import User, constant_throughput, task
from locust.env import Environment

from loadtests.place import Place
from loadtests.processes import Server
from terrace.client import Client, Tier

SECONDS = 20
USERS = 40
CALLS_PER_USER_AND_S = 1.5
DEADLINE_MS = 100.0
P99_TARGET_MS = 60.0
ERROR_SHARE_TARGET = 0.001
DEEP_SHARE_TARGET = 0.99


class Shopper(User):
    """Asks for lists, and now and then for what goes with an item."""

    wait_time = constant_throughput(CALLS_PER_USER_AND_S)
    client: Client
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    tiers: ClassVar[Counter[str]] = Counter()

    def on_start(self) -> None:
        """Begin at a moment of one's own: users who keep a pace would else all call at once for ever."""
        gevent.sleep(random.random() / CALLS_PER_USER_AND_S)
        self._cp_last_run = time.perf_counter()  # constant_throughput would make up for the pause

    @task(9)
    def recommend(self) -> None:
        """A list for a known user."""
        tier = self._timed(
            "recommend", lambda: self.client.recommend(random.choice(self.user_ids), timeout_ms=DEADLINE_MS)
        )
        self.tiers[tier] += 1

    @task(1)
    def similar(self) -> None:
        """What goes with an item."""
        self._timed(
            "similar_items", lambda: self.client.similar_items(random.choice(self.item_ids), timeout_ms=DEADLINE_MS)
        )

    def _timed(self, name: str, ask: Any) -> str:
        start_s, error, tier = time.perf_counter(), None, "none"
        try:
            tier = ask().tier.name
        except grpc.RpcError as failure:
            error = failure
        took_ms = (time.perf_counter() - start_s) * 1000
        self.environment.events.request.fire(
            request_type="grpc", name=name, response_time=took_ms, response_length=0, exception=error, context={}
        )
        return tier


def main() -> int:
    """Run; 1 when a target is missed."""
    made = Place(Path("build/bench")).made(5_000, 2_000)
    with made.store() as store_url, Server(made.bundle, store_url) as server, Client(server.address) as client:
        for user_id in made.users.ids[:200]:
            client.recommend(user_id, timeout_ms=2_000)
        Shopper.client, Shopper.user_ids, Shopper.item_ids = client, tuple(made.users.ids), tuple(made.ids)
        environment = Environment(user_classes=[Shopper])
        runner = environment.create_local_runner()
        runner.start(USERS, spawn_rate=USERS)
        gevent.sleep(SECONDS)
        runner.quit()
        total = environment.stats.total
    errors = total.num_failures / max(total.num_requests, 1)
    deep = Shopper.tiers[Tier.DEEP.name] / max(Shopper.tiers.total(), 1)
    p50_ms, p99_ms = (total.get_response_time_percentile(part) for part in (0.5, 0.99))
    sys.stdout.write(
        f"{total.num_requests} calls in {SECONDS} s: p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms (at most {P99_TARGET_MS}), "
        f"errors {errors:.2%} (at most {ERROR_SHARE_TARGET:.1%}), DEEP {deep:.2%} of lists (at least {DEEP_SHARE_TARGET:.0%}), "
        f"tiers {dict(Shopper.tiers)}\n"
    )
    met = p99_ms <= P99_TARGET_MS and errors <= ERROR_SHARE_TARGET and deep >= DEEP_SHARE_TARGET
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
