"""What an event counts for by its type, and after which types an item may still be recommended."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NEUTRAL_TYPES = frozenset({"view", "click", "impression", "page_view", "pageview", "detail_view"})
"""Event types after which an item may still be offered; names as ``plain`` writes them."""
DEFAULT_WEIGHTS = {
    "impression": 0.0,
    "interaction": 1.0,
    "view": 1.0,
    "page_view": 1.0,
    "pageview": 1.0,
    "detail_view": 1.0,
    "click": 1.0,
    "play": 1.0,
    "watch": 1.0,
    "listen": 1.0,
    "read": 1.0,
    "checkin": 1.0,  # codespell:ignore checkin
    "check_in": 1.0,
    "rating": 1.0,
    "rate": 1.0,
    "review": 1.0,
    "like": 3.0,
    "favorite": 3.0,
    "favourite": 3.0,
    "bookmark": 3.0,
    "save": 3.0,
    "share": 3.0,
    "wishlist": 3.0,
    "add_to_wishlist": 3.0,
    "cart": 3.0,
    "add_to_cart": 3.0,
    "addtocart": 3.0,
    "begin_checkout": 3.0,
    "purchase": 5.0,
    "buy": 5.0,
    "transaction": 5.0,
    "order": 5.0,
    "subscribe": 5.0,
    "skip": -1.0,
    "dismiss": -1.0,
    "hide": -1.0,
    "remove_from_cart": -1.0,
    "cancel": -1.0,
    "return": -1.0,
    "refund": -1.0,
    "dislike": -2.0,
    "report": -2.0,
}
"""Weight of an event by its type as ``plain`` writes it; other types weigh 1."""


def plain(event_type: str) -> str:
    """An event type as the tables here write it: ``Add-to-Cart`` -> ``add_to_cart``."""
    return event_type.strip().lower().replace("-", "_").replace(" ", "_")


def weight_of(event_type: str, weights: Mapping[str, float]) -> float:
    """The weight given for a type, else the default of its plain name, else 1."""
    return weights.get(event_type, DEFAULT_WEIGHTS.get(plain(event_type), 1.0))
