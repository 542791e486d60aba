"""The paths of the stream block, their contenders and their targets."""

from __future__ import annotations

from typing import Final

from benchmarks.plan import Contender, Measure, Path, Program, Shape, Target

OURS: Final = "pulsewire"
CONSUME: Final = "pulsewire, consume"
PLAIN: Final = "redis-py"
PROBE: Final = "bare probe"
GO: Final = "Go"
GO_100: Final = "Go, 100 goroutines"

SMALL: Final = 6_000
LARGE: Final = 40_000
READ: Final = 100_000

CALLERS: Final = {"callers": 100}

ADD: Final = Path(
    key="add",
    title="add, 100 concurrent callers",
    unit="adds/s",
    ours=OURS,
    contenders=(
        Contender(OURS, Program.PULSEWIRE, "add", Shape.LOAD, CALLERS),
        Contender(
            'pulsewire, retain="none"',
            Program.PULSEWIRE,
            "add",
            Shape.LOAD,
            {**CALLERS, "retain": "none"},
        ),
        Contender(PLAIN, Program.PLAIN, "add", Shape.LOAD, CALLERS),
        Contender(PROBE, Program.PROBE, "add", Shape.LOAD, CALLERS),
        Contender(GO, Program.GO, "add", Shape.LOAD, CALLERS),
    ),
    targets=(
        Target("rate at least 8 x redis-py", OURS, Measure.RATE, 8.0, True, (PLAIN,)),
        Target("rate at least 0.7 x the bare probe", OURS, Measure.RATE, 0.7, True, (PROBE,)),
        Target("rate at least 1.5 x Go", OURS, Measure.RATE, 1.5, True, (GO,)),
        Target("client CPU at most 1/3 of Go's", OURS, Measure.CLIENT_US, 1 / 3, False, (GO,)),
    ),
)

ADD_ALONE: Final = Path(
    key="add-alone",
    title="add, one caller awaiting each",
    unit="adds/s",
    ours=OURS,
    contenders=(
        Contender(OURS, Program.PULSEWIRE, "add", Shape.LOAD),
        Contender(
            'pulsewire, retain="none"', Program.PULSEWIRE, "add", Shape.LOAD, {"retain": "none"}
        ),
        Contender(PLAIN, Program.PLAIN, "add", Shape.LOAD),
        Contender(PROBE, Program.PROBE, "add", Shape.LOAD),
        Contender(GO, Program.GO, "add", Shape.LOAD),
        Contender("PING", Program.PROBE, "ping", Shape.LOAD),
    ),
    targets=(
        Target("rate at least 1.3 x redis-py", OURS, Measure.RATE, 1.3, True, (PLAIN,)),
        Target("client CPU at most 0.5 x redis-py", OURS, Measure.CLIENT_US, 0.5, False, (PLAIN,)),
    ),
)

SINK: Final = Path(
    key="sink",
    title="sink: read and acknowledge each event",
    unit="events/s",
    ours=CONSUME,
    contenders=(
        Contender(
            CONSUME, Program.PULSEWIRE, "sink", Shape.DRAIN, {**CALLERS, "way": "consume"}, LARGE
        ),
        Contender("pulsewire, async for", Program.PULSEWIRE, "sink", Shape.DRAIN, events=SMALL),
        Contender(PLAIN, Program.PLAIN, "sink", Shape.DRAIN, events=SMALL),
        Contender("redis-py, 100 tasks", Program.PLAIN, "sink", Shape.DRAIN, CALLERS, SMALL),
        Contender(GO, Program.GO, "sink", Shape.DRAIN, events=SMALL),
        Contender(GO_100, Program.GO, "sink", Shape.DRAIN, CALLERS, LARGE),
    ),
    targets=(
        Target(
            "rate at least 4 x redis-py with an XACK per event (the faster way)",
            CONSUME,
            Measure.RATE,
            4.0,
            True,
            (PLAIN, "redis-py, 100 tasks"),
        ),
        Target(
            "rate at least 1.0 x Go with 100 goroutines",
            CONSUME,
            Measure.RATE,
            1.0,
            True,
            (GO_100,),
        ),
    ),
)

READER: Final = Path(
    key="reader",
    title="reader",
    unit="events/s",
    ours=OURS,
    contenders=(
        Contender(OURS, Program.PULSEWIRE, "reader", Shape.DRAIN, events=READ),
        Contender(
            "pulsewire, read()", Program.PULSEWIRE, "reader", Shape.DRAIN, {"way": "read"}, READ
        ),
        Contender(PLAIN, Program.PLAIN, "reader", Shape.DRAIN, events=READ),
        Contender(GO, Program.GO, "reader", Shape.DRAIN, events=READ),
    ),
    targets=(Target("at least 100,000 events/s", OURS, Measure.RATE, 100_000, True),),
)

LATENCY: Final = Path(
    key="latency",
    title="idle latency, add to handler, two processes",
    unit="ms",
    ours=OURS,
    contenders=(
        Contender(OURS, Program.PULSEWIRE, "subscribe", Shape.PAIR),
        Contender(PLAIN, Program.PLAIN, "subscribe", Shape.PAIR),
        Contender(GO, Program.GO, "subscribe", Shape.PAIR),
        Contender("PING", Program.PROBE, "ping-spaced", Shape.SPACED),
    ),
    targets=(
        Target("p50 at most 1 ms above PING", OURS, Measure.P50_MS, 1.0, False, ("PING",), True),
        Target("p99 at most 5 ms above PING", OURS, Measure.P99_MS, 5.0, False, ("PING",), True),
    ),
)

IDLE: Final = Path(
    key="idle",
    title="idle process: one sink and one reader",
    unit="commands/s",
    ours=OURS,
    contenders=(Contender(OURS, Program.PULSEWIRE, "idle", Shape.IDLE),),
    targets=(Target("at most 2 commands a second", OURS, Measure.COMMANDS, 2.0, False),),
)

PATHS: Final = (ADD, ADD_ALONE, SINK, READER, LATENCY, IDLE)
