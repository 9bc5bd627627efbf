"""The one command line. Each command lives in a file of its own and imports what it needs when it runs."""

from __future__ import annotations

from terrace.cli.app import main

__all__ = ["main"]
