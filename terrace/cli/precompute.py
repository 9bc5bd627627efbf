"""`terrace precompute`: a deep list for every user, in the user store before it is needed."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from core.manifest import MANIFEST_NAME, BundleError, digest, read_manifest
from core.precompute_record import Shard, Task
from core.precomputed import LIST_ROWS
from offline.errors import InputError
from terrace.cli.options import (
    STORE_DATA,
    Bundles,
    Items,
    Map,
    Namespace,
    PublicKeyFiles,
    StoreData,
    StoreUrl,
    StoreUrlFile,
    Weight,
    dataset,
    user_store,
)
from terrace.cli.output import UNREACHABLE, console, print_error, print_warning, show_progress
from terrace.cli.precompute_output import INCOMPLETE, in_words, print_done, print_status
from terrace.cli.steps import find_bundle

if TYPE_CHECKING:
    from offline.progress import Progress
    from server.precompute.completeness import Completeness
    from server.precompute.list_maker import MakerOptions
    from server.store.batch_store import BatchStore

ALL, ACTIVE = "all", "active"
_DAY_S = 86_400.0
_HOUR_S = 3_600.0


class _RunByDefault(TyperGroup):
    """`terrace precompute VERSION` is `terrace precompute run VERSION`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the command in front where none is."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    help="Write the deep model's list of every user to the store, for when the model cannot answer in time. "
    "`terrace precompute VERSION` is `terrace precompute run VERSION`.",
)
Version = Annotated[str, typer.Argument(help="Version of a bundle, or its folder.")]


@app.command()
def run(
    version: Version,
    bundles: Bundles = Path("build/bundles"),
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    users: Annotated[
        str, typer.Option(help="active, all, or a file with a user id in each line, who are computed active or not.")
    ] = ACTIVE,
    active_days: Annotated[
        float, typer.Option(help="Active is who did something within so many days.", min=0.01)
    ] = 30.0,
    events: Annotated[
        str | None,
        typer.Option(help="Take the users of these events instead of those of the store: see `terrace ingest`."),
    ] = None,
    items: Items = None,
    column_map: Map = [],  # noqa: B006 - typer copies it
    weight: Weight = [],  # noqa: B006 - typer copies it
    k: Annotated[int, typer.Option("--k", help="Items of a list at most.", min=1, max=500)] = LIST_ROWS,
    ttl_hours: Annotated[
        float,
        typer.Option(
            help="How long lists are kept, give or take 15 %: until the next run has ended, and some.", min=0.01
        ),
    ] = 26.0,
    shard: Annotated[str, typer.Option(help="INDEX/COUNT: compute only this part of the users.")] = "0/1",
    processes: Annotated[int, typer.Option(help="Processes that compute; each loads the bundle.", min=1)] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run of this shard that stopped half way.")
    ] = False,
    public_key: PublicKeyFiles = [],  # noqa: B006 - typer copies it
    again: Annotated[
        bool,
        typer.Option("--again", help="Compute a complete shard anew; without --resume also one that stopped half way."),
    ] = False,
) -> None:
    """Compute the lists of a bundle with the code that serves.

    A nightly job gives --resume --again: it begins anew each night, and goes on where it was when it is started again.

    Example: `terrace precompute 20250601T020000Z --store-url redis://localhost:6379 --shard 0/4 --resume --again`
    """
    from server.precompute.list_maker import MakerOptions

    folder = find_bundle(version, bundles)
    part = _shard(shard)
    with ExitStack() as stack:
        progress = stack.enter_context(show_progress())
        given, described = _given_users(stack, users, active_days, events, items, column_map, weight)
        task = _task(folder, public_key, part, described, k, ttl_hours * _HOUR_S)
        url = stack.enter_context(user_store(store_url, store_url_file, data))
        active_s = active_days * _DAY_S if users == ACTIVE else None
        options = MakerOptions(folder, url, namespace, k, task.ttl_s, active_s, tuple(public_key))
        code = asyncio.run(_run(options, task, given, processes, resume, again, progress))
    raise typer.Exit(code)


