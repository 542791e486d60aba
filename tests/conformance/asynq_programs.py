"""asynq in Go, and our own servers, as processes that a test asks, watches and kills.

What the Go program can do stands in `go/asynq`; `asynq_worker.py` is its counterpart in Python. Both tell what their
handlers do in files, which outlive a kill.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

import pulsewire
from pulsewire.tasks import NewTask
from pulsewire.testing import wait_until

ROOT = Path(__file__).parents[2]
SOURCE = Path(pulsewire.__file__).parents[1]
"""Where the product under test is: the processes run the same one."""
WORKER = Path(__file__).with_name("asynq_worker.py")
PATIENCE = 30.0
"""Seconds for what should take one or two. Longer means it does not happen."""

LONGEST_ANSWER = 64 * 1024 * 1024

Fact = dict[str, Any]


class Refused(Exception):
    """What asynq said when it did not do what it was asked."""


class Facts:
    """What handlers have told, in order: a list, or the lines of a file that a process writes."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._told: list[Fact] = []
        self._read = 0

    def add(self, fact: Fact) -> None:
        """Note a fact that is told in this process."""
        self._told.append(fact)

    @property
    def all(self) -> list[Fact]:
        """What was told so far."""
        if self._file is not None:
            with self._file.open("rb") as file:
                file.seek(self._read)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]  # the writer may be in the middle of a line
            self._read += len(whole)
            self._told += map(json.loads, whole.splitlines())
        return self._told

    def of(self, event: str, task_id: str | None = None) -> list[Fact]:
        """Those of one kind, perhaps only of one task."""
        return [
            fact
            for fact in self.all
            if fact["event"] == event and (task_id is None or fact["id"] == task_id)
        ]

    async def heard(self, event: str, task_id: str | None = None, *, count: int = 1) -> Fact:
        """Return the latest when there are so many of a kind."""
        await wait_until(
            lambda: len(self.of(event, task_id)) >= count,
            timeout=PATIENCE,
            what=f"{count} x {event} {task_id or ''}",
        )
        return self.of(event, task_id)[count - 1]


class Program:
    """A process that tells what it does."""

    def __init__(self, process: asyncio.subprocess.Process, facts: Facts, errors: Path) -> None:
        self.facts = facts
        self.pid = process.pid
        self.was_killed = False
        self._process = process
        self._errors = errors

    async def ready(self) -> Fact:
        """What it says when it has begun."""
        await wait_until(
            lambda: bool(self.facts.of("ready")) or self._process.returncode is not None,
            timeout=PATIENCE,
            what="a program has begun",
        )
        assert self.facts.of("ready"), self._errors.read_text()
        return self.facts.of("ready")[0]

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.was_killed = True
        self._process.kill()
        await self._process.communicate()

    async def end(self) -> None:
        """Let it end in order."""
        await self._process.communicate(b"")
        assert self._process.returncode == 0, self._errors.read_text()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None


class Programs:
    """Starts programs on one Redis."""

    def __init__(self, go: Path, url: str, folder: Path) -> None:
        self.url = url
        self._go = go
        self._folder = folder
        self._numbers = itertools.count()
        self._asking = asyncio.Lock()
        self._asked: asyncio.subprocess.Process | None = None

    # --- asked and answered

    async def ask(self, question: Mapping[str, Any]) -> Any:
        """What Go answers. One process answers all questions of a test."""
        async with self._asking:
            if self._asked is None:
                self._asked = await asyncio.create_subprocess_exec(
                    self._go,
                    "ask",
                    self.url,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    limit=LONGEST_ANSWER,
                )
            assert self._asked.stdin is not None
            assert self._asked.stdout is not None
            self._asked.stdin.write(json.dumps(question).encode() + b"\n")
            answer = await self._asked.stdout.readline()
        assert answer, "the Go program has ended; what it said stands in the output of this test"
        return json.loads(answer)

    async def close(self) -> None:
        """End what answers questions."""
        if self._asked is not None:
            await self._asked.communicate(b"")

    async def enqueue(self, *tasks: NewTask) -> list[Any]:
        """Have Go enqueue these; its TaskInfo of each, or {"error": text}."""
        answer = await self.ask({"enqueue": [in_json(task) for task in tasks]})
        assert len(answer) == len(tasks)
        return list(answer)

    async def inspect(self, method: str, *arguments: object) -> Any:
        """What a method of asynq's Inspector returns.

        Raises:
            Refused: it returned an error.
        """
        answer = await self.ask({"inspect": method, "arguments": arguments})
        if isinstance(answer, dict) and answer.keys() == {"error"}:
            raise Refused(answer["error"])
        return [] if answer is None else answer

    # --- running

    @asynccontextmanager
    async def go_server(self, **settings: Any) -> AsyncIterator[Program]:
        """A Go server; settings are in `plan` of `go/asynq/serve.go`."""
        command = (str(self._go), "serve", self.url, json.dumps(settings))
        async with self._running(command) as program:
            yield program

    @asynccontextmanager
    async def go_scheduler(self, *entries: Mapping[str, Any]) -> AsyncIterator[Program]:
        """A Go scheduler; entries are in `go/asynq/schedule.go`."""
        settings = json.dumps({"entries": entries})
        async with self._running((str(self._go), "schedule", self.url, settings)) as program:
            yield program

    @asynccontextmanager
    async def our_server(self, **settings: Any) -> AsyncIterator[Program]:
        """A server of ours in a process of its own; settings are in `asynq_worker.py`."""
        settings = {"name": "ours", "shutdown_timeout": 0.1, **settings}
        command = (sys.executable, str(WORKER), self.url, json.dumps(settings))
        async with self._running(command) as program:
            yield program

    @asynccontextmanager
    async def _running(self, command: Iterable[str]) -> AsyncIterator[Program]:
        number = next(self._numbers)
        told, errors = self._folder / f"{number}.told", self._folder / f"{number}.errors"
        path = os.pathsep.join(filter(None, (str(SOURCE), str(ROOT), os.environ.get("PYTHONPATH"))))
        with told.open("ab") as output, errors.open("ab") as complaints:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=complaints,
                env={**os.environ, "PYTHONPATH": path},
            )
        program = Program(process, Facts(told), errors)
        try:
            await program.ready()
            yield program
            if program.is_running:
                await program.end()
        finally:
            if program.is_running:
                await program.kill()


def in_json(task: NewTask) -> dict[str, Any]:
    """A new task as the Go program reads it: what has its default is left to Go's default."""
    fields: dict[str, Any] = {
        name: value
        for name in NewTask.__struct_fields__
        if (value := getattr(task, name)) != getattr(_PLAIN, name)
    }
    fields |= {"type": task.type, "payload": None}
    if isinstance(task.payload, str | bytes):
        data = task.payload.encode() if isinstance(task.payload, str) else task.payload
        fields["payload"] = base64.b64encode(data).decode()
    if "headers" in fields:
        fields["headers"] = dict(task.headers)
    return fields


_PLAIN = NewTask(type="")


def payload_of(fact: Mapping[str, Any]) -> bytes:
    """The payload in what a program told or answered."""
    return base64.b64decode(fact.get("payload") or fact.get("Payload") or "")


def changed(task: NewTask, **options: Any) -> NewTask:
    """A copy with other options."""
    return msgspec.structs.replace(task, **options)
