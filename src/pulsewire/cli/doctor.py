"""`pulsewire doctor`: whether the servers and what lies there are well, what to do, and mending what is safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.progress import Progress

import pulsewire
from pulsewire.cli import describe, render
from pulsewire.cli.failures import FAILED
from pulsewire.cli.options import AsJson, NamespaceOption, UrlOption
from pulsewire.cli.running import Signals, run
from pulsewire.doctor import Diagnosis, Finding, Level, examine

__all__ = ["register"]

_STYLES = {Level.OK: "green", Level.UNKNOWN: "cyan", Level.WARN: "yellow", Level.RED: "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command `doctor`."""
    app.command()(doctor)


def doctor(
    *,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Mend what is safe to mend while programs run, and say what was."
        ),
    ] = False,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Examine the servers and all that lies there: what is wrong, what to do. Exit code 1 if anything is red."""

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            server = f"{describe.server_name(hub)} ({hub.server.topology}) at {hub.url}"
            with _progress() as progress:
                diagnosis = await examine(hub, repair=repair, progress=progress)
        if as_json:
            render.json_document({"server": server, **diagnosis.as_data()})
        else:
            _show(server, diagnosis)
        return 0 if diagnosis.is_well else FAILED

    run(command)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar where a person watches."""
    if not render.err.is_terminal:
        yield lambda _what, _done, _total: None
        return
    with Progress(console=render.err, transient=True) as bars:
        bar = bars.add_task("", total=None)

        def show(what: str, done: int, total: int) -> None:
            bars.update(bar, description=what, completed=done, total=total or None)

        yield show


def _show(server: str, diagnosis: Diagnosis) -> None:
    render.say(server)
    for finding in diagnosis.findings:
        _show_finding(finding)
    counts = [f"{len(diagnosis.of(level))} {level}" for level in (Level.RED, Level.WARN)]
    unknown = len(diagnosis.of(Level.UNKNOWN))
    counts += [f"{unknown} unknown"] if unknown else []
    mended = f"; {diagnosis.mended} mended" if diagnosis.mended else ""
    render.say()
    verdict = "well" if diagnosis.is_well else "not well"
    render.say(
        f"{verdict}: {', '.join(counts)}{mended}",
        _STYLES[Level.OK if diagnosis.is_well else Level.RED],
    )


def _show_finding(finding: Finding) -> None:
    where = f" {finding.where}" if finding.where else ""
    count = f"{finding.count:,} " if finding.count and finding.examples else ""
    line = f"{finding.level.value.upper():<8}{finding.check}{where}: {count}{finding.what}"
    render.say(line, _STYLES[finding.level])
    if finding.do:
        render.say(f"        do: {finding.do}")
    if finding.examples:
        shown = ", ".join(render.readable(example) for example in finding.examples)
        more = " ..." if finding.count > len(finding.examples) else ""
        render.say(f"        such as: {shown}{more}")
