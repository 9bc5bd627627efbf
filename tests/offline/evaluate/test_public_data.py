"""Public data sets: protocols that name what is there, plain methods on the same cases, targets held honestly."""

from __future__ import annotations

import inspect
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from offline.build.builder import Builder
from offline.build.fit import World
from offline.evaluate.baselines import _FUNCTIONS, Reference, load
from offline.evaluate.public_data import PROTOCOLS, Target, hold
from offline.evaluate.quality_table import markdown
from offline.progress import silent
from offline.read.dataset import read_dataset
from offline.read.engine import open_engine
from offline.shop import generate_shop
from offline.split.windows import SplitKind
from tests.offline.measured import figures, interval

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

SHARED = Path(__file__).parents[4] / "shared"
PLAIN = """
import numpy as np
import scipy.sparse as sp

def binary_csr(users, items, shape):
    x = sp.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape)
    x.data[:] = 1.0
    return x

def fit_popularity(x):
    counts = np.asarray(x.sum(axis=0)).ravel()
    return lambda users: np.tile(counts, (len(users), 1))
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    path = tmp_path_factory.mktemp("reference") / "plain.py"
    path.write_text(PLAIN)
    found = load(path)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """A builder of a small shop that has not fitted anything."""
    scratch = tmp_path_factory.mktemp("shop")
    events, items = generate_shop(120, 150, 6_000, 120).write(scratch)
    with open_engine(memory="1GB", threads=1, folder=scratch) as engine:
        world = World.read(read_dataset(str(events), str(items), engine=engine), engine, scratch)
        yield Builder(world, SplitKind.TIME, 15.0, seed=0, deep=False, progress=silent)


def had_before(made: Builder) -> dict[int, list[int]]:
    """Who had what before the last window, event by event."""
    log = made.world.log
    ends = made.plan.test.cut.ends(log)
    return {
        user: [int(log.items[i]) for i in range(log.ptr[user], ends[user]) if int(log.types[i]) in made.world.targets]
        for user in range(log.n_users)
    }


@pytest.mark.parametrize("new_only", [True, False])
def test_a_plain_method_has_exactly_the_cases_of_the_bundle(made: Builder, module: ModuleType, new_only: bool) -> None:
    """Popularity by distinct buyers, spelled out user by user."""
    had = had_before(made)
    buyers = np.zeros(made.world.n_items)
    for rows in had.values():
        for row in set(rows):
            buyers[row] += 1
    cases = made.world.cases(made.plan.test, new_only=new_only)
    values = []
    for user, relevant in zip(cases.users.tolist(), cases.relevant, strict=True):
        order = [row for row in np.argsort(-buyers, kind="stable").tolist() if not new_only or row not in had[user]]
        gained = sum(1 / log2(place + 2) for place, row in enumerate(order[:20]) if row in relevant)
        values.append(gained / sum(1 / log2(place + 2) for place in range(min(20, len(relevant)))))
    found = Reference(made, module).figures((("popularity", {}),), new_only=new_only)
    assert found["popularity"]["ndcg@20"]["mean"] == pytest.approx(np.mean(values))


def test_own_purchases_fade_with_their_age(made: Builder, module: ModuleType) -> None:
    """Every event of a user counts, half as much after 30 days."""
    log, cut = made.world.log, made.plan.test.cut
    user = int(np.argmax([len(rows) for rows in had_before(made).values()]))
    expected = np.zeros(made.world.n_items)
    for i in range(log.ptr[user], cut.ends(log)[user]):
        if int(log.types[i]) in made.world.targets:
            expected[log.items[i]] += 0.5 ** ((cut.as_of_s(log) - log.times[i]) / 86_400 / 30)
    scores = Reference(made, module)._fit("own purchases", {"half_life_days": 30.0})(np.array([user]))
    assert scores[0] == pytest.approx(expected)


def test_there_may_be_no_reference_methods(tmp_path: Path) -> None:
    assert load(tmp_path / "nothing.py") is None


@pytest.mark.shared_data
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_baseline_of_a_protocol_can_be_called_as_it_is_written(name: str) -> None:
    path = SHARED / "eval" / "baselines.py"
    if not path.is_file():
        pytest.skip("the reference recommenders are not beside the checkout")
    module: Any = load(path)
    for method, arguments in (*PROTOCOLS[name].baselines, *PROTOCOLS[name].repeat_baselines):
        if "half_life_days" in arguments:
            continue
        if method == "transitions":
            inspect.signature(module.fit_transitions).bind(0, 0, 0, 0, 0, **arguments)
        else:
            inspect.signature(getattr(module, _FUNCTIONS[method])).bind(None, **arguments)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_file_of_a_protocol_is_in_its_folder(name: str) -> None:
    folder, protocol = SHARED / "data" / name, PROTOCOLS[name]
    if not folder.is_dir():
        pytest.skip("the public data sets are not beside the checkout")
    for file in (protocol.events, protocol.items, protocol.test):
        assert not file or (folder / file).is_file()


def test_a_target_is_met_missed_or_cannot_be_judged() -> None:
    found = {
        "rungs": {"DEEP": {"ndcg@20": interval(0.12)}},
        "baselines": {"new": {"a": {"ndcg@20": interval(0.1)}, "b": {"ndcg@20": interval(0.11)}}},
        "step": 0.0,
    }
    worth, best = ("rungs", "DEEP", "ndcg@20", "mean"), ("baselines", "new", "best", "ndcg@20")
    targets = (
        Target("10 % above the best", worth, 1.05, best),
        Target("20 % above the best", worth, 1.2, best),
        Target("above something that was not measured", worth, 1.0, ("baselines", "repeats", "best", "ndcg@20")),
        Target("a figure that is not there", ("repeats", "rungs"), 0.1),
        Target("above nothing", ("step",), 0.0),
    )
    reached = hold(targets, found)
    assert [entry["met"] for entry in reached] == [True, False, None, None, False]
    assert reached[1]["bound"] == pytest.approx(1.2 * 0.11)


def test_a_target_met_by_chance_is_marked() -> None:
    """The mean is above the bound, its interval reaches below; another one is above with all of it."""
    found = {"step": interval(0.004), "leap": interval(0.04)}
    reached = hold((Target("a step", ("step", "mean"), 0.0), Target("a leap", ("leap", "mean"), 0.0)), found)
    assert [entry["met"] for entry in reached] == [True, True]
    assert [entry["chance"] for entry in reached] == [True, False]


def test_the_table_has_a_row_for_every_rung_method_and_target() -> None:
    protocol = PROTOCOLS["online-retail"]
    found = {**figures(0.04, 0.09, 0.12), "repeats": figures(0.05, 0.2, 0.3)}
    for part in (found, found["repeats"]):
        for step in part["differences"].values():
            step |= {name: interval(0.01) for name in protocol.metrics}
    plain = dict.fromkeys(protocol.metrics, interval(0.05))
    beside = {"new": {"item cosine": plain}, "repeats": {"own purchases": plain}}
    text = markdown(
        protocol, found, beside, [{"target": "above all", "value": 0.12, "bound": 0.2, "met": False, "chance": False}]
    )
    assert "| item cosine | 0.0500 [0.0400, 0.0600]" in text
    assert "| `DEEP` | 0.1200 [0.1100, 0.1300]" in text
    assert "| `DEEP - CF` | +0.0100 [0.0000, 0.0200]" in text
    assert "| own purchases |" in text
    assert "| above all | 0.2000 | 0.1200 | **no** |" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {6, 5}


def test_the_table_is_whole_without_plain_methods() -> None:
    protocol = PROTOCOLS["ml-1m"]
    found = figures(0.04, 0.09)
    for step in found["differences"].values():
        step |= {name: interval(0.01) for name in protocol.metrics}
    text = markdown(protocol, found, {}, hold(protocol.targets, found))
    assert "`CF - POPULARITY`" in text
    assert "cannot be said" in text
