"""What fault tests measured, one JSON line a test, in ``build/faults/figures.jsonl``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

FIGURES = Path(__file__).parents[2] / "build" / "faults" / "figures.jsonl"


def note(name: str, found: Mapping[str, Any]) -> None:
    """Write down what a test found, whether it will pass or not, and how busy the machine is."""
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    with FIGURES.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"test": name, **found, "load": os.getloadavg()[0]}, default=float) + "\n")
