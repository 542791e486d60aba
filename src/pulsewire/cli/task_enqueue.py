"""`pulsewire task enqueue`: one task, with every option that the library has."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

import pulsewire
from pulsewire.cli import describe_tasks, render, times
from pulsewire.cli.files import read_payload
from pulsewire.cli.options import AsJson, NamespaceOption, UrlOption, pairs
from pulsewire.cli.running import Signals, run
from pulsewire.tasks import NewTask

__all__ = ["register"]

_DEFAULT = NewTask(type="")


def register(app: typer.Typer) -> None:
    """Add the command `enqueue`."""
    app.command()(enqueue)


def enqueue(
    task_type: Annotated[
        str, typer.Argument(help="What kind of work it is, such as email:welcome.", metavar="TYPE")
    ],
    payload: Annotated[
        str | None,
        typer.Argument(show_default="none", help="What the handler gets; - reads standard input."),
    ] = None,
    *,
    queue: Annotated[str, typer.Option("--queue", "-q", help="Where it waits.")] = _DEFAULT.queue,
    task_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            "-i",
            show_default="a new one",
            help="Its id, unique within the queue, also among tasks that are kept.",
        ),
    ] = None,
    max_retry: Annotated[
        int, typer.Option("--max-retry", min=0, help="How often it is tried again.")
    ] = _DEFAULT.max_retry,
    timeout: Annotated[
        float | None,
        typer.Option(
            parser=times.as_duration,
            show_default="30 minutes if there is no deadline",
            help="How long an attempt may take, such as 90s.",
            metavar="DURATION",
        ),
    ] = None,
    deadline: Annotated[
        datetime | None,
        typer.Option(
            parser=times.as_moment,
            help="No attempt goes on beyond it, such as 2030-01-02T03:04:05Z.",
            metavar="TIME",
        ),
    ] = None,
    unique: Annotated[
        float | None,
        typer.Option(
            parser=times.as_duration,
            help="Refuse another one of this type and payload for this long, or until it is done.",
            metavar="DURATION",
        ),
    ] = None,
    process_at: Annotated[
        datetime | None,
        typer.Option(parser=times.as_moment, help="Run it then, not now.", metavar="TIME"),
    ] = None,
    process_in: Annotated[
        float | None,
        typer.Option(
            parser=times.as_duration, help="Run it after this long, such as 2h.", metavar="DURATION"
        ),
    ] = None,
    retention: Annotated[
        float,
        typer.Option(
            parser=times.as_duration,
            show_default="not at all",
            help="Keep it, with its result, for this long after it has succeeded.",
            metavar="DURATION",
        ),
    ] = _DEFAULT.retention,
    group: Annotated[
        str | None,
        typer.Option("--group", "-g", help="Aggregate it with the others of this group."),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="A header.", metavar="NAME=VALUE")
    ] = None,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Enqueue a task, and print its id."""
    task = NewTask(
        type=task_type,
        payload=None if payload is None else read_payload(payload),
        queue=queue,
        task_id=task_id,
        max_retry=max_retry,
        timeout=timeout,
        deadline=deadline,
        unique=unique,
        process_at=process_at,
        process_in=process_in,
        retention=retention,
        group=group,
        headers=pairs(header or [], "--header"),
    )

    async def command(_: Signals) -> None:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            info, now = await hub.tasks.enqueue(task), await hub.time()
        if as_json:
            render.json_document(describe_tasks.task_as_data(info))
        else:
            render.say(describe_tasks.enqueued(info, now))

    run(command)
