"""Options that commands of `terrace release` share."""

from __future__ import annotations

from typing import Annotated

import typer

Version = Annotated[str, typer.Argument(help="Version of a bundle.")]
By = Annotated[
    str | None,
    typer.Option(envvar="TERRACE_BY", show_default=False, help="Who makes the change. Default: user@host."),
]
Known = Annotated[
    str | None,
    typer.Option("--bundles", help="Folder or URL of bundles to look in; without it replicas find out."),
]
