"""Sharing out a pool against a plain greedy choice over sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.build import pool_sizes as module
from offline.build.pool_sizes import choose_pool_sizes

ITEMS = 40
LISTS = st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=20)
ANSWERS = LISTS.filter(lambda answers: len(answers) in {1, 2, 4})  # shares without rounding, so ties are ties


def rows(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(values, np.int32)


def greedy(ranked: dict[str, list[list[int]]], relevant: list[list[int]], size: int, step: int, depth: int) -> float:
    """What is found by always taking the reach of a generator that finds most per row that is not in the pool yet."""
    pools: list[set[int]] = [set() for _ in relevant]
    while (held := sum(map(len, pools))) < size * len(relevant):
        best: tuple[float, list[set[int]]] = 0.0, pools
        for lists in ranked.values():
            before = held
            for reach in range(step, depth + 1, step):
                if before >= size * len(relevant):
                    break
                grown = [pool | set(rows_of[:reach]) for pool, rows_of in zip(pools, lists, strict=True)]
                before = sum(map(len, grown))
                gained = _worth(grown, relevant) - _worth(pools, relevant)
                if before > held and gained / (before - held) > best[0]:
                    best = gained / (before - held), grown
        if not best[0]:
            break
        pools = best[1]
    return _worth(pools, relevant)


def _worth(pools: list[set[int]], relevant: list[list[int]]) -> float:
    return sum(len(pool & set(wanted)) / len(wanted) for pool, wanted in zip(pools, relevant, strict=True))


@given(
    questions=st.lists(st.tuples(LISTS, LISTS, LISTS, ANSWERS), min_size=1, max_size=6),
    size=st.integers(1, 30),
)
def test_the_limits_are_those_of_a_greedy_choice_over_sets(
    questions: list[tuple[list[int], list[int], list[int], list[int]]], size: int
) -> None:
    ranked = {name: [question[at] for question in questions] for at, name in enumerate("abc")}
    relevant = [question[3] for question in questions]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STEP", 4)
        patch.setattr(module, "DEPTH", 20)
        found = choose_pool_sizes(
            {name: [rows(values) for values in lists] for name, lists in ranked.items()},
            [rows(values) for values in relevant],
            rows=size,
            floors={},
        )
    pools = [{r for name in ranked for r in ranked[name][q][: found[name]]} for q in range(len(relevant))]
    assert _worth(pools, relevant) == pytest.approx(greedy(ranked, relevant, size, 4, 20))


def test_a_generator_that_finds_what_another_finds_gets_its_floor_alone() -> None:
    lists = [rows(list(range(100))), rows(list(range(50, 150)))]
    wanted = [rows([3, 60, 99]), rows([51, 120])]
    found = choose_pool_sizes({"popularity": lists, "echo": lists, "content": lists}, wanted, floors={"content": 10})
    assert found == {"popularity": 100, "echo": 0, "content": 10}


def test_without_cases_there_are_only_floors() -> None:
    assert choose_pool_sizes({"popularity": [], "co_occurrence": []}, [], floors={"popularity": 25}) == {
        "popularity": 25,
        "co_occurrence": 0,
    }
