"""Lets users visit the generated shop: the behaviour that ``offline.shop.truth`` describes, many users at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from offline.shop.truth import (
    ACCESSORY,
    BOUGHT,
    DAY_S,
    DISMISS,
    GOES_WITH,
    GOES_WITH_CART,
    REMEMBERED,
    REPLENISH,
    REPLENISH_BOUGHT,
    REPLENISH_CART,
    SAME_KIND,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offline.shop.truth import Truth

EVENT_TYPES = ("view", "add_to_cart", "purchase", "dismiss")
_LENGTH = 4.0
_MAX_LENGTH = 10
LOOKS_PER_VISIT = _LENGTH * (1 - (1 - 1 / _LENGTH) ** _MAX_LENGTH)
"""Mean of a geometric length that is cut off."""
EVENTS_PER_LOOK = 1.34
"""Mean of the behaviour, to turn a number of events into a number of looks."""
MAX_VISITS = 200
"""Of one user."""
_MEAN_PRESENT = 0.81
"""Mean share of the period for which a user is there, from how ``joined_s`` is drawn."""
_HOURS = np.array([2, 1, 1, 1, 1, 2, 4, 6, 7, 7, 7, 8, 9, 8, 7, 7, 8, 9, 11, 13, 14, 12, 8, 4], np.float64)


@dataclass(frozen=True)
class Looks:
    """Looks of some users, in the order (user, visit, look).

    Attributes:
        user: [m] number of the user.

        visit: [m] number of the visit, unique within the user, increasing in time.

        begins: [m] whether the look is the visit's first.

        time_s: [m] whole seconds since the epoch.

        item: [m] row looked at.

        carted: [m]

        bought: [m] implies carted.

        dismissed: [m] excludes carted.
    """

    user: NDArray[np.int64]
    visit: NDArray[np.int64]
    begins: NDArray[np.bool_]
    time_s: NDArray[np.int64]
    item: NDArray[np.int64]
    carted: NDArray[np.bool_]
    bought: NDArray[np.bool_]
    dismissed: NDArray[np.bool_]


class Visitors:
    """Draws looks in a world; the tables for that are made once."""

    def __init__(self, truth: Truth) -> None:
        """Prepare to draw items by style."""
        self.truth = truth
        weight = (truth.style * truth.appeal[:, None]).T
        rows = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
        self._edges = np.concatenate([np.zeros((len(rows), 1)), rows], axis=1)
        # One increasing array for all styles, so that one search serves looks of different styles.
        self._flat = (rows + np.arange(len(rows))[:, None]).ravel()
        self._taste = np.cumsum(truth.taste, axis=1)
        sizes = [len(kinds) for kinds in truth.goes_with]
        self._partners = np.zeros((len(sizes), max(1, *sizes)), np.int64)
        for kind, others in enumerate(truth.goes_with):
            self._partners[kind, : len(others)] = others
        self._n_partners = np.array(sizes)

    def looks(self, users: NDArray[np.int64], looks_per_user: float, rng: np.random.Generator) -> Looks:
        """All looks of ``users``, whose mean number is ``looks_per_user``."""
        user, visit, begins, time_s, ptr = self._plan(users, looks_per_user, rng)
        shape = len(user)
        item = np.zeros(shape, np.int64)
        carted, bought, dismissed = (np.zeros(shape, np.bool_) for _ in range(3))
        cupboards = _Cupboards(self.truth, len(users))
        count = np.diff(ptr)
        by_count = np.argsort(-count, kind="stable")
        for step in range(int(count.max(initial=0))):
            who = by_count[: np.searchsorted(-count[by_count], -step)]
            at = ptr[who] + step
            before = np.maximum(at - 1, 0)
            again = cupboards.empty(who, time_s[at], begins[at], rng)
            chosen = self._choose(user[at], time_s[at], begins[at], item[before], carted=carted[before], rng=rng)
            item[at] = np.where(again >= 0, again, chosen)
            cart = np.where(again >= 0, REPLENISH_CART, self.truth.cart_probability(user[at], item[at]))
            carted[at] = rng.random(len(at)) < cart
            bought[at] = carted[at] & (rng.random(len(at)) < np.where(again >= 0, REPLENISH_BOUGHT, BOUGHT))
            put_off = DISMISS / (0.2 + self.truth.affinity(user[at], item[at]))
            dismissed[at] = ~carted[at] & (rng.random(len(at)) < put_off)
            kept = bought[at]
            cupboards.put(who[kept], item[at][kept], time_s[at][kept])
        return Looks(user, visit, begins, time_s.astype(np.int64), item, carted, bought, dismissed)

    def _plan(
        self, users: NDArray[np.int64], looks_per_user: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]:
        """When users come and how often they look: user, visit, begins, time of each look, and each user's slice."""
        truth = self.truth
        present = (truth.end_s - truth.joined_s[users]) / (truth.end_s - truth.start_s)
        rate = rng.gamma(0.9, 1 / 0.9, len(users)) * present / _MEAN_PRESENT
        visits = 1 + rng.poisson(np.maximum(rate * looks_per_user / LOOKS_PER_VISIT - 1, 0))
        visits = np.minimum(visits, MAX_VISITS)
        owner = np.repeat(np.arange(len(users)), visits)
        joined = truth.joined_s[users][owner]
        day = np.floor((joined + (truth.end_s - joined) * rng.random(len(owner)) - truth.start_s) / DAY_S)
        hour = rng.choice(24, len(owner), p=_HOURS / _HOURS.sum())
        came = truth.start_s + day * DAY_S + hour * 3600 + np.floor(rng.random(len(owner)) * 3600)
        order = np.lexsort((came, owner))
        owner, came = owner[order], came[order]
        number = np.arange(len(owner)) - np.repeat(np.cumsum(visits) - visits, visits)
        length = np.minimum(rng.geometric(1 / _LENGTH, len(owner)), _MAX_LENGTH)
        of_visit = np.repeat(np.arange(len(owner)), length)
        nth = np.arange(len(of_visit)) - np.repeat(np.cumsum(length) - length, length)
        time_s = came[of_visit] + nth * 75 + np.floor(rng.random(len(of_visit)) * 15)
        per_user = np.bincount(owner[of_visit], minlength=len(users))
        ptr = np.concatenate([[0], np.cumsum(per_user)])
        return users[owner[of_visit]], number[of_visit], nth == 0, time_s, ptr

    def _choose(
        self,
        user: NDArray[np.int64],
        time_s: NDArray[np.float64],
        begins: NDArray[np.bool_],
        previous: NDArray[np.int64],
        *,
        carted: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """[m] the item of each look, see ``Truth.look_probability``."""
        truth = self.truth
        wish = np.cumsum(truth.interest[user] * truth.season(time_s), axis=1)
        kind = (wish < (rng.random(len(user)) * wish[:, -1])[:, None]).sum(axis=1)
        last = truth.kind[previous]
        go = np.where(carted, GOES_WITH_CART, GOES_WITH) * (self._n_partners[last] > 0)
        dice = rng.random(len(user))
        goes = ~begins & (dice < go)
        stays = ~begins & ~goes & (dice < go + SAME_KIND)
        pick = (rng.random(len(user)) * self._n_partners[last]).astype(np.int64)
        kind = np.where(goes, self._partners[last, pick], np.where(stays, last, kind))
        taste = self._taste[user]
        style = np.minimum((taste < rng.random(len(user))[:, None]).sum(axis=1), taste.shape[1] - 1)
        item = self._draw(kind, style, time_s, rng)
        own = truth.accessory[previous]
        direct = goes & (own >= 0) & truth.on_sale(own, time_s) & (rng.random(len(user)) < ACCESSORY)
        return np.where(direct, own, item)

    def _draw(
        self, kind: NDArray[np.int64], style: NDArray[np.int64], time_s: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """[m] an item of each kind and style: by style and appeal, and accepted with the probability of its trend."""
        truth, n = self.truth, len(self.truth.kind)
        item = np.zeros(len(kind), np.int64)
        open_ = np.arange(len(kind))
        while len(open_):
            k, s = kind[open_], style[open_]
            low, high = self._edges[s, truth.first[k]], self._edges[s, truth.first[k + 1]]
            found = np.searchsorted(self._flat, low + (high - low) * rng.random(len(k)) + s, side="right") - s * n
            found = np.clip(found, truth.first[k], truth.first[k + 1] - 1)
            taken = rng.random(len(k)) < truth.trend(found, time_s[open_])
            item[open_[taken]] = found[taken]
            open_ = open_[~taken]
        return item


class _Cupboards:
    """The consumables that each user bought last."""

    def __init__(self, truth: Truth, users: int) -> None:
        self._truth = truth
        some = truth.first[np.flatnonzero(truth.lasts_s > 0)[0]]
        self._item = np.full((users, REMEMBERED), some)
        self._bought_s = np.full((users, REMEMBERED), -np.inf)

    def empty(
        self, who: NDArray[np.int64], time_s: NDArray[np.float64], begins: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """[m] the consumable that the user looks at to replenish it; -1 = none."""
        item, bought_s = self._item[who], self._bought_s[who]
        there = np.isfinite(bought_s) & self._truth.on_sale(item, time_s[:, None])
        due = self._truth.due(item, np.where(there, time_s[:, None] - bought_s, 0.0))
        most = due.argmax(axis=1)
        row = np.arange(len(who))
        wants = begins & (rng.random(len(who)) < REPLENISH * due[row, most])
        return np.where(wants, item[row, most], -1)

    def put(self, who: NDArray[np.int64], item: NDArray[np.int64], time_s: NDArray[np.float64]) -> None:
        """Remember what is a consumable: in the place of the same item, else of the one bought longest ago."""
        keep = self._truth.lasts_s[self._truth.kind[item]] > 0
        who, item, time_s = who[keep], item[keep], time_s[keep]
        same = (self._item[who] == item[:, None]) & np.isfinite(self._bought_s[who])
        place = np.where(same.any(axis=1), same.argmax(axis=1), self._bought_s[who].argmin(axis=1))
        self._item[who, place] = item
        self._bought_s[who, place] = time_s
