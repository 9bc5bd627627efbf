"""Two bundles are compared in pairs where they were evaluated on the same cases, and it says which way it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.manifest import BundleError
from offline.evaluate.per_user import PerUser
from offline.publish.compare import compare, difference
from offline.split.cases import Cases
from tests.offline.measured import figures, measured, per_user_of

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(5)
EASY = RNG.random(300) * 0.5


def test_a_small_steady_gain_is_certain_in_pairs_and_lost_between_means() -> None:
    """The same people are a little better off each: only pairs can see it."""
    old = measured(figures(0.04, 0.2, 0.25), "old", per_user_of(EASY.tolist()))
    new = measured(figures(0.04, 0.2, 0.251), "new", per_user_of((EASY + 0.001).tolist()))
    paired = compare(old, new)
    assert paired["paired"]
    assert "paired: differences per user over 300 cases" in paired["how"]
    assert paired["rungs"]["DEEP"]["ndcg@20"]["low"] > 0
    unpaired = compare(measured(old.figures, "old"), measured(new.figures, "new"))
    assert not unpaired["paired"]
    assert "not paired, one kept no figures per user" in unpaired["how"]
    assert unpaired["rungs"]["DEEP"]["ndcg@20"]["low"] < 0 < unpaired["rungs"]["DEEP"]["ndcg@20"]["high"]


def test_pairs_are_found_whatever_the_order_of_users() -> None:
    """One bundle lists its users backwards; differences are still taken within a user."""
    n = len(EASY)
    old = measured(figures(0.04, 0.2, 0.25), "old", per_user_of(EASY.tolist()))
    new = measured(figures(0.04, 0.2, 0.25), "new", per_user_of((EASY[::-1] + 0.002).tolist(), list(range(n))[::-1]))
    found = difference(old, new, "ndcg@20", ("DEEP", "DEEP"))
    assert found["difference"] == pytest.approx(0.002, abs=1e-6)
    assert found["high"] - found["low"] < 1e-6


@pytest.mark.parametrize(
    ("users", "relevant", "paired"),
    [
        (range(300), 7, True),
        (range(20, 320), 7, True),
        (range(60, 360), 7, False),
        (range(300), 8, False),
    ],
    ids=["the same", "most in common", "too few in common", "same people, other relevant"],
)
def test_pairs_need_the_same_people_and_the_same_relevant_items(users: range, relevant: int, paired: bool) -> None:
    old = measured(figures(0.04, 0.2, 0.25), "old", per_user_of(EASY.tolist()))
    new = measured(figures(0.04, 0.2, 0.25), "new", per_user_of(EASY.tolist(), list(users), relevant))
    assert compare(old, new)["paired"] is paired


def test_another_kind_of_case_is_no_comparison() -> None:
    """Last events of everyone against a month of purchases: figures are shown, with a note that they mean nothing."""
    other = figures(0.1, 0.2, 0.3)
    other["split"] = {**other["split"], "kind": "last-event", "horizon_days": None}
    found = compare(measured(figures(0.1, 0.2, 0.3), "old"), measured(other, "new"))
    assert not found["comparable"]
    assert "different kinds of cases" in found["how"]


def test_a_bundle_without_figures_is_named() -> None:
    found = compare(measured({}, "bare"), measured(figures(0.1, 0.2, 0.3), "new"))
    assert not found["comparable"]
    assert found["how"].startswith("bare was not measured")
    assert found["rungs"] == {}


def test_what_was_set_differently_is_listed_and_nothing_else() -> None:
    old = measured(figures(0.1, 0.2), "old", cf={"trend_weight": 0.5, "half_life_days": 14.0})
    new = measured(figures(0.1, 0.2), "new", cf={"trend_weight": 0.7, "half_life_days": 14.0})
    assert compare(old, new)["parameters"] == [{"what": "cf: trend_weight", "old": 0.5, "new": 0.7}]


@given(st.lists(st.floats(0.001, 0.9), min_size=3, max_size=3), st.lists(st.floats(0.001, 0.9), min_size=3, max_size=3))
def test_swapping_the_bundles_turns_an_unpaired_difference_around(a: list[float], b: list[float]) -> None:
    one, other = measured(figures(*a), "one"), measured(figures(*b), "other")
    there, back = (difference(x, y, "ndcg@20", ("DEEP", "DEEP")) for x, y in ((one, other), (other, one)))
    assert there["difference"] == pytest.approx(-back["difference"])
    assert there["low"] == pytest.approx(-back["high"])
    assert there["low"] <= there["difference"] <= there["high"]


def test_figures_per_user_come_back_from_disk_and_name_nobody(tmp_path: Path) -> None:
    cases = Cases(np.array([1, 0]), np.array([3, 3]), np.array([0.0, 0.0]), (np.array([2, 0]), np.array([1])))
    kept = PerUser.of(cases, ["ada", "grace"], ["a", "b", "c"], {"CF": {"ndcg@20": np.array([0.25, 1.0])}})
    kept.save(tmp_path / "kept.npz")
    found = PerUser.load(tmp_path / "kept.npz")
    assert found.users.tolist() == kept.users.tolist()
    assert found.relevant.tolist() == kept.relevant.tolist()
    assert found.values["CF"]["ndcg@20"].tolist() == [0.25, 1.0]
    assert b"grace" not in (tmp_path / "kept.npz").read_bytes()
    again = PerUser.of(cases, ["ada", "grace"], ["a", "b", "c"], {"CF": {"ndcg@20": np.array([0.25, 1.0])}})
    again.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "kept.npz").read_bytes()


def test_a_case_is_its_user_and_its_relevant_items_in_any_order_of_rows() -> None:
    """Two catalogues may number the same items differently."""
    values = {"CF": {"ndcg@20": np.array([0.5])}}

    def asked(rows: list[int], item_ids: list[str]) -> PerUser:
        cases = Cases(np.array([0]), np.array([1]), np.array([0.0]), (np.array(rows, np.int32),))
        return PerUser.of(cases, ["ada"], item_ids, values)

    same, other = asked([0, 1], ["x", "y"]), asked([1, 2], ["w", "y", "x"])
    assert same.relevant.tolist() == other.relevant.tolist()
    assert same.relevant.tolist() != asked([0], ["x"]).relevant.tolist()


@pytest.mark.parametrize("damage", [b"", b"no archive", b"PK\x03\x04 and then nothing"])
def test_damaged_figures_per_user_are_an_error_that_names_the_file(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "per_user.npz"
    path.write_bytes(damage)
    with pytest.raises(BundleError, match=r"per_user\.npz"):
        PerUser.load(path)
