"""`pulsewire task`: look at tasks, run, archive, delete and cancel them, by their ids or all of a state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import typer

import pulsewire
from pulsewire.cli import describe_tasks, render, task_enqueue
from pulsewire.cli.confirm import confirm
from pulsewire.cli.describe_queues import STATES, count_of
from pulsewire.cli.options import AsJson, NamespaceOption, Page, PageSize, UrlOption
from pulsewire.cli.outcomes import Outcomes, found_ones
from pulsewire.cli.queue import queue_infos
from pulsewire.cli.running import Signals, run
from pulsewire.cli.task_places import queue_of
from pulsewire.errors import QueueNotFound, WrongState
from pulsewire.tasks import Inspector, QueueInfo, TaskInfo, TaskState

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Enqueue tasks, look at them, run, archive, delete and cancel them.",
)
task_enqueue.register(app)

Ids = Annotated[
    list[str] | None, typer.Argument(help="Which tasks.", metavar="ID", show_default="none")
]
Queue = Annotated[
    str | None, typer.Option("--queue", "-q", show_default="any that has it", help="The queue.")
]
Group = Annotated[
    str | None,
    typer.Option("--group", "-g", show_default="all groups", help="With --state aggregating."),
]
All = Annotated[
    bool, typer.Option("--all", help="All tasks of --queue that are in --state, instead of ids.")
]
WholeState = Annotated[
    TaskState | None, typer.Option("--state", "-s", show_default=False, help="With --all.")
]


@dataclass(frozen=True, slots=True)
class _Pages:
    """Which page of a list, and how long a page is."""

    page: int
    size: int


_CANCELLED_AT_ONCE = 500
"""Active tasks that `cancel --all` reads at a time."""


# --- looking


@app.command("list", hidden=True)
@app.command("ls")
def list_tasks(
    *,
    queue: Annotated[
        str | None, typer.Option("--queue", "-q", show_default="all queues", help="The queue.")
    ] = None,
    state: Annotated[
        TaskState | None,
        typer.Option("--state", "-s", show_default="all states", help="The state."),
    ] = None,
    group: Group = None,
    page: Page = 1,
    size: PageSize = 30,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """List tasks, with what matters in their state. Pages are counted for each state of each queue. Also `list`."""
    if group is not None:
        state = _aggregating(state)
    pages = _Pages(page, size)

    async def look(hub: pulsewire.Hub, inspector: Inspector) -> int:
        if queue is None:
            infos = await queue_infos(inspector)
        else:
            infos = [await inspector.queue_info(queue, with_memory=False)]
        wanted = STATES if state is None else (state,)
        found = [
            ((info, one), tasks)
            for info in infos
            for one in wanted
            if count_of(info, one)
            and (tasks := await _page(inspector, info.name, one, group, pages))
        ]
        if as_json:
            data = [describe_tasks.task_as_data(task) for _, tasks in found for task in tasks]
            render.json_document(data)
            return 0
        _show_places(found, await hub.time(), page)
        if not found:
            kind = "tasks" if state is None else f"{state} tasks"
            where = "" if queue is None else f" in queue {queue!r}"
            in_group = "" if group is None else f" in group {group!r}"
            on_page = "" if page == 1 else f" on page {page}"
            render.say(f"no {kind}{where}{in_group}{on_page}")
        return 0

    _at(look, url, namespace)


@app.command()
def inspect(
    ids: Annotated[list[str], typer.Argument(help="Which tasks.", metavar="ID")],
    *,
    queue: Queue = None,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Show all that is known of tasks, with payload and result."""

    async def look(hub: pulsewire.Hub, inspector: Inspector) -> int:
        async def ask(task_id: str) -> TaskInfo:
            return await inspector.task(await queue_of(inspector, task_id, queue), task_id)

        found, exit_code = await found_ones(ids, ask)
        if as_json:
            render.json_document([describe_tasks.task_as_data(task) for task in found])
            return exit_code
        now = await hub.time()
        for number, task in enumerate(found):
            if number:
                render.say()
            describe_tasks.show_task(task, now)
        return exit_code

    _at(look, url, namespace)


