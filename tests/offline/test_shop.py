from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest

from offline.read.dataset import read_dataset
from offline.shop import Shop, generate_shop
from offline.shop.goods import DEPARTMENTS
from offline.shop.truth import DAY_S
from offline.shop.world import KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from offline.read.engine import Engine
    from offline.shop.visits import Looks

NOUNS = [kind.noun for kind in KINDS]


@pytest.fixture(scope="module")
def shop() -> Shop:
    return generate_shop(users=1200, items=600, events=60_000, days=180, seed=3)


@pytest.fixture(scope="module")
def looks(shop: Shop) -> Looks:
    return next(shop.looks())


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    written = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        paths = generate_shop(users=40, items=80, events=900, days=30, seed=seed).write(tmp_path / name)
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
    assert written[0][0] != written[2][0]
    assert written[0][1] != written[2][1]


def test_what_is_written_reads_without_loss(engine: Engine, tmp_path: Path) -> None:
    events, items = generate_shop(users=200, items=150, events=8000, days=60, seed=5).write(tmp_path)
    data = read_dataset(events, items, engine=engine)
    assert {found.what for found in data.report.findings} <= {"item without events"}
    assert (data.report.users, data.report.items) == (200, 150)
    assert data.report.warnings == ()
    assert data.seen_types == ("add_to_cart", "purchase")
    assert set(data.catalogue.attributes) == {"brand", "colour"}
    assert all(data.titles)
    assert not data.catalogue.available.all()


def test_many_users_are_drawn_in_parts_of_the_same_shape(tmp_path: Path) -> None:
    shop = generate_shop(users=10_001, items=60, events=30_000, days=10, seed=0)
    events, _ = shop.write(tmp_path)
    parts = list(shop.events())
    assert len(parts) == 2
    assert pq.read_metadata(events).num_rows == sum(map(len, parts))
    assert len(set(pq.read_table(events)["user_id"].to_pylist())) == 10_001


@pytest.mark.parametrize(("users", "events"), [(1200, 60_000), (300, 60_000), (3000, 36_000)])
def test_the_number_of_events_is_about_what_was_asked(users: int, events: int) -> None:
    shop = generate_shop(users=users, items=300, events=events, days=90, seed=1)
    drawn = sum(map(len, shop.events()))
    assert drawn == pytest.approx(events, rel=0.15)


def test_each_step_towards_a_purchase_is_rarer(looks: Looks) -> None:
    assert len(looks.item) > 3 * looks.carted.sum()
    assert looks.carted.sum() > 1.5 * looks.bought.sum() > 0
    assert not (looks.bought & ~looks.carted).any()
    assert not (looks.dismissed & looks.carted).any()
    assert looks.dismissed.sum() > 0


def test_purchases_lie_nearer_to_taste_than_chance_and_dismissals_further(shop: Shop, looks: Looks) -> None:
    rng = np.random.default_rng(0)
    chance = shop.truth.affinity(rng.permutation(looks.user), looks.item).mean()
    looked = shop.truth.affinity(looks.user, looks.item)
    assert looked[looks.bought].mean() > looked.mean() > 1.25 * chance
    assert looked[looks.dismissed].mean() < looked[~looks.carted].mean()


def test_what_goes_with_an_item_follows_it_and_does_not_precede_it(shop: Shop, looks: Looks) -> None:
    kind = shop.truth.kind[looks.item]
    same_visit = ~looks.begins[1:]
    main, extra = NOUNS.index("espresso machine"), NOUNS.index("milk jug")
    after = (same_visit & (kind[:-1] == main) & (kind[1:] == extra)).sum()
    before = (same_visit & (kind[:-1] == extra) & (kind[1:] == main)).sum()
    assert after > 2 * before
    own = same_visit & (looks.item[1:] == shop.truth.accessory[looks.item[:-1]])
    assert own.sum() > 0.02 * same_visit.sum()


def test_consumables_are_bought_again_when_they_are_used_up(shop: Shop, looks: Looks) -> None:
    bought = np.flatnonzero(looks.bought)
    order = bought[np.lexsort((looks.time_s[bought], looks.item[bought], looks.user[bought]))]
    again = (looks.user[order[1:]] == looks.user[order[:-1]]) & (looks.item[order[1:]] == looks.item[order[:-1]])
    lasts = shop.truth.lasts_s[shop.truth.kind[looks.item[order[1:]]]]
    age = looks.time_s[order[1:]] - looks.time_s[order[:-1]]
    used_up = lasts > 0
    assert again[used_up].mean() > 3 * again[~used_up].mean()
    assert 0.7 < np.median((age / np.maximum(lasts, 1))[again & used_up]) < 2.5


def test_goods_have_their_season(shop: Shop, looks: Looks) -> None:
    kind, day = shop.truth.kind[looks.item], (looks.time_s - shop.truth.start_s) / DAY_S
    early, late = day < 60, day > 120
    for noun, when, other in (("down jacket", early, late), ("swim shorts", late, early)):
        of = kind == NOUNS.index(noun)
        assert of[when].mean() > 2 * of[other].mean(), noun


def test_items_are_looked_at_only_while_they_are_on_sale(shop: Shop, looks: Looks) -> None:
    truth = shop.truth
    assert truth.on_sale(looks.item, looks.time_s.astype(float)).all()
    assert (truth.launched_s > truth.start_s).sum() > 100
    assert (truth.ended_s < truth.end_s).sum() > 20


