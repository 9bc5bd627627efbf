"""What must hold of every history of calls, whatever was broken meanwhile; the method is Jepsen's.

``check`` is called at the end of every test that breaks a part, after what the test itself asks for.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from core.types import Tier
from server.overload.breaker_rules import THREADED_RULE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from tests.faults.history import Call, History

GRACE_MS = 10.0
"""An end may come so much after its deadline: the callers' timer, the wire, a turn of the scheduler."""
BACK_WITHIN_S = 10.0
"""After a short fault; after a long one see ``_back_within_s``."""
SAME_SHARE = 0.1
"""Two shares of DEEP that differ by less are the same."""
_FEW = 20
_SHOWN = 8
DOCUMENTED = frozenset(
    ("OK", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "CANCELLED")
)


def check(history: History) -> None:
    """Raise an ``AssertionError`` that names the invariants which do not hold, with the first calls that show it."""
    found = [line for invariant in INVARIANTS for line in invariant(history)]
    shown = "\n".join(found[:_SHOWN])
    assert not found, f"{len(found)} violations in {len(history.calls)} calls\n{shown}"


def every_end_is_documented(history: History) -> Iterator[str]:
    """I1: OK with a rung and a reason for each rung above it, or a documented status."""
    for call in history.calls:
        if call.status not in DOCUMENTED:
            yield _violation("I1", call, f"ended with {call.status}: {call.details}")
        elif call.ok:
            above = {tier.name for tier in Tier if tier > Tier[call.tier]} if call.tier in Tier.__members__ else None
            if above is None:
                yield _violation("I1", call, f"OK from no rung: {call.tier!r}")
            elif set(call.skipped) != above:
                yield _violation("I1", call, f"{call.tier} with reasons for {sorted(call.skipped)}")
        elif call.pushed_back and call.request.criticality == "user":
            yield _violation("I1", call, "a user's call was shed")


def nothing_comes_late(history: History) -> Iterator[str]:
    """I2: every end is at most ``GRACE_MS`` after the deadline, as the caller's clock has it."""
    world = history.world
    for call in history.calls:
        wanted_ms = world.default_ms if call.request.deadline_ms is None else call.request.deadline_ms
        budget_ms = max(min(wanted_ms, world.longest_ms), 0.0)
        if call.took_ms > budget_ms + GRACE_MS:
            yield _violation("I2", call, f"{call.took_ms:.1f} ms of {budget_ms:.0f}")


def every_list_is_sound(history: History) -> Iterator[str]:
    """I3: items of the catalogue of the version, unique, allowed, as many as asked for, finite and in order."""
    for call in history.calls:
        if not call.ok:
            continue
        catalogue = history.world.catalogues.get(call.version)
        if catalogue is None:
            yield _violation("I3", call, f"version {call.version!r} is none")
            continue
        request, ids = call.request, [item.item_id for item in call.items]
        if strange := [item_id for item_id in ids if item_id not in catalogue]:
            yield _violation("I3", call, f"not in the catalogue: {strange}")
            continue
        bought = history.world.bought.get(request.user, frozenset())
        allowed = {i for i, thing in catalogue.items() if thing.passes(request.filters)} - set(request.exclude)
        knows_user = call.tier != Tier.POPULARITY.name and "user_store" not in call.dropped
        if len(set(ids)) < len(ids):
            yield _violation("I3", call, "an item comes twice")
        if wrong := set(ids) - allowed:
            yield _violation("I3", call, f"excluded or filtered: {sorted(wrong)}")
        if knows_user and (again := set(ids) & bought):
            yield _violation("I3", call, f"bought before: {sorted(again)}")
        if not min(request.limit, len(allowed - bought)) <= len(ids) <= request.limit:
            yield _violation("I3", call, f"{len(ids)} items of {request.limit}, {len(allowed)} are allowed")
        if not _in_order([item.score for item in call.items]):
            yield _violation("I3", call, f"scores not finite or not in order: {[item.score for item in call.items]}")


def nobody_sees_another_user(history: History) -> Iterator[str]:
    """I4: what explains an item is of the user's own history; no two users' histories share an item."""
    for call in history.calls:
        own = history.world.owned.get(call.request.user, frozenset()) | set(call.request.recent)
        if foreign := {item.explained_by for item in call.items if item.explained_by} - own:
            yield _violation("I4", call, f"explained by another's {sorted(foreign)}")


