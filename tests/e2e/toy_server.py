"""A serving process over the toy bundle. ``python toy_server.py FOLDER PORT [SETTINGS]``, the last as JSON.

Prints the port when it listens to calls. ``FOLDER/load`` is a pipe: the bundle is loaded once it can be read; where there
is ``FOLDER/native`` it is loaded for ever, in native code. A model that finds ``FOLDER/hold`` writes into ``FOLDER/held``
(a pipe) and waits for ``FOLDER/go``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import hnswlib
import numpy as np

from server.app import leave, run
from server.settings import Settings
from tests.server import toy

FOLDER = Path(sys.argv[1])


def print_line(*what: object) -> None:
    sys.stdout.write(f"{what[-1]}\n")
    sys.stdout.flush()


def load(folder: Path) -> object:
    print_line("loading")
    if (folder / "native").exists():
        search_for_ever()
    (folder / "load").read_bytes()
    return toy.bundle(scorer=toy.ToyScorer(before=hold))


def search_for_ever() -> None:
    """Be in native code, as loading is most of the time."""
    index = hnswlib.Index("l2", 4)
    index.init_index(1000)
    index.add_items(np.random.default_rng(1).normal(size=(1000, 4)))
    while True:
        index.knn_query(np.zeros((100, 4)), k=100)


def hold(_: object) -> None:
    if (FOLDER / "hold").exists():
        (FOLDER / "held").write_bytes(b"held")
        (FOLDER / "go").read_bytes()


if __name__ == "__main__":
    chosen = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    # No rung is exercised: a call that a test holds must reach the model.
    usual = {"lame_duck_s": 0.0, "exercise_share": 0.0, "max_request_ms": 30_000}
    settings = Settings(port=int(sys.argv[2]), **(usual | chosen))
    leave(run(settings, FOLDER, on_ready=print_line, load=load))
