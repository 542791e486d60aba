"""A plugin that runs any tests as users limited to their namespace: `pytest -p tests.hub.as_limited_users tests/tour`.

Each hub with a namespace connects as a user that has the rights of the production page for all four blocks, on the keys
and channels of that namespace alone, and what listing and measuring need besides (`+scan`, `+memory|usage`). Hubs
without a namespace, behind Sentinel, or with a user of their own, stay what they are.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio.to_thread
import redis

import pulsewire
import pulsewire.hub
from pulsewire.tasks.apps.binding import connect_with
from tests.hub.rights import CLUSTER_RIGHTS, PASSWORD, rights_of

_PLAIN = re.compile(r"(?P<scheme>redis(\+cluster)?)://(?P<hosts>[^@/?]+)(?P<rest>([/?].*)?)")
_ADDRESS = re.compile(r"^\S+ ([^@\s]+)@", re.MULTILINE)
_BLOCKS = ("streams", "maps", "pools", "tasks")
_connect = pulsewire.connect


def _rules(namespace: str) -> list[str]:
    words = [word for block in _BLOCKS for word in rights_of(f"shop-{block}")]
    commands = dict.fromkeys(word for word in words if word.startswith("+"))
    return [
        *("reset", "on", f">{PASSWORD}", f"~{namespace}:*", f"&{namespace}:*"),
        *("+scan", "+memory|usage", *commands, *CLUSTER_RIGHTS),
    ]


def _make_user(hosts: list[str], user: str, rules: list[str]) -> None:
    addresses = set(hosts)
    with redis.Redis.from_url(f"redis://{hosts[0]}") as first:
        if first.info("cluster")["cluster_enabled"]:
            nodes = first.execute_command("CLUSTER", "NODES").decode()
            addresses |= set(_ADDRESS.findall(nodes))
    for address in addresses:
        with redis.Redis.from_url(f"redis://{address}") as client:
            client.execute_command("ACL", "SETUSER", user, *rules)


def connect(
    target: Any = None, *, namespace: str = "", **options: Any
) -> AbstractAsyncContextManager[pulsewire.Hub]:
    """As `pulsewire.connect`, with a user of the namespace's own."""
    plain = _PLAIN.fullmatch(target) if isinstance(target, str) else None
    if plain is None or not namespace:
        return _connect(target, namespace=namespace, **options)
    user = f"only-{namespace}"
    url = f"{plain['scheme']}://{user}:{PASSWORD}@{plain['hosts']}{plain['rest']}"
    return _connected(plain["hosts"].split(","), user, url, namespace, options)


@asynccontextmanager
async def _connected(
    hosts: list[str], user: str, url: str, namespace: str, options: dict[str, Any]
) -> AsyncIterator[pulsewire.Hub]:
    # in a thread: a proxy in front of the server turns on this very loop
    await anyio.to_thread.run_sync(_make_user, hosts, user, _rules(namespace))
    async with _connect(url, namespace=namespace, **options) as hub:
        yield hub


pulsewire.connect = connect
connect_with(connect)
