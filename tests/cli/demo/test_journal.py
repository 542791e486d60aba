"""Journals: whole lines survive a kill, and are read as they appear."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pulsewire.cli.demo.journal import (
    Arrived,
    Bundled,
    Enqueued,
    Fired,
    Handled,
    JobBegan,
    JobOver,
    JournalReader,
    JournalWriter,
    Outcome,
    Published,
    Record,
    Refused,
    TaskBegan,
    TaskOver,
)

HANDLED = Handled(event="1-0", ticket="7", consumer="c", started=1.5, ended=1.6, deliveries=2)


def test_every_kind_of_record_comes_back_as_it_was(tmp_path: Path) -> None:
    records: list[Record] = [
        Arrived(pid=5, consumer="c"),
        Published(event="1-0", ticket="7", at=1.0),
        HANDLED,
        JobBegan(job="a", token=1, at=2.0),
        JobOver(job="a", token=1, at=3.0),
        Enqueued(task="a", asked=1.0, at=1.1),
        Refused(task="b", error="DuplicateTask", why="it is there"),
        Fired(task="c", at=1.0),
        TaskBegan(attempt=1, task="a", task_type="t", queue="low", retried=2, at=1.2),
        TaskOver(attempt=1, outcome=Outcome.FAILED, result="", at=1.3),
        Bundled(task="d", members=("e", "f")),
    ]
    path = tmp_path / "a.journal"
    with JournalWriter(path) as writer:
        for record in records:
            writer.write(record)
    assert JournalReader(path).read_new() == records


def test_reading_takes_up_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    reader = JournalReader(path)
    assert reader.read_new() == []  # there is no file yet
    with JournalWriter(path) as writer:
        assert reader.read_new() == []
        writer.write(Arrived(pid=1))
        assert reader.read_new() == [Arrived(pid=1)]
        assert reader.read_new() == []
        writer.write(HANDLED)
        writer.write(Arrived(pid=2))
        assert reader.read_new() == [HANDLED, Arrived(pid=2)]


def test_a_line_that_is_not_whole_waits_for_its_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with JournalWriter(path) as writer:
        writer.write(Arrived(pid=1))
        writer.write(HANDLED)
    whole = path.read_bytes()
    reader = JournalReader(path)
    path.write_bytes(whole[:-3])
    assert reader.read_new() == [Arrived(pid=1)]
    path.write_bytes(whole)
    assert reader.read_new() == [HANDLED]


def test_several_writers_append_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    for number in range(3):
        with JournalWriter(path) as writer:
            writer.write(Arrived(pid=number))
    assert JournalReader(path).read_new() == [Arrived(pid=number) for number in range(3)]


def test_a_foreign_line_is_an_error_and_not_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    path.write_bytes(b'{"type":"Rumour"}\n')
    with pytest.raises(msgspec.ValidationError):
        JournalReader(path).read_new()


def test_what_was_written_before_a_sigkill_is_there(tmp_path: Path) -> None:
    """The claim the whole verdict rests on, tried with a process that kills itself right after a write."""
    path = tmp_path / "a.journal"
    program = (
        "import os, pathlib, signal, sys\n"
        "from pulsewire.cli.demo.journal import Arrived, JournalWriter\n"
        "writer = JournalWriter(pathlib.Path(sys.argv[1]))\n"
        "for number in range(1000): writer.write(Arrived(pid=number))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, os.fspath(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert JournalReader(path).read_new() == [Arrived(pid=number) for number in range(1000)]
