"""What lies in Redis, read bare: for comparing what two programs have written."""

from __future__ import annotations

from typing import Any

from pulsewire.testing import SingleServer

READING = {
    b"string": ("GET",),
    b"list": ("LRANGE", 0, -1),
    b"set": ("SMEMBERS",),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    b"hash": ("HGETALL",),
}

Content = dict[str, tuple[str, Any]]


async def content_of(server: SingleServer) -> Content:
    """Every key: its type, and what is in it: bytes, a list, a set, or a dict."""
    found: Content = {}
    for key in sorted(await server.command("KEYS", "*")):
        kind = await server.command("TYPE", key)
        if kind == b"none":
            continue  # its time was up just now
        command, *rest = READING[kind]
        reply = await server.command(command, key, *rest)
        if kind in (b"zset", b"hash") and isinstance(reply, list):
            parts = iter(reply)
            reply = dict(zip(parts, parts, strict=True))
        if kind == b"set":
            reply = set(reply)
        found[key.decode()] = (kind.decode(), reply)
    return found


async def fields_of(server: SingleServer, queue: str, task_id: str) -> dict[str, bytes]:
    """The hash of a task."""
    reply = await server.command("HGETALL", f"asynq:{{{queue}}}:t:{task_id}")
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {field.decode(): value for field, value in pairs}


async def counters_of(server: SingleServer, queue: str) -> dict[str, int]:
    """How many attempts have ended, and how many of them have failed."""
    names = {name: f"asynq:{{{queue}}}:{name}" for name in ("processed", "failed")}
    return {name: int(await server.command("GET", key) or 0) for name, key in names.items()}


async def states_of(server: SingleServer, queue: str) -> list[tuple[str, bytes]]:
    """Every task that there is, and its state."""
    prefix = f"asynq:{{{queue}}}:t:"
    keys = await server.command("KEYS", f"{prefix}*")
    states = await server.pipeline(*(("HGET", key, "state") for key in keys))
    return [
        (key.decode().removeprefix(prefix), state) for key, state in zip(keys, states, strict=True)
    ]
