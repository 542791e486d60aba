"""Options that several commands share, each written once."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["URL_VARIABLE", "AsJson", "NamespaceOption", "PlainStream", "UrlOption"]

URL_VARIABLE = "PULSEWIRE_URL"
"""Environment variable that names the server when `--url` does not; `pulsewire.connect()` reads the same one."""

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar=URL_VARIABLE,
        show_default="the embedded server",
        help="The server: redis://, rediss://, valkey://, unix://, redis+cluster://, redis+sentinel://.",
        metavar="URL",
    ),
]

NamespaceOption = Annotated[
    str,
    typer.Option("--namespace", show_default="none", help="Prefix of every key.", metavar="NAME"),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

PlainStream = Annotated[
    bool,
    typer.Option(
        "--plain",
        help="NAME is the whole key of a Redis stream that other programs write, with any fields.",
    ),
]