def every_answer_is_of_one_version(history: History) -> Iterator[str]:
    """I5: what explains an item is of the catalogue of the answer's version too, as I3 has it of the items."""
    for call in history.calls:
        catalogue = history.world.catalogues.get(call.version)
        if catalogue is None:  # I3 names it
            continue
        if foreign := {item.explained_by for item in call.items if item.explained_by} - catalogue.keys():
            yield _violation("I5", call, f"explained by {sorted(foreign)}, not in version {call.version}")


def versions_only_grow(history: History) -> Iterator[str]:
    """I5: whoever asks after an answer of one version gets none of an older one."""
    answers = [call for call in history.calls if call.ok]
    ended = iter(sorted(answers, key=lambda call: call.ended_s))
    before, newest = next(ended, None), ""
    for call in sorted(answers, key=lambda call: call.sent_s):
        while before is not None and before.ended_s <= call.sent_s:
            newest = max(newest, before.version)
            before = next(ended, None)
        if call.version < newest:
            yield _violation("I5", call, f"version {call.version} after {newest}")


def every_call_ends_once(history: History) -> Iterator[str]:
    """I6: answered and refused calls are together those that were sent, and the server has counted no fewer answers."""
    calls, numbers = history.calls, {call.request.number for call in history.calls}
    if not history.sent == len(calls) == len(numbers):
        yield f"I6: {history.sent} calls were sent, {len(calls)} ended, {len(numbers)} different ones"
    if history.served is not None:
        answered, served = sum(call.ok for call in calls), sum(history.served.values())
        if served > history.sent or answered > history.served.get("OK", 0):
            yield f"I6: the server counted {dict(history.served)}, the caller sent {history.sent} and got {answered}"


def rungs_come_back(history: History) -> Iterator[str]:
    """I7: as many answers are DEEP as before the first fault, from at most ``_back_within_s`` after the last one."""
    if history.broken_s is None or history.healed_s is None:
        return
    users = [call for call in sorted(history.calls, key=lambda call: call.sent_s) if call.request.criticality == "user"]
    before = [call for call in users if call.ended_s < history.broken_s]
    after = [call for call in users if call.sent_s >= history.healed_s]
    if min(len(before), len(after)) < _FEW:
        yield f"I7: {len(before)} calls before the fault and {len(after)} after it are too few"
        return
    usual = float(_deep(before).mean())
    shares = _deep(after)[::-1].cumsum()[::-1] / np.arange(len(after), 0, -1)  # of each call and all that follow it
    back = np.flatnonzero(shares[: len(after) - _FEW + 1] >= usual - SAME_SHARE)
    back_s = after[back[0]].sent_s - history.healed_s if len(back) else math.inf
    if back_s > _back_within_s(history.healed_s - history.broken_s):
        yield f"I7: DEEP {usual:.2f} before the fault, and again {back_s:.1f} s after it was healed"


def _back_within_s(outage_s: float) -> float:
    """A breaker doubles its time open: its last one is no longer than all before it, nor than its longest one."""
    rule = THREADED_RULE
    return max(BACK_WITHIN_S, (1 + rule.jitter) * min(outage_s + rule.open_s, rule.longest_open_s))


INVARIANTS: tuple[Callable[[History], Iterator[str]], ...] = (
    every_end_is_documented,
    nothing_comes_late,
    every_list_is_sound,
    nobody_sees_another_user,
    every_answer_is_of_one_version,
    versions_only_grow,
    every_call_ends_once,
    rungs_come_back,
)


def _deep(calls: Sequence[Call]) -> NDArray[np.bool_]:
    return np.array([call.tier == Tier.DEEP.name for call in calls])


def _in_order(scores: Sequence[float | None]) -> bool:
    """Finite and not increasing, those without a score at the end."""
    scored = [score for score in scores if score is not None]
    last = [score is None for score in scores]
    return all(map(math.isfinite, scored)) and last == sorted(last) and all(a >= b for a, b in pairwise(scored))


def _violation(name: str, call: Call, what: str) -> str:
    request = call.request
    return (
        f"{name}: call {request.number} of {request.user} ({call.tier or call.status}, {call.took_ms:.1f} ms): {what}"
    )
