"""The paths of the task block, their contenders and their targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks.plan import Contender, Measure, Path, Program, Shape, Target
from benchmarks.task_programs import SIMPLE, THREADS, WORKER

Options = Mapping[str, str | int | float]

OURS: Final = "pulsewire"
BATCH: Final = "pulsewire, enqueue_many"
ASYNQ: Final = "Go asynq"
ASYNQ_TEN: Final = "Go asynq, 10 goroutines"
ASYNQ_PRODUCER: Final = "pulsewire, enqueued by Go asynq"
REPID: Final = "repid"
DOCKET: Final = "docket"
HUEY: Final = "Huey"
STREAQ_BATCH: Final = "streaq, enqueue_many"
OURS_BACKLOG: Final = "pulsewire, 200,000 scheduled"
ASYNQ_BACKLOG: Final = "Go asynq, 200,000 scheduled"

ENQUEUE: Final = "enqueue"
EMPTY: Final[Options] = {"payload": 0}
KIBIBYTE: Final[Options] = {"payload": 1024}
AT_ONCE: Final[Options] = {**EMPTY, "callers": 100}
BATCHED: Final[Options] = {**EMPTY, "way": "batch"}
SCHEDULED: Final = 200_000
PAUSE: Final = 0.015
"""Mean seconds between two tasks of a latency run: longer than anybody needs for one, but for RQ with its forks."""
RQ_PAUSE: Final = 0.2
RQ_TASKS: Final = 20

NOTE: Final = (
    "One worker process (Celery's prefork: two; RQ: a fork for each job), concurrency 100 where a worker has an event"
    " loop or goroutines, 8 threads for Dramatiq, Huey and Celery's threads. The tasks wait when the worker is"
    " started; the clock begins when a fifth has run and ends when the server holds none, neither waiting nor in"
    " progress. Worker µs and MiB are those of all its processes; commands are those of one task, inside scripts too;"
    " ran too often is the sum of all rounds. arq takes at most 500 jobs each half second, docket at most its"
    " concurrency each quarter. Huey does not acknowledge: a killed worker loses the tasks that it has."
)


def _enqueue(
    label: str, program: Program, options: Options, *, is_beside: bool = True
) -> Contender:
    return Contender(label, program, ENQUEUE, Shape.ENQUEUE, options, is_beside=is_beside)


ENQUEUE_ALONE: Final = Path(
    key="tasks-enqueue-alone",
    title="tasks: enqueue, one caller awaiting each",
    unit="tasks/s",
    ours=OURS,
    contenders=(
        _enqueue(OURS, Program.PULSEWIRE, EMPTY, is_beside=False),
        _enqueue(ASYNQ, Program.ASYNQ, EMPTY),
        *(
            _enqueue(str(program), program, EMPTY)
            for program in (
                *(Program.HUEY, Program.REPID, Program.DRAMATIQ, Program.SAQ, Program.STREAQ),
                *(Program.TASKIQ, Program.ARQ, Program.DOCKET, Program.CELERY, Program.RQ),
            )
        ),
    ),
    targets=(),
    note="One producer process; the task carries nothing but a number, and no result is kept.",
)

ENQUEUE_BEST: Final = Path(
    key="tasks-enqueue",
    title="tasks: enqueue, the best way of each",
    unit="tasks/s",
    ours=OURS,
    contenders=(
        _enqueue(OURS, Program.PULSEWIRE, AT_ONCE, is_beside=False),
        _enqueue(BATCH, Program.PULSEWIRE, BATCHED),
        _enqueue(ASYNQ_TEN, Program.ASYNQ, {**EMPTY, "callers": 10}, is_beside=False),
        _enqueue(STREAQ_BATCH, Program.STREAQ, BATCHED, is_beside=False),
        _enqueue(REPID, Program.REPID, AT_ONCE),
        _enqueue("RQ, enqueue_many", Program.RQ, BATCHED),
        _enqueue("SAQ", Program.SAQ, AT_ONCE),
        _enqueue("arq", Program.ARQ, AT_ONCE),
        _enqueue("docket, add_many", Program.DOCKET, BATCHED),
        _enqueue("taskiq", Program.TASKIQ, AT_ONCE),
    ),
    targets=(
        Target("rate at least 3 x streaq's batch", OURS, Measure.RATE, 3.0, True, (STREAQ_BATCH,)),
        Target(
            "rate at least that of Go asynq with ten goroutines",
            OURS,
            Measure.RATE,
            1.0,
            True,
            (ASYNQ_TEN,),
        ),
    ),
    note=(
        "One producer process. 100 callers that each await their task, unless the label says otherwise; a batch is"
        " 1,000 tasks. Celery, Dramatiq and Huey have no better way than one by one."
    ),
)


def _worker(
    label: str,
    program: Program,
    tasks: int,
    options: Options,
    kind: str = WORKER,
    *,
    is_beside: bool = True,
) -> Contender:
    return Contender(label, program, kind, Shape.TASKS, options, tasks, is_beside=is_beside)


def _drained(options: Options) -> tuple[Contender, ...]:
    """Everybody's worker, with as many tasks as take it one or two seconds."""
    return (
        _worker(OURS, Program.PULSEWIRE, 40_000, options, is_beside=False),
        _worker(ASYNQ, Program.ASYNQ, 10_000, options, is_beside=False),
        _worker(REPID, Program.REPID, 8_000, options, is_beside=False),
        _worker("taskiq", Program.TASKIQ, 3_000, options),
        _worker("Dramatiq", Program.DRAMATIQ, 3_000, options),
        _worker(HUEY, Program.HUEY, 2_500, options),
        _worker("SAQ", Program.SAQ, 2_500, options),
        _worker("arq", Program.ARQ, 2_500, options),
        _worker("streaq", Program.STREAQ, 1_500, options),
        _worker("Celery, prefork", Program.CELERY, 1_500, options),
        _worker("Celery, threads", Program.CELERY, 1_500, options, THREADS),
        _worker(DOCKET, Program.DOCKET, 1_000, options),
        _worker("RQ, SimpleWorker", Program.RQ, 200, options, SIMPLE),
        _worker("RQ", Program.RQ, 50, options),
    )


