"""`terrace serve`: answer from a bundle until asked to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from terrace.cli.options import (
    STORE_DATA,
    BundleStoreUrl,
    Namespace,
    PublicKeyFiles,
    StoreData,
    StoreUrl,
    StoreUrlFile,
    user_store,
)

DEFAULT_PORT = 50051


def serve(
    bundles: BundleStoreUrl = "build/bundles",
    bundle: Annotated[Path | None, typer.Option(help="Serve this bundle and no other.")] = None,
    public_key: PublicKeyFiles = [],  # noqa: B006 - typer copies it
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every interface.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = DEFAULT_PORT,
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    default_deadline_ms: Annotated[float, typer.Option(help="Budget of a call that names no deadline.")] = 100.0,
    max_request_ms: Annotated[float, typer.Option(help="Longest budget, whatever a caller asks for.")] = 500.0,
    cache: Annotated[Path, typer.Option(help="Where copies of bundles lie that come from object storage.")] = Path(
        "build/cache"
    ),
    max_cache_gb: Annotated[
        float, typer.Option(help="Bound of these copies in GB of 10^9 bytes; those in use stay.", min=0.0)
    ] = 20.0,
    workers: Annotated[
        int, typer.Option(help="Processes that answer on the port; they share the bundle's memory.", min=1)
    ] = 1,
    threads: Annotated[int, typer.Option(help="Threads for the model and slow generators.")] = 1,
    exercise_share: Annotated[
        float,
        typer.Option(
            help="Part of users' calls answered from each lower rung on purpose, so that it is known to work."
        ),
    ] = 0.005,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port on which Prometheus finds /metrics; 0 takes a free one.")
    ] = None,
    otlp: Annotated[
        str | None, typer.Option(help="Collector for metrics and spans over OTLP, http://host:4317.")
    ] = None,
    trace_share: Annotated[
        float, typer.Option(help="Part of the calls without a caller's trace that are traced.")
    ] = 0.01,
    lame_duck_s: Annotated[
        float,
        typer.Option(
            help="How long calls are answered on after SIGTERM while health says NOT_SERVING, seconds; "
            "a second signal ends it."
        ),
    ] = 5.0,
    max_connection_age_s: Annotated[
        float,
        typer.Option(
            help="Age at which a connection is closed, gracefully; a worker is replaced within about that time."
        ),
    ] = 30.0,
    repeats_on: Annotated[
        list[str],
        typer.Option(help="A surface where items of the user's past may come back; may be given several times."),
    ] = [],  # noqa: B006
    precomputed_first: Annotated[
        list[str],
        typer.Option(
            help="A surface that takes the precomputed list of a user who has one, without asking the model; "
            "may be given several times."
        ),
    ] = [],  # noqa: B006
    refresh_share: Annotated[
        float,
        typer.Option(help="Part of the DEEP answers after which the user's precomputed list is written anew."),
    ] = 0.0,
) -> None:
    """Serve the newest bundle that can be used over gRPC.

    Stops cleanly on Ctrl-C and SIGTERM: health says NOT_SERVING, calls are answered for a few seconds more (press
    Ctrl-C again to skip them), then calls in flight are finished.
    """
    # Until the server has handlers of its own; the first process of a container would ignore the signal otherwise.
    # Nothing is open yet, and an exception while a native module is imported would become an ImportError.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from server.release.bundle_store import open_store
    from server.release.host import OneBundle, run
    from server.settings import Settings
    from server.signature import trusted

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    keys = trusted(public_key)
    served = OneBundle(bundle, keys) if bundle else open_store(bundles, cache, round(max_cache_gb * 1e9))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with user_store(store_url, store_url_file, data) as url:
        try:
            settings = Settings(
                host=host,
                port=port,
                store_url=url,
                namespace=namespace,
                default_deadline_ms=default_deadline_ms,
                max_request_ms=max_request_ms,
                threads=threads,
                exercise_share=exercise_share,
                metrics_port=metrics_port,
                otlp_endpoint=otlp,
                trace_share=trace_share,
                lame_duck_s=lame_duck_s,
                max_connection_age_s=max_connection_age_s,
                public_keys=[str(path.absolute()) for path in public_key],
                surfaces=dict.fromkeys(repeats_on, True),
                precomputed_first=precomputed_first,
                refresh_share=refresh_share,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        code = run(
            settings,
            workers,
            served,
            on_ready=lambda version, bound: typer.echo(f"serving {version} on {host}:{bound}"),
            release_copy=data / f"release-{namespace}.json" if bundle is None else None,
        )
        for number in (signal.SIGTERM, signal.SIGINT):  # an embedded store writes its data now
            signal.signal(number, signal.SIG_IGN)
    raise typer.Exit(code)
