"""A server under load, in virtual time: an event loop with its accept queue, and a thread for the deep rung.

Built after what was measured of grpc.aio: each turn of the loop takes one call from the accept queue, and does what has
become ready meanwhile; the loop and the thread share the CPU. Admission is told what the real server tells it: how late
the loop is, what a probe waited in the accept queue, and what ended calls took.

``python -m tests.server.overload.simulation`` prints what is lost without each part of admission.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from core.types import Tier
from server.edge import accept_queue
from server.overload import admission, loop_lag
from server.overload.admission import Admission
from server.overload.shedding import Criticality

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from server.overload.admission import Permit

USER, PREFETCH, BATCH = Criticality.USER, Criticality.PREFETCH, Criticality.BATCH
POPULARITY, CF, DEEP = Tier.POPULARITY, Tier.CF, Tier.DEEP
DEADLINE_S = 0.05
RESERVE_S = 0.0075
ACCEPT_S, SHED_S, POPULAR_S, CF_S, FINISH_S, LAG_S = 0.0002, 0.0001, 0.0002, 0.0005, 0.0003, 0.00002
"""What the loop spends on a call: to take it up, to refuse it, to answer from POPULARITY, to answer from CF or to prepare
DEEP, to answer from DEEP; and on a look at its own lag."""
STORE_S = 0.0003
STALLS = (0.25, 0.016)
"""A machine that is taken away four times a second, for up to 16 ms."""
MIX = ((USER, 0.5), (PREFETCH, 0.3), (BATCH, 0.2))


class Machine(NamedTuple):
    """What a server has to work with.

    Attributes:
        thread_s: what a DEEP answer takes of the thread.

        loop, thread: speeds of both at work at once; alone each has the speed 1.

        capacity: DEEP answers a second.
    """

    thread_s: float
    loop: float
    thread: float
    capacity: float


LOOP_S = ACCEPT_S + CF_S + FINISH_S
ONE_CORE = Machine(0.0017, 0.2, 0.8, 1 / (LOOP_S + 0.0017))
"""Whoever waits for the interpreter's lock waits longer than whoever computes."""
SLOW_MODEL = Machine(0.010, 0.9, 0.9, 1 / (0.9 * LOOP_S + 0.010))
"""On two cores; the model computes without the lock."""


class Ended(NamedTuple):
    """One call of the simulation; ``tier`` is None when it was shed, or had expired in the accept queue."""

    came_s: float
    kind: Criticality
    tier: Tier | None
    in_time: bool
    shed: bool


