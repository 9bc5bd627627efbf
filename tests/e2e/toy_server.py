"""A serving process over the toy bundle. ``python toy_server.py FOLDER PORT [SETTINGS]``, the last as JSON.

Prints the port when it listens to calls. ``FOLDER/load`` is a pipe: the bundle is loaded once it can be
read. A model that finds ``FOLDER/hold`` tells so in ``FOLDER/held`` (a pipe) and waits for ``FOLDER/go``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from server.app import run
from server.settings import Settings
from tests.server import toy

FOLDER = Path(sys.argv[1])


def say(*what: object) -> None:
    sys.stdout.write(f"{what[-1]}\n")
    sys.stdout.flush()


def load(folder: Path) -> object:
    say("loading")
    (folder / "load").read_bytes()
    return toy.bundle(scorer=toy.ToyScorer(before=hold))


def hold(_: object) -> None:
    if (FOLDER / "hold").exists():
        (FOLDER / "held").write_bytes(b"held")
        (FOLDER / "go").read_bytes()


if __name__ == "__main__":
    chosen = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    settings = Settings(port=int(sys.argv[2]), max_request_ms=30_000, **{"lame_duck_s": 0.0, **chosen})
    sys.exit(run(settings, [FOLDER], on_ready=say, load=load))
