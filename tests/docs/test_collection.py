"""No test is passed over because of where it lies."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

TESTS = Path(__file__).parents[1]


def test_no_folder_of_tests_has_a_name_that_pytest_passes_over(request: pytest.FixtureRequest) -> None:
    """As it does with every ``build`` by default."""
    passed_over = request.config.getini("norecursedirs")
    folders = {part for file in TESTS.rglob("test_*.py") for part in file.relative_to(TESTS).parts[:-1]}

    assert "build" in folders
    assert not [name for name in folders if any(fnmatch(name, pattern) for pattern in passed_over)]
