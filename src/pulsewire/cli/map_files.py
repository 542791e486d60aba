"""`pulsewire map export|import`: carry maps to files and back. The document itself: `map_document.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import pulsewire
from pulsewire.cli import describe, files, render
from pulsewire.cli.failures import FAILED
from pulsewire.cli.map_access import delete_each, missing, open_map, whole_of
from pulsewire.cli.map_document import BadDocument, as_document, differences, read_document
from pulsewire.cli.options import AsJson, NamespaceOption, UrlOption
from pulsewire.cli.running import Signals, run

__all__ = ["register"]

_Name = Annotated[str, typer.Argument(help="The map.", metavar="NAME")]


def register(app: typer.Typer) -> None:
    """Add the commands `export` and `import`."""
    app.command("export")(export_map)
    app.command("import")(import_map)


def export_map(
    name: _Name,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            show_default="standard output",
            help="Write to this file.",
            metavar="FILE",
        ),
    ] = None,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Write a whole map, of one revision, as a JSON document. Values that are not text become base64."""

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            revision, entries = await whole_of(hub, name)
        if not revision and not entries:
            return missing(name)
        document = as_document(name, revision, entries)
        if output is None:
            render.json_document(document)
            return 0
        try:
            files.write_whole(output, render.as_json(document) + "\n")
        except OSError as error:
            render.fail(f"{output} cannot be written: {error.strerror}", "Name another file.")
            return FAILED
        render.say(f"exported {len(entries):,} keys at revision {revision:,} to {output}")
        return 0

    run(command)


def import_map(
    name: _Name,
    file: Annotated[
        Path,
        typer.Argument(help="What `export` has written; - reads standard input.", metavar="FILE"),
    ],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also remove keys that are not in the file.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Make a map hold what a file says. Only what differs is written.

    The whole file is checked before anything is written. Each key is then a change of its own: readers may see some
    of them before others, and what an interrupted import has not reached, the next one does.
    """
    wanted = _read(file)

    async def command(_: Signals) -> None:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            _revision, now = await whole_of(hub, name)
            found = differences(now, wanted, replace=replace)
            if not dry_run:
                target = open_map(hub, name)
                await target.set_many(found.to_set)
                await delete_each(target, found.removed)
        if as_json:
            render.json_document(describe.differences_as_data(found, dry_run=dry_run))
            return
        if dry_run:
            for line in describe.difference_lines(found):
                render.say(line)
        counts = (
            f"{len(found.added):,} added, {len(found.changed):,} changed, "
            f"{len(found.removed):,} removed, {found.unchanged:,} unchanged"
        )
        render.say(f"would be: {counts}" if dry_run else counts)

    run(command)


def _read(file: Path) -> dict[str, bytes]:
    try:
        return read_document(files.read_text(file))
    except BadDocument as error:
        raise typer.BadParameter(f"{file}: {error}", param_hint="FILE") from error
