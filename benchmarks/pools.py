"""The paths of the pool block, their contenders and their targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks.plan import Contender, Measure, Path, Program, Shape, Target

ONE: Final = "pulsewire, 1 node"
TWO: Final = "pulsewire, 2 nodes"
FOUR: Final = "pulsewire, 4 nodes"
PULSE_ONE: Final = "Go Pulse, 1 node"
PULSE_TWO: Final = "Go Pulse, 2 nodes"
FEW: Final = "pulsewire, 100 jobs"
MANY: Final = "pulsewire, 20,000 jobs"
PULSE_FEW: Final = "Go Pulse, 100 jobs"
PULSE_MANY: Final = "Go Pulse, 2,000 jobs"

Options = Mapping[str, str | int]
WORKERS: Final[Options] = {"workers": 4}
AT_ONCE: Final[Options] = {**WORKERS, "callers": 100}
NODES: Final = 4
TTLS: Final = (1, 3, 10)
ON_TWO_NODES: Final = 1000
GRACE: Final = 5.0
"""Seconds beyond `worker_ttl` after which every job of a dead node is to run elsewhere."""

ROLE: Final = "pool-dispatch"

DISPATCH_NOTE: Final = (
    "The dispatcher is a client-only node in a process of its own (client µs); each node process has 4 workers (nodes"
    " µs: of all together). A dispatch ends when the job has started, so p50 and p99 are dispatch-to-started; the jobs"
    " run on. Commands are those of one dispatch, those inside scripts included. Stalled are the dispatches of all"
    " rounds that had no answer for a second; they and that second are left out of the rate."
)


def _dispatch(
    label: str,
    program: Program,
    nodes: int,
    events: int,
    options: Options,
    *,
    is_beside: bool = False,
) -> Contender:
    return Contender(
        label,
        program,
        ROLE,
        Shape.DISPATCH,
        options,
        events,
        processes=nodes,
        is_beside=is_beside,
    )


AT_ONCE_PATH: Final = Path(
    key="pool-dispatch",
    title="pool: dispatch, 100 at once",
    unit="dispatches/s",
    ours=ONE,
    contenders=(
        _dispatch(ONE, Program.PULSEWIRE, 1, 3000, AT_ONCE),
        _dispatch(TWO, Program.PULSEWIRE, 2, 3000, AT_ONCE),
        _dispatch(FOUR, Program.PULSEWIRE, 4, 3000, AT_ONCE),
        _dispatch(PULSE_ONE, Program.GO_PULSE, 1, 3000, AT_ONCE),
        _dispatch(PULSE_TWO, Program.GO_PULSE, 2, 3000, AT_ONCE),
    ),
    targets=(
        Target(
            "at least 5 x Go Pulse's rate with one node",
            ONE,
            Measure.RATE,
            5.0,
            True,
            (PULSE_ONE,),
            goal="pool dispatch, 100 at once, one node: rate",
        ),
        Target(
            "at least 5 x Go Pulse's rate with two nodes",
            TWO,
            Measure.RATE,
            5.0,
            True,
            (PULSE_TWO,),
            goal="pool dispatch, 100 at once, two nodes: rate",
        ),
        Target("at least 4,500 a second with one node", ONE, Measure.RATE, 4500, True),
        Target("at least 4,500 a second with four", FOUR, Measure.RATE, 4500, True),
        Target("four nodes no slower than one", FOUR, Measure.RATE, 1.0, True, (ONE,)),
    ),
    note=(
        f"{DISPATCH_NOTE} 3,000 dispatches for each, whose jobs run on: Go Pulse becomes slower with each of them."
    ),
)

ALONE: Final = Path(
    key="pool-dispatch-alone",
    title="pool: dispatch, one by one",
    unit="dispatches/s",
    ours=ONE,
    contenders=(
        _dispatch(ONE, Program.PULSEWIRE, 1, 1000, WORKERS),
        _dispatch(TWO, Program.PULSEWIRE, 2, 1000, WORKERS),
        _dispatch(PULSE_ONE, Program.GO_PULSE, 1, 1000, WORKERS, is_beside=True),
        _dispatch(PULSE_TWO, Program.GO_PULSE, 2, 1000, WORKERS, is_beside=True),
    ),
    targets=(
        Target(
            "p50 below 1.5 ms, one node",
            ONE,
            Measure.P50_MS,
            1.5,
            False,
            goal="pool, dispatched to started, one at a time: p50",
        ),
        Target(
            "p99 below 5 ms, one node",
            ONE,
            Measure.P99_MS,
            5.0,
            False,
            goal="pool, dispatched to started, one at a time: p99",
        ),
        Target("p50 below 1.5 ms, two nodes", TWO, Measure.P50_MS, 1.5, False),
        Target("p99 below 5 ms, two nodes", TWO, Measure.P99_MS, 5.0, False),
    ),
    note=f"{DISPATCH_NOTE} 1,000 dispatches.",
)

RUNNING: Final = Path(
    key="pool-running",
    title="pool: dispatch while many jobs run, 4 nodes, one by one",
    unit="dispatches/s",
    ours=FEW,
    contenders=(
        _dispatch(FEW, Program.PULSEWIRE, NODES, 500, {**WORKERS, "jobs": 100}),
        _dispatch(MANY, Program.PULSEWIRE, NODES, 500, {**WORKERS, "jobs": 20_000}),
        _dispatch(
            PULSE_FEW, Program.GO_PULSE, NODES, 500, {**WORKERS, "jobs": 100}, is_beside=True
        ),
        _dispatch(
            PULSE_MANY, Program.GO_PULSE, NODES, 500, {**WORKERS, "jobs": 2_000}, is_beside=True
        ),
    ),
    only_full=True,
    targets=(
        Target(
            "CPU of a dispatch with 20,000 jobs at most 1.2 x that with 100",
            MANY,
            Measure.CPU_US,
            1.2,
            False,
            (FEW,),
        ),
        Target(
            "p50 with 20,000 jobs at most 1.2 x that with 100",
            MANY,
            Measure.P50_MS,
            1.2,
            False,
            (FEW,),
        ),
    ),
    note=f"{DISPATCH_NOTE} 500 dispatches, beside so many jobs and 100 of the warm-up.",
)


def _failover(name: str, program: Program, ttl: int) -> Contender:
    options: Options = {**WORKERS, "ttl": ttl, "jobs": ON_TWO_NODES}
    return Contender(
        _with_ttl(name, ttl),
        program,
        "pool-survivor",
        Shape.FAILOVER,
        options,
        is_beside=program is Program.GO_PULSE,
        only_full=ttl == max(TTLS),
    )


def _with_ttl(name: str, ttl: int) -> str:
    return f"{name}, worker_ttl {ttl} s"


FAILOVER: Final = Path(
    key="pool-failover",
    title="pool: kill -9 of one of two nodes with 1,000 jobs",
    unit="last job elsewhere, s",
    ours=_with_ttl("pulsewire", TTLS[0]),
    contenders=(
        *(_failover("pulsewire", Program.PULSEWIRE, ttl) for ttl in TTLS),
        *(_failover("Go Pulse", Program.GO_PULSE, ttl) for ttl in TTLS),
    ),
    targets=tuple(
        Target(
            f"every job elsewhere within {ttl} + {GRACE:.0f} s",
            _with_ttl("pulsewire", ttl),
            Measure.LAST_S,
            ttl + GRACE,
            False,
        )
        for ttl in TTLS
    ),
    note=(
        "From the kill until the surviving node's handlers have started the first and the last of the dead node's jobs,"
        " about half of all. Leases are renewed every third of worker_ttl, so a kill finds between two thirds and the"
        " whole of it left."
    ),
)

PATHS: Final = (AT_ONCE_PATH, ALONE, RUNNING, FAILOVER)
