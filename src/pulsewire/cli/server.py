"""`pulsewire server run|status|stop`: the embedded server that the programs of one user share."""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
import typer

from pulsewire import embedded
from pulsewire.cli import render
from pulsewire.cli.failures import FAILED
from pulsewire.cli.options import AsJson
from pulsewire.cli.running import Signals, run

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="The embedded server: it starts by itself, and ends some seconds after its last user.",
)

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar="PULSEWIRE_HOME",
        show_default="your data folder",
        help="The folder with its data.",
        metavar="FOLDER",
    ),
]


@app.command("run")
def hold(
    *,
    ephemeral: Annotated[
        bool,
        typer.Option("--ephemeral", help="A private one instead, gone without a trace at the end."),
    ] = False,
    home: HomeOption = None,
) -> None:
    """Keep the embedded server running until Ctrl-C, and say where it is.

    Programs start it by themselves. This is for others, which know a URL only.
    """

    async def command(_: Signals) -> int:
        async with await embedded.attach(home=home, ephemeral=ephemeral) as server:
            render.say(f"listening at {server.url}, data in {server.data_dir}, Ctrl-C ends it")
            while True:
                await server.wait_lost()
                if server.was_stopped:
                    render.fail("the server was stopped by somebody else")
                    return FAILED
                await server.reattach()
                render.say(f"listening again at {server.url}")

    run(command)


@app.command()
def status(*, as_json: AsJson = False, home: HomeOption = None) -> None:
    """Say whether the embedded server runs, where, and for whom. Exits with 1 when it does not."""

    async def command(_: Signals) -> int:
        found = await anyio.to_thread.run_sync(embedded.status, home)
        if as_json:
            render.json_document(None if found is None else dataclasses.asdict(found))
        elif found is None:
            render.say(
                "the embedded server does not run; it starts by itself when a program needs it"
            )
        else:
            _show(found)
        return FAILED if found is None else 0

    run(command)


@app.command()
def stop(
    *,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds it may take.")] = 10.0,
    home: HomeOption = None,
) -> None:
    """Stop the embedded server, whoever uses it. Its data stay."""

    async def command(_: Signals) -> None:
        stopped = await anyio.to_thread.run_sync(partial(embedded.stop, home, timeout=timeout))
        render.say("stopped" if stopped else "it did not run")

    run(command)


def _show(found: embedded.KeeperStatus) -> None:
    render.fields(
        {
            "url": found.url,
            "server": found.version,
            "pid": "starting again" if found.server_pid is None else str(found.server_pid),
            "keeper pid": str(found.pid),
            "clients": render.how_many(found.clients),
            "running for": render.how_long(found.uptime),
            "data": f"{os.fspath(found.data_dir)}{'' if found.persistent else ' (ephemeral)'}",
        }
    )
