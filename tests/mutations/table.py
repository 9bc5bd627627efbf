"""Faults that somebody could put into the request path, each with the tests that must notice it."""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """One change of one file.

    Attributes:
        name: what goes wrong.

        file: path in the repository.

        old: text that the file has exactly once; ``new`` takes its place.

        tests: ids of which at least one must fail; all pass without the change.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_RUNGS, _EDGE = "tests/server/rungs", "tests/server/edge"
MUTATIONS = (
    Mutation(
        "nothing of the deadline is kept back for the rungs below",
        "server/rungs/budget.py",
        "return deadline.sooner(self.reserve_s(deadline.left_s()) + slack_s)",
        "return deadline",
        (f"{_RUNGS}/test_reserve.py::test_a_model_that_overruns_is_given_up_while_the_reserve_is_still_there",),
    ),
    Mutation(
        "a breaker never opens",
        "server/overload/breaker.py",
        "opens = self._failed > 0 and self._too_many()",
        "opens = False",
        ("tests/server/overload/test_breaker.py::test_it_opens_at_the_last_of_the_fewest_calls",),
    ),
    Mutation(
        "a half-open breaker lets every call through",
        "server/overload/breaker.py",
        "self._not_before_s = now_s + self._rule.longest_probe_s",
        "self._not_before_s = now_s",
        ("tests/server/overload/test_breaker.py::test_half_open_gives_one_permit_at_a_time",),
    ),
    Mutation(
        "a run that is stopped is not told so",
        "server/rungs/stop_flag.py",
        "        if act is not None:\n            act()",
        "        del act",
        (f"{_RUNGS}/test_deep_rung.py::test_a_model_that_overruns_is_stopped_and_cf_answers_in_time",),
    ),
    Mutation(
        "filters, exclusions and seen items do not hold for proposed candidates",
        "candidate_gen/merge.py",
        "rows = proposed[query.allows(proposed)] if query.restrict is None else",
        "rows = proposed if query.restrict is None else",
        (f"{_RUNGS}/test_pipeline.py::test_similar_items_keep_to_filters_and_exclusions",),
    ),
    Mutation(
        "items that the user has seen come back",
        "core/query.py",
        "        seen=seen,\n",
        "        seen=seen[:0],\n",
        ("tests/core/test_query.py::test_seen_items_are_not_allowed_unless_repeats_are",),
    ),
    Mutation(
        "items that the caller excludes come back",
        "core/query.py",
        "exclude = dict.fromkeys(row_of[i] for i in request.exclude if i in row_of) | disliked",
        "exclude = disliked",
        (f"{_RUNGS}/test_pipeline.py::test_what_the_caller_excludes_is_on_no_list",),
    ),
    Mutation(
        "another user's stored event is accepted",
        "core/events.py",
        "        if crc32(value, start) != _WHOLE:",
        "        if crc32(value, _start(VERSION, head(value)[1])) != _WHOLE:",
        ("tests/core/test_events.py::test_an_event_of_another_user_is_foreign",),
    ),
    Mutation(
        "another user's seen items are accepted",
        "core/events.py",
        "    if raw == _CHECK.pack(user) * len(items):",
        "    if raw == raw[: _CHECK.size] * len(items):",
        ("tests/core/test_events.py::test_flaws_of_seen_items_are_told_apart_and_the_others_are_read",),
    ),
    Mutation(
        "a pair of items that one person made is kept",
        "candidate_gen/cooccurrence_params.py",
        "    min_users: int = 2\n",
        "    min_users: int = 1\n",
        ("tests/candidate_gen/test_cooccurrence.py::test_a_pair_that_one_person_made_is_not_kept",),
    ),
    Mutation(
        "scores that are not finite reach the answer",
        "server/rungs/deep_rung.py",
        "if scores.shape != pool.rows.shape or not np.isfinite(scores).all():",
        "if scores.shape != pool.rows.shape:",
        (f"{_RUNGS}/test_deep_rung.py::test_each_fault_of_the_model_has_its_reason_and_is_a_failure",),
    ),
    Mutation(
        "the deadline of the caller is ignored",
        "server/edge/call_guard.py",
        "min(self._settings.default_deadline_ms / 1000 if left_s is None else left_s, longest_s)",
        "longest_s",
        (f"{_EDGE}/test_servicer.py::test_the_budget_is_the_smaller_of_the_callers_and_the_servers",),
    ),
    Mutation(
        "a call without time is begun",
        "server/edge/call_guard.py",
        "        if left_s <= 0:\n",
        "        if left_s <= -1e9:\n",
        (f"{_EDGE}/test_call_guard.py::test_a_call_whose_deadline_had_passed_on_arrival_is_not_begun",),
    ),
    Mutation(
        "calls of users are shed",
        "server/overload/shedding.py",
        "Criticality.USER: math.inf",
        "Criticality.USER: 0.1",
        (f"{_EDGE}/test_call_guard.py::test_under_pressure_users_are_answered",),
    ),
    Mutation(
        "a call that is cancelled keeps its permit",
        "server/overload/admission.py",
        "        permit.given_back = True\n        self._count(permit, -1)\n",
        "        permit.given_back = True\n        if reached is None:\n            return\n        self._count(permit, -1)\n",
        (f"{_EDGE}/test_call_guard.py::test_a_caller_that_goes_away_gives_its_permit_back_and_is_recorded_as_such",),
    ),
    Mutation(
        "an answer of a lower rung is reported as DEEP",
        "server/rungs/pipeline.py",
        "self._finish(tier, query, ordered,",
        "self._finish(Tier.DEEP, query, ordered,",
        (f"{_RUNGS}/test_ladder.py::test_each_fault_has_one_tier_and_one_reason_for_each_rung_above",),
    ),
    Mutation(
        "the reason for the highest skipped rung is missing",
        "server/rungs/request_record.py",
        "for place, rung in enumerate(self.ladder)\n",
        "for place, rung in enumerate(self.ladder[:-1])\n",
        (f"{_RUNGS}/test_ladder.py::test_each_fault_has_one_tier_and_one_reason_for_each_rung_above",),
    ),
    Mutation(
        "what was bought since comes back from a precomputed list",
        "server/rungs/list_rung.py",
        "allowed = query.allows(found.rows)",
        "allowed = np.ones(len(found.rows), np.bool_)",
        (f"{_RUNGS}/test_list_rung.py::test_items_that_were_bought_disliked_or_sold_out_since_are_not_on_the_list",),
    ),
    Mutation(
        "a precomputed list of another user is taken",
        "core/precomputed.py",
        "    if owner != user:\n",
        "    if owner < 0:\n",
        ("tests/core/test_precomputed.py::test_the_list_of_another_user_or_bundle_is_refused",),
    ),
    Mutation(
        "twice as many calls are exercised as were asked for",
        "server/edge/call_guard.py",
        "turn = self._rng() / share",
        "turn = self._rng() / share / 2",
        (f"{_EDGE}/test_call_guard.py::test_a_share_of_users_calls_is_answered_from_each_lower_rung",),
    ),
    Mutation(
        "the model scores rows whatever that costs",
        "server/rungs/cost_model.py",
        "return int(min(left / max(self.row_s, 1e-9), 2**31))",
        "return 2**31",
        (f"{_RUNGS}/test_ladder.py::test_the_model_scores_as_many_rows_as_fit_and_the_others_follow_in_prior_order",),
    ),
    Mutation(
        "a row that was not scored has the score 0",
        "server/edge/servicer.py",
        "score=score if score == score else None",
        "score=score if score == score else 0.0",
        (f"{_EDGE}/test_servicer.py::test_items_that_no_model_scored_have_no_score",),
    ),
    Mutation(
        "the text of an exception reaches the caller",
        "server/edge/call_guard.py",
        'text = f"internal error; recommendation_id {recommendation_id}"',
        'text = f"{error}; recommendation_id {recommendation_id}"',
        (f"{_EDGE}/test_servicer.py::test_an_error_of_the_program_reaches_the_log_and_not_the_caller",),
    ),
)
