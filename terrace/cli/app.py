"""Which commands there are, and how their failures are shown."""

from __future__ import annotations

import sys

import typer

from core.manifest import BundleError
from core.precompute_record import PrecomputeError
from offline.errors import InputError
from server.release.bundle_copy import BundleStoreError
from server.store.embedded import StoreError
from terrace.cli import ask, build, bundle, compare, demo, ingest, precompute, quality, release, serve
from terrace.cli.output import UNREACHABLE, print_error

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Terrace: recommendations that arrive in time, whatever breaks.

A first tour: `terrace demo`. With your own data:

1. `terrace build --events events.parquet --items items.parquet` reads, reports, trains, evaluates and publishes a bundle

2. `terrace ingest --events events.parquet --items items.parquet` loads what users did into the store

3. `terrace serve` answers from the newest bundle

4. `terrace recommend USER` asks as a client would
""",
)
app.command("demo")(demo.demo)
app.command("build")(build.build)
app.command("evaluate")(build.evaluate)
app.command("compare")(compare.compare)
app.command("quality")(quality.quality)
app.command("serve")(serve.serve)
app.command("ingest")(ingest.ingest)
app.add_typer(precompute.app, name="precompute")
app.command("recommend")(ask.recommend)
app.command("similar")(ask.similar)
app.add_typer(bundle.app, name="bundle")
app.add_typer(release.app, name="release")

BAD_INPUT = 2
_OFFLINE = frozenset({"duckdb", "ibis", "jinja2", "markupsafe", "onnxscript", "pyarrow", "scipy", "sklearn", "torch"})
"""Modules of the dependency group ``offline``, which a machine that only serves does not have."""


def main() -> None:
    """Run the command line; what the user can mend is one message and exit code 2 (3: a store), never a traceback."""
    try:
        app()
    except BundleStoreError as error:
        print_error(error)
        sys.exit(UNREACHABLE)
    except (BundleError, InputError, PrecomputeError, StoreError) as error:
        print_error(error)
        sys.exit(BAD_INPUT)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _OFFLINE:
            raise
        print_error(
            f"{missing} is not installed: this command needs more than serving does. In a checkout of Terrace: "
            "pip install --group offline ."
        )
        sys.exit(BAD_INPUT)
