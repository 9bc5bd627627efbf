"""Blocking work beside an event loop that a process which is asked to end does not wait for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def on_daemon_thread(work: Callable[[], T]) -> T:
    """The result of ``work``; a process that is asked to end does not wait for it, as it would for ``asyncio.to_thread``."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            settle(future.set_exception, error)
        else:
            settle(future.set_result, result)

    def settle(how: Callable[..., None], what: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(lambda: None if future.done() else how(what))

    threading.Thread(target=run, name="blocking work", daemon=True).start()
    return await future
