"""`terrace ingest`: load what users did into the user store."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from terrace.cli.options import (
    STORE_DATA,
    Events,
    Items,
    Map,
    Namespace,
    StoreData,
    StoreUrl,
    StoreUrlFile,
    Weight,
    dataset,
    user_store,
)
from terrace.cli.output import UNREACHABLE, console, errors, print_error, print_warning, show_progress

if TYPE_CHECKING:
    from offline.progress import Progress
    from offline.read.dataset import Dataset
    from offline.read.event_log import EventLog

USERS_PER_BATCH = 500


def ingest(
    events: Events,
    items: Items = None,
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    column_map: Map = [],  # noqa: B006 - typer copies it
    weight: Weight = [],  # noqa: B006 - typer copies it
) -> None:
    """Replace the stored history of every user in a file of events.

    The embedded store must not be in use by a running server at the same time.

    Example: `terrace ingest --events 'events/*.parquet' --items items.csv --store-url redis://localhost:6379`
    """
    from offline.read.data_report import render
    from offline.read.event_log import EventLog

    with ExitStack() as stack:
        progress = stack.enter_context(show_progress())
        read, _ = stack.enter_context(dataset(events, items, column_map, weight, needs_time=False))
        errors.print(render(read.report))
        if not read.report.first_event:
            print_warning("there is no timestamp: all events are stored as of now, in no order of theirs")
        log = EventLog.read(read.events, len(read.user_ids))
        url = stack.enter_context(user_store(store_url, store_url_file, data))
        stored = asyncio.run(fill(url, namespace, read, log, progress))
    console.print(f"stored {stored:,} events of {log.n_users:,} users")


async def fill(url: str, namespace: str, read: Dataset, log: EventLog, progress: Progress) -> int:
    """Write the newest events of every user.

    Returns:
        How many events were written.

    Raises:
        typer.BadParameter: the URL or the namespace is none of a store; the message does not repeat the URL, which may
            hold a password.
        typer.Exit: the store cannot be reached or refuses to be written to.
    """
    from redis import RedisError

    from server.store.user_store import MAX_STORED_EVENTS, RedisUserStore

    try:
        store = RedisUserStore(url, namespace, read.seen_types, connect_timeout_s=2.0)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    stored = start = 0
    try:
        for start in range(0, log.n_users, USERS_PER_BATCH):
            batch = range(start, min(start + USERS_PER_BATCH, log.n_users))
            users = {read.user_ids[u]: log.events_of(u, read.catalogue.ids, read.event_types) for u in batch}
            stored += sum(min(len(events), MAX_STORED_EVENTS) for events in users.values())
            await store.load(users)
            progress("ingest users", batch.stop, log.n_users)
    except RedisError as error:
        print_error(
            f"the user store: {error}. {start:,} of {log.n_users:,} users are stored; once it is there, run this again"
        )
        raise typer.Exit(UNREACHABLE) from None
    finally:
        await store.close()
    return stored