# --- acting


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which tasks a command is about: some by their ids, or all of a state. Checks itself."""

    ids: list[str]
    queue: str | None
    are_all: bool
    state: TaskState | None
    group: str | None

    def __post_init__(self) -> None:
        if self.ids and (self.are_all or self.state is not None or self.group is not None):
            raise typer.BadParameter("give ids, or --all, not both", param_hint="ID")
        if not self.ids and not self.are_all:
            raise typer.BadParameter("name tasks, or give --all", param_hint="ID")
        if self.are_all and self.queue is None:
            raise typer.BadParameter("missing: --all is of one queue", param_hint="--queue")
        if self.group is not None:
            _aggregating(self.state)

    @property
    def whole(self) -> tuple[str, TaskState]:
        """Queue and state of all that are chosen."""
        if self.queue is None:
            raise AssertionError("checked above")
        if self.state is None:
            raise typer.BadParameter("missing: --all is of one state", param_hint="--state")
        return self.queue, self.state


@dataclass(frozen=True, slots=True)
class _Operation:
    """Something to do with tasks.

    Attributes:
        done: what they are afterwards, in words.
        one: does it to one.
        whole: does it to all of a state, or of a group; how many it were.
    """

    done: str
    one: Callable[[Inspector, str, str], Awaitable[None]]
    whole: Callable[[Inspector, str, TaskState, str | None], Awaitable[int]]


_RUN = _Operation(
    "now pending",
    lambda inspector, queue, task_id: inspector.run_task(queue, task_id),
    lambda inspector, queue, state, group: inspector.run_all(queue, state, group=group),
)
_ARCHIVE = _Operation(
    "archived",
    lambda inspector, queue, task_id: inspector.archive_task(queue, task_id),
    lambda inspector, queue, state, group: inspector.archive_all(queue, state, group=group),
)
_DELETE = _Operation(
    "deleted",
    lambda inspector, queue, task_id: inspector.delete_task(queue, task_id),
    lambda inspector, queue, state, group: inspector.delete_all(queue, state, group=group),
)


@app.command("run")
def run_tasks(
    ids: Ids = None,
    *,
    queue: Queue = None,
    are_all: All = False,
    state: WholeState = None,
    group: Group = None,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Have tasks run now that wait for their time, for a retry, in a group, or are archived or completed."""
    _do(_RUN, _Choice(ids or [], queue, are_all, state, group), url, namespace, as_json=as_json)


