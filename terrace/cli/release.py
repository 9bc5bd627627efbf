"""`terrace release`: which bundle is live, which is tried, on which share of the users."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.release import ReleaseError
from terrace.cli.options import STORE_DATA, Namespace, StoreData, StoreUrl, StoreUrlFile
from terrace.cli.output import console, print_error
from terrace.cli.release_access import REFUSED, Where, versions_in, with_operations, with_store
from terrace.cli.release_options import By, Known, Version
from terrace.cli.release_rollout import report, rollout
from terrace.cli.release_status import change_line, status_parts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from core.release import Release
    from server.release.operations import Operations, PromotionCheck, Status
    from server.release.release_store import ReleaseStore

DEFAULT_PORT = 50052
WATCH_S = 1.0

Reason = Annotated[str, typer.Option(help="Why, for others to read.")]
Force = Annotated[bool, typer.Option("--force", help="Do it although a rule refuses.")]
Expected = Annotated[
    int | None,
    typer.Option("--if-revision", help="Only where the release is at this revision, 0 for none yet.", min=0),
]

app = typer.Typer(
    no_args_is_help=True,
    help="""Stage a bundle, give it to a share of the users, promote it, roll it back.

1. `terrace release stage VERSION --share 0.05` has every replica load it, then gives it to 5 % of the users

2. `terrace release status --watch` shows who has loaded what

3. `terrace release promote` makes it live, `terrace release rollback` goes back

`terrace release rollout VERSION` does all of it, step by step, and rolls back by itself if the version is worse.

Each of them takes effect within a second on every replica. The docs have the runbook: operations.md, Releases.
""",
)


@app.command()
def stage(
    version: Version,
    share: Annotated[
        float | None, typer.Option(help="Share of the users, 0 to 1, given once every replica has loaded it.")
    ] = None,
    wait_s: Annotated[
        float | None, typer.Option(help="How long to wait for the replicas where there is a share. Default: 120.")
    ] = None,
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    bundles: Known = None,
    by: By = None,
    force: Force = False,
    if_revision: Expected = None,
) -> None:
    """Have every replica load a version beside the live one; the first version becomes live."""
    _change(
        lambda operations: operations.stage(version, share, force=force, expected_revision=if_revision, wait_s=wait_s),
        Where(store_url, store_url_file, data, namespace),
        by,
        bundles,
    )


@app.command()
def share(
    share: Annotated[float, typer.Argument(help="Of the users, 0 to 1; 0 takes the candidate from all of them.")],
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    by: By = None,
    force: Force = False,
    if_revision: Expected = None,
) -> None:
    """Give the staged version another share of the users, once every replica has loaded it."""
    _change(
        lambda operations: operations.share(share, force=force, expected_revision=if_revision),
        Where(store_url, store_url_file, data, namespace),
        by,
    )


@app.command()
def shadow(
    share: Annotated[float, typer.Argument(help="Of the calls, 0 to 1; 0 for none.")],
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    by: By = None,
    if_revision: Expected = None,
) -> None:
    """Let the staged version answer a share of the calls too, unseen; `terrace release report` compares."""
    _change(
        lambda operations: operations.shadow(share, expected_revision=if_revision),
        Where(store_url, store_url_file, data, namespace),
        by,
    )


@app.command()
def promote(
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    by: By = None,
    force: Force = False,
    if_revision: Expected = None,
) -> None:
    """Make the staged version live, once every replica has loaded it and, where lists are precomputed, its are complete."""
    _change(
        lambda operations: operations.promote(force=force, expected_revision=if_revision),
        Where(store_url, store_url_file, data, namespace),
        by,
    )


@app.command()
def rollback(
    reason: Reason = "",
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    by: By = None,
    force: Force = False,
    if_revision: Expected = None,
) -> None:
    """Take the candidate from its users; where it has none, go back to what was live before."""
    _change(
        lambda operations: operations.rollback(reason, force=force, expected_revision=if_revision),
        Where(store_url, store_url_file, data, namespace),
        by,
    )


@app.command()
def freeze(
    version: Version,
    reason: Reason,
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    by: By = None,
    if_revision: Expected = None,
) -> None:
    """Keep a version from users, for good; a candidate is taken from those it has."""
    _change(
        lambda operations: operations.freeze(version, reason, expected_revision=if_revision),
        Where(store_url, store_url_file, data, namespace),
        by,
    )


@app.command()
def unfreeze(
    version: Version,
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    by: By = None,
    if_revision: Expected = None,
) -> None:
    """Let a frozen version be given to users again."""
    _change(
        lambda operations: operations.unfreeze(version, expected_revision=if_revision),
        Where(store_url, store_url_file, data, namespace),
        by,
    )


@app.command()
def status(
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
) -> None:
    """Show the slots, who is live, who is tried on whom, the last change, and every replica."""

    async def show(operations: Operations, _: ReleaseStore) -> None:
        await _show_once(operations, namespace, as_json=as_json)
        while watch:
            await asyncio.sleep(WATCH_S)
            if console.is_terminal and not as_json:
                console.clear()
            try:
                await _show_once(operations, namespace, as_json=as_json)
            except ReleaseError as error:  # who watches is told, and goes on watching
                print_error(error)

    try:
        with_operations(show, Where(store_url, store_url_file, data, namespace))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; it asks nobody who they are.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = DEFAULT_PORT,
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    bundles: Known = None,
) -> None:
    """Answer `terrace.v1.ReleaseService`, which does all of this for programs; stops cleanly on SIGTERM."""
    import logging

    # Until the service has handlers of its own; the first process of a container would ignore the signal otherwise.
    # Nothing is open yet, and an exception while a native module is imported would become an ImportError.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from server.release.admin import AdminError, ReleaseAdmin
    from server.release.admin import serve as serve_admin

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    async def answer(store: ReleaseStore, check: PromotionCheck) -> None:
        admin = ReleaseAdmin(store, known_versions=versions_in(bundles), promotion_check=check)
        await serve_admin(
            admin, host, port, lambda bound: typer.echo(f"serving releases of {namespace} on {host}:{bound}")
        )

    try:
        with_store(answer, Where(store_url, store_url_file, data, namespace))
    except AdminError as error:
        print_error(error)
        raise typer.Exit(REFUSED) from None


app.command()(rollout)
app.command()(report)


async def _show_once(operations: Operations, namespace: str, *, as_json: bool) -> None:
    found = await operations.status()
    if as_json:
        typer.echo(json.dumps(_as_dict(found, namespace)))
        return
    for part in status_parts(found, namespace):
        console.print(part, highlight=False, soft_wrap=isinstance(part, str))


def _change(
    change: Callable[[Operations], Awaitable[Release]], where: Where, by: str | None, bundles: str | None = None
) -> None:
    """Make a change and say what it was."""
    made = with_operations(lambda operations, _: change(operations), where, by, versions_in(bundles))
    console.print(change_line(made), highlight=False, soft_wrap=True)


def _as_dict(found: Status, namespace: str) -> dict[str, Any]:
    return {
        "namespace": namespace,
        "release": asdict(found.release) if found.release else None,
        "replicas": [asdict(replica) for replica in found.replicas],
        "ready": len(found.replicas) - len(found.not_ready),
        "not_ready": found.not_ready,
    }
