"""What tests of `pulsewire map` look at: what lies in Redis, and what an export says."""

from __future__ import annotations

import json
from collections.abc import Callable

import redis
from typer.testing import Result

Map = Callable[..., Result]


def stored(url: str, namespace: str, name: str = "flags") -> dict[bytes, bytes]:
    """What lies in Redis."""
    with redis.Redis.from_url(url) as client:
        found: dict[bytes, bytes] = client.hgetall(f"{namespace}:map:{name}:content")
    return found


def exported(on_map: Map, name: str = "flags") -> dict[str, object]:
    """The entries of a map, as its export has them."""
    entries: dict[str, object] = json.loads(on_map("export", name).stdout)["entries"]
    return entries
