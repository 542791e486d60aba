"""Streams and servers in words: the tables and the JSON of what `info()` tells. Reads nothing itself."""

from __future__ import annotations

from typing import Any

import msgspec

import pulsewire
from pulsewire.cli import render
from pulsewire.streaming import GroupInfo

__all__ = ["as_data", "event_as_data", "event_line", "server_name", "show"]


def server_name(hub: pulsewire.Hub) -> str:
    """Return what the hub is connected to, such as `valkey 9.1.2`."""
    version = ".".join(str(part) for part in hub.server.version)
    return f"{hub.server.kind} {version}"


def as_data(info: pulsewire.StreamInfo) -> dict[str, object]:
    """Return what is known of a stream, ready for JSON."""
    data: dict[str, object] = msgspec.to_builtins(info)
    return data


def event_as_data(event: pulsewire.Event[Any]) -> dict[str, Any]:
    """Return one event, ready for JSON."""
    return {
        "id": event.id,
        "stream": event.stream,
        "name": event.name,
        "topic": event.topic,
        "created_at": event.created_at,
        "headers": dict(event.headers),
        "payload": event.payload,
    }


def event_line(event: pulsewire.Event[Any]) -> str:
    """Return one event as one line: when, id, name, topic if it has one, payload."""
    parts = [f"{event.created_at.astimezone():%Y-%m-%d %H:%M:%S}", event.id]
    if event.name:
        parts.append(render.readable(event.name))
    if event.topic:
        parts.append(f"[{render.readable(event.topic)}]")
    parts.append(render.readable(event.payload))
    return "  ".join(parts)


def show(info: pulsewire.StreamInfo) -> None:
    """Print what is known of a stream: itself, its groups, their consumers."""
    render.fields(
        {
            "stream": info.name,
            "key": info.key,
            "length": render.how_many(info.length),
            "first id": info.first_id or "-",
            "last id": info.last_id or "-",
            "last generated id": info.last_generated_id or "-",
            "memory": render.how_much(info.memory_bytes),
            "groups": render.how_many(len(info.groups)),
        }
    )
    if not info.groups:
        return
    render.say()
    render.table(
        ("group", "consumer", "pending", "idle", "lag", "last delivered"),
        [row for group in info.groups for row in _group_rows(group)],
        numbers=("pending", "idle", "lag"),
    )


def _group_rows(group: GroupInfo) -> list[tuple[str, ...]]:
    whole = (
        group.name,
        "",
        render.how_many(group.pending),
        "",
        render.how_many(group.lag),
        group.last_delivered_id,
    )
    return [
        whole,
        *(
            ("", member.name, render.how_many(member.pending), render.how_long(member.idle), "", "")
            for member in group.consumers
        ),
    ]
