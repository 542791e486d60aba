"""`pulsewire pool`: who owns which job, since when and with which token; and what an operator may do about it.

Everything goes through a client-only node, which runs no jobs. Commands other than `dispatch --create` do not make a
pool: they say that there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated

import anyio
import typer

import pulsewire
from pulsewire.cli import describe, render
from pulsewire.cli.confirm import confirm
from pulsewire.cli.failures import FAILED
from pulsewire.cli.files import read_payload
from pulsewire.cli.options import AsJson, NamespaceOption, UrlOption
from pulsewire.cli.pool_watch import EMPTY, Look, happenings
from pulsewire.cli.running import Signals, run
from pulsewire.errors import JobNotFound, PoolShutDown, WorkerNotFound
from pulsewire.pool import JobInfo, JobState, Node, NodeOptions

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Look at worker pools: who owns which job; dispatch, stop, drain."
)

_DEFAULT = NodeOptions()

Pool = Annotated[str, typer.Argument(help="The pool.", metavar="POOL")]
Key = Annotated[str, typer.Argument(help="The job's key.", metavar="KEY")]
Payload = Annotated[
    str, typer.Argument(help="What the handler gets; - reads standard input.", metavar="PAYLOAD")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the outcome.")]
Timeout = Annotated[
    float | None, typer.Option(help="Seconds to wait.", min=0.001, show_default="the library's")
]

_DRAIN_LOOK = 0.2
"""Seconds between two looks whether a worker has jobs left."""


# --- looking


@app.command("ls")
def list_pools(
    pattern: Annotated[str, typer.Argument(help="Names with * and ?.")] = "*",
    *,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """List the pools, with their nodes, workers, and jobs by state."""

    async def command(_: Signals) -> None:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            names = [name for name in await hub.pools() if fnmatchcase(name, pattern)]
            found = [await _summary(hub, name) for name in names]
        if as_json:
            render.json_document(found)
        elif found:
            headings = ("pool", "nodes", "workers", "jobs", *(state.value for state in JobState))
            rows = [describe.pool_row(summary) for summary in found]
            render.table(headings, rows, numbers=headings[1:])
        else:
            render.say("no pools")

    run(command)


@app.command()
def workers(
    pool: Pool, *, as_json: AsJson = False, url: UrlOption = None, namespace: NamespaceOption = ""
) -> None:
    """List the workers of a pool: where they run, since when, their share, and how many jobs they own."""

    async def look(hub: pulsewire.Hub, node: Node) -> int:
        owned = Counter(job.owner for job in await node.jobs())
        found, now = node.pool_workers(), await hub.time()
        if as_json:
            data = [describe.worker_as_data(worker, owned[worker.id]) for worker in found]
            render.json_document(data)
        elif found:
            render.table(
                ("worker", "state", "jobs", "weight", "since", "host", "pid", "node"),
                [describe.worker_row(worker, owned[worker.id], now) for worker in found],
                numbers=("jobs", "weight", "since", "pid"),
                whole=("worker",),
            )
        else:
            render.say("no workers: jobs wait until a node adds one")
        return 0

    _at(pool, look, url, namespace)


@app.command()
def jobs(
    pool: Pool,
    pattern: Annotated[str, typer.Argument(help="Keys with * and ?.")] = "*",
    *,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    worker: Annotated[
        str | None, typer.Option(help="Only jobs of this worker.", metavar="ID")
    ] = None,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """List the jobs of a pool: state and since when, owner, fencing token, progress, last error.

    `starts` counts how often a job was given to an owner: 1 plus its moves and failed starts.
    """

    async def look(hub: pulsewire.Hub, node: Node) -> int:
        found = [
            job
            for job in await node.jobs()
            if fnmatchcase(job.key, pattern)
            and state in (None, job.state)
            and worker in (None, job.owner)
        ]
        now = await hub.time()
        if as_json:
            render.json_document([describe.job_as_data(job) for job in found])
        elif found:
            render.table(
                ("job", "state", "since", "owner", "token", "starts", "progress", "error"),
                [describe.job_row(job, now) for job in found],
                numbers=("since", "token", "starts"),
            )
        else:
            render.say("no jobs")
        return 0

    _at(pool, look, url, namespace)


@app.command()
def job(
    pool: Pool,
    key: Key,
    *,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Show one job, with its payload."""

    async def look(hub: pulsewire.Hub, node: Node) -> int:
        found = await node.job(key)
        if found is None:
            raise JobNotFound(pool, key)
        if as_json:
            render.json_document(describe.job_as_data(found))
        else:
            describe.show_job(found, await hub.time())
        return 0

    _at(pool, look, url, namespace)


