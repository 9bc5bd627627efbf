"""The last good release document on this machine's disk, for a start while the store is away."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from core.release import Release, ReleaseDocumentError

_log = logging.getLogger(__name__)


class LocalCopy:
    """A file with a release document; one writer at a time, whole at any moment."""

    def __init__(self, path: Path) -> None:
        """Nothing is read or written yet.

        Args:
            path: of the file; its folder is made when missing. One for each namespace.
        """
        self.path = path

    def read(self) -> Release | None:
        """The document; None where there is no copy, or a damaged one, which the log then names."""
        try:
            return Release.from_json(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ReleaseDocumentError) as error:
            _log.warning("the copy of the release document in %s is ignored: %s", self.path, error)
            return None

    def write(self, release: Release) -> None:
        """Replace the copy: whoever reads meanwhile, or after a crash, finds the old or the new one.

        Raises:
            OSError: it cannot be written; the old copy is still there.
        """
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=folder)
        draft = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(release.to_json())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        _sync(folder)


def _sync(folder: Path) -> None:
    """Have the folder's entries on disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
