"""Figures of a caller on calls that one can count on one's fingers."""

from __future__ import annotations

import math
from collections import Counter

from loadtests.caller import Tally


def test_shares_are_of_all_calls_and_late_answers_are_answers() -> None:
    """Ten calls in five seconds: six DEEP, one of them late; two CF; one refused; one that ran out of time."""
    tally = Tally(
        tiers=Counter(DEEP=6, CF=2),
        in_time=Counter(DEEP=5, CF=2),
        statuses=Counter(RESOURCE_EXHAUSTED=1, DEADLINE_EXCEEDED=1),
        took_ms=[10.0] * 7 + [60.0],
        late_ms=[0.0] * 10,
    )

    found = tally.figures(5.0)

    assert found["sent"] == 10
    assert found["answered_share"] == 0.8
    assert found["deep_in_time_share"] == 0.5
    assert found["deep_in_time_per_s"] == 1.0
    assert found["tiers"] == {"DEEP": 6, "CF": 2}
    assert found["statuses"] == {"RESOURCE_EXHAUSTED": 1, "DEADLINE_EXCEEDED": 1}
    assert (found["p50_ms"], found["max_ms"]) == (10.0, 60.0)
    assert found["sent_late_p99_ms"] == 0.0


def test_nobody_who_called_is_no_share() -> None:
    found = Tally().figures(5.0)

    assert (found["sent"], found["answered_share"], found["deep_in_time_share"]) == (0, 0.0, 0.0)
    assert math.isnan(found["p50_ms"])
