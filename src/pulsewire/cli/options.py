"""Options that several commands share, and what several options share: each written once."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "URL_VARIABLE",
    "AsJson",
    "NamespaceOption",
    "Page",
    "PageSize",
    "PlainStream",
    "UrlOption",
    "pairs",
]

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

Page = Annotated[int, typer.Option("--page", min=1, help="Which page, counted from 1.")]
PageSize = Annotated[int, typer.Option("--size", min=1, help="How many on a page.")]


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """Return what was given as NAME=VALUE, once or several times.

    Raises:
        typer.BadParameter: One is not of that form.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        found[name] = value
    return found
