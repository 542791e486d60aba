"""The paths of the stream block, their contenders and their targets."""

from __future__ import annotations

from typing import Final

from benchmarks.plan import Contender, Measure, Path, Program, Shape, Target

OURS: Final = "pulsewire"
UNTRIMMED: Final = 'pulsewire, retain="none"'
CONSUME: Final = "pulsewire, consume"
PLAIN: Final = "redis-py"
PLAIN_TASKS: Final = "redis-py, 100 tasks"
FASTSTREAM: Final = "FastStream"
PROBE: Final = "bare probe"
GO_PULSE: Final = "Go Pulse"
GO_TEN: Final = "Go Pulse, 10 goroutines"
GO_HUNDRED: Final = "Go Pulse, 100 goroutines"

SLOW: Final = 3_000
SMALL: Final = 6_000
LARGE: Final = 40_000
READ: Final = 100_000

TEN: Final = {"callers": 10}
CALLERS: Final = {"callers": 100}
KEEP_NONE: Final = {"retain": "none"}

ADD: Final = Path(
    key="add",
    title="add, 100 concurrent callers",
    unit="adds/s",
    ours=OURS,
    contenders=(
        Contender(OURS, Program.PULSEWIRE, "add", Shape.LOAD, CALLERS),
        Contender(
            UNTRIMMED,
            Program.PULSEWIRE,
            "add",
            Shape.LOAD,
            {**CALLERS, **KEEP_NONE},
            is_beside=True,
        ),
        Contender(PLAIN, Program.PLAIN, "add", Shape.LOAD, CALLERS),
        Contender(FASTSTREAM, Program.FASTSTREAM, "add", Shape.LOAD, CALLERS, is_beside=True),
        Contender(PROBE, Program.PROBE, "add", Shape.LOAD, CALLERS),
        Contender(GO_PULSE, Program.GO_PULSE, "add", Shape.LOAD, CALLERS),
    ),
    targets=(
        Target(
            "rate at least 1.5 x Go Pulse",
            OURS,
            Measure.RATE,
            1.5,
            True,
            (GO_PULSE,),
            goal="stream add, 100 concurrent: rate",
        ),
        Target(
            "client CPU at most 1/3 of Go Pulse's",
            OURS,
            Measure.CLIENT_US,
            1 / 3,
            False,
            (GO_PULSE,),
            goal="stream add, 100 concurrent: client CPU of one",
        ),
        Target("rate at least 8 x redis-py", OURS, Measure.RATE, 8.0, True, (PLAIN,)),
        Target("rate at least 0.7 x the bare probe", OURS, Measure.RATE, 0.7, True, (PROBE,)),
    ),
    note="Every stream is kept to about 1,000 events. The events are 100 bytes.",
)

ADD_ALONE: Final = Path(
    key="add-alone",
    title="add, one caller awaiting each",
    unit="adds/s",
    ours=OURS,
    contenders=(
        Contender(OURS, Program.PULSEWIRE, "add", Shape.LOAD),
        Contender(UNTRIMMED, Program.PULSEWIRE, "add", Shape.LOAD, KEEP_NONE, is_beside=True),
        Contender(PLAIN, Program.PLAIN, "add", Shape.LOAD),
        Contender(FASTSTREAM, Program.FASTSTREAM, "add", Shape.LOAD, is_beside=True),
        Contender(PROBE, Program.PROBE, "add", Shape.LOAD, is_beside=True),
        Contender(GO_PULSE, Program.GO_PULSE, "add", Shape.LOAD, is_beside=True),
        Contender("PING", Program.PROBE, "ping", Shape.LOAD, is_beside=True),
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
        Contender(
            "pulsewire, async for",
            Program.PULSEWIRE,
            "sink",
            Shape.DRAIN,
            events=SMALL,
            is_beside=True,
        ),
        Contender(PLAIN, Program.PLAIN, "sink", Shape.DRAIN, events=SMALL),
        Contender(PLAIN_TASKS, Program.PLAIN, "sink", Shape.DRAIN, CALLERS, SMALL),
        Contender(
            FASTSTREAM,
            Program.FASTSTREAM,
            "sink",
            Shape.DRAIN,
            events=SLOW,
            fills_itself=True,
            is_beside=True,
        ),
        Contender(GO_PULSE, Program.GO_PULSE, "sink", Shape.DRAIN, events=SMALL, is_beside=True),
        Contender(GO_TEN, Program.GO_PULSE, "sink", Shape.DRAIN, TEN, LARGE),
        Contender(GO_HUNDRED, Program.GO_PULSE, "sink", Shape.DRAIN, CALLERS, LARGE),
    ),
    targets=(
        Target(
            "rate at least 1.0 x Go Pulse with 10 acknowledging goroutines",
            CONSUME,
            Measure.RATE,
            1.0,
            True,
            (GO_TEN,),
            goal="sink read and ack: rate, against 10 goroutines",
        ),
        Target(
            "rate at least 1.0 x Go Pulse with 100 acknowledging goroutines",
            CONSUME,
            Measure.RATE,
            1.0,
            True,
            (GO_HUNDRED,),
            goal="sink read and ack: rate, against 100 goroutines",
        ),
        Target(
            "rate at least 4 x redis-py with an XACK per event (the faster way)",
            CONSUME,
            Measure.RATE,
            4.0,
            True,
            (PLAIN, PLAIN_TASKS),
        ),
    ),
    note=(
        "The events are there before the sink is opened, and opening it is counted. The clock stops when the group has"
        " nothing pending. consume has 100 handlers at once and acknowledges those that returned together; redis-py, Go"
        " Pulse and FastStream (100 workers) send an XACK for each event."
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
            "pulsewire, read()",
            Program.PULSEWIRE,
            "reader",
            Shape.DRAIN,
            {"way": "read"},
            READ,
            is_beside=True,
        ),
        Contender(PLAIN, Program.PLAIN, "reader", Shape.DRAIN, events=READ, is_beside=True),
        Contender(GO_PULSE, Program.GO_PULSE, "reader", Shape.DRAIN, events=READ, is_beside=True),
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
        Contender(PLAIN, Program.PLAIN, "subscribe", Shape.PAIR, is_beside=True),
        Contender(FASTSTREAM, Program.FASTSTREAM, "subscribe", Shape.PAIR, is_beside=True),
        Contender(GO_PULSE, Program.GO_PULSE, "subscribe", Shape.PAIR, is_beside=True),
        Contender("PING", Program.PROBE, "ping-spaced", Shape.SPACED),
    ),
    targets=(
        Target("p50 at most 1 ms above PING", OURS, Measure.P50_MS, 1.0, False, ("PING",), True),
        Target("p99 at most 5 ms above PING", OURS, Measure.P99_MS, 5.0, False, ("PING",), True),
    ),
    note="One process adds every 5 to 10 ms, another one's sink takes it.",
)

IDLE: Final = Path(
    key="idle",
    title="idle process: one sink and one reader",
    unit="commands/s",
    ours=OURS,
    contenders=(
        Contender(OURS, Program.PULSEWIRE, "idle", Shape.IDLE),
        Contender(GO_PULSE, Program.GO_PULSE, "idle", Shape.IDLE, is_beside=True),
    ),
    targets=(Target("at most 2 commands a second", OURS, Measure.COMMANDS, 2.0, False),),
)

PATHS: Final = (ADD, ADD_ALONE, SINK, READER, LATENCY, IDLE)
