"""Keeps workers that hold what the release document asks for; never answers a call itself, and imports no grpc.

Every change goes the same way: new workers beside the old ones, ready before the old ones leave. What cannot be loaded
is rejected, with its reason, and changes nothing for those who are served.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from core.manifest import BundleError, DamagedBundleError, Fault, GoldenError
from core.release import Release, Slot
from server.daemon_thread import on_daemon_thread
from server.release.bundle_copy import BundleStoreError
from server.release.channel import PROCESS
from server.release.generation import Generation, GenerationError, State, Worker
from server.release.merged_metrics import MergedMetrics
from server.release.verify import verify_bundle
from server.signature import SignatureError
from server.telemetry.version_counts import add_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

    from server.settings import Settings
    from server.telemetry.version_counts import VersionCounts

MOST_DEATHS = 3
"""Workers of a generation that may die within ``DEATHS_S``; then its newest bundle is to blame, where there is another."""
DEATHS_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0
"""Before a worker is forked again: none after the first death, then doubled with each."""
FETCH_PAUSE_S = 5.0
"""Until a bundle that could not be fetched is tried again."""
METRICS_TIMEOUT_S = 2.0
COUNTS_TIMEOUT_S = 1.0
PING_S = 1.0
SILENT_S = 20.0
"""A worker that has given no sign of life for so long hangs: a hundred of the longest stalls that were seen."""
_STOP_MARGIN_S = 5.0
_CAUSES = {
    check: each.cause
    for check, each in (("signature", SignatureError), ("files", DamagedBundleError), ("golden", GoldenError))
}
"""Check that failed -> cause."""
_log = logging.getLogger(__name__)


class NothingToServeError(Exception):
    """No bundle can be used, or a worker cannot run here; the message says what to do."""


class Bundles(Protocol):
    """Where bundles come from; see ``server.release.bundle_store``. Everything blocks and may raise ``BundleError``."""

    url: str

    def versions(self) -> Sequence[str]:
        """Finished bundles, newest first."""
        ...

    def fetch(self, version: str, keep: Collection[str] = ()) -> Path:
        """The folder of a bundle, on this machine, beside those of other versions."""
        ...


@dataclass(frozen=True)
class ReplicaState:
    """What one supervisor and its workers are about.

    Attributes:
        revision: of the release document that all workers follow; 0 without one.

        live: the version that answers whoever is not given the candidate; None before anything is served.

        loaded: versions that all workers hold, those among them that still leave: a version that is given to users
            before would be answered by some connections and not by others.

        rejected: versions that cannot be used here, and why.

        wanted: workers that there should be.

        ready: workers that answer.
    """

    revision: int
    live: str | None
    loaded: tuple[str, ...]
    rejected: Mapping[str, str]
    wanted: int
    ready: int


def _check_whole(made: Generation, versions: Sequence[str]) -> None:
    """Refuse a version that came without its deep rung.

    Raises:
        GenerationError: one did.
    """
    for version in versions:
        for disabled in (made.disabled, *(worker.disabled for worker in made.ready)):
            for fault in disabled.get(version, {}).values():
                raise GenerationError(version, fault)


class Supervisor:
    """Workers of one host; belongs to one event loop.

    Attributes:
        rejected: versions that cannot be used here, and why.

        deaths: workers that died after they had been ready.
    """

    def __init__(
        self,
        settings: Settings,
        workers: int,
        bundles: Bundles,
        on_ready: Callable[[str, int], None] | None = None,
        *,
        release: Release | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is started before ``run``.

        Args:
            settings: of each worker; the port is reserved.
            workers: how many.
            bundles: where they come from.
            on_ready: called with version and port once calls are answered.
            release: the document to begin with, where one is known.
            clock: monotonic, seconds.
        """
        self.rejected: dict[str, Fault] = {}
        self.deaths = 0
        self._settings, self._count, self._bundles = settings, workers, bundles
        self._on_ready, self._clock = on_ready, clock
        self._release = release
        self._current: Generation | None = None
        self._live: str | None = None
        self._joined: tuple[str, ...] = ()
        self._suspected = False
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        self._changed, self._missing = asyncio.Event(), asyncio.Event()
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        self._retiring: dict[Generation, asyncio.Task[None]] = {}
        self.metrics = MergedMetrics(self._ask_for_metrics, self._own_metrics)
        self._ended_counts: dict[str, VersionCounts] = {}

    def follow(self, release: Release) -> None:
        """Serve as another release document says; what needs no load is so at once."""
        named = release.versions - (self._release.versions if self._release else frozenset())
        for version in named:
            self.rejected.pop(version, None)  # whoever stages it again has repaired it, or wants to see the error again
        self._release = release
        self._hand_out()
        self._changed.set()

    def state(self) -> ReplicaState:
        """What there is now."""
        current = self._current
        ready = current.ready if current else []
        return ReplicaState(
            revision=min((worker.revision for worker in ready), default=0) if self._release else 0,
            live=self._live,
            loaded=tuple(v for v in current.folders if all(v in g.folders for g in self._retiring)) if current else (),
            rejected={version: fault.text for version, fault in self.rejected.items()},
            wanted=self._count,
            ready=len(ready),
        )

    async def counts(self) -> dict[str, VersionCounts]:
        """What was answered from each version that is held, by all workers there are and were."""
        parts: list[Mapping[str, VersionCounts]] = []
        for generation in self._generations():
            parts += await generation.counts(COUNTS_TIMEOUT_S)
        held = self._current.folders if self._current else ()
        self._ended_counts = {version: self._ended_counts[version] for version in held if version in self._ended_counts}
        return {version: found for version, found in add_up([self._ended_counts, *parts]).items() if version in held}

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; a second one loses no time.

        Raises:
            NothingToServeError: no bundle can be used, before anybody was served.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        work = [asyncio.create_task(each) for each in (self._keep(), self._keep_count(), self._watch())]
        stopped = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait((*work, stopped), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*work, stopped):
                task.cancel()
            await asyncio.wait(work)
            await self._end()

    def stop(self) -> None:
        """Ask to stop, or to lose no time with it."""
        (self._hurry if self._stop.is_set() else self._stop).set()

    async def _keep(self) -> None:
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._reconcile()
            except Exception:
                if self._current is None:
                    raise
                # Such as a lack of memory or descriptors, or a bundle store that raises something of its own.
                _log.exception("workers cannot be changed; those there are go on, and it is tried again")
                await asyncio.sleep(LONGEST_PAUSE_S)
                self._changed.set()

    async def _keep_count(self) -> None:
        """Fork workers in place of those that left or died, also while another generation is being loaded."""
        while True:
            await self._missing.wait()
            self._missing.clear()
            while (
                (current := self._current) is not None
                and not (current.broken or self._suspected)
                and len(current.ready) < self._count
            ):
                await self._add_worker(current)

    async def _watch(self) -> None:
        """Replace workers that hang: they hold their share of the port's connections and answer none."""
        while True:
            await asyncio.sleep(PING_S)
            if self._current is not None:
                self._current.kill_silent(SILENT_S, time.monotonic())

    async def _reconcile(self) -> None:
        """Take steps until what is served is what is wanted, as far as that is possible."""
        while True:
            wanted, current = await self._wanted(), self._current
            if not wanted:
                if current is None or self._live is None:
                    raise NothingToServeError(self._why_nothing())
                self.rejected.pop(self._live)  # better than nothing
            elif current is None or current.broken or not set(wanted) <= current.folders.keys():
                if current is not None and current.broken and current.ready:
                    await asyncio.sleep(LONGEST_PAUSE_S)  # what killed it, such as a lack of memory, may be there still
                new = tuple(version for version in wanted if current is None or version not in current.folders)
                try:
                    await self._replace(wanted, new)
                except GenerationError as error:
                    if not self._reject(error, new):
                        await asyncio.sleep(LONGEST_PAUSE_S)
            elif self._suspected:
                self._suspected = False
                await self._quarantine(current)
                self._missing.set()
            else:
                self._hand_out()
                return

    async def _wanted(self) -> tuple[str, ...]:
        """Versions to hold, the live one first; empty where there is none that can be used."""
        release = self._release
        async for live in self._choices():
            if live in self.rejected:
                continue
            if release is None or release.candidate in {None, live, *self.rejected}:
                return (live,)
            return live, str(release.candidate)
        return ()

    async def _choices(self) -> AsyncIterator[str]:
        """What may be live, the first that can be used: as the document says, as it is, as it was, the newest there is."""
        release = self._release
        if release is not None:
            yield release.live_version
        if self._live is not None:
            yield self._live
        if release is not None and release.previous is not None:
            yield release.previous
        try:
            versions = await on_daemon_thread(self._bundles.versions)
        except BundleError as error:
            if self._current is None:
                raise NothingToServeError(str(error)) from None
            _log.error("bundles cannot be listed: %s", error)
            return
        for version in versions:
            if release is None or version not in {release.candidate, *release.frozen}:
                yield version

    def _effective(self, generation: Generation) -> Release | None:
        """The release document without what this generation does not hold; None where there is none."""
        release, held = self._release, generation.folders.keys() - self.rejected.keys()
        if release is None:
            return None
        if release.live_version not in held:
            live = self._live if self._live in held else next(iter(generation.folders))
            return replace(Release.of(live), revision=release.revision)
        if release.candidate is not None and release.candidate not in held:
            slots: dict[Slot, str | None] = {release.live: release.live_version, release.live.other: None}
            return replace(release, slots=slots, candidate_share=0.0, shadow_share=0.0)
        return release

    def _hand_out(self) -> None:
        """Hand the release document to all workers: what is taken from users is so where workers leave, too."""
        for generation in (self._current, *self._retiring):
            effective = self._effective(generation) if generation else None
            if generation is None or effective is None:
                return
            if generation is self._current:
                self._live = effective.live_version
            generation.follow(effective)

    async def _replace(self, wanted: Sequence[str], new: Sequence[str]) -> None:
        """Start a generation and, once it answers, let the one before leave.

        Raises:
            GenerationError: it cannot be started; the one before goes on.
        """
        folders = {version: await self._fetch(version, wanted) for version in wanted}
        for version in self._to_be_whole(wanted, new):
            await self._verify(version, folders[version])
        made = Generation(folders, self._settings, self._on_change, self.metrics.keep)
        try:
            await made.start(self._effective(made), self._count)
            _check_whole(made, self._to_be_whole(wanted, new))
        except BaseException:
            made.kill()
            await asyncio.shield(made.stop("all", 0.0))
            raise
        before, self._current = self._current, made
        self._live, self._joined = wanted[0], tuple(new)
        self._deaths.clear()
        self._suspected = False
        self._missing.set()  # some may have died while others started
        self._hand_out()
        _log.info("serving %s with %d workers", ", ".join(wanted), self._count)
        if before is not None:
            self._retire(before)
        elif self._on_ready is not None:
            self._on_ready(wanted[0], self._settings.port)

    async def _fetch(self, version: str, beside: Collection[str]) -> Path:
        try:
            return await on_daemon_thread(partial(self._bundles.fetch, version, beside))
        except BundleError as error:
            raise GenerationError(version, Fault.of(error)) from None

    def _to_be_whole(self, wanted: Sequence[str], new: Sequence[str]) -> list[str]:
        """New versions that are put beside or in place of one that is served; to start, a bundle need not be whole."""
        return [version for version in new if self._current is not None or version != wanted[0]]

    async def _verify(self, version: str, folder: Path) -> None:
        """Have a process that may die look at a bundle before anything here opens it."""
        keys = [Path(name) for name in self._settings.public_keys]
        checks = await on_daemon_thread(partial(verify_bundle, folder, keys))
        if not checks[-1].passed:
            raise GenerationError(version, Fault(_CAUSES.get(checks[-1].name, BundleError.cause), checks[-1].text))

    def _reject(self, error: GenerationError, new: Sequence[str]) -> bool:
        """Blame a version, the one that would join last where the error names none; whether there was one to blame."""
        of_process = error.fault.cause == PROCESS
        if of_process and self._current is None:
            raise NothingToServeError(error.fault.text)
        version = None if of_process else error.version or next(iter(reversed(new)), None)
        if version is None:
            _log.error("workers cannot be started: %s", error.fault.text)
            return False
        self.rejected[version] = error.fault
        if error.fault.cause == BundleStoreError.cause:  # says nothing of the bundle
            asyncio.get_running_loop().call_later(FETCH_PAUSE_S, self._try_again, version)
        _log.error("bundle %s is rejected (%s): %s", version, error.fault.cause, error.fault.text)
        return True

    def _try_again(self, version: str) -> None:
        self.rejected.pop(version, None)
        self._changed.set()

    def _retire(self, generation: Generation) -> None:
        settings = self._settings
        longest_s = 1.1 * settings.max_connection_age_s + 2 * settings.drain_s + _STOP_MARGIN_S
        task = asyncio.create_task(generation.stop("replaced", longest_s))
        self._retiring[generation] = task
        task.add_done_callback(lambda _: self._retiring.pop(generation, None))

    def _on_change(self, generation: Generation, worker: Worker | None) -> None:
        """A worker that was ready leaves or has ended; or the process that forks them has."""
        if worker is not None and worker.state is State.ENDED:
            self._ended_counts = add_up([self._ended_counts, worker.counts])
        if generation is not self._current or self._stop.is_set() or (worker and worker.asked):
            return
        if worker is None:
            _log.error("the loader process of %s died; its workers answer on", ", ".join(generation.folders))
        elif worker.state is State.ENDED and not worker.left:
            self.deaths += 1
            now_s = self._clock()
            _log.error("worker %s of %s died", worker.name, ", ".join(generation.folders))
            self._deaths.append(now_s)
            if len(self._deaths) == MOST_DEATHS and now_s - self._deaths[0] <= DEATHS_S:
                self._deaths.clear()
                self._suspected = True
        self._missing.set()
        self._changed.set()

    async def _quarantine(self, generation: Generation) -> None:
        """Reject what joined last, where something else is left to serve."""
        for version in reversed(self._joined):
            others = {choice async for choice in self._choices()} - {version, *self.rejected}
            if others:
                text = f"{MOST_DEATHS} workers with it died within {DEATHS_S:.0f} s"
                self._reject(GenerationError(version, Fault("died", text)), ())
                self._joined = ()
                return
        _log.error("workers of %s keep dying, and there is no other bundle to serve", ", ".join(generation.folders))

    async def _add_worker(self, current: Generation) -> None:
        """Fork a worker in place of one that has left; the second time within a minute, and after that, with a pause."""
        recent = sum(1 for at_s in self._deaths if self._clock() - at_s <= DEATHS_S)
        if recent > 1:
            await asyncio.sleep(min(FIRST_PAUSE_S * 2**recent, LONGEST_PAUSE_S))
        try:
            await current.add_worker(self._effective(current))
        except (GenerationError, OSError) as error:
            if current is not self._current:  # another generation has taken its place meanwhile
                return
            _log.error("a worker cannot be started: %s", error)
            self._deaths.append(self._clock())
            if len(self._deaths) == MOST_DEATHS:
                current.broken = True  # from the beginning, with a loader process of its own
                self._changed.set()

    def _why_nothing(self) -> str:
        if not self.rejected:
            return f"{self._bundles.url}: holds no finished bundle. Build one with `terrace build`"
        texts = {version: fault.text for version, fault in sorted(self.rejected.items(), reverse=True)}
        if len(texts) == 1:
            return next(iter(texts.values()))
        each = "".join(f"\n  {version}: {text}" for version, text in texts.items())
        return f"none of {len(texts)} bundles can be used, newest first:{each}"

    async def _ask_for_metrics(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for generation in self._generations():
            found |= await generation.metrics(METRICS_TIMEOUT_S)
        return found

    def _generations(self) -> list[Generation]:
        return [generation for generation in (self._current, *self._retiring) if generation is not None]

    def _own_metrics(self) -> Iterator[Metric]:
        state = self.state()
        workers = GaugeMetricFamily(
            "terrace_workers", "Workers there should be, and those that answer.", labels=["state"]
        )
        workers.add_metric(["wanted"], state.wanted)
        workers.add_metric(["ready"], state.ready)
        yield workers
        yield CounterMetricFamily("terrace_worker_deaths", "Workers that died and were replaced.", self.deaths)
        rejected = GaugeMetricFamily(
            "terrace_bundle_rejected", "1 for each bundle that cannot be used here.", labels=["cause", "version"]
        )
        for version, fault in self.rejected.items():
            rejected.add_metric([fault.cause, version], 1)
        yield rejected

    async def _end(self) -> None:
        """Let everybody finish; at once when asked a second time."""
        settings = self._settings
        longest_s = settings.lame_duck_s + 2 * settings.drain_s + _STOP_MARGIN_S
        stopping = [asyncio.create_task(generation.stop("all", longest_s)) for generation in self._generations()]
        if not stopping:
            return
        for task in self._retiring.values():
            task.cancel()
        hurry = asyncio.create_task(self._hurry.wait())
        ended = asyncio.gather(*stopping)
        await asyncio.wait((ended, hurry), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            for generation in self._generations():
                generation.hurry()
        hurry.cancel()
        await ended