@app.command()
def watch(
    pool: Pool,
    *,
    initial: Annotated[
        bool, typer.Option("--initial", help="First what is there already.")
    ] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.05)] = 1.0,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="End after this many lines.")
    ] = None,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Print workers that come and go, and jobs that change their owner or state, until Ctrl-C or the pool's end.

    It looks every so often: what came and went in between is not seen.
    """

    async def look(_: pulsewire.Hub, node: Node) -> int:
        before, printed = EMPTY if initial else await _look(node), 0
        if not as_json:
            render.note(f"watching pool {pool!r}: {describe.in_words(await _look(node))}")
        while True:
            now = await _look(node)
            for happening in happenings(before, now):
                if as_json:
                    render.json_line(describe.happening_as_data(happening))
                else:
                    render.say(describe.happening_line(happening))
                printed += 1
                if printed == limit:
                    return 0
            before = now
            with anyio.move_on_after(every):
                await node.wait_shutdown()
                if not as_json:
                    render.note(f"pool {pool!r} is shut down")
                return 0

    _at(pool, look, url, namespace)


# --- acting


@app.command()
def dispatch(
    pool: Pool,
    key: Key,
    payload: Payload = "",
    *,
    create: Annotated[
        bool, typer.Option("--create", help="Also where there is no such pool yet.")
    ] = False,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    max_queued_jobs: Annotated[
        int, typer.Option(min=1, help="Refuse if this many jobs wait for their start.")
    ] = _DEFAULT.max_queued_jobs,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Have a job run in a pool, and wait until it has started."""
    data = read_payload(payload)

    async def act(_: pulsewire.Hub, node: Node) -> int:
        await node.dispatch(key, data, wait=not no_wait, timeout=timeout)
        found = await node.job(key, payload=False)
        job = None if found is None else describe.job_as_data(found)
        said = {"key": key, "job": job}
        render.outcome(said, describe.dispatched(key, found), as_json=as_json)
        return 0

    _at(pool, act, url, namespace, create=create, max_queued_jobs=max_queued_jobs)


