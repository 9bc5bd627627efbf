"""A user store whose replies can be made late: forwards a unix socket, from a thread of the process that measures."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

_CHUNK = 64 * 1024


class SlowLink:
    """Forwards the socket of a store; a context manager.

    Attributes:
        delay_s: how long each reply is held back, seconds; may be changed while it runs.

        url: of the forwarded socket, for ``Settings.store_url``.
    """

    def __init__(self, url: str) -> None:
        """Nothing is forwarded before the context is entered.

        Args:
            url: ``unix://`` and the path of the store's socket.
        """
        self._upstream = url.removeprefix("unix://")
        self._socket = f"{self._upstream}.forwarded"
        self.url = f"unix://{self._socket}"
        self.delay_s = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every connection."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        Path(self._socket).unlink(missing_ok=True)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        self._server = await asyncio.start_unix_server(self._forward, self._socket)

    async def _close(self) -> None:
        self._server.close()
        links = asyncio.all_tasks() - {asyncio.current_task()}
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            store_reader, store_writer = await asyncio.open_unix_connection(self._upstream)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._copy(reader, store_writer, replies=False))
                    both.create_task(self._copy(store_reader, writer, replies=True))
            except* OSError:
                pass
            finally:
                store_writer.close()
        writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool) -> None:
        """Pass on what comes; a connection carries one exchange at a time, so that a pause delays that one alone."""
        while data := await reader.read(_CHUNK):
            if replies and self.delay_s:
                await asyncio.sleep(self.delay_s)
            writer.write(data)
            await writer.drain()
        writer.close()
