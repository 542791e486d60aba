"""`pulsewire tickets publish|consume|report`: the two halves of the article for several terminals, and a look back."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import anyio
import typer
from rich.progress import Progress

import pulsewire
from pulsewire.cli import describe, render, tickets
from pulsewire.cli.failures import FAILED
from pulsewire.cli.options import AsJson, NamespaceOption, UrlOption
from pulsewire.cli.running import Signals, run

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="The tickets of the article: publish here, consume there."
)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No line per ticket.")]


@app.command()
def publish(
    *,
    count: Annotated[int, typer.Option("--tickets", "-n", min=0, help="How many tickets.")] = 3000,
    rate: Annotated[
        float, typer.Option(min=0, help="Tickets per second; 0 is as fast as it goes.")
    ] = 0.0,
    quiet: Quiet = False,
    seed: Annotated[int | None, typer.Option(help="Makes the random numbers repeatable.")] = None,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Publish tickets to the stream `tickets`."""

    async def command(_: Signals) -> None:
        _log("Publisher started")
        async with pulsewire.connect(url, namespace=namespace) as hub:
            await _log_connection(hub)
            with _announcing(count, quiet=quiet) as announce:
                await tickets.publish_tickets(
                    tickets.ticket_stream(hub),
                    count,
                    rng=random.Random(seed),
                    on_published=announce,
                    rate=rate,
                )
        _log(f"Published {count:,} tickets")

    run(command)


@app.command()
def consume(
    *,
    work: Annotated[float, typer.Option(min=0, help="Seconds that handling a ticket takes.")] = 0.0,
    ack_grace: Annotated[
        float,
        typer.Option(help="Seconds of silence after which others take over a consumer's tickets."),
    ] = 20.0,
    quiet: Quiet = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Handle tickets, and wait for more until Ctrl-C. Start as many as you like: they share the work."""

    async def command(signals: Signals) -> None:
        _log("Consumer started")
        desk = _Desk(work, quiet=quiet)
        async with pulsewire.connect(url, namespace=namespace) as hub:
            await _log_connection(hub)
            stream = tickets.ticket_stream(hub)
            async with stream.sink(tickets.GROUP, start="oldest", ack_grace=ack_grace) as sink:
                _log(f"Consumer {sink.consumer} waits for tickets, Ctrl-C ends it")
                with signals.asking(sink.stop):
                    await sink.consume(tickets.handler_of(desk.handle), concurrency=1)
        _log(f"Consumer stopped, handled {desk.handled:,} tickets")

    run(command)


@app.command()
def report(
    *, as_json: AsJson = False, url: UrlOption = None, namespace: NamespaceOption = ""
) -> None:
    """Read the whole stream again, and say what is in it and how far each group is."""

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            return await _report(tickets.ticket_stream(hub), as_json=as_json)

    run(command)


class _Desk:
    """Where one consumer handles its tickets."""

    def __init__(self, work: float, *, quiet: bool) -> None:
        self.handled = 0
        self._work = work
        self._quiet = quiet

    async def handle(self, ticket: tickets.Ticket, _: pulsewire.Event[Any]) -> None:
        if not self._quiet:
            _log(
                f"Handling new ticket id : {render.readable(ticket.number)} data {render.readable(ticket.data)}"
            )
        await anyio.sleep(self._work)
        self.handled += 1


async def _report(stream: pulsewire.Stream[Any], *, as_json: bool) -> int:
    info = await stream.info()
    if not info.exists:
        render.fail("there is no stream `tickets`", "Publish some: `pulsewire tickets publish`.")
        return FAILED
    happened: Counter[str] = Counter()
    first = last = None
    async with stream.reader(start="oldest", follow=False) as reader:
        async for event in reader:
            happened[event.name] += 1
            first, last = first or event, event
    if as_json:
        render.json_document(describe.as_data(info) | {"happened": dict(happened)})
        return 0
    describe.show(info)
    render.say()
    for title, found in (("first", first), ("last", last)):
        if found is not None:
            render.say(f"{title}: {describe.event_line(found)}")
    for name, number in happened.most_common():
        render.say(f"{number:,} times: {render.readable(name)}")
    return 0


@contextmanager
def _announcing(count: int, *, quiet: bool) -> Iterator[Callable[[str, tickets.Ticket], None]]:
    """Give a function that tells of each published ticket: a line, or a step of a bar, or nothing."""
    if not quiet:
        yield lambda event_id, ticket: _log(f"Published ticket {ticket.number} as event {event_id}")
        return
    with Progress(console=render.out, disable=not render.is_terminal()) as progress:
        bar = progress.add_task("publishing", total=count)
        yield lambda _event_id, _ticket: progress.advance(bar)


def _log(text: str) -> None:
    """Print a line with the time, as the article's programs do."""
    render.say(f"{datetime.now().astimezone():%Y/%m/%d %H:%M:%S} {text}")


async def _log_connection(hub: pulsewire.Hub) -> None:
    await hub.ping()
    _log(f"Connected to {describe.server_name(hub)} at {hub.url}")
