"""What may happen at every call is logged at once, and then seldom."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from server.telemetry.rate_limited_log import EVERY_S, RateLimitedLog

if TYPE_CHECKING:
    import pytest


def test_the_first_is_logged_at_once_and_the_others_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = [50.0]
    seldom = RateLimitedLog(logging.getLogger("test"), lambda: now[0])

    for _ in range(200):
        seldom.error("the model is wrong")
    now[0] += EVERY_S
    seldom.error("the model is wrong")

    assert [record.getMessage() for record in caplog.records] == [
        "the model is wrong",
        "the model is wrong (199 more since the last such line)",
    ]


def test_one_thing_does_not_hide_another_and_an_error_comes_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    seldom = RateLimitedLog(logging.getLogger("test"), lambda: 0.0)
    try:
        _ = {}["why it failed"]
    except KeyError:
        seldom.exception("one generator failed")
        seldom.exception("another generator failed")

    assert len(caplog.records) == 2
    assert caplog.text.count("why it failed") >= 2


def test_details_such_as_ids_are_logged_and_do_not_make_another_event(caplog: pytest.LogCaptureFixture) -> None:
    seldom = RateLimitedLog(logging.getLogger("test"), lambda: 0.0)
    for number in range(3):
        seldom.error("a call failed", f"id {number}")

    assert caplog.messages == ["a call failed; id 0"]


def test_a_warning_is_limited_by_what_it_says_and_not_by_its_details(caplog: pytest.LogCaptureFixture) -> None:
    now = [50.0]
    seldom = RateLimitedLog(logging.getLogger("test"), lambda: now[0])

    for number in range(3):
        seldom.warning("reads fail", f"number {number}")
    now[0] += EVERY_S
    seldom.warning("reads fail", "number 3")

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "reads fail; number 0"),
        ("WARNING", "reads fail; number 3 (2 more since the last such line)"),
    ]
