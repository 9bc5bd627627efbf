"""A circuit breaker: leaves a dependency alone for a while when it failed or was slow too often of late.

The arithmetic only: it neither calls the dependency nor waits. The caller asks for a permit, makes
the call and reports how it ended. One breaker per dependency and operation; when each opens: ``breaker_rules``. It may be used from the
event loop and from threads at once: its lock is held for a few assignments, and nothing foreign
(clock, random numbers, logs) is called under it.
"""

from __future__ import annotations

import math
import random
import threading
import time
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class State(StrEnum):
    """What a breaker does with calls."""

    CLOSED = "closed"
    """Every call is let through."""
    OPEN = "open"
    """None is."""
    HALF_OPEN = "half_open"
    """One at a time is, to see whether the dependency has healed."""


class Outcome(Enum):
    """How a call ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"
    """Says nothing of the dependency: the caller went away, or asked something invalid."""


_NEUTRAL, _FAILURE = Outcome.NEUTRAL, Outcome.FAILURE
_CLOSED = State.CLOSED


@dataclass(frozen=True, slots=True)
class Rule:
    """When a breaker opens and how it closes again.

    Attributes:
        window_s: how far back outcomes count, seconds; up to one bucket less.
        buckets: parts of the window; the oldest is forgotten at a time.
        min_calls: fewer outcomes in the window than this open nothing.
        failure_share: share of failures, above 0 and up to 1, from which on it opens. It opens too once the newest
            ``min_calls`` have all failed: what worked well until a moment ago must not be waited for much longer.
        slow_s: a success that took longer counts as a failure, seconds.
        open_s: how long it stays open at first, seconds; doubles with each opening that follows.
        longest_open_s: where the doubling ends, seconds.
        jitter: the time open is multiplied by 1 - jitter to 1 + jitter, so that processes do not probe in step.
        probes: successes in a row that close it.
        calm_s: closed for this long, it starts over with ``open_s``, seconds.
        longest_probe_s: a probe whose end is not reported for this long is replaced, seconds.
    """

    window_s: float = 10.0
    buckets: int = 10
    min_calls: int = 20
    failure_share: float = 0.5
    slow_s: float = math.inf
    open_s: float = 1.0
    longest_open_s: float = 30.0
    jitter: float = 0.2
    probes: int = 5
    calm_s: float = 10.0
    longest_probe_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ValueError: a field is out of its bounds.
        """
        sound = (
            0 < self.window_s < math.inf
            and self.buckets >= 1
            and self.min_calls >= 1
            and 0 < self.failure_share <= 1
            and self.slow_s > 0
            and 0 < self.open_s <= self.longest_open_s < math.inf
            and 0 <= self.jitter < 1
            and self.probes >= 1
            and self.calm_s >= 0
            and self.longest_probe_s > 0
        )
        if not sound:
            raise ValueError(f"a field is out of its bounds: {self}")


