"""`terrace bundle list`, `push`, `pull` and `prune`: bundles in a folder or in object storage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from core.manifest import BundleError
from server.release.bundle_copy import BundleStoreError
from server.release.bundle_store import open_store
from server.release.retention import release_marks, surplus
from terrace.cli.options import STORE_DATA, BundleStoreUrl, Namespace, StoreUrl, StoreUrlFile
from terrace.cli.output import UNREACHABLE, console, print_error, print_warning, show_progress
from terrace.cli.release_access import Where, with_store

if TYPE_CHECKING:
    from core.release import Release
    from server.release.bundle_store import BundleStore

BUNDLES = "build/bundles"
REFUSED = 2

Version = Annotated[str, typer.Argument(help="Version of a bundle; `terrace bundle list` names them.")]


def list_bundles(
    bundles: BundleStoreUrl = BUNDLES,
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    namespace: Namespace = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the bundles of a folder or a store, newest first; with a store's URL also what the release makes of them."""
    store = open_store(bundles)
    rows = [_row(store, version) for version in store.versions()]
    unfinished = store.unfinished()
    release = _release_or_warning(store_url, store_url_file, namespace)
    marks = release_marks(release)
    for row in rows:
        row["release"] = marks.get(row["version"], "")
        row["frozen"] = release.frozen.get(row["version"], "") if release else ""
    if as_json:
        typer.echo(json.dumps({"bundles": rows, "unfinished": unfinished}, ensure_ascii=False))
        return
    console.print(_table(rows, store.url))
    if unfinished:
        print_warning(
            f"without a manifest, so not finished or half removed: {', '.join(unfinished)}. Push it again, or see "
            "`terrace bundle prune`"
        )
    missing = [f"{version} ({mark})" for version, mark in marks.items() if version not in {r["version"] for r in rows}]
    if missing:
        print_warning(f"the release names bundles that are not here: {', '.join(missing)}")


def push(
    path: Annotated[Path, typer.Argument(help="The folder of a bundle.")],
    bundles: BundleStoreUrl,
) -> None:
    """Copy a bundle into a store, after a look at every file; others see it once all of it is there.

    Example: `terrace bundle push build/bundles/20260531T020000Z --bundles s3://models/terrace`
    """
    store = open_store(bundles)
    with show_progress() as progress:
        version = store.push(path, progress)
    console.print(_pushed(version, store), highlight=False, soft_wrap=True)


def pull(
    version: Version,
    bundles: BundleStoreUrl = BUNDLES,
    to: Annotated[Path, typer.Option(help="Folder of bundles to copy it into.")] = Path(BUNDLES),
) -> None:
    """Copy a bundle from a store into a folder, held against its checksums; it is there whole or not at all."""
    with show_progress() as progress:
        folder = open_store(bundles).download(version, to, progress)
    console.print(f"pulled [bold]{escape(str(folder))}[/]", highlight=False, soft_wrap=True)


def prune(
    keep: Annotated[int, typer.Option(help="How many of the newest bundles stay.", min=1)],
    bundles: BundleStoreUrl = BUNDLES,
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    namespaces: Annotated[
        list[str],
        typer.Option("--namespace", help="Of a release that uses these bundles; may be given several times."),
    ] = ["default"],  # noqa: B006 - typer copies it
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove although there is no release to protect bundles.")] = False,
) -> None:
    """Remove all but the newest bundles and those that the release names: live, candidate, staged, previous.

    Also removed are uploads that were never finished, where they are older than what stays.

    Example: `terrace bundle prune --bundles s3://models/terrace --keep 7 --store-url-file /run/secrets/redis`
    """
    store = open_store(bundles)
    marks: dict[str, str] = {}
    for namespace in namespaces:
        release = _release(store_url, store_url_file, namespace)
        if release is None:
            _judge_by_age(namespace if store_url or store_url_file else None, confirmed=yes or dry_run)
        for version, mark in release_marks(release).items():
            marks.setdefault(version, f"{mark} in namespace {namespace}")
    found = surplus(store, keep, marks)
    for version in found.protected:
        console.print(f"keeps {escape(version)}: it is {marks[version]}", highlight=False, soft_wrap=True)
    for version in found.to_remove:
        if not dry_run:
            store.remove(version)
        what = " (never finished)" if version in found.unfinished else ""
        console.print(f"{'would remove' if dry_run else 'removed'} {escape(version)}{what}", highlight=False)
    if not found.to_remove:
        console.print("nothing to remove", highlight=False)


