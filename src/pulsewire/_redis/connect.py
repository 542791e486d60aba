"""From what the user gave to a link that is ready to be entered."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from pulsewire._redis import embedded
from pulsewire._redis.cluster import ClusterLink
from pulsewire._redis.doors import (
    ClusterDoors,
    Doors,
    PoolDoor,
    close_doors,
    doors_of_client,
    doors_of_target,
)
from pulsewire._redis.link import Link, LinkOptions
from pulsewire._redis.single import SingleLink
from pulsewire._redis.targets import Topology, parse_target
from pulsewire.errors import InvalidOption

URL_VARIABLE = "PULSEWIRE_URL"


@asynccontextmanager
async def open_link(
    target: Any, options: LinkOptions, *, ephemeral: bool = False, home: Path | None = None
) -> AsyncIterator[Link]:
    """Connect to what `target` says and yield the link.

    Args:
        options: how the link behaves.
        target: a URL, a client of `redis.asyncio`, or None: then `$PULSEWIRE_URL`, else the embedded server.
        ephemeral: with the embedded server, a private one that leaves nothing.
        home: where the embedded server keeps its data.

    Raises:
        InvalidTarget, ServerUnavailable, AuthenticationFailed, ServerTooOld, EmbeddedServerError.
    """
    if target is None and not ephemeral:
        target = os.environ.get(URL_VARIABLE) or None
    if target is None:
        async with _embedded_link(options, ephemeral=ephemeral, home=home) as link:
            yield link
        return
    if ephemeral or home is not None:
        option, value = ("ephemeral", ephemeral) if ephemeral else ("home", home)
        raise InvalidOption(
            option, value, "only for the embedded server, not together with a target"
        )
    if isinstance(target, str):
        parsed = parse_target(target)
        doors = doors_of_target(parsed)
        if (timeout := parsed.options.get("socket_timeout")) is not None:
            options = replace(options, silence=timeout)
        try:
            async with link_through(doors, parsed.topology, options) as link:
                yield link
        finally:
            await close_doors(doors)
    else:
        doors = doors_of_client(target)
        topology = (
            Topology.SENTINEL
            if hasattr(getattr(doors, "pool", None), "sentinel_manager")
            else Topology.STANDALONE
        )
        async with link_through(doors, topology, options) as link:
            yield link


def link_through(doors: Doors, topology: Topology, options: LinkOptions) -> Link:
    """The link that fits these doors."""
    if isinstance(doors, ClusterDoors):
        return ClusterLink(doors, options)
    return SingleLink(doors, topology, options)


@asynccontextmanager
async def _embedded_link(
    options: LinkOptions, *, ephemeral: bool, home: Path | None
) -> AsyncIterator[Link]:
    attachment = await embedded.attach(home=home, ephemeral=ephemeral, logger=options.logger)
    try:
        doors = doors_of_target(parse_target(attachment.url))
        if not isinstance(doors, PoolDoor):
            raise AssertionError("the embedded server is one server")  # noqa: TRY004  # it cannot happen
        async with link_through(doors, Topology.STANDALONE, options) as link:
            link.tasks.start_soon(_hold_on, attachment)
            yield link
    finally:
        with anyio.CancelScope(shield=True):
            await attachment.aclose()


async def _hold_on(attachment: embedded.Attachment) -> None:
    """Whenever the keeper is gone, have a new one started on the same data; the lanes reconnect by themselves."""
    while True:
        await attachment.wait_lost()
        await attachment.reattach()
