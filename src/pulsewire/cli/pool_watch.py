"""What has happened in a pool between two looks at it. Pure: `pool.py` looks, `describe.py` words it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from pulsewire.pool import JobInfo, WorkerInfo

__all__ = ["EMPTY", "Happening", "Look", "happenings"]

Kind = Literal[
    "worker joined",
    "worker left",
    "worker drains",
    "worker is active again",
    "job dispatched",
    "job moved",
    "job is",
    "job ended",
]


@dataclass(frozen=True, slots=True)
class Look:
    """A pool at one moment, by ids and keys."""

    workers: dict[str, WorkerInfo]
    jobs: dict[str, JobInfo]

    @classmethod
    def of(cls, workers: Iterable[WorkerInfo], jobs: Iterable[JobInfo]) -> Look:
        """What a node says of its pool."""
        return cls({worker.id: worker for worker in workers}, {job.key: job for job in jobs})


EMPTY = Look({}, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One thing that is different.

    Attributes:
        kind: what it is.
        worker: the worker that it is about, or the owner that the job has now; empty for none.
        job: the job as it is now; as it was, when it has ended; None for what is about a worker.
        was: the owner that the job had before it moved; empty for none.
    """

    kind: Kind
    worker: str
    job: JobInfo | None = None
    was: str = ""


def happenings(before: Look, now: Look) -> Iterator[Happening]:
    """What has changed, workers first: they are the reason why jobs move. What came and went in between is not seen."""
    yield from _of_workers(before, now)
    for key in sorted(before.jobs.keys() | now.jobs.keys()):
        job, old = now.jobs.get(key), before.jobs.get(key)
        if job is None and old is not None:
            yield Happening(kind="job ended", worker=old.owner, job=old)
        elif job is not None and (old is None or old.created_at != job.created_at):
            yield Happening(kind="job dispatched", worker=job.owner, job=job)
        elif job is not None and old is not None and job.owner != old.owner:
            yield Happening(kind="job moved", worker=job.owner, job=job, was=old.owner)
        elif job is not None and old is not None and job.state is not old.state:
            yield Happening(kind="job is", worker=job.owner, job=job)


def _of_workers(before: Look, now: Look) -> Iterator[Happening]:
    for worker in sorted(before.workers.keys() | now.workers.keys()):
        new, old = now.workers.get(worker), before.workers.get(worker)
        if new is None:
            yield Happening(kind="worker left", worker=worker)
        elif old is None:
            yield Happening(kind="worker joined", worker=worker)
        elif new.state != old.state:
            drains = new.state == "draining"
            yield Happening(
                kind="worker drains" if drains else "worker is active again", worker=worker
            )
