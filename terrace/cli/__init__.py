"""The one command line. Each command lives in a file of its own and imports what it needs when it runs."""

from __future__ import annotations

import os

# Before numpy loads: requests multiply small matrices, for which BLAS threads cost several times what they save.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from terrace.cli.app import main

__all__ = ["main"]