def _judge_by_age(namespace: str | None, *, confirmed: bool) -> None:
    """Say that no release protects bundles; ``namespace`` is None where no store of a release is given.

    Raises:
        typer.Exit: that was not confirmed.
    """
    why = "no store of a release is given" if namespace is None else f"namespace {namespace} has no release"
    if not confirmed:
        print_error(
            f"{why}, so nothing says which bundles are in use. Give --store-url (TERRACE_STORE_URL) or "
            "--store-url-file, and --namespace; or --yes to remove by age alone"
        )
        raise typer.Exit(REFUSED)
    print_warning(f"{why}: bundles are judged by age alone")


def reachable(url: str | None) -> BundleStore | None:
    """The store to push to later, after a look whether it answers; a build takes too long to find out afterwards.

    Raises:
        BundleError: it cannot be used.
    """
    if url is None:
        return None
    store = open_store(url)
    store.versions()
    return store


def push_built(store: BundleStore, folder: Path) -> str:
    """Push a bundle that was just built; returns what was done, in words.

    Raises:
        typer.Exit: the store refuses or cannot be reached; the message says how to push the bundle later.
    """
    try:
        with show_progress() as progress:
            return _pushed(store.push(folder, progress), store)
    except BundleStoreError as error:
        print_error(f"{error}. The bundle is built: `terrace bundle push {folder} --bundles {store.url}` pushes it")
        raise typer.Exit(UNREACHABLE) from None


def _pushed(version: str, store: BundleStore) -> str:
    return f"pushed [bold]{escape(version)}[/] to {escape(store.url)}"


def _release(store_url: str | None, store_url_file: Path | None, namespace: str) -> Release | None:
    """The release document; None where there is none, or no store is given."""
    if not (store_url or store_url_file):
        return None
    return with_store(lambda store, _: store.read(), Where(store_url, store_url_file, STORE_DATA, namespace))


def _release_or_warning(store_url: str | None, store_url_file: Path | None, namespace: str) -> Release | None:
    try:
        return _release(store_url, store_url_file, namespace)
    except typer.Exit:  # the message was printed
        print_warning("the list does not say what the release makes of the bundles")
        return None


def _row(store: BundleStore, version: str) -> dict[str, Any]:
    try:
        manifest = store.manifest(version)
    except BundleStoreError:
        raise
    except BundleError as error:
        return {"version": version, "error": str(error)}
    return {
        "version": version,
        "built_at": manifest.built_at,
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        "gate": ("passed" if manifest.gate["passed"] else "failed") if manifest.gate else "off",
        "signed": store.signed(version),
    }


def _table(rows: list[dict[str, Any]], url: str) -> Table:
    title = f"Bundles in {url}" if rows else f"No finished bundle in {url}"
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD)
    for column in ("version", "built at"):
        table.add_column(column, no_wrap=True)
    table.add_column("MB", justify="right")
    for column in ("gate", "signed", "release"):
        table.add_column(column)
    for row in rows:
        state = ", ".join(filter(None, (row["release"], f"frozen: {row['frozen']}" if row["frozen"] else "")))
        if "error" in row:
            cells = ("", "", escape(row["error"]), "")
        else:
            signed = "yes" if row["signed"] else "no"
            cells = (row["built_at"], f"{row['bytes'] / 1e6:,.1f}", row["gate"], signed)
        table.add_row(escape(row["version"]), *cells, escape(state))
    return table