class Clock:
    """What is to happen when."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, at_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(at_s, self.now_s), next(self._order), what))

    def until(self, end_s: float) -> None:
        while self._events and self._events[0][0] <= end_s:
            self.now_s, _, what = heapq.heappop(self._events)
            what()
        self.now_s = end_s


class Cpu:
    """Work of the loop and of the thread: each at full speed alone, and slower when both are at work."""

    def __init__(self, clock: Clock, machine: Machine) -> None:
        self._clock, self._together = clock, {"loop": machine.loop, "thread": machine.thread}
        self._left: dict[str, tuple[float, Callable[[], None]]] = {}
        self._as_of_s = 0.0
        self._version = 0

    def work(self, who: str, seconds: float, then: Callable[[], None]) -> None:
        self._advance()
        self._left[who] = (seconds, then)
        self._plan()

    def stall(self, seconds: float) -> None:
        """Nothing is done for so long: other programs have the cores."""
        self._advance()
        self._left = {who: (left_s + seconds * self._speed(who), then) for who, (left_s, then) in self._left.items()}
        self._plan()

    def _speed(self, who: str) -> float:
        return self._together[who] if len(self._left) > 1 else 1.0

    def _advance(self) -> None:
        passed_s = self._clock.now_s - self._as_of_s
        self._left = {who: (left_s - passed_s * self._speed(who), then) for who, (left_s, then) in self._left.items()}
        self._as_of_s = self._clock.now_s

    def _plan(self) -> None:
        self._version += 1
        if self._left:
            version = self._version
            takes_s, first = min((left_s / self._speed(who), who) for who, (left_s, _) in self._left.items())
            self._clock.at(self._clock.now_s + takes_s, lambda: self._end(first, version))

    def _end(self, who: str, version: int) -> None:
        if version == self._version:
            self._advance()
            _, then = self._left.pop(who)
            self._plan()
            then()


class Job:
    """The part of a DEEP answer that a thread does."""

    def __init__(self, seconds: float, must_s: float, end: Callable[[Tier], None]) -> None:
        self.seconds, self.must_s, self.end, self.given_up = seconds, must_s, end, False


class Server:
    """The whole: what arrives goes through ``arrive``, what became of it is in ``ended``."""

    def __init__(self, rng: random.Random, *, machine: Machine = ONE_CORE, store_s: float = STORE_S) -> None:
        self.clock = Clock()
        self.ended: list[Ended] = []
        self.admission = Admission(clock=lambda: self.clock.now_s)
        takes_s = {POPULARITY: ACCEPT_S + POPULAR_S, CF: ACCEPT_S + CF_S, DEEP: LOOP_S + machine.thread_s}
        self.admission.seed(takes_s, machine.thread_s)
        self._rng, self._store_s, self._thread_s = rng, store_s, machine.thread_s
        self._cpu = Cpu(self.clock, machine)
        self._accept: deque[Callable[[], tuple[float, Callable[[], None]]]] = deque()
        self._ready: deque[tuple[float, Callable[[], None]]] = deque()
        self._turn: deque[tuple[float, Callable[[], None]]] = deque()
        self._jobs: deque[Job] = deque()
        self._looping = self._threading = False
        self._arrived = self._seen = 0
        self._probe_wait_s, self._probe_sent_s = 0.0, math.inf
        self.clock.at(loop_lag.EVERY_S, lambda: self._look(loop_lag.EVERY_S))
        self.clock.at(accept_queue.EVERY_S, lambda: self._probe(accept_queue.EVERY_S))

    def stall(self, every_s: float, longest_s: float) -> None:
        """From now on the machine is taken away now and then, for up to so long."""
        self._cpu.stall(self._rng.uniform(0, longest_s))
        self.clock.at(self.clock.now_s + self._rng.expovariate(1 / every_s), lambda: self.stall(every_s, longest_s))

    def arrive(self, kind: Criticality) -> None:
        came_s = self.clock.now_s
        self._arrived += 1
        self._accept.append(lambda: self._take_up(kind, came_s))
        self._go_on()

    def _take_up(self, kind: Criticality, came_s: float) -> tuple[float, Callable[[], None]]:
        """What the loop does first with a call, and what comes then."""
        left_s = came_s + DEADLINE_S - self.clock.now_s
        if left_s <= 0:
            return SHED_S, lambda: self._end(kind, came_s, None)
        permit = self.admission.admit(kind, left_s - RESERVE_S, DEEP)
        if permit is None:
            return SHED_S, lambda: self._end(kind, came_s, None, shed=True)

        def end(tier: Tier, *, late: bool = False, thread_s: float = 0.0) -> None:
            waited_s = 0.0 if permit.cap is POPULARITY else self._store_s
            self.admission.give_back(permit, tier, waited_s=waited_s, thread_s=thread_s, overran=late)
            self._end(kind, came_s, tier)

        if permit.cap is POPULARITY:
            return ACCEPT_S + self._varies(POPULAR_S), lambda: end(POPULARITY)
        return ACCEPT_S, lambda: self.clock.at(
            self.clock.now_s + self._store_s,
            lambda: self._soon(self._varies(CF_S), lambda: self._climb(permit, came_s, end)),
        )

    def _climb(self, permit: Permit, came_s: float, end: Callable[..., None]) -> None:
        must_s = came_s + DEADLINE_S - RESERVE_S - 2 * self.admission.delay_s
        if permit.cap is not DEEP or self.clock.now_s >= must_s:
            end(CF)
            return
        begun_s = self.clock.now_s

        def ended(tier: Tier) -> None:
            if not job.given_up:
                job.given_up = True
                thread_s = self.clock.now_s - begun_s
                self._soon(FINISH_S, lambda: end(tier, late=tier is CF, thread_s=thread_s))

        job = Job(self._varies(self._thread_s), must_s, ended)
        self.clock.at(must_s, lambda: self._soon(0.0, lambda: ended(CF)))
        self._jobs.append(job)
        self._work_off()

    def _work_off(self) -> None:
        """The thread: one job after the other, but those that nobody waits for any more."""
        while self._jobs and not self._threading:
            job = self._jobs.popleft()
            if job.given_up:
                continue
            too_late = self.clock.now_s + self._thread_s > job.must_s
            self._threading = True
            self._cpu.work("thread", 0.00005 if too_late else job.seconds, lambda: self._worked(job, too_late=too_late))  # noqa: B023

    def _worked(self, job: Job, *, too_late: bool) -> None:
        self._threading = False
        self._soon(0.0, lambda: job.end(CF if too_late else DEEP))
        self._work_off()

    def _soon(self, seconds: float, what: Callable[[], None]) -> None:
        self._ready.append((seconds, what))
        self._go_on()

    def _go_on(self) -> None:
        """The loop: a turn is one call from the accept queue and all that was ready when it began."""
        if self._looping:
            return
        if not self._turn:
            self._turn, self._ready = self._ready, deque()
            if self._accept:
                self._turn.append(self._accept.popleft()())
        if self._turn:
            seconds, what = self._turn.popleft()
            self._looping = True
            self._cpu.work("loop", seconds, lambda: self._did(what))

    def _did(self, what: Callable[[], None]) -> None:
        self._looping = False
        what()
        self._go_on()

    def _look(self, due_s: float) -> None:
        def look() -> None:
            lag_s = max(self.clock.now_s - due_s - 0.001, 0.0)
            waited_s = max(self._probe_wait_s, self.clock.now_s - self._probe_sent_s - 0.001)
            self.admission.observe_delay(max(lag_s, waited_s))
            next_s = self.clock.now_s + loop_lag.EVERY_S
            self.clock.at(next_s, lambda: self._look(next_s))

        self._soon(LAG_S, look)

    def _probe(self, since_s: float) -> None:
        def again(after_s: float) -> None:
            self.clock.at(self.clock.now_s + after_s, lambda: self._probe(after_s))

        def probed() -> None:
            wait_s = max(self.clock.now_s - self._probe_sent_s - 0.001, 0.0)
            self._probe_wait_s, self._probe_sent_s = wait_s, math.inf
            again(accept_queue.pause_s(wait_s))

        if self._arrived - self._seen < accept_queue.FEW_CALLS * since_s / accept_queue.EVERY_S:
            self._probe_wait_s = 0.0
            again(accept_queue.EVERY_S)
            return
        self._seen, self._probe_sent_s = self._arrived, self.clock.now_s
        self._accept.append(lambda: (ACCEPT_S, probed))
        self._go_on()

    def _end(self, kind: Criticality, came_s: float, tier: Tier | None, *, shed: bool = False) -> None:
        in_time = tier is not None and self.clock.now_s <= came_s + DEADLINE_S
        self.ended.append(Ended(came_s, kind, tier, in_time, shed))

    def _varies(self, seconds: float) -> float:
        return seconds * self._rng.lognormvariate(-0.08, 0.4)


def simulate(
    phases: list[tuple[float, float]],
    seed: int = 1,
    *,
    machine: Machine = ONE_CORE,
    store_s: float = STORE_S,
    stalls: tuple[float, float] | None = None,
) -> list[Ended]:
    """Poisson arrivals at so many times the capacity, for so many seconds each.

    Every call but a POPULARITY one waits ``store_s`` for the user store, which takes no CPU.
    """
    rng = random.Random(seed)
    server = Server(rng, machine=machine, store_s=store_s)
    if stalls is not None:
        server.stall(*stalls)
    starts_s = 0.0
    for times, seconds in phases:
        at_s, ends_s = starts_s, starts_s + seconds
        while (at_s := at_s + rng.expovariate(times * machine.capacity)) < ends_s:
            server.clock.until(at_s)
            server.arrive(rng.choices([kind for kind, _ in MIX], [share for _, share in MIX])[0])
        starts_s = ends_s
    server.clock.until(starts_s + 10)
    return server.ended


def share(of: list[Ended], wanted: Callable[[Ended], bool]) -> float:
    return sum(map(wanted, of)) / len(of)


WITHOUT: Mapping[str, Mapping[str, Any]] = {
    "nothing": {},
    "the bound for DEEP": {"DEEP_SHARE": dict.fromkeys(Criticality, 1e9)},
    "room kept for users": {"DEEP_SHARE": dict.fromkeys(Criticality, admission.DEEP_SHARE[USER])},
    "the bound for the delay": {"DELAY_SHARE": 1e9},
    "shedding": {"SHED_ABOVE": dict.fromkeys(Criticality, math.inf)},
}
"""Part of admission -> what its constants are when it is missing."""


def found(times: float, machine: Machine) -> dict[str, float]:
    """Shares of users' and other calls in six seconds at so many times the capacity, the step to it included."""
    phases = [(0.6, 2.0), (times, 6.0)]
    calls = [call for seed in (1, 2, 3) for call in simulate(phases, seed, machine=machine) if call.came_s > 2.0]
    users, prefetch, batch = ([call for call in calls if call.kind is kind] for kind in (USER, PREFETCH, BATCH))
    return {
        "users in time": share(users, lambda call: call.in_time),
        "users' DEEP": share(users, lambda call: call.tier is DEEP),
        "users' CF": share(users, lambda call: call.tier is CF),
        "prefetch shed": share(prefetch, lambda call: call.shed),
        "batch shed": share(batch, lambda call: call.shed),
    }


