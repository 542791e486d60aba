"""`pulsewire group`: the groups of tasks that wait to be aggregated."""

from __future__ import annotations

from typing import Annotated

import typer

import pulsewire
from pulsewire.cli import describe_queues, render
from pulsewire.cli.asking import ask_each
from pulsewire.cli.options import AsJson, NamespaceOption, UrlOption
from pulsewire.cli.running import Signals, run
from pulsewire.errors import QueueNotFound

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Look at groups of tasks, which wait to be aggregated."
)


@app.command("list", hidden=True)
@app.command("ls")
def list_groups(
    *,
    queue: Annotated[
        str | None,
        typer.Option("--queue", "-q", show_default="all queues", help="Only of this queue."),
    ] = None,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """List the groups with their sizes. `task ls --group` shows their members. Also `list`."""

    async def command(_: Signals) -> None:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            inspector = hub.tasks.inspector
            queues = await inspector.queues()
            if queue is not None:
                if queue not in queues:
                    raise QueueNotFound(queue)
                queues = [queue]
            answers = await ask_each(queues, inspector.groups)
        found = [(name, one) for name, of in zip(queues, answers, strict=True) for one in of]
        if as_json:
            render.json_document([describe_queues.group_as_data(*pair) for pair in found])
        elif found:
            describe_queues.show_groups(found)
        else:
            render.say("no groups" if queue is None else f"no groups in queue {queue!r}")

    run(command)
