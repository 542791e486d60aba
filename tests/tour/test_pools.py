"""A tour of worker pools: one idea per test, public names only. Read it from top to bottom.

`hub` is what `async with pulsewire.connect(url) as hub` gives; these tests have one for every kind of server. A second
node of the same hub stands for a second process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from pulsewire import (
    Hub,
    Job,
    JobExists,
    JobLost,
    JobNotFound,
    JobNotStarted,
    JobStartFailed,
    Node,
    PoolFull,
    PoolShutDown,
)
from pulsewire.pool import Plan
from pulsewire.testing import wait_until

pytestmark = pytest.mark.parametrize("topology", ["standalone", "cluster"], indirect=True)


class Mailboxes:
    """A handler as an object: `start` begins, `stop` ends, `notify` is told something."""

    def __init__(self) -> None:
        self.open: dict[str, Job] = {}
        self.heard: list[tuple[str, bytes]] = []

    async def start(self, job: Job) -> None:
        """Open a mailbox; one that does not exist is refused."""
        if job.payload == b"nobody":
            raise ValueError("there is no such mailbox")
        self.open[job.key] = job

    async def stop(self, key: str) -> None:
        """Close it."""
        del self.open[key]

    async def notify(self, key: str, payload: bytes) -> None:
        """Hear something."""
        self.heard.append((key, payload))


@pytest.fixture
async def node(hub: Hub) -> AsyncIterator[Node]:
    """One process in the pool `mail`. At the end of each test the pool is shut down: what is left would stay."""
    async with hub.node("mail") as entered:
        yield entered
        await entered.shutdown()


# --- one owner for each key


async def test_job_runs_at_a_worker_until_it_is_stopped(node: Node) -> None:
    """`dispatch` returns when the handler's `start` has; the job lives from then on."""
    boxes = Mailboxes()
    await node.add_worker(boxes)
    await node.dispatch("user:123", b"ada")
    assert boxes.open["user:123"].payload == b"ada"
    await node.stop_job("user:123")
    assert boxes.open == {}
    assert await node.job("user:123") is None


async def test_key_has_one_job(node: Node) -> None:
    """Whoever dispatches it a second time is told so, from whichever process."""
    await node.add_worker(Mailboxes())
    await node.dispatch("user:123")
    with pytest.raises(JobExists):
        await node.dispatch("user:123")


async def test_handler_may_refuse_a_job(node: Node) -> None:
    """Its exception comes to the dispatcher, and the job is not in the pool."""
    await node.add_worker(Mailboxes())
    with pytest.raises(JobStartFailed, match="no such mailbox"):
        await node.dispatch("user:123", b"nobody")
    assert await node.jobs() == ()


async def test_handler_may_be_one_coroutine_function(node: Node) -> None:
    """It is started as a task, cancelled to stop it; and the job ends when it returns."""
    may_return = anyio.Event()

    async def run(job: Job) -> None:
        await may_return.wait()

    await node.add_worker(run)
    await node.dispatch("image:1")
    assert await node.job("image:1") is not None
    may_return.set()
    await wait_until(lambda: not node.workers[0].jobs, what="the job has ended")


async def test_job_can_be_told_something(node: Node) -> None:
    """Wherever it runs, and after its start."""
    boxes = Mailboxes()
    await node.add_worker(boxes)
    await node.dispatch("user:123")
    await node.notify("user:123", b"new mail")
    await wait_until(lambda: boxes.heard == [("user:123", b"new mail")], what="it was heard")
    with pytest.raises(JobNotFound):
        await node.notify("user:124", b"new mail")


async def test_everyone_sees_who_owns_what(node: Node) -> None:
    """State, owner, fencing token, progress, payload: as Redis says."""
    boxes = Mailboxes()
    worker = await node.add_worker(boxes)
    await node.dispatch("user:123", b"ada")
    await boxes.open["user:123"].heartbeat("42 mails read")
    job = await node.job("user:123")
    assert job is not None
    assert (job.state, job.owner, job.starts) == ("running", worker.id, 1)
    assert (job.progress, job.payload) == ("42 mails read", b"ada")
    assert [known.id for known in node.pool_workers()] == [worker.id]


# --- when there is no worker, or too much to do


async def test_job_waits_until_a_worker_comes(node: Node) -> None:
    """It is admitted; only its start is not there yet."""
    with pytest.raises(JobNotStarted):
        await node.dispatch("user:123", timeout=0.05)
    boxes = Mailboxes()
    await node.add_worker(boxes)
    await wait_until(lambda: "user:123" in boxes.open, what="it has started")


async def test_full_pool_refuses_at_once(hub: Hub, node: Node) -> None:
    """And nothing that was admitted is lost for it."""
    async with hub.node("mail", client_only=True, max_queued_jobs=2) as producer:
        await producer.dispatch("user:1", wait=False)
        await producer.dispatch("user:2", wait=False)
        with pytest.raises(PoolFull):
            await producer.dispatch("user:3", wait=False)
    assert [job.key for job in await node.jobs()] == ["user:1", "user:2"]


# --- several workers


