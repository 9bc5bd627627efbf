"""`terrace demo`: the whole of Terrace in one sitting, from a file of events to answers under faults."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.panel import Panel

from core.manifest import MANIFEST_NAME, newest_bundle, read_manifest
from terrace.cli.ask import titles_of
from terrace.cli.build import show
from terrace.cli.demo_release import on_both_sides, show_release
from terrace.cli.demo_release import release as release_command
from terrace.cli.options import Map, Weight
from terrace.cli.output import answer_table, console, verdict_lines
from terrace.cli.serve import DEFAULT_PORT
from terrace.cli.steps import Source, builder, gate_entry, load_previous, measure, release, release_earlier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from offline.build.builder import Builder
    from offline.progress import Progress
    from terrace.client import Answer, Client

LIST = 5
NORMAL_MS = 100.0
TIGHT_MS = 3.0
STOP_S = 20.0
USERS = 6


@dataclass(frozen=True)
class Cast:
    """Who and what the demo asks about.

    Attributes:
        user: a user with a full history who was active lately.

        news: items that the user did nothing with, much liked by others with another taste.

        item: one of the user's items.

        category: one that the user does not look at most; empty where the catalogue has none.

        price: the median price; None where there are none.
    """

    user: str
    news: tuple[str, ...]
    event_type: str
    item: str
    category: str
    price: float | None


def demo(
    events: Annotated[str, typer.Option(help="Your events; without them a shop is generated.")] = "",
    items: Annotated[str, typer.Option(help="Your items.")] = "",
    folder: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path("build/demo"),
    column_map: Map = [],  # noqa: B006 - typer copies it
    weight: Weight = [],  # noqa: B006 - typer copies it
    keep_serving: Annotated[
        bool,
        typer.Option(
            "--serve",
            help="Do not ask anything: serve the newest bundle of the folder, built first if there is none, until Ctrl-C.",
        ),
    ] = False,
    port: Annotated[int, typer.Option(help="Port for --serve.")] = DEFAULT_PORT,
) -> None:
    """Build from events, evaluate, serve, ask as a client would, break things, and show every answer."""
    from offline.publish.gate import check

    bundles = folder / "bundles"
    if keep_serving and any(bundles.glob(f"*/{MANIFEST_NAME}")):
        raise typer.Exit(serve_on(newest_bundle(bundles), folder, port))
    chapter("1  Read and build", "Events and items become a bundle: catalogue, generators, models, figures.")
    if not events:
        events, items = generate(folder / "shop")
    previous = load_previous("", bundles)
    source = Source(events, items or None, column_map, weight)
    with builder(source, report_to=console) as (made, progress):
        measured = measure(made, progress)
        # A first look should end with answers, also on data on which a rung is worth nothing.
        gate = gate_entry(check(measured, previous), "mark")
        earlier = release_earlier(made, bundles, measured)
        bundle = release(made, bundles, measured, gate, progress, previous)
        show(measured.figures, as_json=False)
        for line in verdict_lines(gate):
            console.print(line, soft_wrap=True, highlight=False)
        who, users = cast_of(made), made.world.data.user_ids
        shutil.rmtree(folder / "store", ignore_errors=True)
        with store(folder / "store") as embedded:
            ingest(embedded.url, made, progress)
    where = f"published [bold]{escape(str(bundle))}[/], report in {escape(str(bundle / 'report.html'))}"
    console.print(where, highlight=False, soft_wrap=True)
    if keep_serving:
        raise typer.Exit(serve_on(bundle, folder, port))
    titles = titles_of(bundles)
    with store(folder / "store") as embedded, ExitStack() as stack:
        chapter("2  Ask", "The server and an embedded Valkey run; every call has a deadline of 100 ms.")
        address = stack.enter_context(server(embedded.url, "--bundle", str(bundle)))
        client = stack.enter_context(connected(address))
        healthy(client, who, titles)
        chapter("3  Break things", "The same case again, while something is wrong.")
        with server(embedded.url, "--bundle", str(broken_model(bundle, folder))) as broken, connected(broken) as other:
            show_answer(
                "A model that answers NaN: the rung below answers, in time",
                lambda: other.recommend(who.user, limit=LIST, timeout_ms=NORMAL_MS),
                titles,
            )
        refused(bundle, folder)
        embedded.stop()
        show_answer(
            "Redis is gone: nothing is known of the user, and the answer says so",
            lambda: client.recommend(who.user, limit=LIST, timeout_ms=NORMAL_MS),
            titles,
        )
        show_answer(
            "Redis is gone, but the caller knows what the user did",
            lambda: client.recommend(who.user, limit=LIST, recent_events=news(who), timeout_ms=NORMAL_MS),
            titles,
        )
    with store(folder / "store") as embedded, ExitStack() as stack:
        chapter("4  Release", "A bundle that knows nothing of the last month is live; the new one takes its place.")
        release_command(embedded.url, "stage", earlier.name)
        address = stack.enter_context(server(embedded.url, "--bundles", str(bundles)))
        show_release(
            bundles, earlier.name, bundle.name, embedded.url, address, on_both_sides(bundle.name, users, USERS)
        )
    console.print(
        "\nEverything is stopped. [bold]make serve[/] keeps it running; [bold]terrace --help[/] has the rest."
    )


def serve_on(bundle: Path, folder: Path, port: int) -> int:
    """Serve with the demo's store until asked to stop; the exit code."""
    known = [example["user"] for example in read_manifest(bundle).metrics.get("examples", ())]
    where = f"--bundles {quote(str(bundle.parent))} --server localhost:{port}"
    question = f"terrace recommend {quote(known[0]) if known else 'anyone'} {where}"
    console.print(f"Ask it from another terminal: [bold]{escape(question)}[/]", highlight=False, soft_wrap=True)
    arguments = ["--bundles", str(bundle.parent), "--data", str(folder / "store"), "--port", str(port)]
    return subprocess.call([*_TERRACE, "serve", *arguments])  # noqa: S603 - our own command