@app.command()
def status(
    version: Annotated[str, typer.Argument(help="Version of a bundle.")],
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say whether the lists of a bundle are complete: all shards, their counts, and a sample of lists read again.

    The exit code is 0 where they are and 1 where they are not.
    """
    with user_store(store_url, store_url_file, data) as url:
        found = asyncio.run(_status(url, namespace, version))
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        print_status(found)
    raise typer.Exit(0 if found.complete else INCOMPLETE)


def _shard(text: str) -> Shard:
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"--shard {error}") from None


def _given_users(
    stack: ExitStack,
    users: str,
    active_days: float,
    events: str | None,
    items: str | None,
    column_map: list[str],
    weight: list[str],
) -> tuple[list[str] | None, str]:
    """The users that a file names, None for those of the store, and which they are in words."""
    who = f"active within {active_days:g} days" if users == ACTIVE else ALL
    if users not in {ALL, ACTIVE}:
        if events is not None:
            raise typer.BadParameter("give a file of users or --events, not both")
        return _users_in(Path(users)), f"of the file {users}"
    if events is None:
        return None, f"{who}, of the store"
    read, _ = stack.enter_context(dataset(events, items, column_map, weight, needs_time=False))
    return list(read.user_ids), f"{who}, of {events}"


def _users_in(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--users {path}: cannot be read ({error}). Give active, all, or a file with a user id in each line"
        ) from None
    return [line for line in lines if line]


def _task(folder: Path, public_key: list[Path], shard: Shard, users: str, limit: int, ttl_s: float) -> Task:
    """What is to be done.

    Raises:
        BundleError: the bundle has no deep rung, cannot be read, or is not signed as it must be.
    """
    from server.signature import trusted

    keys = trusted(public_key)
    manifest = read_manifest(folder) if keys is None else keys.read_manifest(folder)
    if not manifest.model:
        raise BundleError(
            f"{folder}: has no deep model, so there is nothing to precompute. Its ladder ends at CF, which needs no lists"
        )
    return Task(manifest.version, digest(folder / MANIFEST_NAME).sha256, manifest.items, shard, users, limit, ttl_s)


async def _run(
    options: MakerOptions,
    task: Task,
    given: list[str] | None,
    processes: int,
    resume: bool,
    again: bool,
    progress: Progress,
) -> int:
    """Compute a shard; returns the exit code.

    Raises:
        PrecomputeError: the shard cannot be worked on.
        BundleError: the bundle cannot be used.
    """
    from redis import RedisError

    store = _open(options.store_url, options.namespace, task.version)
    current = asyncio.current_task()
    assert current is not None  # noqa: S101 - this is a coroutine
    stopped: list[int] = []

    def stop(number: int) -> None:
        stopped.append(number)
        current.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return await _compute(store, options, task, given, processes, resume, again, progress)
    except (RedisError, asyncio.CancelledError) as error:
        if stopped:  # redis-py makes an error of its own of a connection that is cancelled while it opens
            print_error("stopped. What is done is noted; go on with --resume")
            return 128 + stopped[0]
        if not isinstance(error, RedisError):
            raise
        print_error(f"the user store: {error}. What is done is noted; once it is there, go on with --resume")
        return UNREACHABLE
    finally:
        await store.close()


async def _compute(
    store: BatchStore,
    options: MakerOptions,
    task: Task,
    given: list[str] | None,
    processes: int,
    resume: bool,
    again: bool,
    progress: Progress,
) -> int:
    from server.precompute.shard_run import begin_shard, compute, users_left
    from server.precompute.workers import list_makers

    begun = await begin_shard(store, task, uuid.uuid4().hex, resume=resume, again=again, now_s=time.time())
    if begun.record.complete:
        console.print(
            f"shard {task.shard} of {task.version} is complete already, nothing to do: {in_words(begun.record)}. "
            "--again computes it anew",
            highlight=False,
            soft_wrap=True,
        )
        return 0
    if begun.from_scratch:
        print_warning(f"{begun.from_scratch}. This run begins anew")
    found = given if given is not None else [user_id async for user_id in store.user_ids()]
    left = users_left(task.shard, begun.record.position, found)
    async with list_makers(options, processes) as make:
        record, rates = await compute(store, begun, left, make, processes=processes, progress=progress)
    return print_done(record, rates)


async def _status(url: str, namespace: str, version: str) -> Completeness:
    from redis import RedisError

    from server.precompute.completeness import precompute_complete

    store = _open(url, namespace, version)
    try:
        return await precompute_complete(store, version)
    except RedisError as error:
        print_error(f"the user store: {error}")
        raise typer.Exit(UNREACHABLE) from None
    finally:
        await store.close()


def _open(url: str, namespace: str, version: str) -> BatchStore:
    """The store.

    Raises:
        typer.BadParameter: the URL or the namespace is none; the message does not repeat the URL, which may hold a password.
    """
    from server.store.batch_store import BatchStore

    try:
        return BatchStore.open(url, namespace, version)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
