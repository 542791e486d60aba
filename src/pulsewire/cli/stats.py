"""`pulsewire stats`: all task queues at a glance, and the server that has them."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

import pulsewire
from pulsewire.cli import describe, describe_queues, render
from pulsewire.cli.options import AsJson, NamespaceOption, UrlOption
from pulsewire.cli.queue import queue_infos
from pulsewire.cli.running import Signals, run
from pulsewire.errors import PermissionDenied
from pulsewire.tasks import Inspector

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command `stats`."""
    app.command()(stats)


def stats(
    *, as_json: AsJson = False, url: UrlOption = None, namespace: NamespaceOption = ""
) -> None:
    """Show the task queues: tasks by queue and state, what became of today's, and how the server is."""

    async def command(_: Signals) -> None:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            inspector = hub.tasks.inspector
            infos = await queue_infos(inspector)
            at = datetime.fromtimestamp(await hub.time(), UTC)
            redis = await _server_facts(inspector)
            server = f"{describe.server_name(hub)} ({hub.server.topology}) at {hub.url}"
        if as_json:
            render.json_document(describe_queues.stats_as_data(infos, at, redis))
        else:
            describe_queues.show_stats(infos, at, server, redis)

    run(command)


async def _server_facts(inspector: Inspector) -> dict[str, str]:
    try:
        return await inspector.redis_info()
    except PermissionDenied:  # as users that share a server are: the queues can be shown without
        return {}