def lowered(stalls: tuple[float, float] | None) -> float:
    """Share of users' calls that do not get DEEP at 0.7 of the capacity."""
    calls = [call for seed in range(4) for call in simulate([(0.7, 15.0)], seed, stalls=stalls)]
    return share([call for call in calls if call.kind is USER], lambda call: call.tier is not DEEP)


def main() -> None:
    """Print what the bound of the delay may be, and a table of what is lost without each part."""
    chosen = admission.DELAY_SHARE
    for bound in (0.25, chosen, 0.6):
        vars(admission).update(DELAY_SHARE=bound)
        deep = found(5.0, ONE_CORE)["users' DEEP"]
        row = f"lowered at 0.7x {lowered(None):.1%}, with stalls {lowered(STALLS):.1%}; DEEP at 5x {deep:.1%}"
        sys.stdout.write(f"bound of the delay {bound}: {row}\n")
    vars(admission).update(DELAY_SHARE=chosen)
    for name, machine in {"one core": ONE_CORE, "slow model": SLOW_MODEL}.items():
        for part, constants in WITHOUT.items():
            before = {name: getattr(admission, name) for name in constants}
            vars(admission).update(constants)
            for times in (1.2, 2.0, 5.0, 8.0):
                row = "".join(f"  {name} {value:6.1%}" for name, value in found(times, machine).items())
                sys.stdout.write(f"{name}, without {part:32}{times:.1f}x{row}\n")
            vars(admission).update(before)


if __name__ == "__main__":
    main()