class Breaker:
    """Counts the outcomes of calls and says whether the next one may be made.

    A permit is an epoch: a number that grows with each change of state and, while half-open, with
    each probe given or ended. So a call that began before a change, or a probe that was replaced,
    is known by its number and counts for nothing.

    Attributes:
        name: of the dependency and operation.

        transitions: how often each state was entered; closed at the start does not count.
    """

    __slots__ = (
        "_bucket", "_bucket_end_s", "_calls", "_clock", "_closed_at_s", "_closed_epoch", "_epoch", "_factor",
        "_failed", "_failures", "_lock", "_not_before_s", "_open_for_s", "_rng", "_row", "_rule", "_slow_s",
        "_state", "_successes", "_total", "_width_s", "name", "transitions",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        rule: Rule | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """Start closed.

        Args:
            name: of the dependency and operation.
            rule: the defaults of ``Rule`` when not given.
            clock: monotonic, seconds.
            rng: uniform in [0, 1).
        """
        self.name = name
        self.transitions = dict.fromkeys(State, 0)
        self._rule = rule = rule or Rule()
        self._clock, self._rng = clock, rng
        self._lock = threading.Lock()
        self._slow_s = rule.slow_s
        self._width_s = rule.window_s / rule.buckets
        self._state = _CLOSED
        self._epoch = self._closed_epoch = 1
        self._closed_at_s = -math.inf
        self._open_for_s = rule.open_s
        self._not_before_s = 0.0
        self._successes = self._row = 0
        self._draw()
        self._empty(clock())

    @property
    def state(self) -> State:
        """The state; open turns half-open with the first permit that is asked for when its time is up."""
        return self._state

    @property
    def opened(self) -> int:
        """How often it opened, after a failed probe included."""
        return self.transitions[State.OPEN]

    def permit(self) -> int:
        """Ask to make a call: 0 when it must not be made, else what ``ended`` is to be given."""
        return self._closed_epoch or self._probe()

    def ended(self, permit: int, outcome: Outcome, seconds: float = 0.0) -> None:
        """Report how a call ended; once for each permit.

        Args:
            permit: what ``permit`` returned.
            outcome: how it ended.
            seconds: how long it took.
        """
        now_s = self._clock()
        failed = outcome is _FAILURE or seconds > self._slow_s
        with self._lock:
            if permit != self._epoch:
                return
            if self._state is not _CLOSED:
                opens = self._probed(outcome, failed, now_s)
            elif outcome is _NEUTRAL:
                return
            else:
                if now_s >= self._bucket_end_s:
                    self._forget(now_s)
                self._calls[self._bucket] += 1
                self._total += 1
                if failed:
                    self._failures[self._bucket] += 1
                    self._failed += 1
                    self._row += 1
                else:
                    self._row = 0
                opens = self._failed > 0 and self._too_many()
            if opens:
                self._open(now_s)
        if opens:
            self._draw()

    def start_over(self) -> None:
        """Forget all that happened: what failed before anybody was served says little."""
        now_s = self._clock()
        with self._lock:
            if self._state is not _CLOSED:
                self._enter(_CLOSED)
            self._empty(now_s)
            self._closed_at_s, self._open_for_s = -math.inf, self._rule.open_s
            self.transitions = dict.fromkeys(State, 0)

    def _too_many(self) -> bool:
        few, share = self._rule.min_calls, self._rule.failure_share
        if self._row >= few and self._failed >= few:
            return True
        return self._total >= few and self._failed / self._total >= share

    def _probe(self) -> int:
        now_s = self._clock()
        with self._lock:
            if self._state is _CLOSED:  # since permit() looked
                return self._epoch
            if now_s < self._not_before_s:
                return 0
            if self._state is State.OPEN:
                self._enter(State.HALF_OPEN)
                self._successes = 0
            self._epoch += 1
            self._not_before_s = now_s + self._rule.longest_probe_s
            return self._epoch

    def _probed(self, outcome: Outcome, failed: bool, now_s: float) -> bool:
        """Count the end of the probe that is out; whether it opens the breaker again."""
        self._epoch += 1
        self._not_before_s = -math.inf
        if outcome is _NEUTRAL:
            return False
        if failed:
            return True
        self._successes += 1
        if self._successes >= self._rule.probes:
            self._enter(_CLOSED)
            self._closed_at_s = now_s
            self._empty(now_s)
        return False

    def _open(self, now_s: float) -> None:
        rule = self._rule
        calm = self._state is _CLOSED and now_s - self._closed_at_s >= rule.calm_s
        self._open_for_s = rule.open_s if calm else min(2 * self._open_for_s, rule.longest_open_s)
        self._not_before_s = now_s + self._open_for_s * self._factor
        self._enter(State.OPEN)

    def _enter(self, state: State) -> None:
        self._state = state
        self.transitions[state] += 1
        self._epoch += 1
        self._closed_epoch = self._epoch if state is _CLOSED else 0

    def _draw(self) -> None:
        """Draw the jitter of the next opening ahead, since it happens under the lock."""
        self._factor = 1 + self._rule.jitter * (2 * self._rng() - 1)

    def _empty(self, now_s: float) -> None:
        self._calls, self._failures = [0] * self._rule.buckets, [0] * self._rule.buckets
        self._total = self._failed = self._row = self._bucket = 0
        self._bucket_end_s = now_s + self._width_s

    def _forget(self, now_s: float) -> None:
        """Move on to the bucket of now and empty those in between."""
        steps = int((now_s - self._bucket_end_s) / self._width_s) + 1
        self._bucket_end_s += steps * self._width_s
        for _ in range(min(steps, self._rule.buckets)):
            bucket = self._bucket = (self._bucket + 1) % self._rule.buckets
            self._total -= self._calls[bucket]
            self._failed -= self._failures[bucket]
            self._calls[bucket] = self._failures[bucket] = 0
