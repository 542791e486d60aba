"""The program `pulsewire`: puts the commands of the other files together, and has the few that belong to none."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated

import typer

import pulsewire
from pulsewire.cli import (
    cron,
    describe,
    doctor,
    group,
    pool,
    queue,
    render,
    server,
    stats,
    stream,
    task,
    ticket_commands,
    worker,
)
from pulsewire.cli import map as map_commands
from pulsewire.cli.chaos import command as chaos_command
from pulsewire.cli.demo import command as demo_command
from pulsewire.cli.options import AsJson, NamespaceOption, UrlOption
from pulsewire.cli.running import Signals, run

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    # Frames and colours in help and usage errors only where somebody looks at them.
    rich_markup_mode="rich" if sys.stderr.isatty() and sys.stdout.isatty() else None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Event streams, replicated maps, worker pools and task queues for Python services that run on Redis or "
    "Valkey, or on nothing: the server comes along.",
)
demo_command.register(app)
chaos_command.register(app)
app.add_typer(ticket_commands.app, name="tickets")
app.add_typer(stream.app, name="stream")
app.add_typer(map_commands.app, name="map")
app.add_typer(pool.app, name="pool")
app.add_typer(queue.app, name="queue")
app.add_typer(task.app, name="task")
app.add_typer(group.app, name="group")
app.add_typer(cron.app, name="cron")
stats.register(app)
doctor.register(app)
worker.register(app)
app.add_typer(server.app, name="server")


def _version() -> str:
    try:
        return importlib.metadata.version("pulsewire")
    except importlib.metadata.PackageNotFoundError:
        return "(run from its source, not installed)"


def _print_version(wanted: bool) -> None:
    if wanted:
        render.say(f"pulsewire {_version()}")
        raise typer.Exit


@app.callback()
def top(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take the options that come before a command; `--version` does its work while they are read."""


@app.command()
def ping(
    *, as_json: AsJson = False, url: UrlOption = None, namespace: NamespaceOption = ""
) -> None:
    """Say which server answers, and how fast."""

    async def command(_: Signals) -> None:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            seconds = await hub.ping()
            found, address = hub.server, hub.url
            server_name = describe.server_name(hub)
        if as_json:
            version = ".".join(str(part) for part in found.version)
            render.json_document(
                {
                    "url": address,
                    "kind": found.kind,
                    "version": version,
                    "topology": found.topology,
                    "seconds": seconds,
                }
            )
        else:
            render.say(
                f"{server_name} ({found.topology}) at {address} answered in {render.how_long(seconds)}"
            )

    run(command)


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        app(prog_name="pulsewire")
    except KeyboardInterrupt:
        # Before or after the event loop, where `running` does not listen yet.
        sys.exit(130)
