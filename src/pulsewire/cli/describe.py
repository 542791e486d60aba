"""Streams, maps, pools and servers in words: tables and JSON of what the library tells. Reads nothing itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

import pulsewire
from pulsewire.cli import render
from pulsewire.cli.map_document import Differences, value_as_data
from pulsewire.cli.pool_watch import Happening, Look
from pulsewire.pool import JobInfo, JobState, WorkerInfo
from pulsewire.streaming import GroupInfo

__all__ = [
    "as_data",
    "change_as_data",
    "change_line",
    "difference_lines",
    "differences_as_data",
    "dispatched",
    "event_as_data",
    "event_line",
    "happening_as_data",
    "happening_line",
    "in_words",
    "job_as_data",
    "job_row",
    "map_as_data",
    "map_row",
    "pool_as_data",
    "pool_row",
    "server_name",
    "show",
    "show_job",
    "show_map",
    "worker_as_data",
    "worker_row",
]


def server_name(hub: pulsewire.Hub) -> str:
    """Return what the hub is connected to, such as `valkey 9.1.2`."""
    version = ".".join(str(part) for part in hub.server.version)
    return f"{hub.server.kind} {version}"


def as_data(info: pulsewire.StreamInfo) -> dict[str, object]:
    """Return what is known of a stream, ready for JSON."""
    data: dict[str, object] = msgspec.to_builtins(info)
    return data


def event_as_data(event: pulsewire.Event[Any]) -> dict[str, Any]:
    """Return one event, ready for JSON."""
    return {
        "id": event.id,
        "stream": event.stream,
        "name": event.name,
        "topic": event.topic,
        "created_at": event.created_at,
        "headers": dict(event.headers),
        "payload": event.payload,
    }


def event_line(event: pulsewire.Event[Any]) -> str:
    """Return one event as one line: when, id, name, topic if it has one, payload."""
    parts = [f"{event.created_at.astimezone():%Y-%m-%d %H:%M:%S}", event.id]
    if event.name:
        parts.append(render.readable(event.name))
    if event.topic:
        parts.append(f"[{render.readable(event.topic)}]")
    parts.append(render.readable(event.payload))
    return "  ".join(parts)


def show(info: pulsewire.StreamInfo) -> None:
    """Print what is known of a stream: itself, its groups, their consumers."""
    render.fields(
        {
            "stream": info.name,
            "key": info.key,
            "length": render.how_many(info.length),
            "first id": info.first_id or "-",
            "last id": info.last_id or "-",
            "last generated id": info.last_generated_id or "-",
            "memory": render.how_much(info.memory_bytes),
            "groups": render.how_many(len(info.groups)),
        }
    )
    if not info.groups:
        return
    render.say()
    render.table(
        ("group", "consumer", "pending", "idle", "lag", "last delivered"),
        [row for group in info.groups for row in _group_rows(group)],
        numbers=("pending", "idle", "lag"),
    )


def _group_rows(group: GroupInfo) -> list[tuple[str, ...]]:
    whole = (
        group.name,
        "",
        render.how_many(group.pending),
        "",
        render.how_many(group.lag),
        group.last_delivered_id,
    )
    return [
        whole,
        *(
            ("", member.name, render.how_many(member.pending), render.how_long(member.idle), "", "")
            for member in group.consumers
        ),
    ]


# --- maps


def map_as_data(info: pulsewire.MapInfo) -> dict[str, object]:
    """Return what is known of a map, ready for JSON."""
    data: dict[str, object] = msgspec.to_builtins(info)
    return data | {"is_destroyed": info.is_destroyed}


def map_row(info: pulsewire.MapInfo) -> tuple[str, ...]:
    """Return what is known of a map as a row: name, keys, revision, last change, time to live, who listens."""
    return (
        render.readable(info.name),
        render.how_many(info.entries),
        render.how_many(info.revision),
        info.last_change or "-",
        "-" if info.ttl is None else render.how_long(info.ttl),
        render.how_many(info.replicas),
    )


def show_map(info: pulsewire.MapInfo) -> None:
    """Print what is known of a map."""
    _, entries, revision, last_change, ttl, replicas = map_row(info)
    render.fields(
        {
            "map": render.readable(info.name),
            "key": render.readable(info.key),
            "keys": entries,
            "revision": revision,
            "last change": last_change,
            "ttl": ttl,
            "memory": render.how_much(info.memory_bytes),
            "replicas": replicas,
        }
    )


def change_as_data(change: pulsewire.Change[bytes]) -> dict[str, object]:
    """Return one change of a map, ready for JSON."""
    return {
        "kind": change.kind,
        "key": change.key,
        "old": value_as_data(change.old),
        "new": value_as_data(change.new),
        "revision": change.revision,
    }


def change_line(change: pulsewire.Change[bytes]) -> str:
    """Return one change as one line: when it was seen, revision, kind, key, values."""
    parts = [f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}", str(change.revision), change.kind]
    if change.key is not None:
        parts.append(render.readable(change.key))
    if change.new is not None:
        parts.append(render.readable(change.new))
    if change.old is not None:
        parts.append(f"(was {render.readable(change.old)})")
    return "  ".join(parts)


def difference_lines(found: Differences) -> Iterator[str]:
    """Yield what an import would change: a line for each key that is added, changed or removed."""
    for key in sorted(found.added.keys() | found.changed.keys() | found.removed.keys()):
        name = render.readable(key)
        if key in found.added:
            yield f"+ {name}  {render.readable(found.added[key])}"
        elif key in found.changed:
            old, new = found.changed[key]
            yield f"~ {name}  {render.readable(old)} -> {render.readable(new)}"
        else:
            yield f"- {name}  {render.readable(found.removed[key])}"


def differences_as_data(found: Differences, *, dry_run: bool) -> dict[str, object]:
    """Return what an import changes, ready for JSON."""
    return {
        "dry_run": dry_run,
        "added": sorted(found.added),
        "changed": sorted(found.changed),
        "removed": sorted(found.removed),
        "unchanged": found.unchanged,
    }


# --- pools


def pool_as_data(name: str, look: Look, *, is_shutting_down: bool) -> dict[str, object]:
    """Return a pool in numbers, ready for JSON."""
    states = Counter(job.state for job in look.jobs.values())
    return {
        "pool": name,
        "is_shutting_down": is_shutting_down,
        "nodes": len({worker.node for worker in look.workers.values()}),
        "workers": len(look.workers),
        "jobs": len(look.jobs),
        **{state.value: states[state] for state in JobState},
    }


def pool_row(data: dict[str, object]) -> tuple[str, ...]:
    """Return `pool_as_data` as a row."""
    name = render.readable(data["pool"])
    numbers = (str(data[field]) for field in ("nodes", "workers", "jobs", *JobState))
    return (f"{name} (shutting down)" if data["is_shutting_down"] else name, *numbers)


def in_words(look: Look) -> str:
    """Return a pool in numbers for people."""
    return f"{len(look.workers):,} workers, {len(look.jobs):,} jobs"


def worker_as_data(worker: WorkerInfo, jobs: int) -> dict[str, object]:
    """Return what is known of a worker, ready for JSON."""
    data: dict[str, object] = msgspec.to_builtins(worker)
    return data | {"jobs": jobs}


def worker_row(worker: WorkerInfo, jobs: int, now: float) -> tuple[str, ...]:
    """Return a worker as a row: id, state, jobs, weight, how long it is there, host, pid, node."""
    return (
        render.readable(worker.id),
        worker.state,
        render.how_many(jobs),
        f"{worker.weight:g}",
        render.how_long(max(now - worker.started, 0.0)),
        render.readable(worker.host),
        str(worker.pid),
        render.readable(worker.node),
    )


def job_as_data(job: JobInfo) -> dict[str, object]:
    """Return what is known of a job, ready for JSON."""
    data: dict[str, object] = msgspec.to_builtins(job)
    if job.payload is None:
        del data["payload"]
        return data
    return data | {"payload": value_as_data(job.payload)}


def job_row(job: JobInfo, now: float) -> tuple[str, ...]:
    """Return a job as a row: key, state and for how long, owner, token, starts, progress, last error."""
    return (
        render.readable(job.key),
        job.state.value,
        _ago(job.since, now),
        job.owner or "-",
        str(job.token),
        str(job.starts),
        render.readable(job.progress),
        render.readable(job.error),
    )


def show_job(job: JobInfo, now: float) -> None:
    """Print what is known of a job."""
    key, state, since, owner, token, starts, progress, error = job_row(job, now)
    render.fields(
        {
            "job": key,
            "state": f"{state} for {since}",
            "owner": owner,
            "token": token,
            "starts": starts,
            "dispatched": f"{_ago(job.created_at, now)} ago",
            "progress": progress or "-",
            "last error": error or "-",
            "payload": "-" if not job.payload else render.readable(job.payload),
        }
    )


def dispatched(key: str, job: JobInfo | None) -> str:
    """Return what has become of a job that was dispatched, as one line."""
    name = f"job {render.readable(key)}"
    if job is None:
        return f"{name} has started, and ended"
    at = f" at worker {job.owner}, token {job.token}" if job.owner else ""
    return f"{name} is {job.state.value}{at}"


def happening_as_data(happening: Happening) -> dict[str, object]:
    """Return what has happened in a pool, ready for JSON."""
    data: dict[str, object] = {"kind": happening.kind, "worker": happening.worker}
    if happening.job is None:
        return data
    job = happening.job
    return data | {
        "job": job.key,
        "state": job.state.value,
        "was": happening.was,
        "token": job.token,
        "starts": job.starts,
    }


def happening_line(happening: Happening) -> str:
    """Return what has happened in a pool as one line: when it was seen, and what."""
    at = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"
    worker, job = happening.worker, happening.job
    if job is None:
        return f"{at}  {happening.kind}  {worker}"
    parts = [at, happening.kind if happening.kind != "job is" else f"job is {job.state.value}"]
    parts.append(render.readable(job.key))
    if happening.kind == "job moved":
        parts.append(f"{happening.was or 'no owner'} -> {worker or 'no owner'}")
    elif worker:
        parts.append(f"at {worker}")
    if happening.kind != "job ended":
        parts.append(f"{job.state.value}, token {job.token}")
    return "  ".join(parts)


def _ago(moment: datetime, now: float) -> str:
    return render.how_long(max(now - moment.timestamp(), 0.0))
