"""Options that several commands share: where the input is and how to read it, and which user store."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from core.manifest import MANIFEST_NAME, newest_bundle
from offline.errors import InputError
from terrace.cli.output import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from offline.read.dataset import Dataset
    from offline.read.engine import Engine

Events: TypeAlias = Annotated[
    str, typer.Option(help="Events: a Parquet or CSV file, a folder of them, or a glob in quotes.")
]
Items: TypeAlias = Annotated[
    str | None, typer.Option(help="Items: the same; without it the catalogue is the items that have events.")
]
Map: TypeAlias = Annotated[
    list[str], typer.Option("--map", help="OUR_COLUMN=THEIRS, such as timestamp=ts; may be given several times.")
]
Weight: TypeAlias = Annotated[
    list[str], typer.Option(help="EVENT_TYPE=WEIGHT, such as purchase=5 or dismiss=-1; may be given several times.")
]
TargetTypes: TypeAlias = Annotated[
    list[str],
    typer.Option(
        "--target",
        help="EVENT_TYPE that makes an item relevant; may be given several times. Default: types that hide the item afterwards.",
    ),
]
Test: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Events of the test, with the same columns, for --split given: a file, folder or glob."),
]
TrainMinutes: TypeAlias = Annotated[
    float, typer.Option(help="About how long the deep model may train, minutes.", min=0.1)
]
Checkpoints: TypeAlias = Annotated[
    Path | None, typer.Option(help="Folder where an interrupted training is found again, and goes on.")
]
Ablate: TypeAlias = Annotated[
    bool,
    typer.Option("--ablate", help="Train the ranker again without each group of inputs, to say what each is worth."),
]
EngineName: TypeAlias = Annotated[
    Literal["duckdb", "spark"],
    typer.Option(help="What aggregates the events: duckdb, or spark where they outgrow one machine."),
]
Report: TypeAlias = Annotated[
    Path | None, typer.Option("--report", help="Write an HTML report here: one file that needs nothing else.")
]
Bundles: TypeAlias = Annotated[Path, typer.Option(help="Folder that bundles are published to.")]
BundleStoreUrl: TypeAlias = Annotated[
    str, typer.Option("--bundles", help="Folder of bundles, or the URL of one in object storage: s3://bucket/prefix.")
]
PublishTo: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Push what is published there too: a folder of bundles, or a URL such as s3://bucket/prefix."),
]


def _warn_of_credentials(ctx: typer.Context, param: typer.CallbackParam, value: str | None) -> str | None:
    source = ctx.get_parameter_source(param.name or "")
    if value and "@" in value and source is not None and source.name == "COMMANDLINE":
        errors.print(
            "warning: every user of this machine can read a password in a command line. "
            "Give the URL in TERRACE_STORE_URL or in a file with --store-url-file",
            soft_wrap=True,
        )
    return value


StoreUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        envvar="TERRACE_STORE_URL",
        callback=_warn_of_credentials,
        show_default=False,
        help="URL of Redis or Valkey: redis://host:6379/0, rediss://, unix://, redis+sentinel://host:26379/service, "
        "redis+cluster://host:6379. One with a password belongs into the environment or a file. Without a URL an embedded "
        "Valkey is started.",
    ),
]
StoreUrlFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        envvar="TERRACE_STORE_URL_FILE",
        show_default=False,
        help="File that holds the URL and nothing else, such as a mounted secret.",
    ),
]
StoreData: TypeAlias = Annotated[Path, typer.Option("--data", help="Where the embedded Valkey keeps its data.")]
Namespace: TypeAlias = Annotated[str, typer.Option(help="Separates deployments that share one Redis.")]
PublicKeyFiles: TypeAlias = Annotated[
    list[Path],
    typer.Option(
        "--public-key",
        help="Public key in PEM: bundles that none of these keys signed are refused; may be given several times.",
    ),
]
STORE_DATA = Path("build/store")


def newest_or_named(path: Path) -> Path:
    """The bundle that a path names: itself, or the newest of a folder of bundles.

    Raises:
        BundleError: it is a folder without a finished bundle.
    """
    return newest_bundle(path) if path.is_dir() and not (path / MANIFEST_NAME).is_file() else path


@contextmanager
def user_store(url: str | None, url_file: Path | None, data: Path) -> Iterator[str]:
    """URL of the user store: the one that is given, else of an embedded one that runs until the context ends.

    Raises:
        InputError: the file cannot be read or is empty, or the embedded store does not start.
    """
    if url and url_file:
        raise typer.BadParameter("give --store-url (TERRACE_STORE_URL) or --store-url-file, not both")
    if url_file:
        url = _url_in(url_file)
    if url:
        yield url
        return
    from server.store.embedded import EmbeddedStore, StoreError

    try:
        store = EmbeddedStore(data)
    except StoreError as error:
        raise InputError(str(error)) from None
    with store:
        yield store.url


def _url_in(path: Path) -> str:
    try:
        url = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--store-url-file {path}: cannot be read: {error}") from None
    if not url:
        raise InputError(f"--store-url-file {path}: is empty; it must hold the URL of the store")
    return url


@contextmanager
def dataset(
    events: str,
    items: str | None,
    column_map: Sequence[str],
    weight: Sequence[str],
    engine: str = "duckdb",
    test: str | None = None,
    *,
    needs_time: bool = True,
) -> Iterator[tuple[Dataset, Engine]]:
    """The input, read with the options as they were given; good until the context ends."""
    from offline.read.dataset import read_dataset
    from offline.read.engine import open_engine

    mapping = dict(_pair("--map", text) for text in column_map)
    weights = {name: _number("--weight", text, value) for text in weight for name, value in [_pair("--weight", text)]}
    try:
        backend = open_engine(engine)
    except ValueError as error:  # what the engine needs is not installed
        raise typer.BadParameter(f"--engine {engine}: {error}") from None
    with backend:
        data = read_dataset(
            events,
            items,
            engine=backend,
            mapping=mapping,
            event_weights=weights,
            test=test,
            needs_time=needs_time,
        )
        yield data, backend


def _pair(option: str, text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not (left and equals and right):
        raise typer.BadParameter(f"{option} {text}: expected NAME=VALUE")
    return left, right


def _number(option: str, text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise typer.BadParameter(f"{option} {text}: {value!r} is not a number") from None
