"""The demo's chapter on releases: a second bundle is staged, tried on half of the users, promoted and rolled back."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from core.release_values import part_of
from terrace.cli.output import console
from terrace.client import Client

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from terrace.client import Answer

LIST = 3
TIMEOUT_MS = 1000.0
PATIENCE_S = 30.0


def show_release(bundles: Path, old: str, new: str, store_url: str, address: str, users: Sequence[str]) -> None:
    """Release ``new`` where ``old`` is live, and show after each step which version answers whom.

    Args:
        bundles: folder of both.
        old: the version that is served.
        new: the version to release.
        store_url: of the server's store.
        address: of the server.
        users: whom to ask about.

    Raises:
        typer.Exit: a command failed, or nobody was answered from the version that was expected.
    """
    with Client(address) as client:

        def show(heading: str, versions: set[str]) -> None:
            end_s = time.monotonic() + PATIENCE_S
            while True:
                answers = {user: client.recommend(user, limit=LIST, timeout_ms=TIMEOUT_MS) for user in users}
                if {answer.bundle_version for answer in answers.values()} == versions:
                    break
                if time.monotonic() > end_s:
                    console.print(
                        f"after {PATIENCE_S:g} s not everybody is answered from {' or '.join(sorted(versions))}"
                    )
                    raise typer.Exit(1)
                time.sleep(0.1)
            console.print(f"\n[italic]{heading}[/]")
            console.print(answers_table(answers, new))

        show("Before", {old})
        release(store_url, "stage", new, "--share", "0.5", "--bundles", str(bundles))
        show("The new bundle is tried on half of the users, who keep it", {old, new})
        release(store_url, "promote")
        show("Promoted: the new bundle answers everybody. Nothing was loaded for that", {new})
        release(store_url, "rollback", "--reason", "to show it")
        show("Rolled back: the old bundle answers everybody again", {old})
        release(store_url, "stage", new)
        release(store_url, "promote")
        show("And promoted again", {new})


def release(store_url: str, *arguments: str) -> None:
    """Run `terrace release`, and show the command and what it says.

    Raises:
        typer.Exit: it failed.
    """
    console.print(f"\n[bold]$ terrace release {escape(shlex.join(arguments))}[/]", highlight=False)
    command = [sys.executable, "-m", "terrace.cli", "release", *arguments, "--store-url", store_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)  # noqa: S603 - our own command
    said = done.stdout.strip() or done.stderr.strip()
    console.print(said, highlight=False, markup=False, soft_wrap=True)
    if done.returncode:
        raise typer.Exit(done.returncode)


def on_both_sides(version: str, user_ids: Sequence[str], count: int) -> list[str]:
    """As many users who are given a version at a share of a half as users who are not, in turns."""
    sides: tuple[list[str], list[str]] = ([], [])
    for user_id in user_ids:
        sides[part_of(version, user_id) < 0.5].append(user_id)
    return [user_id for pair in zip(*sides, strict=False) for user_id in pair][:count]


def answers_table(answers: dict[str, Answer], new: str) -> Table:
    """One line for each user: version, tier and first items."""
    table = Table(box=SIMPLE_HEAD)
    for column in ("user", "bundle", "tier", "first items"):
        table.add_column(column, no_wrap=True)
    for user, answer in answers.items():
        version = f"[bold]{answer.bundle_version}[/]" if answer.bundle_version == new else answer.bundle_version
        table.add_row(user, version, answer.tier.name, ", ".join(item.item_id for item in answer.items))
    return table
