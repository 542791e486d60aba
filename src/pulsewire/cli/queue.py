"""`pulsewire queue`: which queues there are, what they hold, where they are; pause them, and remove them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import Annotated, TypeVar

import typer

import pulsewire
from pulsewire.cli import describe_queues, render
from pulsewire.cli.asking import ask_each
from pulsewire.cli.failures import FAILED
from pulsewire.cli.options import AsJson, NamespaceOption, UrlOption
from pulsewire.cli.outcomes import Outcomes, found_ones
from pulsewire.cli.running import Signals, run
from pulsewire.errors import QueueNotFound
from pulsewire.tasks import Inspector, QueueInfo

__all__ = ["app", "queue_infos"]

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    help="Look at the queues of tasks, and where they are on a cluster; pause and remove them.",
)

Queues = Annotated[list[str], typer.Argument(help="Which queues.", metavar="QUEUE")]


# --- looking


@app.command("list", hidden=True)
@app.command("ls")
def list_queues(
    pattern: Annotated[str, typer.Argument(help="Names with * and ?.")] = "*",
    *,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Where they are: the slot of each, and the nodes with it."),
    ] = False,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """List the queues: tasks by state, how long the next one has waited, whether a queue is paused. Also `list`."""

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            if cluster:
                return await _list_placements(hub, pattern, as_json=as_json)
            infos = await queue_infos(hub.tasks.inspector, pattern)
        if as_json:
            render.json_document([describe_queues.queue_as_data(info) for info in infos])
        elif infos:
            describe_queues.show_queues(infos)
        else:
            render.say("no queues")
        return 0

    run(command)


async def _list_placements(hub: pulsewire.Hub, pattern: str, *, as_json: bool) -> int:
    if hub.server.topology != "cluster":
        render.fail(
            f"{hub.url} is not a cluster: all queues are on one server",
            "Name the nodes of a cluster: --url redis+cluster://host:port,host:port.",
        )
        return FAILED
    inspector = hub.tasks.inspector
    names = _matching(await inspector.queues(), pattern)
    placements = await ask_each(names, inspector.placement)
    if as_json:
        render.json_document([describe_queues.placement_as_data(one) for one in placements])
    elif placements:
        describe_queues.show_placements(placements)
    else:
        render.say("no queues")
    return 0


@app.command()
def inspect(
    queues: Queues,
    *,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Show queues: what they hold, how long the next task has waited, memory, and what became of today's tasks."""

    async def look(inspector: Inspector) -> int:
        infos, exit_code = await found_ones(queues, inspector.queue_info)
        if as_json:
            render.json_document([describe_queues.queue_as_data(info) for info in infos])
            return exit_code
        for number, info in enumerate(infos):
            if number:
                render.say()
            describe_queues.show_queue(info)
        return exit_code

    _at(look, url, namespace)


@app.command()
def history(
    queues: Queues,
    *,
    days: Annotated[int, typer.Option("--days", "-x", min=1, help="How many, with today.")] = 10,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Show how many tasks were processed, and failed, on each of the last days."""

    async def look(inspector: Inspector) -> int:
        found, exit_code = await found_ones(queues, lambda name: inspector.history(name, days))
        lines = [day for queue in found for day in queue]
        if as_json:
            render.json_document([describe_queues.history_as_data(day) for day in lines])
        elif lines:
            describe_queues.show_history(lines)
        return exit_code

    _at(look, url, namespace)


# --- acting


@app.command()
def pause(
    queues: Queues,
    *,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Have servers take no tasks of a queue. Those that run go on, and so does enqueuing."""

    async def act(inspector: Inspector, queue: str) -> str:
        await inspector.queue_info(queue, with_memory=False)  # a misspelt one would be paused, too
        await inspector.pause(queue)
        return f"paused queue {queue!r}"

    _for_each(queues, act, url, namespace, as_json=as_json)


@app.command("resume", hidden=True)
@app.command()
def unpause(
    queues: Queues,
    *,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Have servers take tasks of a queue again. Also `resume`."""

    async def act(inspector: Inspector, queue: str) -> str:
        await inspector.unpause(queue)
        return f"unpaused queue {queue!r}"

    _for_each(queues, act, url, namespace, as_json=as_json)


@app.command("remove", hidden=True)
@app.command("delete", hidden=True)
@app.command()
def rm(
    queues: Queues,
    *,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="With all their tasks, unless some are active.")
    ] = False,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Remove queues that are empty, and what they have counted. Also `remove` and `delete`."""

    async def act(inspector: Inspector, queue: str) -> str:
        await inspector.remove_queue(queue, force=force)
        return f"removed queue {queue!r}"

    _for_each(queues, act, url, namespace, as_json=as_json)


# --- shared by several


async def queue_infos(inspector: Inspector, pattern: str = "*") -> list[QueueInfo]:
    """Return what is known of the queues whose names match, but for their memory, which takes long to estimate."""

    async def ask(name: str) -> QueueInfo | None:
        try:
            return await inspector.queue_info(name, with_memory=False)
        except QueueNotFound:  # removed meanwhile
            return None

    found = await ask_each(_matching(await inspector.queues(), pattern), ask)
    return [info for info in found if info is not None]


def _matching(names: list[str], pattern: str) -> list[str]:
    return [name for name in names if fnmatchcase(name, pattern)]


def _at(look: Callable[[Inspector], Awaitable[int]], url: str | None, namespace: str) -> None:
    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            return await look(hub.tasks.inspector)

    run(command)


def _for_each(
    queues: list[str],
    act: Callable[[Inspector, str], Awaitable[str]],
    url: str | None,
    namespace: str,
    *,
    as_json: bool,
) -> None:
    """Do something with each queue, and tell what became of it."""

    async def each(inspector: Inspector) -> int:
        outcomes = Outcomes(as_json=as_json)
        for queue in queues:
            with outcomes.of(queue=queue):
                outcomes.done(await act(inspector, queue), queue=queue)
        return outcomes.finish()

    _at(each, url, namespace)
