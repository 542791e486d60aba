"""The paths of the map block, their contenders and their targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks.plan import Contender, Measure, Path, Program, Shape, Target

OURS: Final = "pulsewire"
INDEX: Final = "pulsewire, map[key]"
GET: Final = "pulsewire, map.get(key)"
DICT_INDEX: Final = "dict[key]"
DICT_GET: Final = "dict.get(key)"
UNJOINED: Final = "pulsewire, not joined"
PLAIN: Final = "redis-py"
GO_PULSE: Final = "Go Pulse"

CALLERS: Final = {"callers": 100}
NOT_JOINED: Final[Mapping[str, str | int]] = {**CALLERS, "way": "unjoined"}
NOTICES: Final = 20_000
SIZE: Final = {"maps": 50}
PROCESSES: Final = 10

WRITE_NOTE: Final = (
    "One process that has joined the map itself, so that its replica takes in every change; no other process has."
    " redis-py runs pulsewire's scripts with EVALSHA and has no replica: it compares with pulsewire, not joined."
)

READ: Final = Path(
    key="map-read",
    title="map: one read",
    unit="ns",
    ours=INDEX,
    contenders=(
        Contender(INDEX, Program.PULSEWIRE, "map-read", Shape.LOCAL, {"way": "index"}),
        Contender(DICT_INDEX, Program.PLAIN, "map-read", Shape.LOCAL, {"way": "index"}),
        Contender(GET, Program.PULSEWIRE, "map-read", Shape.LOCAL, {"way": "get"}),
        Contender(DICT_GET, Program.PLAIN, "map-read", Shape.LOCAL, {"way": "get"}),
        Contender(GO_PULSE, Program.GO_PULSE, "map-read", Shape.LOCAL, is_beside=True),
        Contender(
            "pulsewire, fetch(key)", Program.PULSEWIRE, "map-fetch", Shape.REMOTE, is_beside=True
        ),
        Contender("redis-py, HGET", Program.PLAIN, "map-fetch", Shape.REMOTE, is_beside=True),
    ),
    targets=(
        Target("map[key] within 3 times dict[key]", INDEX, Measure.NS, 3.0, False, (DICT_INDEX,)),
        Target("map.get within 3 times dict.get", GET, Measure.NS, 3.0, False, (DICT_GET,)),
    ),
    note=(
        "One key of 1,000, each value 100 bytes. What reads from memory is an expression repeated without a loop around"
        " it; fetch and HGET are one caller that awaits each."
    ),
)

SET: Final = Path(
    key="map-set",
    title="map: set, 100 concurrent writers",
    unit="sets/s",
    ours=OURS,
    contenders=(
        Contender(OURS, Program.PULSEWIRE, "map-set", Shape.LOAD, CALLERS),
        Contender(UNJOINED, Program.PULSEWIRE, "map-set", Shape.LOAD, NOT_JOINED, is_beside=True),
        Contender(PLAIN, Program.PLAIN, "map-set", Shape.LOAD, CALLERS),
        Contender(GO_PULSE, Program.GO_PULSE, "map-set", Shape.LOAD, CALLERS),
    ),
    targets=(
        Target(
            "rate at least 1.2 x Go Pulse",
            OURS,
            Measure.RATE,
            1.2,
            True,
            (GO_PULSE,),
            goal="map set, 100 writers: rate",
        ),
        Target("rate at least 1.0 x redis-py", OURS, Measure.RATE, 1.0, True, (PLAIN,)),
    ),
    note=WRITE_NOTE,
)

INC: Final = Path(
    key="map-inc",
    title="map: inc, 100 concurrent writers",
    unit="incs/s",
    ours=OURS,
    contenders=(
        Contender(OURS, Program.PULSEWIRE, "map-inc", Shape.LOAD, CALLERS),
        Contender(UNJOINED, Program.PULSEWIRE, "map-inc", Shape.LOAD, NOT_JOINED, is_beside=True),
        Contender(PLAIN, Program.PLAIN, "map-inc", Shape.LOAD, CALLERS),
        Contender(GO_PULSE, Program.GO_PULSE, "map-inc", Shape.LOAD, CALLERS),
    ),
    targets=(
        Target("rate at least 1.0 x redis-py", OURS, Measure.RATE, 1.0, True, (PLAIN,)),
        Target("rate at least 1.0 x Go Pulse", OURS, Measure.RATE, 1.0, True, (GO_PULSE,)),
    ),
    note=WRITE_NOTE,
)

LATENCY: Final = Path(
    key="map-latency",
    title="map: from set to visible in another process",
    unit="ms",
    ours=OURS,
    contenders=(
        Contender(OURS, Program.PULSEWIRE, "map-watch", Shape.PAIR, sender="map-publish"),
        Contender(
            PLAIN, Program.PLAIN, "map-watch", Shape.PAIR, sender="map-publish", is_beside=True
        ),
        Contender(GO_PULSE, Program.GO_PULSE, "map-watch", Shape.PAIR, sender="map-publish"),
        Contender("PING", Program.PROBE, "ping-spaced", Shape.SPACED),
    ),
    targets=(
        Target(
            "p50 not above Go Pulse's",
            OURS,
            Measure.P50_MS,
            1.0,
            False,
            (GO_PULSE,),
            goal="map, set to visible in another process: p50",
        ),
        Target(
            "p99 not above Go Pulse's",
            OURS,
            Measure.P99_MS,
            1.0,
            False,
            (GO_PULSE,),
            goal="map, set to visible in another process: p99",
        ),
        Target("p50 at most 1 ms above PING", OURS, Measure.P50_MS, 1.0, False, ("PING",), True),
        Target("p99 at most 5 ms above PING", OURS, Measure.P99_MS, 5.0, False, ("PING",), True),
    ),
    note=(
        "One process sets, each time another key; another one sees it: in changes(), in its pub/sub loop with a dict,"
        " with Subscribe and Get."
    ),
)

HEAR: Final = Path(
    key="map-hear",
    title="map: a replica that hears 20,000 changes a second",
    unit="changes/s",
    ours=OURS,
    contenders=(
        Contender(
            OURS, Program.PULSEWIRE, "map-hear", Shape.HEAR, events=NOTICES, sender="notices"
        ),
        Contender(
            "pulsewire, changes()",
            Program.PULSEWIRE,
            "map-hear",
            Shape.HEAR,
            {"way": "changes"},
            NOTICES,
            "notices",
            is_beside=True,
        ),
        Contender(PLAIN, Program.PLAIN, "map-hear", Shape.HEAR, events=NOTICES, sender="notices"),
        Contender(
            GO_PULSE,
            Program.GO_PULSE,
            "map-hear",
            Shape.HEAR,
            events=NOTICES,
            sender="notices",
            is_beside=True,
        ),
    ),
    targets=(
        Target(
            "client CPU at most that of redis-py", OURS, Measure.CLIENT_US, 1.0, False, (PLAIN,)
        ),
    ),
    note=(
        "Client µs is that of the process that hears, for one change; changes come 20 at a time, once a millisecond."
        " With changes() each change is also given to a watcher."
    ),
)

FLEET: Final = Path(
    key="map-fleet",
    title="map: 10 idle processes with 50 maps of 1,000 keys each",
    unit="commands/s",
    ours=OURS,
    contenders=(
        Contender(OURS, Program.PULSEWIRE, "map-fleet", Shape.FLEET, SIZE, processes=PROCESSES),
        Contender(PLAIN, Program.PLAIN, "map-fleet", Shape.FLEET, SIZE, processes=PROCESSES),
        Contender(GO_PULSE, Program.GO_PULSE, "map-fleet", Shape.FLEET, SIZE, processes=PROCESSES),
    ),
    targets=(),
    only_full=True,
    note=(
        "Values of 100 bytes; nothing happens for 10 s. MiB is what a process has gained by joining (PSS) and what the"
        " server has gained by the maps and all connections; join is that of one process, map after map; CPU is that of"
        " one process, and of the server for all."
    ),
)

PATHS: Final = (READ, SET, INC, LATENCY, HEAR, FLEET)