def test_fashions_come_and_go(shop: Shop, looks: Looks) -> None:
    """An item is looked at more often around the moment it is most in fashion."""
    truth = shop.truth
    away = (looks.time_s - truth.trend_at_s[looks.item]) / truth.trend_width_s[looks.item]
    rng = np.random.default_rng(0)
    moments = rng.permutation(looks.time_s)
    chance = (moments - truth.trend_at_s[looks.item]) / truth.trend_width_s[looks.item]
    moody = np.isfinite(truth.trend_width_s[looks.item])
    assert (np.abs(away) < 1)[moody].mean() > 1.3 * (np.abs(chance) < 1)[moody].mean()


def test_look_probabilities_sum_to_one_and_leave_out_what_is_not_on_sale(shop: Shop) -> None:
    truth, time_s = shop.truth, shop.truth.start_s + 70.0 * DAY_S
    mains = np.flatnonzero(truth.accessory >= 0)
    for previous in (None, 0, int(mains[5]), len(truth.kind) - 1):
        chance = truth.look_probability(17, time_s, previous, carted=True)
        assert chance.sum() == pytest.approx(1)
        assert not chance[~truth.on_sale(np.arange(len(chance)), time_s)].any()


@pytest.mark.parametrize("begins", [True, False])
def test_visitors_do_what_the_truth_says(begins: bool) -> None:
    """Over many looks, the items looked at next are as frequent as the truth's probabilities add up to."""
    shop = generate_shop(users=400, items=60, events=12_000, days=120, seed=9)
    truth, looks = shop.truth, next(shop.looks())
    durable = truth.lasts_s[truth.kind] == 0
    at = np.flatnonzero(looks.begins == begins)[1:3001]
    expected = np.zeros(len(durable))
    observed = np.zeros(len(durable))
    for i in at:
        # Replenishment is not part of these probabilities; durable goods are never replenished, so compare among those.
        if not durable[looks.item[i]]:
            continue
        previous = None if begins else int(looks.item[i - 1])
        chance = truth.look_probability(
            int(looks.user[i]), float(looks.time_s[i]), previous, carted=bool(looks.carted[i - 1])
        )
        expected += chance * durable / chance[durable].sum()
        observed[looks.item[i]] += 1
    enough = expected > 5
    chi2 = ((observed - expected)[enough] ** 2 / expected[enough]).sum()
    assert enough.sum() > 15
    assert chi2 < enough.sum() + 4 * np.sqrt(2 * enough.sum())


def test_purchases_are_as_many_as_the_truth_says(shop: Shop, looks: Looks) -> None:
    """A cart of something that is no replenishment is as likely as ``cart_probability`` says."""
    truth = shop.truth
    plain = (truth.lasts_s[truth.kind[looks.item]] == 0) & ~looks.begins
    expected = truth.cart_probability(looks.user[plain], looks.item[plain])
    assert looks.carted[plain].mean() == pytest.approx(expected.mean(), rel=0.05)
    assert looks.bought[plain].sum() / looks.carted[plain].sum() == pytest.approx(0.5, abs=0.05)


def test_a_consumable_that_is_due_is_the_likeliest_purchase(shop: Shop) -> None:
    truth = shop.truth
    time_s = truth.start_s + 100.0 * DAY_S
    item = int(truth.first[NOUNS.index("coffee beans")])
    fresh = truth.purchase_probability(4, time_s, stock={item: time_s - DAY_S})
    due = truth.purchase_probability(4, time_s, stock={item: time_s - 40 * DAY_S})
    assert due.argmax() == item
    assert due[item] > 10 * fresh[item]
    assert due.sum() <= 1


def test_ranking_by_the_truth_beats_popularity_by_far(shop: Shop, looks: Looks) -> None:
    """Of each user's purchases in the last 30 days, more are among the truth's first 20 than among the most bought."""
    truth = shop.truth
    cut = truth.end_s - 30 * DAY_S
    recent = (looks.time_s < cut) & (looks.time_s > cut - 30 * DAY_S)
    popular = np.argsort(-np.bincount(looks.item[recent & looks.carted], minlength=len(truth.kind)))[:20]
    later = looks.bought & (looks.time_s >= cut)
    hits = {"truth": 0, "popularity": 0}
    for user in np.unique(looks.user[later])[:300]:
        items = looks.item[later & (looks.user == user)]
        best = np.argsort(-truth.purchase_probability(int(user), cut + 15.0 * DAY_S))[:20]
        hits["truth"] += np.isin(items, best).sum()
        hits["popularity"] += np.isin(items, popular).sum()
    assert hits["truth"] > 2 * hits["popularity"] > 0


def test_every_kind_of_goods_is_described_and_goes_with_kinds_that_exist() -> None:
    assert len(set(NOUNS)) == len(NOUNS) == sum(map(len, DEPARTMENTS.values()))
    for kind in KINDS:
        assert kind.says.endswith(".")
        assert len(kind.materials.split(",")) == 3
        assert all(noun in NOUNS for noun in kind.goes_with.split(",") if noun)


def test_titles_read_like_a_shop_s(shop: Shop) -> None:
    first = shop.items.slice(0, 1).to_pylist()[0]
    assert "two-person tent, " in first["title"]
    assert first["title"].startswith(first["brand"])
    assert first["categories"] == ["Outdoor", "Camping"]
    assert len(set(shop.items["title"].to_pylist())) == len(shop.items)


@pytest.mark.parametrize(
    ("wrong", "said"), [({"items": 10}, "items=10: at least 50"), ({"users": 0}, "users=0"), ({"days": 0}, "days=0")]
)
def test_sizes_that_make_no_shop_are_refused(wrong: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        generate_shop(**wrong)
