"""What is sent to Redis of a user, and what its replies say: what of it is readable, what was left out and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis
from hiredis import pack_command

from core.events import UnreadableError, decode_events, decode_seen, encode_event, user_hash
from core.precomputed import decode_list, encode_list
from core.types import NO_HASHES, Reason, UserEvent, UserState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from core.events import Flaw
    from core.precomputed import PrecomputedList, RowSpace


APPEND = """
local events, seen, max_events, max_seen, ttl = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
redis.call('LPUSH', events, unpack(ARGV, 5))
redis.call('LTRIM', events, 0, max_events - 1)
redis.call('EXPIRE', events, ttl)
if #ARGV[4] > 0 then
  if redis.call('APPEND', seen, ARGV[4]) > tonumber(max_seen) then
    redis.call('SET', seen, redis.call('GETRANGE', seen, -max_seen, -1))
  end
  redis.call('EXPIRE', seen, ttl)
end
"""
"""Adds events and seen items and drops the oldest beyond a length, in one step: two writers lose nothing."""


def packed(*command: str | int) -> bytes:
    """A command as it is sent."""
    sent: bytes = pack_command(command)  # type: ignore[arg-type]  # hiredis types its argument as a tuple of one
    return sent


def encoded_events(user_id: str, events: Iterable[UserEvent]) -> list[bytes]:
    """The stored form of each event."""
    user = user_hash(user_id)
    return [encode_event(event, user) for event in events]


def encoded_list(lists: RowSpace | None, user_id: str, made: PrecomputedList) -> bytes:
    """The stored form of a list; raises ``ValueError`` where a store keeps none."""
    if lists is None:
        raise ValueError("this store keeps no precomputed lists: it was opened for no bundle")
    return encode_list(lists.version, user_hash(user_id), made.rows, made.scores, made.created_s)


def decode_user(user: int, lists: RowSpace | None, replies: Sequence[Any]) -> tuple[UserState, Sequence[Flaw]]:
    """A user from the replies to a read.

    Args:
        user: ``core.events.user_hash`` of who was asked for.
        lists: the catalogue that a precomputed list must belong to; None where no list was asked for.
        replies: to events, seen items and, with ``lists``, the list. A ``redis.ResponseError`` among them says that the
            key is of another type.

    Returns:
        What is readable, and the flaws of what was left out. A list that is not readable makes neither events nor seen
        items incomplete.

    Raises:
        UnreadableError: they hold values, and all are another user's: perhaps the replies are.
        TypeError: they are no replies to these commands.
    """
    lost: list[Flaw] = ["corrupt" for reply in replies[:2] if isinstance(reply, redis.ResponseError)]
    events, seen = (None if isinstance(reply, redis.ResponseError) else reply for reply in replies[:2])
    if not isinstance(events, list | None) or not isinstance(seen, bytes | None):
        raise TypeError("a reply is not what was asked for")
    known, lost_events = decode_events(events or (), user)
    items, lost_seen = decode_seen(seen, user) if seen else (NO_HASHES, ())
    flaws = (*lost, *lost_events, *lost_seen)
    missing = Reason.STORE_FAILED if flaws else None
    if lists is None:
        state = UserState(known, items, missing)
    else:
        found, no_list, lost_list = _list(user, lists, replies[2])
        state = UserState(known, items, missing, found, no_list)
        flaws += lost_list
    nothing = not known and not len(items) and state.precomputed is None
    if nothing and flaws and set(flaws) == {"foreign"}:
        raise UnreadableError("foreign", "all stored values are another user's")
    return state, flaws


def _list(user: int, lists: RowSpace, reply: object) -> tuple[PrecomputedList | None, Reason, tuple[Flaw, ...]]:
    """The list in a reply; or none, why, and its flaw."""
    if reply is None:
        return None, Reason.NO_LIST, ()
    if isinstance(reply, redis.ResponseError):
        return None, Reason.UNREADABLE_LIST, ("corrupt",)
    if not isinstance(reply, bytes):
        raise TypeError("a reply is not what was asked for")
    try:
        return decode_list(reply, lists.version, user, lists.items), Reason.NO_LIST, ()
    except UnreadableError as error:
        return None, Reason.UNREADABLE_LIST, (error.flaw,)
