"""What the act stands on: the connection, a namespace and a folder of its own, and their removal at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

import pulsewire
from pulsewire.cli import describe, failures, render, tickets
from pulsewire.cli.demo.crew import Crew, DemoFailed, environment_of
from pulsewire.cli.demo.folder import journal_folder
from pulsewire.cli.demo.tickets import summary
from pulsewire.cli.demo.tickets.director import TicketsDirector
from pulsewire.cli.demo.tickets.plan import Plan
from pulsewire.cli.demo.tickets.view import picture, plain_line
from pulsewire.cli.demo.view import View

__all__ = ["CONSUMER", "PUBLISHER", "perform"]

PUBLISHER = "demo-publisher"
"""The hidden command of the publishing process."""
CONSUMER = "demo-consumer"
"""The hidden command of the consuming processes."""

_TTL = 3600.0
"""Seconds after which the stream of a demo whose parent was killed goes by itself."""
_TIDY_WITHIN = 10.0
"""Seconds that removing the stream may take."""


async def perform(plan: Plan, url: str | None, namespace: str) -> int:
    """Run the act and print its summary.

    Returns:
        0 if the promise held, 1 otherwise.

    Raises:
        DemoFailed: It could not be run to its end.
    """
    async with pulsewire.connect(url, namespace=namespace) as hub:
        stream = tickets.ticket_stream(hub, ttl=None if plan.keep else _TTL)
        if (await stream.info()).exists:
            raise DemoFailed(
                f"there is a stream {stream.name!r} in namespace {namespace!r} already; take another one"
            )
        render.sentence(
            f"{plan.tickets:,} tickets, {plan.consumers} consumers, {plan.work:g} s of work each, "
            f"on {describe.server_name(hub)} at {hub.url}"
        )
        async with _tidied(plan, stream, namespace) as folder:
            crew = Crew(folder, environment_of(url))
            director = TicketsDirector(
                plan,
                stream,
                crew,
                publisher=_publisher_arguments(plan, namespace),
                consumer=_consumer_arguments(plan, namespace),
            )
            with View(picture, plain_line) as view:
                verdict = await director.run(view)
    summary.show(
        verdict, director.consumers, left_behind=director.left_behind, seconds=director.elapsed
    )
    return 0 if verdict.holds else failures.FAILED


@asynccontextmanager
async def _tidied(plan: Plan, stream: pulsewire.Stream[Any], namespace: str) -> AsyncIterator[Path]:
    """Give a folder for the journals; afterwards remove it and the stream, unless they shall be kept."""
    try:
        with journal_folder(keep=plan.keep) as folder:
            yield folder
    finally:
        if plan.keep:
            render.say(f"kept: stream {stream.name!r} in namespace {namespace!r}")
        else:
            with anyio.move_on_after(_TIDY_WITHIN, shield=True):
                await stream.destroy()


def _publisher_arguments(plan: Plan, namespace: str) -> list[str]:
    seed = [] if plan.seed is None else ["--seed", str(plan.seed)]
    numbers = ["--tickets", str(plan.tickets), "--publish-rate", str(plan.publish_rate), *seed]
    return [PUBLISHER, *_shared_arguments(plan, namespace), *numbers]


def _consumer_arguments(plan: Plan, namespace: str) -> list[str]:
    numbers = ["--work", str(plan.work), "--ack-grace", str(plan.ack_grace)]
    return [CONSUMER, *_shared_arguments(plan, namespace), *numbers]


def _shared_arguments(plan: Plan, namespace: str) -> list[str]:
    return ["--namespace", namespace, *([] if plan.keep else ["--ttl", str(_TTL)])]
