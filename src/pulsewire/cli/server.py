"""`pulsewire server`: the embedded server that the programs of one user share, and the servers that run tasks.

`run`, `status` and `stop` are about the first, `ls` is about the others: that is where asynq's users look for it.
"""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
import typer

import pulsewire
from pulsewire import embedded
from pulsewire.cli import describe_tasks, render
from pulsewire.cli.failures import FAILED
from pulsewire.cli.options import AsJson, NamespaceOption, UrlOption
from pulsewire.cli.running import Signals, run

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="The embedded Redis server: run it, see it, stop it. And `ls`: the servers that run tasks.",
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
    as_json: AsJson = False,
    home: HomeOption = None,
) -> None:
    """Stop the embedded server, whoever uses it. Its data stay."""

    async def command(_: Signals) -> None:
        stopped = await anyio.to_thread.run_sync(partial(embedded.stop, home, timeout=timeout))
        words = "stopped" if stopped else "it did not run"
        render.outcome({"stopped": stopped}, words, as_json=as_json)

    run(command)


@app.command("list", hidden=True)
@app.command("ls")
def list_servers(
    *,
    tasks: Annotated[bool, typer.Option("--tasks", help="The tasks that they run, too.")] = False,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """List the task servers, ours and Go's: where they run, their state, how busy they are, their queues. Also `list`.

    This is not about the embedded Redis server. A server whose process was killed is listed for 10 seconds more.
    """

    async def command(_: Signals) -> None:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            found, now = await hub.tasks.inspector.servers(), await hub.time()
        if as_json:
            render.json_document([describe_tasks.server_as_data(server) for server in found])
        elif not found:
            render.say("no servers run tasks")
        else:
            describe_tasks.show_servers(found, now)
            workers = [worker for server in found for worker in server.workers]
            if tasks and workers:
                render.say()
                describe_tasks.show_workers(workers, now)

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
