"""Plain methods on exactly the cases of a bundle's evaluation, from a file of reference recommenders.

The file (``fit_*`` functions from a binary user-item matrix to scores) is not part of this project; it is imported by path.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

from offline.metrics import LONGEST, every_metric, hit_matrix, intervals
from offline.progress import silent
from offline.split.cuts import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import ModuleType

    from numpy.typing import NDArray

    from offline.build.builder import Builder
    from offline.progress import Progress

    Score = Callable[[NDArray[np.int64]], NDArray[Any]]

DEEPEST = 500
_BLOCK = 256
_FUNCTIONS = {
    "popularity": "fit_popularity",
    "item cosine": "fit_item_cosine",
    "RP3beta": "fit_rp3beta",
    "EASE^R": "fit_ease",
    "iALS": "fit_ials_scaled",
    "GF-CF": "fit_graph_filter",
}


def load(path: Path) -> ModuleType | None:
    """The file of reference recommenders; None where there is none."""
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location("reference_recommenders", path)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Reference:
    """The events before the last window's cut, as plain methods see them: who had what, and when."""

    def __init__(self, made: Builder, module: ModuleType) -> None:
        """Keep the events of target types."""
        log, cut = made.world.log, made.plan.test.cut
        users = np.repeat(np.arange(log.n_users), np.diff(log.ptr))
        before = np.arange(len(log.items)) < cut.ends(log)[users]
        known = before & np.isin(log.types, list(made.world.targets))
        hides = before & np.isin(log.types, list(made.world.hidden))
        self._made, self._module = made, module
        self._users = users[known]
        self._items, self._times = log.items[known].astype(np.int64), log.times[known].astype(np.float64)
        self._as_of_s = cut.as_of_s(log)
        shape = (log.n_users, made.world.n_items)
        self._had = module.binary_csr(self._users, self._items, shape)
        self._hidden = module.binary_csr(users[hides], log.items[hides].astype(np.int64), shape)

    def figures(
        self, baselines: tuple[tuple[str, Mapping[str, Any]], ...], *, new_only: bool, progress: Progress = silent
    ) -> dict[str, dict[str, Any]]:
        """Metrics of each method with intervals, and ``recall@500``.

        Args:
            baselines: name -> arguments.
            new_only: as in the evaluation: what a user had is neither relevant nor recommended.
            progress: called for every method.
        """
        world = self._made.world
        cases = world.cases(self._made.plan.test, new_only=new_only)
        wanted = np.array([len(rows) for rows in cases.relevant], np.int64)
        found = {}
        for place, (name, arguments) in enumerate(baselines):
            progress("plain baselines", place, len(baselines), name)
            lists = self._lists(self._fit(name, arguments), cases.users, new_only=new_only)
            deep = hit_matrix(lists, cases.relevant, DEEPEST)
            values = every_metric(deep[:, :LONGEST], wanted)
            found[name] = intervals({**values, f"recall@{DEEPEST}": deep.sum(axis=1) / wanted})
        progress("plain baselines", len(baselines), len(baselines))
        return found

    def _fit(self, name: str, arguments: Mapping[str, Any]) -> Score:
        if name == "transitions":
            return self._transitions(arguments)
        if "half_life_days" not in arguments:
            fit: Callable[..., Score] = getattr(self._module, _FUNCTIONS[name])
            return fit(self._had, **arguments)
        age_days = (self._as_of_s - self._times) / DAY_S
        weight = 0.5 ** (age_days / float(arguments["half_life_days"]))
        n_items = self._had.shape[1]
        if name.startswith("own"):
            from scipy.sparse import csr_matrix

            own = csr_matrix((weight, (self._users, self._items)), shape=self._had.shape)
            return lambda users: own[users].toarray()
        trend = np.bincount(self._items, weight, n_items)
        return lambda users: np.tile(trend, (len(users), 1))

    def _transitions(self, arguments: Mapping[str, Any]) -> Score:
        place = np.arange(len(self._items))
        everything = np.ones(len(place), np.bool_)
        fit = self._module.fit_transitions
        score: Score = fit(self._users, self._items, place, everything, self._had.shape[1], **arguments)
        return score

    def _lists(self, score: Score, users: NDArray[np.int64], *, new_only: bool) -> NDArray[np.int32]:
        """[q, 500] best first, -1 after the end; equal scores in the order of rows."""
        depth = min(DEEPEST, self._had.shape[1])
        lists = np.full((len(users), DEEPEST), -1, np.int32)
        for start in range(0, len(users), _BLOCK):
            block = users[start : start + _BLOCK]
            scores = np.array(score(block), np.float64)
            if new_only:
                for i, user in enumerate(block):
                    scores[i, self._hidden.indices[self._hidden.indptr[user] : self._hidden.indptr[user + 1]]] = -np.inf
            deepest = np.sort(np.argpartition(-scores, depth - 1, axis=1)[:, :depth], axis=1)
            order = np.argsort(-np.take_along_axis(scores, deepest, axis=1), axis=1, kind="stable")
            best = np.take_along_axis(deepest, order, axis=1).astype(np.int32)
            best[np.take_along_axis(scores, best, axis=1) == -np.inf] = -1
            lists[start : start + len(block), :depth] = best
        return lists