def healthy(client: Client, who: Cast, titles: dict[str, str]) -> None:
    """The calls of an ordinary day."""
    from terrace.client import Filters

    client.recommend(who.user, limit=LIST, timeout_ms=1000.0)  # opens the connection
    show_answer("A known user", lambda: client.recommend(who.user, limit=LIST, timeout_ms=NORMAL_MS), titles)
    show_answer(
        "The same user, who just looked at other things: " + ", ".join(titles.get(i, i) or i for i in who.news),
        lambda: client.recommend(who.user, limit=LIST, recent_events=news(who), timeout_ms=NORMAL_MS),
        titles,
    )
    show_answer("A new user", lambda: client.recommend("nobody-knows-me", limit=LIST, timeout_ms=NORMAL_MS), titles)
    show_answer(
        f"What goes with {titles.get(who.item, who.item)}",
        lambda: client.similar_items(who.item, limit=LIST, timeout_ms=NORMAL_MS),
        titles,
    )
    if who.category:
        wish, filters = f"only {who.category}", Filters(categories=(who.category,))
    else:
        wish, filters = f"nothing above {who.price or 0:.2f}", Filters(max_price=who.price)
    show_answer(
        f"The known user, {wish}",
        lambda: client.recommend(who.user, limit=LIST, filters=filters, timeout_ms=NORMAL_MS),
        titles,
    )
    show_answer(
        f"The known user, with {TIGHT_MS:g} ms",
        lambda: client.recommend(who.user, limit=LIST, timeout_ms=TIGHT_MS),
        titles,
    )


def chapter(title: str, what: str) -> None:
    """A heading."""
    console.print()
    console.print(Panel(what, title=f"[bold]{title}[/]", title_align="left"))


def show_answer(heading: str, call: Callable[[], Answer], titles: dict[str, str]) -> None:
    """Ask, and print the answer or that there was none in time."""
    import grpc

    console.print()
    started = time.perf_counter()
    try:
        answer = call()
    except grpc.RpcError as error:
        elapsed_ms = (time.perf_counter() - started) * 1000
        console.print(f"[bold]{heading}[/]\nno answer after {elapsed_ms:.1f} ms: {error.code().name}")
        return
    console.print(answer_table(answer, titles, heading, (time.perf_counter() - started) * 1000))


def news(who: Cast) -> list[Any]:
    """Events that happen now."""
    from terrace.client import Event

    return [Event(item_id, who.event_type) for item_id in who.news]


def generate(folder: Path) -> tuple[str, str]:
    """The generated shop's files."""
    from offline.shop import generate_shop

    console.print("No events given: generating a shop (3,000 users, 2,000 items, half a year).")
    events, items = generate_shop().write(folder)
    return str(events), str(items)


