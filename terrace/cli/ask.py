"""`terrace recommend` and `terrace similar`: ask a running server as a calling service would."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from core.manifest import BundleError, newest_bundle
from core.strings import load_strings
from terrace.cli.output import UNREACHABLE, answer_table, console, errors, print_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from terrace.client import Answer, Client
    from terrace.messages import CallOptions


def _address(server: str) -> str:
    """Refuse a URL, and an address without a port, for which gRPC would take 443."""
    if ":" not in server or server.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{server}: expected host:port, such as {DEFAULT_SERVER}")
    return server


DEFAULT_SERVER = "localhost:50051"
Server = Annotated[str, typer.Option(callback=_address, help="Where the server listens, host:port.")]
Surface = Annotated[str, typer.Option(help="Where the list is shown.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="Items wanted.")]
Timeout = Annotated[float, typer.Option(help="Deadline of the call in milliseconds; the answer is the best that fits.")]
Category = Annotated[list[str], typer.Option(help="Only items of this category; may be given several times.")]
Bundles = Annotated[Path, typer.Option(help="Folder of bundles, for the titles; without it ids are shown.")]
Waiting = Annotated[
    Literal["user", "prefetch", "batch"],
    typer.Option("--criticality", help="Who waits for the answer; under overload users come first."),
]
Highest = Annotated[
    Literal["POPULARITY", "CF", "DEEP"] | None,
    typer.Option(help="Answer from this tier at most, to see what it answers."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def recommend(
    user_id: Annotated[str, typer.Argument(help="Any user id, known or not.")],
    server: Server = DEFAULT_SERVER,
    limit: Limit = 10,
    timeout_ms: Timeout = 100.0,
    category: Category = [],  # noqa: B006 - typer copies it
    viewed: Annotated[
        list[str], typer.Option(help="An item this user viewed just now; changes the answer at once.")
    ] = [],  # noqa: B006
    surface: Surface = "default",
    criticality: Waiting = "user",
    max_tier: Highest = None,
    bundles: Bundles = Path("build/bundles"),
    as_json: AsJson = False,
) -> None:
    """Ask for a user's items.

    Example: `terrace recommend 14911 --limit 5 --timeout-ms 20`
    """
    from terrace.client import Event, Filters

    events = [Event(item_id, "view") for item_id in viewed]
    _ask(
        server,
        lambda client: client.recommend(
            user_id,
            limit=limit,
            surface=surface,
            filters=Filters(categories=tuple(category)),
            recent_events=events,
            timeout_ms=timeout_ms,
            **_of_the_call(criticality, max_tier),
        ),
        f"For user {user_id}",
        bundles,
        as_json=as_json,
    )


def similar(
    item_id: Annotated[str, typer.Argument(help="An item id.")],
    server: Server = DEFAULT_SERVER,
    limit: Limit = 10,
    timeout_ms: Timeout = 100.0,
    category: Category = [],  # noqa: B006 - typer copies it
    surface: Surface = "default",
    criticality: Waiting = "user",
    max_tier: Highest = None,
    bundles: Bundles = Path("build/bundles"),
    as_json: AsJson = False,
) -> None:
    """Ask which items go with an item.

    Example: `terrace similar 22423`
    """
    from terrace.client import Filters

    _ask(
        server,
        lambda client: client.similar_items(
            item_id,
            limit=limit,
            surface=surface,
            filters=Filters(categories=tuple(category)),
            timeout_ms=timeout_ms,
            **_of_the_call(criticality, max_tier),
        ),
        f"Goes with {titles_of(bundles).get(item_id, item_id)}",
        bundles,
        as_json=as_json,
    )


def titles_of(bundles: Path) -> dict[str, str]:
    """Item id -> title from the newest bundle; empty where there is none."""
    try:
        folder = newest_bundle(bundles)
    except BundleError:
        return {}
    return dict(zip(load_strings(folder / "catalogue" / "ids"), load_strings(folder / "titles"), strict=True))


def _of_the_call(criticality: Waiting, max_tier: Highest) -> CallOptions:
    from terrace.client import Tier

    asked: CallOptions = {"criticality": criticality}
    return asked if max_tier is None else {**asked, "max_tier": Tier[max_tier]}


def _ask(server: str, call: Callable[[Client], Answer], heading: str, bundles: Path, *, as_json: bool) -> None:
    from terrace.client import Client, TerraceError, UnavailableError

    with Client(server) as client:
        started = time.perf_counter()
        try:
            answer = call(client)
        except TerraceError as error:
            print_error(error)
            if isinstance(error, UnavailableError):
                errors.print("Start a server with `terrace serve`, or name another with --server.", highlight=False)
            raise typer.Exit(UNREACHABLE) from None
        elapsed_ms = (time.perf_counter() - started) * 1000
    if as_json:
        typer.echo(json.dumps(asdict(answer), default=str))
    else:
        console.print(answer_table(answer, titles_of(bundles), heading, elapsed_ms))
