"""`pulsewire cron`: the periodic tasks of the schedulers that run, and what they have enqueued."""

from __future__ import annotations

from typing import Annotated

import typer

import pulsewire
from pulsewire.cli import describe_tasks, render
from pulsewire.cli.options import AsJson, NamespaceOption, Page, PageSize, UrlOption
from pulsewire.cli.outcomes import found_ones
from pulsewire.cli.running import Signals, run
from pulsewire.errors import EntryNotFound
from pulsewire.tasks import EnqueueEvent, Inspector

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Look at periodic tasks, and at what they have enqueued."
)


@app.command("list", hidden=True)
@app.command("ls")
def list_entries(
    *, as_json: AsJson = False, url: UrlOption = None, namespace: NamespaceOption = ""
) -> None:
    """List the periodic tasks of the schedulers that run: when, what, how, the next and the last time. Also `list`.

    Every replica of a scheduler shows its own entries; each tick is enqueued once nevertheless.
    """

    async def command(_: Signals) -> None:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            found, now = await hub.tasks.inspector.scheduler_entries(), await hub.time()
        found.sort(key=lambda entry: (entry.spec, entry.task_type, entry.id))
        if as_json:
            render.json_document([describe_tasks.entry_as_data(entry) for entry in found])
        elif found:
            describe_tasks.show_entries(found, now)
        else:
            render.say("no periodic tasks: no scheduler runs")

    run(command)


@app.command()
def history(
    entries: Annotated[
        list[str], typer.Argument(help="Which periodic tasks: see `cron ls`.", metavar="ENTRY")
    ],
    *,
    page: Page = 1,
    size: PageSize = 30,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """List what periodic tasks have enqueued, the newest first."""

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            inspector = hub.tasks.inspector
            found, exit_code = await found_ones(
                entries, lambda entry: _events(inspector, entry, page, size)
            )
        events = [event for of_entry in found for event in of_entry]
        if as_json:
            render.json_document([describe_tasks.event_as_data(*event) for event in events])
        elif events:
            describe_tasks.show_events(events)
        elif not exit_code:
            render.say("nothing was enqueued" if page == 1 else f"nothing on page {page}")
        return exit_code

    run(command)


async def _events(
    inspector: Inspector, entry: str, page: int, size: int
) -> list[tuple[str, EnqueueEvent]]:
    events = await inspector.enqueue_events(entry, page=page, size=size)
    if not events:  # nothing enqueued yet, or no such entry?
        known = await inspector.scheduler_entries()
        if entry not in {one.id for one in known} and not await inspector.enqueue_events(entry):
            raise EntryNotFound(entry)
    return [(entry, event) for event in events]
