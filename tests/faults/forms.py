"""How fault tests are run, and which bounds hold then."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """How a test is run: shortly, beside others on a machine that is busy, or at length and to the letter.

    Attributes:
        deadline_ms: of calls; what is kept back of it must cover what others take of the machine.

        seconds: how long what lasts lasts.

        slack: bounds of times are multiplied by it.

        grace_ms: an end may come so much after its deadline: the callers' timer, the wire, a scheduler's turn.

        percent: the percentile that stands for the usual call: the median, or a quick one where others use the machine.

        missing: share of calls that may end in another way than they should.
    """

    deadline_ms: float
    seconds: float
    slack: float
    grace_ms: float
    percent: float
    missing: float

    def enough(self, well: int, calls: int) -> bool:
        """Whether so many of the calls are nearly all of them."""
        return well >= calls - max(1.0, self.missing * calls)


SHORT = Form(deadline_ms=250.0, seconds=0.5, slack=4.0, grace_ms=60.0, percent=10.0, missing=0.15)
LONG = Form(deadline_ms=100.0, seconds=5.0, slack=1.0, grace_ms=10.0, percent=50.0, missing=0.01)
