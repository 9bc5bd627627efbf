"""A small bundle with real parts and an untrained model, its users in a store, and a run over them."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from core.catalogue import Catalogue
from core.manifest import MANIFEST_NAME, digest, newest_bundle, read_manifest
from core.precompute_record import Shard, Task
from loadtests.users import SEEN_TYPES, Users
from offline.progress import silent
from server.precompute.list_maker import MakerOptions
from server.precompute.shard_run import begin_shard, compute, users_left
from server.precompute.workers import list_makers
from server.store.batch_store import BatchStore
from server.store.user_store import RedisUserStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from core.precompute_record import ShardRecord
    from core.types import UserEvent
    from offline.progress import Progress

TTL_S = 3_600.0
LIMIT = 30


@dataclass(frozen=True)
class World:
    """A store with users, and the bundle to precompute."""

    folder: Path
    users: Users
    url: str
    namespace: str

    @property
    def version(self) -> str:
        return self.folder.name

    def events(self) -> dict[str, tuple[UserEvent, ...]]:
        """The newest event of any user is of a minute ago."""
        ids = newest_ids(self.folder)
        last_s = float(self.users.times.max())
        shift_s = time.time() - 60 - last_s
        return {
            user_id: tuple(each._replace(timestamp_s=each.timestamp_s + shift_s) for each in events)
            for user_id, events in self.users.events(ids).items()
        }

    async def fill(self, users: dict[str, Any]) -> None:
        async with self.store() as store:
            await store.load(users)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[RedisUserStore]:
        store = RedisUserStore(self.url, self.namespace, SEEN_TYPES, connect_timeout_s=20.0)
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def batch(self, url: str | None = None) -> AsyncIterator[BatchStore]:
        store = BatchStore.open(url or self.url, self.namespace, self.version)
        try:
            yield store
        finally:
            await store.close()

    def task(self, shard: Shard | None = None, **more: Any) -> Task:
        manifest = read_manifest(self.folder)
        sha256 = digest(self.folder / MANIFEST_NAME).sha256
        task = Task(manifest.version, sha256, manifest.items, shard or Shard(), "all", LIMIT, TTL_S)
        return replace(task, **more)

    def options(self, **more: Any) -> MakerOptions:
        return replace(MakerOptions(self.folder, self.url, self.namespace, LIMIT, TTL_S, None), **more)

    async def run(
        self,
        shard: Shard | None = None,
        *,
        users: Iterable[str] | None = None,
        resume: bool = False,
        again: bool = False,
        processes: int = 1,
        progress: Progress = silent,
        name: str = "run-1",
        **options: Any,
    ) -> ShardRecord:
        """What the command does."""
        made = self.options(**options)
        async with self.batch(made.store_url) as store:
            begun = await begin_shard(store, self.task(shard), name, resume=resume, again=again, now_s=time.time())
            found = users if users is not None else [user_id async for user_id in store.user_ids()]
            left = users_left(begun.record.task.shard, begun.record.position, found)
            async with list_makers(made, processes) as make:
                record, _ = await compute(store, begun, left, make, processes=processes, progress=progress)
        return record


def newest_ids(folder: Path) -> list[str]:
    return list(Catalogue.load(folder / "catalogue").ids)


def world_in(folder: Path, url: str, namespace: str) -> World:
    """The world whose files are in a folder."""
    return World(newest_bundle(folder / "bundles"), Users.load(folder), url, namespace)