async def test_jobs_are_shared_by_their_keys(hub: Hub, node: Node) -> None:
    """The same key always goes to the same worker; different keys spread."""
    here, there = Mailboxes(), Mailboxes()
    await node.add_worker(here)
    async with hub.node("mail") as other:
        await other.add_worker(there)
        await wait_until(lambda: len(node.pool_workers()) == 2, what="they see each other")
        for number in range(30):
            await node.dispatch(f"user:{number}")
        assert here.open
        assert there.open
        assert len(here.open) + len(there.open) == 30


async def test_jobs_move_when_a_worker_comes(hub: Hub, node: Node) -> None:
    """Only those that belong to it: stopped at the old owner, then started at the new one, with a larger token."""
    here, there = Mailboxes(), Mailboxes()
    await node.add_worker(here)
    for number in range(30):
        await node.dispatch(f"user:{number}")
    tokens = {key: job.token for key, job in here.open.items()}
    async with hub.node("mail") as other:
        await other.add_worker(there)
        await wait_until(
            lambda: bool(there.open) and len(here.open) + len(there.open) == 30,
            what="some have moved",
        )
        moved = list(there.open.values())
        assert all(job.token > tokens[job.key] for job in moved)
        assert not here.open.keys() & there.open.keys()


async def test_node_that_leaves_hands_its_jobs_over(hub: Hub, node: Node) -> None:
    """A deploy loses nothing: leaving the block stops the jobs here and starts them elsewhere."""
    there = Mailboxes()
    async with hub.node("mail") as leaving:
        await leaving.add_worker(Mailboxes())
        await leaving.dispatch("user:123", b"ada")
        await node.add_worker(there)
    await wait_until(lambda: "user:123" in there.open, what="it runs at the other node")
    assert there.open["user:123"].payload == b"ada"


async def test_worker_can_be_drained(hub: Hub, node: Node) -> None:
    """Its jobs go to the others, and it gets no new ones. An id will do, from anywhere."""
    here, there = Mailboxes(), Mailboxes()
    first = await node.add_worker(here)
    await node.dispatch("user:123")
    async with hub.node("mail") as other, hub.node("mail", client_only=True) as operator:
        await other.add_worker(there)
        await operator.drain(first.id)
        await wait_until(lambda: "user:123" in there.open, what="it has moved")
        assert here.open == {}


async def test_old_owner_finds_out(hub: Hub, node: Node) -> None:
    """`heartbeat` raises once the job is another's: the token says whose word counts."""
    here, there = Mailboxes(), Mailboxes()
    worker = await node.add_worker(here)
    await node.dispatch("user:123")
    old = here.open["user:123"]
    await old.heartbeat()
    async with hub.node("mail") as other:
        await other.add_worker(there)
        await node.drain(worker)
        await wait_until(lambda: "user:123" in there.open, what="it has moved")
        assert there.open["user:123"].token > old.token
        with pytest.raises(JobLost):
            await old.heartbeat("still here")


async def test_end_of_the_pool_ends_all_jobs(hub: Hub, node: Node) -> None:
    """`close` hands jobs over; `shutdown` stops them everywhere, and they are given to nobody."""
    here, there = Mailboxes(), Mailboxes()
    await node.add_worker(here)
    async with hub.node("mail") as other:
        await other.add_worker(there)
        for number in range(10):
            await node.dispatch(f"user:{number}")
        await node.shutdown()
        await other.wait_shutdown()
        assert not here.open
        assert not there.open
        assert other.is_shut_down


async def test_nothing_joins_while_a_pool_shuts_down(hub: Hub, node: Node) -> None:
    """A stop that takes its time; meanwhile dispatching and joining are refused."""
    is_stopping, may_stop = anyio.Event(), anyio.Event()

    class Slow(Mailboxes):
        async def stop(self, key: str) -> None:
            is_stopping.set()
            await may_stop.wait()

    await node.add_worker(Slow())
    await node.dispatch("user:123")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.shutdown)
        await is_stopping.wait()
        with pytest.raises(PoolShutDown):
            await node.dispatch("user:124")
        with pytest.raises(PoolShutDown):
            await hub.node("mail").__aenter__()
        may_stop.set()


# --- time


async def test_each_tick_goes_to_one_node(hub: Hub, node: Node) -> None:
    """By the server's clock; whoever asks takes part."""
    dues = []

    async def wait_for_ticks(asker: Node) -> None:
        async for tick in asker.ticker("clean-up", every=0.05):
            dues.append(tick.due)
            if len(dues) >= 6:
                break

    async with hub.node("mail") as other, anyio.create_task_group() as tasks:
        tasks.start_soon(wait_for_ticks, node)
        tasks.start_soon(wait_for_ticks, other)
    assert len(dues) == len(set(dues))
    assert dues == sorted(dues)


async def test_schedule_keeps_jobs_as_a_plan_says(node: Node) -> None:
    """Every so often one node is asked which jobs there shall be; jobs that exist are left alone."""
    tenants = {"oslo", "lima"}

    class Pollers:
        name = "pollers"

        async def plan(self) -> Plan:
            return Plan(start=[(f"tenant:{name}", b"") for name in tenants], stop_all=True)

    boxes = Mailboxes()
    await node.add_worker(boxes)
    node.schedule(Pollers(), every=0.05)
    await wait_until(lambda: boxes.open.keys() == {"tenant:oslo", "tenant:lima"}, what="both run")
    tenants.discard("lima")
    await wait_until(lambda: boxes.open.keys() == {"tenant:oslo"}, what="one has gone")