@app.command()
def archive(
    ids: Ids = None,
    *,
    queue: Queue = None,
    are_all: All = False,
    state: WholeState = None,
    group: Group = None,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Put tasks aside that are not active. They are kept for 90 days, and can be run again."""
    _do(_ARCHIVE, _Choice(ids or [], queue, are_all, state, group), url, namespace, as_json=as_json)


@app.command("rm", hidden=True)
@app.command("remove", hidden=True)
@app.command()
def delete(
    ids: Ids = None,
    *,
    queue: Queue = None,
    are_all: All = False,
    state: WholeState = None,
    group: Group = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, with --all.")] = False,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Delete tasks that are not active, and release the unique locks that they hold. Also `rm` and `remove`."""
    choice = _Choice(ids or [], queue, are_all, state, group)
    if are_all:
        in_queue, in_state = choice.whole
        confirm(
            f"Delete all {in_state} tasks of queue {in_queue!r}?",
            yes=yes,
            refusal="this deletes tasks for good: add --yes",
            about="--all",
        )
    _do(_DELETE, choice, url, namespace, as_json=as_json)


@app.command()
def cancel(
    ids: Ids = None,
    *,
    queue: Queue = None,
    are_all: Annotated[
        bool, typer.Option("--all", help="All active tasks of --queue, instead of ids.")
    ] = False,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Have the servers cancel the attempts of active tasks. It counts as a failure: they are tried again later."""
    choice = _Choice(ids or [], queue, are_all, None, None)

    async def act(_: pulsewire.Hub, inspector: Inspector) -> int:
        outcomes = Outcomes(as_json=as_json)
        wanted = choice.ids
        if choice.are_all and choice.queue is not None:
            wanted = await _all_active(inspector, choice.queue)
            if not wanted and not as_json:
                render.say(f"no active tasks in queue {choice.queue!r}")
        for task_id in wanted:
            with outcomes.of(id=task_id):
                if not choice.are_all:
                    await _check_active(inspector, task_id, choice.queue)
                await inspector.cancel(task_id)
                line = f"sent cancellation signal for task {render.readable(task_id)}"
                outcomes.done(line, id=task_id)
        return outcomes.finish()

    _at(act, url, namespace)


# --- shared by several


def _at(
    act: Callable[[pulsewire.Hub, Inspector], Awaitable[int]], url: str | None, namespace: str
) -> None:
    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            return await act(hub, hub.tasks.inspector)

    run(command)


def _do(
    operation: _Operation, choice: _Choice, url: str | None, namespace: str, *, as_json: bool
) -> None:
    """Do something to the tasks that were chosen, and tell what became of it."""
    whole = choice.whole if choice.are_all else None

    async def act(_: pulsewire.Hub, inspector: Inspector) -> int:
        outcomes = Outcomes(as_json=as_json)
        if whole is not None:
            count = await _do_whole(operation, inspector, *whole, choice.group)
            queue, state = whole
            line = f"{count:,} {state} tasks of queue {queue!r} are {operation.done}"
            if as_json:
                render.json_document({"queue": queue, "state": state, "count": count})
            else:
                render.say(line)
            return 0
        for task_id in choice.ids:
            with outcomes.of(id=task_id):
                queue = await queue_of(inspector, task_id, choice.queue)
                await operation.one(inspector, queue, task_id)
                line = f"task {render.readable(task_id)} of queue {queue!r} is {operation.done}"
                outcomes.done(line, id=task_id, queue=queue)
        return outcomes.finish()

    _at(act, url, namespace)


async def _do_whole(
    operation: _Operation, inspector: Inspector, queue: str, state: TaskState, group: str | None
) -> int:
    if state is not TaskState.AGGREGATING or group is not None:
        return await operation.whole(inspector, queue, state, group)
    if queue not in await inspector.queues():
        raise QueueNotFound(queue)
    groups = await inspector.groups(queue)
    return sum([await operation.whole(inspector, queue, state, one.name) for one in groups])


async def _page(
    inspector: Inspector, queue: str, state: TaskState, group: str | None, pages: _Pages
) -> list[TaskInfo]:
    """The tasks on a page of a state; of all groups as if they were one list, where none was named."""
    page, size = pages.page, pages.size
    if state is not TaskState.AGGREGATING or group is not None:
        return await inspector.tasks(queue, state, group=group, page=page, size=size)
    tasks: list[TaskInfo] = []
    for one in await inspector.groups(queue):
        if len(tasks) >= page * size:
            break
        tasks += await inspector.tasks(queue, state, group=one.name, size=page * size)
    return tasks[(page - 1) * size : page * size]


def _show_places(
    found: list[tuple[tuple[QueueInfo, TaskState], list[TaskInfo]]], now: float, page: int
) -> None:
    for number, ((info, state), tasks) in enumerate(found):
        if number:
            render.say()
        count = count_of(info, state)
        shown = "" if count == len(tasks) else f", {len(tasks):,} of them on page {page}"
        render.say(f"{render.readable(info.name)}: {count:,} {state}{shown}")
        describe_tasks.show_tasks(state, tasks, now)


async def _all_active(inspector: Inspector, queue: str) -> list[str]:
    found: list[str] = []
    while True:
        page = len(found) // _CANCELLED_AT_ONCE + 1
        tasks = await inspector.tasks(queue, TaskState.ACTIVE, page=page, size=_CANCELLED_AT_ONCE)
        found += [task.id for task in tasks]
        if len(tasks) < _CANCELLED_AT_ONCE:
            return found


async def _check_active(inspector: Inspector, task_id: str, queue: str | None) -> None:
    """Nobody answers a request to cancel: so what cannot be cancelled is said here."""
    task = await inspector.task(await queue_of(inspector, task_id, queue), task_id)
    if task.state is not TaskState.ACTIVE:
        raise WrongState(task.queue, task_id, task.state, "cancel")


def _aggregating(state: TaskState | None) -> TaskState:
    if state not in (None, TaskState.AGGREGATING):
        raise typer.BadParameter("only aggregating tasks are in groups", param_hint="--group")
    return TaskState.AGGREGATING
