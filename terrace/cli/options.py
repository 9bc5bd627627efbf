"""Options that several commands share: where the input is and how to read it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

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
