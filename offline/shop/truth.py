"""What is true of the generated shop: who likes what, when, and how likely a purchase is.

How a visitor behaves, in full. A user has interests (a probability of each kind of goods) and a taste (a probability of each
style); an item has a kind, a style (a probability of each style), an appeal and a life. A **look** is drawn in two steps:

1. The kind. After another look in the same visit: a kind that goes with the last one (``GOES_WITH``, more after a
   cart), or the same kind again (``SAME_KIND``). Otherwise by interest times season.
2. The item. Where the kind goes with the last one, often the last item's own accessory (``ACCESSORY``). Otherwise a
   style is drawn by taste and then an item of the kind by its share of that style, its appeal and its trend.

A visit's first look may instead be at the most due of the ``REMEMBERED`` consumables that the user bought last
(``REPLENISH``). What is looked at goes to the cart by taste and price (``cart_probability``), half of the carts are bought.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

DAY_S = 86_400
GOES_WITH, GOES_WITH_CART = 0.10, 0.30
SAME_KIND = 0.35
ACCESSORY = 0.6
REPLENISH = 0.6
REMEMBERED = 4
CART, CART_MAX = 0.32, 0.6
BOUGHT = 0.5
REPLENISH_CART, REPLENISH_BOUGHT = 0.9, 0.9
DISMISS = 0.05


@dataclass(frozen=True)
class Truth:
    """The world behind the events. ``k`` kinds, ``s`` styles, ``n`` items, ``u`` users; times in seconds since the epoch.

    Attributes:
        start_s: the first moment.

        end_s: after the last visit began.

        taste: [u, s] rows sum to 1.

        interest: [u, k] rows sum to 1.

        thrift: [u] >= 0, how much a price above what is usual for the kind puts the user off.

        joined_s: [u] before the user's first visit.

        style: [n, s] rows sum to 1.

        kind: [n] increasing; items are in the order of their kinds.

        first: [k + 1] items of kind j are ``first[j]:first[j + 1]``.

        appeal: [n] > 0.

        dearness: [n] log of the price over what is usual for the kind.

        launched_s: [n] not on sale before.

        ended_s: [n] not on sale from then on.

        trend_at_s: [n] when the item is most in fashion.

        trend_width_s: [n] standard deviation of the fashion; infinite = always the same.

        accessory: [n] row of the item sold for this one; -1 = none.

        goes_with: for each kind the kinds that go with it.

        lasts_s: [k] until an item of the kind is used up; 0 = it lasts.

        peak_s: [k] a moment at which the kind's season is highest; 0 = no season.

    Every kind has one item that is on sale all the time.
    """

    start_s: int
    end_s: int
    taste: NDArray[np.float64]
    interest: NDArray[np.float64]
    thrift: NDArray[np.float64]
    joined_s: NDArray[np.float64]
    style: NDArray[np.float64]
    kind: NDArray[np.int64]
    first: NDArray[np.int64]
    appeal: NDArray[np.float64]
    dearness: NDArray[np.float64]
    launched_s: NDArray[np.float64]
    ended_s: NDArray[np.float64]
    trend_at_s: NDArray[np.float64]
    trend_width_s: NDArray[np.float64]
    accessory: NDArray[np.int64]
    goes_with: tuple[tuple[int, ...], ...]
    lasts_s: NDArray[np.float64]
    peak_s: NDArray[np.float64]

    def on_sale(self, items: NDArray[np.int64], time_s: NDArray[np.float64] | float) -> NDArray[np.bool_]:
        """[m] whether each item is on sale at its time."""
        return np.asarray((self.launched_s[items] <= time_s) & (time_s < self.ended_s[items]))

    def trend(self, items: NDArray[np.int64], time_s: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """[m] 0 for what is not on sale, else how much in fashion the item is, at most 1."""
        away = (time_s - self.trend_at_s[items]) / self.trend_width_s[items]
        return np.where(self.on_sale(items, time_s), 0.1 + 0.9 * np.exp(-0.5 * away * away), 0.0)

    def season(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """[m, k] factor on the interest in each kind at each time, between 0.25 and 4."""
        angle = 2 * np.pi * (time_s[:, None] - self.peak_s) / (365.25 * DAY_S)
        return np.asarray(np.where(self.peak_s > 0, 4.0 ** np.cos(angle), 1.0))

    def due(self, items: NDArray[np.int64], age_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """[m] how likely a consumable bought so long ago is used up."""
        used = age_s / self.lasts_s[self.kind[items]]
        return np.asarray(1 - np.exp(-(used**4)))

    def affinity(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float64]:
        """[m] how well taste and style agree, 1 = as two at random."""
        agree = np.einsum("ms,ms->m", self.taste[users], self.style[items])
        return np.asarray(agree * self.style.shape[1])

    def cart_probability(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float64]:
        """[m] probability that a look becomes a cart."""
        affinity = self.affinity(users, items)
        price = np.exp(-self.thrift[users] * self.dearness[items])
        return np.minimum(CART * affinity / (1 + affinity) * price, CART_MAX)

    def look_probability(
        self, user: int, time_s: float, previous: int | None = None, *, carted: bool = False
    ) -> NDArray[np.float64]:
        """[n] probability that the user's next look, which is no replenishment, is at each item; sums to 1.

        Args:
            user: number of the user.

            time_s: of the look.

            previous: item of the last look of the same visit; None = the visit begins.

            carted: whether the last look became a cart.
        """
        every = np.arange(len(self.kind))
        weight = self.style * (self.appeal * self.trend(every, time_s))[:, None]
        total = np.add.reduceat(weight, self.first[:-1])
        of_kind = (weight / total[self.kind]) @ self.taste[user]
        wish = self.interest[user] * self.season(np.array([time_s]))[0]
        wish /= wish.sum()
        if previous is None:
            return np.asarray(wish[self.kind] * of_kind)
        others = self.goes_with[self.kind[previous]]
        go = (GOES_WITH_CART if carted else GOES_WITH) if others else 0.0
        kinds = (1 - go - SAME_KIND) * wish
        kinds[self.kind[previous]] += SAME_KIND
        own = int(self.accessory[previous])
        direct = ACCESSORY if own >= 0 and self.on_sale(np.array([own]), time_s)[0] else 0.0
        for kind in others:
            kinds[kind] += go * (1 - direct) / len(others)
        looks = kinds[self.kind] * of_kind
        looks[own] += go * direct
        return np.asarray(looks)

    def purchase_probability(
        self,
        user: int,
        time_s: float,
        previous: int | None = None,
        *,
        carted: bool = False,
        stock: Mapping[int, float] | None = None,
    ) -> NDArray[np.float64]:
        """[n] probability that the user's next look is at each item and ends in a purchase.

        Args:
            user: as in ``look_probability``, like the other arguments.

            time_s: see there.

            previous: see there.

            carted: see there.

            stock: the consumables that the user has, item -> when it was last bought; they matter when a visit begins.
        """
        every = np.arange(len(self.kind))
        bought = self.cart_probability(np.full(len(every), user), every) * BOUGHT
        chance = self.look_probability(user, time_s, previous, carted=carted) * bought
        on_sale = [i for i in stock or {} if self.on_sale(np.array([i]), time_s)[0]]
        if previous is not None or stock is None or not on_sale:
            return np.asarray(chance)
        items = np.array(on_sale)
        due = self.due(items, time_s - np.array([stock[i] for i in on_sale]))
        again = REPLENISH * due.max()
        chance *= 1 - again
        chance[items[due.argmax()]] += again * REPLENISH_CART * REPLENISH_BOUGHT
        return np.asarray(chance)
