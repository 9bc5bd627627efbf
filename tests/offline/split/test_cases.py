"""Splits never let a recommender see what it is asked about."""

from __future__ import annotations

import ibis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.read.event_log import EventLog
from offline.split.cases import Cases, moments_of_activity, window_cases
from offline.split.cuts import LastEventsCut, ShareCut, TimeCut

BUY, VIEW = 1, 2


def make_log(events: list[tuple[int, int, int, int]], n_users: int) -> EventLog:
    """A log of (user, time, item, type), given in any order."""
    ordered = sorted(events, key=lambda e: (e[0], e[1]))
    users = np.array([e[0] for e in ordered], np.int64)
    return EventLog(
        ptr=np.searchsorted(users, np.arange(n_users + 1)),
        items=np.array([e[2] for e in ordered], np.int32),
        types=np.array([e[3] for e in ordered], np.int8),
        weights=np.ones(len(ordered), np.float32),
        times=np.array([e[1] for e in ordered], np.int64),
    )


LOG = make_log(
    [
        (0, 10, 3, BUY),
        (0, 20, 4, BUY),
        (0, 35, 3, BUY),
        (0, 36, 7, BUY),
        (0, 37, 8, VIEW),
        (0, 99, 9, BUY),
        (1, 31, 5, BUY),
        (2, 11, 6, BUY),
    ],
    4,
)


def test_a_window_asks_for_new_items_after_the_cut() -> None:
    """Repeats, views, events beyond the span and users without an answer are no case."""
    cases = window_cases(LOG, TimeCut(30), TimeCut(50), targets=frozenset({BUY}), hidden=frozenset({BUY}))
    assert cases.users.tolist() == [0, 1]
    assert [rows.tolist() for rows in cases.relevant] == [[7], [5]]
    assert cases.ends.tolist() == [2, 6]
    assert cases.request_time_s.tolist() == [30.0, 30.0]


def test_repeats_count_where_they_are_allowed() -> None:
    cases = window_cases(LOG, TimeCut(30), TimeCut(50), targets=frozenset({BUY}))
    assert [rows.tolist() for rows in cases.relevant] == [[3, 7], [5]]


def test_leaving_one_out_asks_for_the_last_event_at_its_own_time() -> None:
    cases = window_cases(LOG, LastEventsCut(1), LastEventsCut(0), targets=frozenset({BUY}), hidden=frozenset({BUY}))
    assert cases.users.tolist() == [0, 1, 2]
    assert [rows.tolist() for rows in cases.relevant] == [[9], [5], [6]]
    assert cases.request_time_s.tolist() == [99.0, 31.0, 11.0]


events = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(0, 9), st.sampled_from([BUY, VIEW])),
    min_size=1,
    max_size=40,
)


@given(events, st.integers(0, 51), st.integers(1, 30))
def test_nothing_known_is_later_than_the_case(raw: list[tuple[int, int, int, int]], cut_s: int, span_s: int) -> None:
    """Known events end where the cases begin, and every answer lies in the window after."""
    log = make_log(raw, 4)
    cases = window_cases(
        log, TimeCut(cut_s), TimeCut(cut_s + span_s), targets=frozenset({BUY}), hidden=frozenset({BUY})
    )
    for user, end, relevant in zip(cases.users, cases.ends, cases.relevant, strict=True):
        assert (log.times[log.ptr[user] : end] < cut_s).all()
        later = [(t, i) for u, t, i, kind in raw if u == user and kind == BUY and cut_s <= t < cut_s + span_s]
        had = {i for u, t, i, kind in raw if u == user and kind == BUY and t < cut_s}
        assert set(relevant.tolist()) == {i for _, i in later} - had


@pytest.mark.parametrize(
    "cut", [TimeCut(12), TimeCut(12.5), TimeCut(11.001), LastEventsCut(1), ShareCut(0), ShareCut(30), ShareCut(100)]
)
def test_the_engine_and_the_log_agree_on_what_is_known(cut: TimeCut | LastEventsCut | ShareCut) -> None:
    user = np.repeat(np.arange(4), np.diff(LOG.ptr))
    seq = np.arange(len(user)) - LOG.ptr[user]
    table = ibis.memtable(
        {"user": user, "seq": seq, "item": LOG.items, "time": LOG.times, "test": np.zeros(len(seq), np.bool_)}
    )
    known = cut.known(table).to_pyarrow().to_pydict()
    ends = cut.ends(LOG)
    expected = {(u, s) for u in range(4) for s in range(int(ends[u] - LOG.ptr[u]))}
    assert expected == set(zip(known["user"], known["seq"], strict=True))


def test_a_state_shows_the_newest_events_first_and_remembers_everything_consumed() -> None:
    ids = [f"i{n}" for n in range(10)]
    state = LOG.user_state(0, 5, ids, ["buy", "view"], frozenset({BUY}))
    assert [e.item_id for e in state.events] == ["i8", "i7", "i3", "i4", "i3"]
    assert len(state.seen) == 3


def moments(log: EventLog, seed: int = 0) -> Cases:
    return moments_of_activity(
        log, TimeCut(30), TimeCut(50), targets=frozenset({BUY}), hidden=frozenset({BUY}), seed=seed
    )


def test_moments_of_activity_lie_in_the_window_and_something_new_follows() -> None:
    """User 0 buys item 3 again at 35: only 7 at 36 is new, and the view at 37 has nothing behind it."""
    found = [moments(LOG, seed) for seed in range(20)]

    assert {tuple(cases.users.tolist()) for cases in found} == {(0, 1)}
    assert {float(cases.request_time_s[0]) for cases in found} == {35.0, 36.0}
    assert {rows.tolist()[0] for cases in found for rows in cases.relevant[:1]} == {7}
    assert moments(LOG, 3).request_time_s.tolist() == moments(LOG, 3).request_time_s.tolist()


def test_of_events_at_one_moment_none_is_known_at_it() -> None:
    log = make_log([(0, 10, 1, BUY), (0, 40, 2, BUY), (0, 40, 3, BUY), (0, 40, 4, BUY)], 1)

    found = moments(log)

    assert found.ends.tolist() == [1]
    assert found.relevant[0].tolist() == [2, 3, 4]


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 99), st.integers(0, 9), st.sampled_from([BUY, VIEW])), min_size=1
    ),
    st.integers(0, 5),
)
def test_at_a_moment_only_what_came_before_it_is_known_and_what_follows_is_relevant(
    events: list[tuple[int, int, int, int]], seed: int
) -> None:
    log = make_log(events, 5)
    cases = moments(log, seed)

    for user, end, at, relevant in zip(cases.users, cases.ends, cases.request_time_s, cases.relevant, strict=True):
        assert 30 <= at < 50
        assert (log.times[log.ptr[user] : end] < at).all()
        assert (log.times[end : log.ptr[user + 1]] >= at).all()
        later = [item for who, when, item, kind in events if who == user and at <= when < 50 and kind == BUY]
        had = [item for who, when, item, kind in events if who == user and when < at and kind == BUY]
        assert set(relevant.tolist()) == set(later) - set(had) != set()
