"""Samples of a profiler become shares, and shares become microseconds."""

from __future__ import annotations

import pytest

from benchmarks import budget
from benchmarks.blocks import BLOCKS
from benchmarks.budget import Stack, parse, part_of, shares_of
from benchmarks.plan import Measure
from benchmarks.results import Budget, Part
from tests.benchmarks import runs

LOOP = "uv_run (core.c:452)"
HANDLE = "handle (benchmarks/contenders/ours.py:12)"
ADD = "Stream.add (pulsewire/streaming/stream.py:129)"


@pytest.mark.parametrize(
    ("frames", "part"),
    [
        ([LOOP, HANDLE, ADD], Part.FEATURE),
        ([LOOP, HANDLE], Part.CALLER),
        ([LOOP, ADD, "submit (pulsewire/_redis/pipeline.py:165)"], Part.CONNECTION),
        ([LOOP, ADD, "pack_command (pack.c:88)", "0x7f1 (libc.so.6)"], Part.PARSER),
        (
            [LOOP, ADD, "Struct_vectorcall (msgspec/_core.cpython-311-x86_64-linux-gnu.so)"],
            Part.CODECS,
        ),
        ([ADD, LOOP, "Py_DECREF (object.h:537)"], Part.LOOP),
        ([ADD, "create_task (asyncio/base_events.py:436)"], Part.LOOP),
        (["0x7f1 (python3.11)"], Part.OTHER),
        ([LOOP, ADD, "write (libc.so.6)"], Part.KERNEL),
        ([LOOP, "uv__io_poll (linux.c:1452)", "epoll_pwait (libc.so.6)"], None),
        (
            [
                "run (threading.py:9)",
                "PyThread_acquire_lock_timed (python3.11)",
                "0x7f1 (libc.so.6)",
            ],
            None,
        ),
    ],
)
def test_sample_belongs_to_the_innermost_frame_that_is_known(
    frames: list[str], part: Part | None
) -> None:
    """The kernel's part is the kernel's, and a thread that waits costs nothing."""
    assert part_of(frames) is part


def test_stacks_are_read_from_the_profilers_format() -> None:
    """A frame may hold spaces and brackets; the number after the last space is how often it was seen."""
    text = f"{LOOP};add.<locals>.operation (benchmarks/x.py:3) 12\n{ADD} 3\n\nnonsense\n"
    assert parse(text) == [
        Stack((LOOP, "add.<locals>.operation (benchmarks/x.py:3)"), 12),
        Stack((ADD,), 3),
    ]


def test_user_mode_is_shared_out_without_kernel_and_waiting() -> None:
    stacks = [
        Stack((LOOP, ADD), 30),
        Stack((LOOP,), 10),
        Stack((ADD, "write (libc.so.6)"), 500),
        Stack((LOOP, "epoll_pwait (libc.so.6)"), 900),
    ]
    assert shares_of(stacks) == ({Part.FEATURE: 0.75, Part.LOOP: 0.25}, 40)
    assert shares_of([]) == ({}, 0)


def test_budget_adds_up_to_what_was_measured_without_a_profiler() -> None:
    found = Budget(
        "made-up",
        runs.OURS,
        Measure.CLIENT_US,
        kernel=0.25,
        server_kernel=0.4,
        user={Part.LOOP: 0.2, Part.FEATURE: 0.8},
        samples=100,
    )
    parts = found.microseconds(runs.usual().rows[runs.OURS])
    assert list(parts) == [Part.FEATURE, Part.LOOP, Part.KERNEL, Part.SERVER, Part.SERVER_KERNEL]
    assert parts[Part.FEATURE] == pytest.approx(2.0 * 0.75 * 0.8)
    assert parts[Part.SERVER_KERNEL] == pytest.approx(1.5 * 0.4)
    assert sum(parts.values()) == pytest.approx(2.0 + 1.5)


def test_budget_of_what_was_not_measured_is_left_out() -> None:
    made = Budget("made-up", runs.SLOW, Measure.WORKER_US, 0.5, 0.5, {Part.LOOP: 1.0}, 1)
    gone = Budget("gone", runs.OURS, Measure.CLIENT_US, 0.5, 0.5, {Part.LOOP: 1.0}, 1)
    report = runs.report(runs.usual(), budgets=[made, gone])
    assert report.shared_out() == []


def test_everything_that_is_profiled_exists() -> None:
    """Each names a contender of its path, and a cost that the path measures."""
    paths = {path.key: path for paths in BLOCKS.values() for path in paths}
    for key, label, whose in budget.PROFILED:
        found = budget.chosen(paths[key])
        assert found is not None
        assert (found[0].label, found[1]) == (label, whose)
    assert budget.chosen(paths["idle"]) is None
