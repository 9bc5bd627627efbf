"""`terrace bundle verify`, `sign` and `keygen`: whether a bundle is fit to be served, and who made it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from server.release.verify import TIME_LIMIT_S, verify_bundle
from terrace.cli.options import PublicKeyFiles, newest_or_named
from terrace.cli.output import console, print_error

REFUSED = 1

Bundle = Annotated[Path, typer.Argument(help="A bundle, or a folder of bundles (the newest is taken).")]


def verify(
    path: Bundle = Path("build/bundles"),
    public_key: PublicKeyFiles = [],  # noqa: B006 - typer copies it
    time_limit_s: Annotated[
        float, typer.Option(help="A bundle that takes longer to verify is refused, seconds.", min=0.1)
    ] = TIME_LIMIT_S,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check everything that serving relies on, up to the golden requests; exit code 1 where the bundle is not fit.

    The checks are made in a process of their own, which a damaged file may crash.
    """
    from server.signature import trusted

    folder = newest_or_named(path)
    trusted(public_key)  # a key that cannot be read says nothing of the bundle
    checks = verify_bundle(folder, public_key, time_limit_s)
    passed = checks[-1].passed
    if as_json:
        found = {"bundle": str(folder), "passed": passed, "checks": [asdict(check) for check in checks]}
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        table = Table(title=f"Bundle {escape(str(folder))}", title_justify="left")
        for column in ("check", "verdict", "found"):
            table.add_column(column)
        for check in checks:
            verdict = "[green]passed[/]" if check.passed else "[bold red]failed[/]"
            table.add_row(check.name, verdict, escape(check.text))
        console.print(table)
    if not passed:
        print_error(f"check {checks[-1].name!r}: {checks[-1].text}")
        raise typer.Exit(REFUSED)


def sign(
    path: Bundle,
    key: Annotated[Path, typer.Option(help="Private key, as `terrace bundle keygen` writes it.")],
) -> None:
    """Sign a bundle, once its files were held against the manifest."""
    from server.signature import PrivateKey

    signed = PrivateKey(key).sign(newest_or_named(path))
    console.print(f"signed: {escape(str(signed))}", highlight=False, soft_wrap=True)


def keygen(
    path: Annotated[Path, typer.Argument(help="Where the private key goes; the public one goes to PATH.pub.")],
) -> None:
    """Make an Ed25519 key to sign bundles with."""
    from server.signature import write_key_pair

    public = write_key_pair(path)
    console.print(
        f"private key: {escape(str(path))} (keep it where bundles are built)\n"
        f"public key: {escape(str(public))} (`terrace serve --public-key`)",
        highlight=False,
        soft_wrap=True,
    )