_DRAINED: Final = _drained(EMPTY)
PYTHON_PEERS: Final = tuple(
    each.label for each in _DRAINED if each.program not in {Program.PULSEWIRE, Program.ASYNQ}
)

DRAIN: Final = Path(
    key="tasks-drain",
    title="tasks: run what waits, a task that does nothing",
    unit="tasks/s",
    ours=OURS,
    contenders=_DRAINED,
    targets=(
        Target(
            "rate at least 4 x Go asynq",
            OURS,
            Measure.RATE,
            4.0,
            True,
            (ASYNQ,),
            goal="task drain, no-op, concurrency 100: rate",
        ),
        Target(
            "worker CPU of one at most 1/6 of the most frugal Python peer's",
            OURS,
            Measure.WORKER_US,
            1 / 6,
            False,
            PYTHON_PEERS,
            goal="task drain: worker CPU of one (at least 6 x as many per CPU second)",
        ),
        Target("at most 30 µs in the worker", OURS, Measure.WORKER_US, 30.0, False),
        Target("at most 30 µs in the server", OURS, Measure.SERVER_US, 30.0, False),
        Target("none ran too often", OURS, Measure.TOO_OFTEN, 0.0, False),
    ),
    note=NOTE,
)

DRAIN_KIBIBYTE: Final = Path(
    key="tasks-drain-1k",
    title="tasks: run what waits, 1 KiB each",
    unit="tasks/s",
    ours=OURS,
    contenders=_drained(KIBIBYTE),
    targets=(),
    note="As above.",
    only_full=True,
)


def _paced(
    label: str,
    program: Program,
    kind: str = WORKER,
    *,
    pause: float = PAUSE,
    tasks: int = 0,
    producer: Program | None = None,
    is_beside: bool = True,
) -> Contender:
    options: Options = {**EMPTY, "pause": pause}
    return Contender(
        label,
        program,
        kind,
        Shape.PACE,
        options,
        tasks,
        producer=producer,
        is_beside=is_beside,
    )