def cast_of(made: Builder) -> Cast:
    """A user with a good history, what that user does not do, and a filter that fits the catalogue."""
    log, data = made.world.log, made.world.data
    catalogue = data.catalogue
    counts = np.diff(log.ptr)
    last = np.where(counts > 0, log.times[np.maximum(log.ptr[1:] - 1, 0)], 0)
    recent = last > log.times.max() - 14 * 86_400
    wanted = np.flatnonzero(recent & (counts >= 20)) if (recent & (counts >= 20)).any() else np.array([counts.argmax()])
    user = int(wanted[np.argsort(counts[wanted])[len(wanted) // 2]])
    own = set(log.items[log.ptr[user] : log.ptr[user + 1]].tolist())
    others = log.items[np.argsort(-log.times, kind="stable")[:5000]]
    rows, times_seen = np.unique(others, return_counts=True)
    fresh = [
        int(r) for r in rows[np.argsort(-times_seen, kind="stable")] if int(r) not in own and catalogue.available[r]
    ]
    looked_at = {name for row in own for name in catalogue.categories_of(row)}
    foreign = [r for r in fresh if looked_at.isdisjoint(catalogue.categories_of(r))]
    item = int(log.items[log.ptr[user + 1] - 1])
    mine = set(catalogue.categories_of(item))
    category = next((name for r in fresh for name in catalogue.categories_of(r) if name not in mine), "")
    price = catalogue.price[np.isfinite(catalogue.price)]
    positive = [name for name in data.event_types if data.event_weights[name] > 0]
    return Cast(
        user=data.user_ids[user],
        news=tuple(catalogue.ids[r] for r in (foreign if len(foreign) >= 3 else fresh)[:3]),
        event_type="view" if "view" in positive else positive[0],
        item=catalogue.ids[item],
        category=category,
        price=float(np.median(price)) if len(price) else None,
    )


def ingest(url: str, made: Builder, progress: Progress) -> None:
    """Fill the store from the log that the build read."""
    from terrace.cli.ingest import fill

    asyncio.run(fill(url, "default", made.world.data, made.world.log, progress))


def store(folder: Path) -> Any:
    """An embedded Valkey on that folder."""
    from server.store.embedded import EmbeddedStore

    return EmbeddedStore(folder)


_TERRACE = (sys.executable, "-m", "terrace.cli")


@contextmanager
def server(redis: str, *bundles: str) -> Iterator[str]:
    """A server process on a free port; its address."""
    command = [*_TERRACE, "serve", *bundles, "--store-url", redis, "--port", "0"]
    command += ["--exercise-share", "0"]  # what is shown is the same every time
    command += ["--lame-duck-s", "0"]  # nobody else asks this server
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:  # noqa: S603 - our own command
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith("serving"):
                raise typer.Exit(process.wait(STOP_S))
            yield line.split()[-1]
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            process.kill()


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of that server, its connection open."""
    from terrace.client import Client

    with Client(address) as client:
        client.recommend("warm-up", limit=1, timeout_ms=2000.0)
        yield client


def broken_model(bundle: Path, folder: Path) -> Path:
    """The bundle with a ranker that answers NaN, sealed as if nothing were wrong."""
    import onnx

    from offline.bundle_folder import seal

    broken = folder / "broken"
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(bundle, broken)
    path = broken / "model" / "ranker.onnx"
    if path.exists():
        graph = onnx.load(str(path))
        for weight in graph.graph.initializer:
            values = onnx.numpy_helper.to_array(weight)
            if values.dtype == np.float32:
                weight.CopyFrom(onnx.numpy_helper.from_array(np.full_like(values, np.nan), weight.name))
        onnx.save(graph, str(path))
    seal(broken, replace(read_manifest(broken), golden=()))
    return broken


def refused(bundle: Path, folder: Path) -> None:
    """Show that a bundle is not served whose lowest rung is damaged and that no other stands in for."""
    damaged = folder / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(bundle, damaged)
    victim = damaged / "generators" / "popularity" / "score.npy"
    raw = bytearray(victim.read_bytes())
    raw[-1] ^= 1
    victim.write_bytes(raw)
    done = subprocess.run(  # noqa: S603 - our own command
        [*_TERRACE, "serve", "--bundle", str(damaged), "--store-url", "unix:///nowhere"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    console.print(f"\n[bold]A bundle with one flipped bit[/]\nthe server does not start, exit code {done.returncode}:")
    console.print(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "", highlight=False, soft_wrap=True)
