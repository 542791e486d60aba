"""How the worker of each task library is started, and how to see in Redis that nothing is left to do.

What the libraries are configured with stands in `contenders/tasks/`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis import Redis

from benchmarks.contender_process import ContenderFailed
from benchmarks.golang import GoPeer
from benchmarks.peers import PythonPeer
from benchmarks.plan import Program

MODULES: Final = "benchmarks.contenders.tasks"
WORKER: Final = "worker"
SIMPLE: Final = "simple"
THREADS: Final = "threads"
CELERY: Final = ("celery", "-A", f"{MODULES}.with_celery", "worker", "-l", "WARNING")
RQ: Final = ("rq", "worker", "--quiet", "--path", ".", "--url", "{url}")

Left = Callable[[Any], int]
"""Given a connection, how many tasks wait or are being worked on."""


@dataclass(frozen=True, slots=True)
class TaskProgram:
    """A task library."""

    library: str
    workers: Mapping[str, tuple[str, ...]]
    """The commands of its kinds of worker; the first word is a program of the library's environment."""
    left: Left


def _lists(*keys: str) -> Left:
    return lambda client: sum(int(client.llen(key)) for key in keys)


def _sorted_sets(*keys: str) -> Left:
    return lambda client: sum(int(client.zcard(key)) for key in keys)


def _hashes(*keys: str) -> Left:
    return lambda client: sum(int(client.hlen(key)) for key in keys)


def _stream_length(key: str) -> Left:
    return lambda client: int(client.xlen(key))


def _unacknowledged(key: str) -> Left:
    """Entries of a stream that its one group has not acknowledged; all of them as long as there is no group."""

    def left(client: Any) -> int:
        groups = client.xinfo_groups(key) if client.exists(key) else []
        if not groups:
            return int(client.xlen(key))
        return int(groups[0]["pending"]) + int(groups[0]["lag"] or 0)

    return left


def _both(first: Left, second: Left) -> Left:
    return lambda client: first(client) + second(client)


ASYNQ_LEFT: Final = _lists("asynq:{default}:pending", "asynq:{default}:active")

PROGRAMS: Final[Mapping[Program, TaskProgram]] = {
    Program.PULSEWIRE: TaskProgram(
        "pulsewire", {WORKER: ("python", "-m", f"{MODULES}.with_pulsewire")}, ASYNQ_LEFT
    ),
    Program.ASYNQ: TaskProgram("asynq", {WORKER: ()}, ASYNQ_LEFT),
    Program.ARQ: TaskProgram(
        "arq",
        {
            WORKER: (
                *("arq", f"{MODULES}.with_arq.WorkerSettings"),
                *("--custom-log-dict", f"{MODULES}.with_arq.QUIET"),
            )
        },
        _sorted_sets("arq:queue"),
    ),
    Program.CELERY: TaskProgram(
        "celery",
        {
            WORKER: (*CELERY, "-P", "prefork", "-c", "2"),
            THREADS: (*CELERY, "-P", "threads", "-c", "8"),
        },
        _both(_lists("celery"), _hashes("unacked")),
    ),
    Program.DOCKET: TaskProgram(
        "docket",
        {WORKER: ("python", "-m", f"{MODULES}.with_docket")},
        _stream_length("default:stream"),
    ),
    Program.DRAMATIQ: TaskProgram(
        "dramatiq",
        {WORKER: ("dramatiq", "-p", "1", "-t", "8", f"{MODULES}.with_dramatiq")},
        _hashes("dramatiq:default.msgs"),
    ),
    Program.HUEY: TaskProgram(
        "huey",
        {
            WORKER: (
                *("huey_consumer", f"{MODULES}.with_huey.HUEY", "--quiet"),
                *("--workers", "8", "--worker-type", "thread", "--no-periodic"),
            )
        },
        _lists("huey.redis.default"),
    ),
    Program.REPID: TaskProgram(
        "repid",
        {WORKER: ("python", "-m", f"{MODULES}.with_repid")},
        _unacknowledged("repid:default"),
    ),
    Program.RQ: TaskProgram(
        "rq",
        {WORKER: RQ, SIMPLE: (*RQ, "--worker-class", "rq.SimpleWorker")},
        _both(_lists("rq:queue:default"), _sorted_sets("rq:wip:default")),
    ),
    Program.SAQ: TaskProgram(
        "saq",
        {WORKER: ("saq", f"{MODULES}.with_saq.SETTINGS")},
        _sorted_sets("saq:default:incomplete"),
    ),
    Program.STREAQ: TaskProgram(
        "streaq",
        {WORKER: ("streaq", "run", f"{MODULES}.with_streaq:WORKER")},
        _stream_length("streaq:default:queues:normal"),
    ),
    Program.TASKIQ: TaskProgram(
        "taskiq",
        {
            WORKER: (
                *("taskiq", "worker", f"{MODULES}.with_taskiq:BROKER", "--workers", "1"),
                *("--max-async-tasks", "100", "--log-level", "WARNING"),
            )
        },
        _unacknowledged("taskiq"),
    ),
}

Peers = Mapping[Program, GoPeer | PythonPeer]


def left_in(program: Program, client: Redis) -> int:
    """How many tasks wait or are being worked on."""
    return PROGRAMS[program].left(client)


def producer_command(program: Program, peers: Peers) -> list[str]:
    """How the program that enqueues is started."""
    peer = peers.get(program)
    if isinstance(peer, GoPeer):
        return [str(_binary(peer))]
    module = ("-m", f"{MODULES}.produce", PROGRAMS[program].library)
    return [str(_python(peer)), *module]


def worker_command(program: Program, kind: str, peers: Peers, url: str) -> list[str]:
    """How a worker is started."""
    peer = peers.get(program)
    if isinstance(peer, GoPeer):
        return [str(_binary(peer)), WORKER]
    name, *words = PROGRAMS[program].workers[kind]
    return [str(_python(peer).parent / name), *(word.format(url=url) for word in words)]


def _binary(peer: GoPeer) -> Path:
    if peer.binary is None:
        raise ContenderFailed(peer.missing)
    return peer.binary


def _python(peer: PythonPeer | None) -> Path:
    """The library's own Python; pulsewire runs on ours."""
    if peer is None:
        return Path(sys.executable)
    if peer.python is None:
        raise ContenderFailed(peer.missing)
    return peer.python