LATENCY: Final = Path(
    key="tasks-latency",
    title="tasks: from enqueue to start, idle worker, two processes",
    unit="ms",
    ours=OURS,
    contenders=(
        _paced(OURS, Program.PULSEWIRE, is_beside=False),
        _paced(ASYNQ_PRODUCER, Program.PULSEWIRE, producer=Program.ASYNQ, is_beside=False),
        _paced(ASYNQ, Program.ASYNQ, is_beside=False),
        _paced(REPID, Program.REPID),
        _paced(HUEY, Program.HUEY),
        _paced("taskiq", Program.TASKIQ),
        _paced("SAQ", Program.SAQ),
        _paced("streaq", Program.STREAQ),
        _paced(DOCKET, Program.DOCKET),
        _paced("Dramatiq", Program.DRAMATIQ),
        _paced("Celery, prefork", Program.CELERY),
        _paced("Celery, threads", Program.CELERY, THREADS),
        _paced("RQ, SimpleWorker", Program.RQ, SIMPLE),
        _paced("RQ", Program.RQ, pause=RQ_PAUSE, tasks=RQ_TASKS),
        _paced("arq", Program.ARQ),
    ),
    targets=(
        Target(
            "p50 at most 1/100 of Go asynq's",
            OURS,
            Measure.P50_MS,
            0.01,
            False,
            (ASYNQ,),
            goal="task, enqueued to started, idle worker: p50",
        ),
        Target("p50 below 2 ms", OURS, Measure.P50_MS, 2.0, False),
        Target("p99 below 10 ms", OURS, Measure.P99_MS, 10.0, False),
        Target("p50 below 2 ms, enqueued by Go asynq", ASYNQ_PRODUCER, Measure.P50_MS, 2.0, False),
        Target("p99 below 10 ms, same", ASYNQ_PRODUCER, Measure.P99_MS, 10.0, False),
    ),
    note=(
        "The producer writes the time of its call into the task, the task compares it with the same clock when it"
        " starts. Pauses are random, 15 ms in the mean (RQ, which forks for each job: 200 ms)."
    ),
)


def _backlog(label: str, program: Program, tasks: int, scheduled: int = 0) -> Contender:
    options: Options = {**EMPTY, "pause": PAUSE}
    return Contender(label, program, WORKER, Shape.BACKLOG, options, tasks, scheduled=scheduled)


SCHEDULED_WAITING: Final = Path(
    key="tasks-scheduled",
    title="tasks: run what waits, beside 200,000 scheduled tasks",
    unit="tasks/s",
    ours=OURS,
    contenders=(
        _backlog(OURS, Program.PULSEWIRE, 40_000),
        _backlog(OURS_BACKLOG, Program.PULSEWIRE, 40_000, SCHEDULED),
        _backlog(ASYNQ, Program.ASYNQ, 10_000),
        _backlog(ASYNQ_BACKLOG, Program.ASYNQ, 10_000, SCHEDULED),
    ),
    targets=(
        Target("rate at least 0.9 x that without", OURS_BACKLOG, Measure.RATE, 0.9, True, (OURS,)),
        Target("p99 below 10 ms", OURS_BACKLOG, Measure.P99_MS, 10.0, False),
        Target(
            "worker memory at most 1.05 x that without",
            OURS_BACKLOG,
            Measure.RSS_MIB,
            1.05,
            False,
            (OURS,),
        ),
    ),
    note=(
        "The scheduled tasks are due tomorrow. Rate and costs as in the paths above, then p50 and p99 from enqueue to"
        " start, with another worker; MiB is the larger of the two."
    ),
    only_full=True,
)

PATHS: Final = (ENQUEUE_ALONE, ENQUEUE_BEST, DRAIN, DRAIN_KIBIBYTE, LATENCY, SCHEDULED_WAITING)
