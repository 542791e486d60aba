"""The words of a benchmark: path, contender, target, form.

A block (streams, later maps, pools, tasks) describes its paths with these; `session` runs them and
`results` judges them. Nothing here touches a server or a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

PAYLOAD_BYTES: Final = 100


class Program(StrEnum):
    """Who is measured; the value is what the report calls it."""

    PULSEWIRE = "pulsewire"
    PLAIN = "redis-py"
    PROBE = "bare probe"
    GO = "Go"


class Shape(StrEnum):
    """How a contender runs."""

    LOAD = "load"
    """One process repeats an operation for the form's time."""
    DRAIN = "drain"
    """One process takes a number of events that were loaded before."""
    PAIR = "pair"
    """Two processes: one publishes now and then, the other measures how old the events are."""
    SPACED = "spaced"
    """One process acts now and then and times each act."""
    IDLE = "idle"
    """One process that does nothing while the server counts its commands."""


class Measure(StrEnum):
    """What a sample holds; the value is its name in the JSON result."""

    RATE = "rate"
    CLIENT_US = "client_us"
    SERVER_US = "server_us"
    P50_MS = "p50_ms"
    P99_MS = "p99_ms"
    COMMANDS = "commands_per_second"
    FOREIGN = "foreign_share"
    """Share of the machine that others used meanwhile; tells how far to trust the rest."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to walk a path."""

    label: str
    program: Program
    role: str
    shape: Shape
    options: Mapping[str, str | int] = field(default_factory=dict)
    events: int = 0
    """For `DRAIN`: how many, chosen so that a run takes about a second; rates do not depend on it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A figure to reach: `of`, against the best of `versus`, at least or at most `bound`."""

    text: str
    of: str
    measure: Measure
    bound: float
    at_least: bool
    versus: tuple[str, ...] = ()
    difference: bool = False
    """Compare by subtraction instead of by ratio."""


@dataclass(frozen=True, slots=True)
class Path:
    """One thing users do, measured for every contender in turn."""

    key: str
    title: str
    unit: str
    contenders: tuple[Contender, ...]
    targets: tuple[Target, ...]
    ours: str
    """The contender that the others are compared with in the table."""


@dataclass(frozen=True, slots=True)
class Form:
    """How long a run may take."""

    name: str
    rounds: int
    load_seconds: float
    drain_scale: float
    latency_events: int
    idle_seconds: float


SHORT: Final = Form("short", 3, 0.6, 1.0, 250, 10.0)
FULL: Final = Form("full", 5, 2.0, 3.0, 500, 10.0)