@app.command()
def stop(
    pool: Pool,
    keys: Annotated[list[str], typer.Argument(help="Which jobs.", metavar="KEY")],
    *,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """End jobs, wherever they run, and wait until their handlers have stopped."""

    async def act(_: pulsewire.Hub, node: Node) -> int:
        missing, stopped = [], []
        for key in keys:
            try:
                await node.stop_job(key, wait=not no_wait, timeout=timeout)
            except JobNotFound as error:
                missing.append(key)
                render.fail(str(error))
            else:
                stopped.append(key)
                if not as_json:
                    told = "is being stopped" if no_wait else "has ended"
                    render.say(f"job {render.readable(key)} {told}")
        if as_json:
            render.json_document({"stopped": stopped, "missing": missing})
        return FAILED if missing else 0

    _at(pool, act, url, namespace)


@app.command()
def notify(
    pool: Pool,
    key: Key,
    payload: Payload,
    *,
    timeout: Timeout = None,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Tell the handler of a job something. It says when the owner has it in its inbox, not what came of it."""
    data = read_payload(payload)

    async def act(_: pulsewire.Hub, node: Node) -> int:
        await node.notify(key, data, timeout=timeout)
        words = f"told the owner of job {render.readable(key)}"
        render.outcome({"key": key, "told": True}, words, as_json=as_json)
        return 0

    _at(pool, act, url, namespace)


@app.command()
def drain(
    pool: Pool,
    worker: Annotated[str, typer.Argument(help="Its id: see `workers`.", metavar="WORKER")],
    *,
    no_wait: NoWait = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait until it has no jobs left.", min=0.001)
    ] = _DEFAULT.worker_shutdown_ttl,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Move a worker's jobs to the others, before its process is stopped. It stays in the pool, and gets no new ones."""

    async def act(_: pulsewire.Hub, node: Node) -> int:
        found = {known.id: known for known in node.pool_workers()}
        if worker not in found:
            raise WorkerNotFound(pool, worker)
        if not any(known.state == "active" for known in found.values() if known.id != worker):
            render.fail(
                f"there is no other active worker in pool {pool!r}: its jobs have nowhere to go",
                "Start another node first.",
            )
            return FAILED
        await node.drain(worker)
        if no_wait:
            said = {"worker": worker, "drained": False}
            render.outcome(said, f"worker {worker} drains", as_json=as_json)
            return 0
        left = await _wait_drained(node, worker, timeout)
        if left:
            render.fail(
                f"worker {worker} still owns {left:,} jobs after {render.how_long(timeout)}",
                f"`pulsewire pool jobs {pool} --worker {worker}` shows them.",
            )
            return FAILED
        words = f"worker {worker} has no jobs any more; its process can be stopped"
        render.outcome({"worker": worker, "drained": True}, words, as_json=as_json)
        return 0

    _at(pool, act, url, namespace)


@app.command()
def shutdown(
    pool: Pool,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds that the jobs may take to stop.", min=0.001)
    ] = _DEFAULT.worker_shutdown_ttl,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """End a pool: on every node its jobs are stopped for good, and given to nobody."""
    confirm(
        f"Shut down pool {pool!r}, and end all its jobs?",
        yes=yes,
        refusal="this ends all jobs of the pool: add --yes",
        about="POOL",
    )

    async def act(_: pulsewire.Hub, node: Node) -> int:
        count, began = len(await node.jobs()), anyio.current_time()
        await node.shutdown()
        seconds = anyio.current_time() - began
        words = f"shut down pool {pool!r} with {count:,} jobs in {render.how_long(seconds)}"
        said = {"pool": pool, "jobs": count, "seconds": seconds}
        render.outcome(said, words, as_json=as_json)
        return 0

    _at(pool, act, url, namespace, worker_shutdown_ttl=timeout)


# --- shared by several


def _at(
    pool: str,
    act: Callable[[pulsewire.Hub, Node], Awaitable[int]],
    url: str | None,
    namespace: str,
    *,
    create: bool = False,
    max_queued_jobs: int = _DEFAULT.max_queued_jobs,
    worker_shutdown_ttl: float = _DEFAULT.worker_shutdown_ttl,
) -> None:
    """Run a command at a pool that is there; with `create` make it, with the default routing."""

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            is_there = pool in await hub.pools()
            if not is_there and not create:
                render.fail(
                    f"there is no pool {pool!r}", "`pulsewire pool ls` shows which there are."
                )
                return FAILED
            async with hub.node(
                pool,
                client_only=True,
                routing=None if is_there else "rendezvous",
                max_queued_jobs=max_queued_jobs,
                worker_shutdown_ttl=worker_shutdown_ttl,
            ) as node:
                return await act(hub, node)

    run(command)


async def _summary(hub: pulsewire.Hub, name: str) -> dict[str, object]:
    try:
        async with hub.node(name, client_only=True) as node:
            look = await _look(node)
    except PoolShutDown:
        return describe.pool_as_data(name, EMPTY, is_shutting_down=True)
    return describe.pool_as_data(name, look, is_shutting_down=False)


async def _look(node: Node) -> Look:
    return Look.of(node.pool_workers(), await node.jobs())


async def _wait_drained(node: Node, worker: str, timeout: float) -> int:
    """How many jobs a worker still owns after that time."""
    left: Sequence[JobInfo] = ()
    with anyio.move_on_after(timeout):
        while True:
            left = [job for job in await node.jobs() if job.owner == worker]
            if not left:
                break
            await anyio.sleep(_DRAIN_LOOK)
    return len(left)
