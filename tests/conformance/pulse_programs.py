"""Go Pulse as a process that a test asks: its streams, readers and sinks, and its maps.

What the Go program can do stands in `go/pulse`. It is asked through `Programs.ask` of `asynq_programs.py`.
"""

from __future__ import annotations

import base64
import itertools
import os
import re
import signal
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pulsewire import NewEvent
from pulsewire.testing import SingleServer, wait_until
from tests.conformance.asynq_programs import PATIENCE, Programs, Refused

CLIENT_NAME = "pulse-in-go"
"""Of Go's connections at the server."""
MOST_TOLD = 500
"""Events in one answer."""


class GoEvent(NamedTuple):
    """An event as a reader or sink of Go's was given it."""

    id: str
    stream: str
    sink: str
    name: str
    topic: str
    payload: bytes
    created_at: int


class GoPulse:
    """One process of Go Pulse."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._names = (f"it-{number}" for number in itertools.count())
        self.was_killed = False

    async def do(self, deed: str, **given: Any) -> Any:
        """What Go answers.

        Raises:
            Refused: it returned an error.
        """
        reply = await self._programs.ask({"do": deed, **given})
        if "error" in reply:
            raise Refused(reply["error"])
        return reply["answer"]

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        pid = await self.do("pid")
        self.was_killed = True
        os.kill(pid, signal.SIGKILL)

        def is_gone() -> bool:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return True
            return False

        await wait_until(is_gone, timeout=PATIENCE, what="Go was killed")

    @asynccontextmanager
    async def opened(self, deed: str, **given: Any) -> AsyncIterator[str]:
        """Something that is closed at the end of the block; its name."""
        name = next(self._names)
        await self.do(deed, **{"as": name}, **given)
        try:
            yield name
        finally:
            if not self.was_killed:
                await self.do("close", **{"as": name})

    def stream(self, name: str, **options: Any) -> GoStream:
        """A stream; options are those of `streamed` in `go/pulse/streams.go`."""
        return GoStream(self, {"name": name, **options})

    @asynccontextmanager
    async def map(self, name: str, **options: Any) -> AsyncIterator[GoMap]:
        """A map that Go has joined; options are `ttl` and `sliding_ttl`."""
        async with self.opened("join", map=name, **options) as handle:
            yield GoMap(self, handle)


class GoStream:
    """A stream in Go."""

    def __init__(self, go: GoPulse, options: Mapping[str, Any]) -> None:
        self.go = go
        self.name: str = options["name"]
        self.options = options

    async def add(self, *events: NewEvent, only_if_exists: bool = False) -> list[str]:
        """Have Go add these; their ids."""
        told = [
            {
                "name": event.name,
                "payload": _base64(event.payload),
                "topic": event.topic or "",
                "only_if_exists": only_if_exists,
            }
            for event in events
        ]
        return list(await self.go.do("add", stream=self.options, events=told))

    async def remove(self, *event_ids: str) -> None:
        """Have Go delete events."""
        await self.go.do("remove", stream=self.options, ids=event_ids)

    async def destroy(self) -> None:
        """Have Go delete the stream."""
        await self.go.do("destroy", stream=self.options)

    @asynccontextmanager
    async def reader(
        self, *, start: str | datetime | None = None, **options: Any
    ) -> AsyncIterator[GoConsumer]:
        """A reader; options are those of `consuming` in `go/pulse/streams.go`, `start` as in Python."""
        given = {"stream": self.options, "start": _start(start), **options}
        async with self.go.opened("reader", **given) as handle:
            yield GoConsumer(self.go, handle)

    @asynccontextmanager
    async def sink(
        self, name: str, *, start: str | datetime | None = None, **options: Any
    ) -> AsyncIterator[GoConsumer]:
        """A sink, likewise."""
        given = {"stream": self.options, "sink": name, "start": _start(start), **options}
        async with self.go.opened("sink", **given) as handle:
            yield GoConsumer(self.go, handle)


class GoConsumer:
    """A reader or a sink in Go, and what it was given."""

    def __init__(self, go: GoPulse, handle: str) -> None:
        self._go = go
        self._handle = handle
        self._heard: list[GoEvent] = []

    async def heard(self, count: int = 0) -> list[GoEvent]:
        """All that it was given, when that is so much; what there is, when so much does not come."""
        while True:
            given = {"count": count, "from": len(self._heard), "most": MOST_TOLD}
            told = await self._go.do("heard", **{"as": self._handle}, **given)
            for one in told:
                self._heard.append(GoEvent(**{**one, "payload": base64.b64decode(one["payload"])}))
            if len(told) < MOST_TOLD:
                return list(self._heard)

    async def ack(self, *event_ids: str) -> None:
        """Acknowledge events that it was given."""
        await self._go.do("ack", **{"as": self._handle}, ids=event_ids)

    async def add_stream(self, stream: GoStream) -> None:
        """Consume another stream, too."""
        await self._go.do("add stream", **{"as": self._handle}, stream=stream.options)


class Operation(NamedTuple):
    """A write of a map, by the name that Go has for it. `tests` are pairs of key and value for TestAndReset."""

    op: str
    key: str = ""
    value: bytes = b""
    test: bytes = b""
    by: int = 0
    items: tuple[str, ...] = ()
    tests: tuple[tuple[str, bytes], ...] = ()


class GoMap:
    """A map that Go has joined."""

    def __init__(self, go: GoPulse, handle: str) -> None:
        self._go = go
        self._handle = handle

    async def write(
        self, *operations: Operation, at_once: int = 1, pause: float = 0.0
    ) -> list[list[Any] | Refused]:
        """Carry these out; what Go returned for each, without its error, or that.

        Args:
            operations: in this order, where one is carried out at a time.
            at_once: how many are.
            pause: seconds after each one, so that other writers come in between.
        """
        told = [_in_json(operation) for operation in operations]
        given = {"operations": told, "at_once": at_once, "pause": pause}
        answer = await self._go.do("write", **{"as": self._handle}, **given)
        return [
            Refused(one["error"])
            if isinstance(one, dict)
            else [_from_json(operation.op, index, value) for index, value in enumerate(one)]
            for operation, one in zip(operations, answer, strict=True)
        ]

    async def must(self, *operations: Operation) -> list[list[Any]]:
        """Carry these out, none of which may be refused."""
        results = await self.write(*operations)
        assert not [result for result in results if isinstance(result, Refused)], results
        return [result for result in results if not isinstance(result, Refused)]

    async def replica(self, revision: int = 0) -> tuple[dict[bytes, bytes], int]:
        """All that Go shows, and its revision, when it has come to this one."""
        told = await self._go.do("replica", **{"as": self._handle}, revision=revision)
        content = {base64.b64decode(key): base64.b64decode(value) for key, value in told["content"]}
        return content, told["revision"]

    async def values_of(self, key: str) -> list[str] | None:
        """What GetValues returns."""
        told = await self._go.do("values", **{"as": self._handle}, key=_base64(key.encode()))
        return None if told is None else _texts(told)

    async def kinds(self, last: str) -> list[str]:
        """The kinds of change that Go has told of, when the latest of them is this one."""
        return list(await self._go.do("kinds", **{"as": self._handle}, last=last))


@asynccontextmanager
async def running(program: Path, url: str, folder: Path) -> AsyncIterator[GoPulse]:
    """Go Pulse in a process of its own, on this server."""
    programs = Programs(program, url, folder)
    go = GoPulse(programs)
    try:
        yield go
    finally:
        if not go.was_killed:
            await programs.close()


async def connections_of_go(server: SingleServer, kind: str = "") -> list[int]:
    """The ids of Go's connections that have this flag: `P` for those that listen to a channel."""
    return [
        number
        for number, line in (await server.clients()).items()
        if f" name={CLIENT_NAME} " in line and re.search(rf" flags=\w*{kind}", line)
    ]


