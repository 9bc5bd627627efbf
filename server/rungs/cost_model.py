"""What scoring costs just now, and so how many rows fit the time left."""

from __future__ import annotations

import threading

_UP, _DOWN = 0.3, 0.05
_FORGET = 0.98
_LEAST, _MOST = 0.25, 1000.0
_START_ROW_S = 5e-6


class CostModel:
    """What scoring costs: a fixed part, a part per row, and how much slower than that it is just now.

    Warm-up measures both parts; every run corrects the factor, up faster than down, so that it stays near the slow
    end of what happens. A run that was stopped says how slow it was at least. A factor under which nothing may run
    would never be corrected again, so each refusal forgets a little of it.
    """

    def __init__(self, fixed_s: float = 0.0, row_s: float = _START_ROW_S) -> None:
        """Start from an estimate, seconds; warm-up replaces it."""
        self.fixed_s = fixed_s
        self.row_s = row_s
        self.slowdown = 1.0
        self._lock = threading.Lock()

    def expected_s(self, rows: int) -> float:
        """Seconds that scoring so many rows takes just now."""
        return (self.fixed_s + rows * self.row_s) * self.slowdown

    def rows_within(self, seconds: float) -> int:
        """Rows that can be scored in that time; 0 when not even the fixed part fits."""
        left = seconds / self.slowdown - self.fixed_s
        if left <= 0:
            return 0
        return int(min(left / max(self.row_s, 1e-9), 2**31))

    def observe(self, rows: int, seconds: float, *, stopped: bool = False) -> None:
        """Learn from a run over ``rows`` (>= 1) that took ``seconds``, or would have taken longer had it not been stopped."""
        with self._lock:
            seen = min(max(seconds / max(self.fixed_s + rows * self.row_s, 1e-9), _LEAST), _MOST)
            if stopped:
                self.slowdown = max(self.slowdown, seen)
            else:
                self.slowdown += (_UP if seen > self.slowdown else _DOWN) * (seen - self.slowdown)

    def refused(self) -> None:
        """A run was not started because of this estimate."""
        with self._lock:
            self.slowdown = max(self.slowdown * _FORGET, min(self.slowdown, 1.0))

    def seed(self, small: tuple[int, float], large: tuple[int, float]) -> None:
        """Fit both parts to two runs (rows, seconds) of different sizes."""
        (few, few_s), (many, many_s) = small, large
        if many > few:
            self.row_s = max(many_s - few_s, 0.0) / (many - few)  # 0 where rows cost less than can be measured
            self.fixed_s = max(few_s - few * self.row_s, 0.0)
            self.slowdown = 1.0
