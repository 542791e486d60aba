"""`pulsewire stream ls|info|tail|add|rm`: look at streams, read them, write to them, remove them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any

import typer

import pulsewire
from pulsewire.cli import describe, render
from pulsewire.cli.asking import ask_each
from pulsewire.cli.confirm import confirm
from pulsewire.cli.failures import FAILED
from pulsewire.cli.files import read_payload
from pulsewire.cli.options import AsJson, NamespaceOption, PlainStream, UrlOption, pairs
from pulsewire.cli.running import Signals, run

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look at streams, read them, write to them.")

Name = Annotated[str, typer.Argument(help="The stream.", metavar="NAME")]


@app.command("ls")
def list_streams(
    pattern: Annotated[str, typer.Argument(help="Names with * and ?.")] = "*",
    *,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """List the streams of pulsewire and Pulse, with their length and who lags behind."""

    async def command(_: Signals) -> None:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            names = [name for name in await hub.streams() if fnmatchcase(name, pattern)]
            infos = await _infos(hub, names)
        if as_json:
            render.json_document([describe.as_data(info) for info in infos])
        elif infos:
            render.table(
                ("stream", "length", "first id", "last id", "groups", "pending"),
                [_row(info) for info in infos],
                numbers=("length", "groups", "pending"),
            )
        else:
            render.say("no streams")

    run(command)


@app.command()
def info(
    name: Name,
    *,
    plain: PlainStream = False,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Show one stream: its length and ids, its groups, their consumers."""

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            found = await _stream(hub, name, plain=plain).info()
        if as_json:
            render.json_document(describe.as_data(found))
        elif found.exists:
            describe.show(found)
        else:
            render.fail(
                f"there is no stream {name!r}", "`pulsewire stream ls` shows which there are."
            )
        return 0 if found.exists else FAILED

    run(command)


@app.command()
def tail(
    name: Name,
    *,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            show_default="oldest, with --follow newest",
            help="oldest, newest, or the event id after which to begin.",
            metavar="POSITION",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for more until Ctrl-C.")
    ] = False,
    topic: Annotated[str | None, typer.Option(help="Only events with this topic.")] = None,
    topic_pattern: Annotated[
        str | None, typer.Option(help="Only events whose topic this regex finds.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="End after this many.")
    ] = None,
    plain: PlainStream = False,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Print the events of a stream, one a line. Nobody else notices: it is a reader of its own."""
    position = start or ("newest" if follow else "oldest")
    if position == "newest" and not follow:
        raise typer.BadParameter(
            "'newest' means what comes from now on: add --follow", param_hint="--from"
        )

    async def command(_: Signals) -> None:
        async with (
            pulsewire.connect(url, namespace=namespace) as hub,
            _stream(hub, name, plain=plain).reader(
                start=position, follow=follow, topic=topic, topic_pattern=topic_pattern
            ) as reader,
        ):
            printed = 0
            async for event in reader:
                if as_json:
                    render.json_line(describe.event_as_data(event))
                else:
                    render.say(describe.event_line(event))
                printed += 1
                if printed == limit:
                    break

    run(command)


@app.command()
def add(
    name: Name,
    event: Annotated[str, typer.Argument(help="What happened: the name of the event.")] = "",
    payload: Annotated[str, typer.Argument(help="The payload; - reads standard input.")] = "",
    *,
    topic: Annotated[str | None, typer.Option(help="Topic of the event.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="A header.", metavar="NAME=VALUE")
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(help="With --plain: a field of the entry.", metavar="NAME=VALUE"),
    ] = None,
    only_if_exists: Annotated[
        bool, typer.Option("--only-if-exists", help="Create no new stream.")
    ] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Added once, however often it is repeated with this key.")
    ] = None,
    max_len: Annotated[
        int,
        typer.Option(min=0, show_default="no limit", help="Trim the stream to about this many."),
    ] = 0,
    plain: PlainStream = False,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Add one event to a stream and print its id."""
    content = _content(event, payload, field, plain=plain)
    headers = pairs(header or [], "--header") or None

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            event_id = await _stream(hub, name, plain=plain, max_len=max_len).add(
                event,
                content,
                topic=topic,
                headers=headers,
                only_if_exists=only_if_exists,
                idempotency_key=idempotency_key,
            )
        if event_id is None:
            render.fail(f"there is no stream {name!r}", "Without --only-if-exists it is created.")
            return FAILED
        render.outcome({"stream": name, "id": event_id}, event_id, as_json=as_json)
        return 0

    run(command)


@app.command()
def rm(
    name: Name,
    ids: Annotated[
        list[str] | None, typer.Argument(help="Events to remove; none removes the stream.")
    ] = None,
    *,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before a whole stream goes.")
    ] = False,
    plain: PlainStream = False,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Remove events from a stream, or the stream with all its events and groups."""
    if not ids:
        confirm(
            f"Remove the whole stream {name!r}, with all its events and groups?",
            yes=yes,
            refusal="this removes the whole stream: add --yes, or name events",
            about="IDS",
        )

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            stream = _stream(hub, name, plain=plain)
            if ids:
                removed = await stream.remove(*ids)
                words = f"removed {removed:,} of {len(ids):,} events"
                render.outcome({"stream": name, "removed": removed}, words, as_json=as_json)
                return 0 if removed == len(ids) else FAILED
            if await stream.destroy():
                words = f"removed stream {name!r}"
                render.outcome({"stream": name, "destroyed": True}, words, as_json=as_json)
                return 0
        render.fail(f"there is no stream {name!r}", "`pulsewire stream ls` shows which there are.")
        return FAILED

    run(command)


def _stream(
    hub: pulsewire.Hub, name: str, *, plain: bool, max_len: int = 0
) -> pulsewire.Stream[Any]:
    # Looking at a stream, or adding one event, must not shorten what others keep in it: no limit unless asked for.
    if plain:
        return hub.stream(name, key=name, codec=pulsewire.FIELDS, max_len=max_len)
    return hub.stream(name, max_len=max_len)


async def _infos(hub: pulsewire.Hub, names: list[str]) -> list[pulsewire.StreamInfo]:
    return await ask_each(sorted(names), lambda name: _stream(hub, name, plain=False).info())


def _row(info: pulsewire.StreamInfo) -> tuple[str, ...]:
    return (
        info.name,
        render.how_many(info.length),
        info.first_id or "-",
        info.last_id or "-",
        render.how_many(len(info.groups)),
        render.how_many(sum(group.pending for group in info.groups)),
    )


def _content(
    event: str, payload: str, fields: list[str] | None, *, plain: bool
) -> bytes | dict[str, str]:
    if plain:
        if event or payload or not fields:
            raise typer.BadParameter(
                "with --plain give fields only: --field NAME=VALUE", param_hint="--field"
            )
        return pairs(fields, "--field")
    if fields:
        raise typer.BadParameter("fields are for --plain streams", param_hint="--field")
    if not event:
        raise typer.BadParameter("missing: the name of the event", param_hint="EVENT")
    return read_payload(payload)