async def kill_connections(server: SingleServer, numbers: Iterable[int]) -> int:
    """CLIENT KILL, until they are gone: a busy connection is closed a little later. How many there were."""
    killed = set(numbers)
    replies = await server.pipeline(*(("CLIENT", "KILL", "ID", number) for number in killed))

    async def are_gone() -> bool:
        return not killed & (await server.clients()).keys()

    await wait_until(are_gone, timeout=PATIENCE, what="connections were killed")
    return sum(reply == 1 for reply in replies)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _texts(many: Sequence[str] | None) -> list[str]:
    return [base64.b64decode(one).decode() for one in many or ()]


def _start(start: str | datetime | None) -> dict[str, Any]:
    if isinstance(start, datetime):
        return {"at": round(start.timestamp() * 1000)}
    return {} if start is None else {start: True} if start.isalpha() else {"after": start}


def _in_json(operation: Operation) -> dict[str, Any]:
    return {
        "op": operation.op,
        "key": _base64(operation.key.encode("utf-8", "surrogateescape")),
        "value": _base64(operation.value),
        "test": _base64(operation.test),
        "by": operation.by,
        "items": [_base64(item.encode()) for item in operation.items],
        "keys": [_base64(key.encode()) for key, _ in operation.tests],
        "tests": [_base64(value) for _, value in operation.tests],
    }


def _from_json(op: str, index: int, value: Any) -> Any:
    """A list of texts first of all for the operations on lists, else the old value where there is text."""
    if index == 0 and op in ("AppendValues", "AppendUniqueValues", "RemoveValues"):
        return _texts(value)
    return base64.b64decode(value) if isinstance(value, str) else value
