"""After a failover leases end earlier than their owners believe: owners ask the new server, janitors wait."""

from __future__ import annotations

from typing import Any

import pytest

import pulsewire
from pulsewire import ServerUnavailable
from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.failovers import PATIENCE as FAILOVER_PATIENCE
from pulsewire._core.failovers import REVALIDATION, Vigil
from pulsewire._redis.leases import LeaseThread
from pulsewire._redis.link import Link
from pulsewire.pool import Node
from pulsewire.testing import SentinelGroup, wait_until
from tests.facts import PATIENCE, Facts, Raw, on_one_server
from tests.pool.facts import MakeNode, Recorder, wait_running
from tests.pool.scenes import add_ghost, key_for, wait_forgotten

TTL = 0.6
LONG = 3600.0


def begin_vigil(node: Node) -> Vigil:
    """As if the node had only just begun to look at its server; it would go on for an hour."""
    vigil = node._staff.janitor._vigil = Vigil(LONG)
    return vigil


async def lapse(node: Node, worker: str, raw: Raw) -> None:
    """Have the lease of a worker end a moment ago, by the server's clock."""
    leases = node._store.keys.leases
    await raw(leases, "ZADD", leases, "XX", int(await node._link.time() * 1000) - 1, worker)


# --- the janitor


@on_one_server
async def test_janitor_that_has_not_looked_for_long_takes_nobody_for_dead(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """It may have come after a failover. But who has given up its lease does not believe in it."""
    async with make_node(worker_ttl=TTL) as node:
        vigil = begin_vigil(node)
        await node.add_worker(recorder)
        lapsed, resigned = [await add_ghost(node, LONG) for _ in range(2)]
        keys = [key_for(node, lapsed, "lapsed"), key_for(node, resigned, "resigned")]
        for key in keys:
            await node.dispatch(key, wait=False)
        await lapse(node, lapsed, raw)
        await node._store.give_up(resigned)
        await wait_running(keys[1:], recorder)
        await wait_forgotten(node, resigned)
        assert keys[0] not in recorder.running
        assert lapsed in await node._store.leases()
        vigil._since = SYSTEM_CLOCK.monotonic() - LONG
        await wait_running(keys, recorder)


@on_one_server
async def test_what_a_server_says_that_was_replaced_meanwhile_is_not_acted_upon(
    make_node: MakeNode, recorder: Recorder, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows which of the two has answered."""
    async with make_node(worker_ttl=LONG) as node:
        await node.add_worker(recorder)
        ghost = await add_ghost(node, LONG)
        key = key_for(node, ghost)
        await node.dispatch(key, wait=False)
        await lapse(node, ghost, raw)
        names = iter(("old", "new"))
        with monkeypatch.context() as patch:
            patch.setattr(node._link, "server_of", lambda _key: next(names))
            await node._staff.janitor.clean_up_once()
        assert next(names, None) is None
        assert ghost in await node._store.leases()
        assert recorder.calls == []
        await node._staff.janitor.clean_up_once()
        await wait_running([key], recorder)


async def test_janitor_holds_a_vigil_where_another_server_may_take_over(
    make_node: MakeNode, topology: Any
) -> None:
    """Elsewhere a death is noticed as soon as ever."""
    async with make_node() as node:
        may_fail_over = node._link.may_fail_over
        assert may_fail_over == (node._link.info.topology in ("sentinel", "cluster"))
        expected = FAILOVER_PATIENCE if may_fail_over else 0.0
        assert node._staff.janitor._vigil._patience == expected


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
async def test_vigil_begins_anew_at_a_failover(
    make_node: MakeNode, recorder: Recorder, raw: Raw, sentinel_group: SentinelGroup
) -> None:
    async with make_node(worker_ttl=20.0) as node:
        await node.add_worker(recorder)
        vigil = begin_vigil(node)
        await wait_until(lambda: vigil._since is not None, what="the vigil has begun")
        vigil._since = SYSTEM_CLOCK.monotonic() - LONG
        first, second, third = [await add_ghost(node, LONG) for _ in range(3)]
        await lapse(node, first, raw)
        await wait_forgotten(node, first)
        old = await sentinel_group.master()
        async with old.connection() as connection:  # the new one shall know them
            await connection.pipeline(("PUBLISH", "marker", ""), ("WAIT", 2, 5000))
        new = await sentinel_group.failover()
        await wait_until(
            lambda: vigil._server == (new.host, new.port), timeout=PATIENCE, what="it is noticed"
        )
        await lapse(node, second, raw)
        await node._store.give_up(third)
        await wait_forgotten(node, third)
        assert second in await node._store.leases()


# --- the owner


class MovingLink:
    """A link whose server is another one from time to time.

    Attributes:
        names: of the server that has the key, at each look; the last one for good.
        error: what becomes of a script, if not what the server says.
        asked: when a script was run, each time.
    """

    def __init__(self, link: Link) -> None:
        self.names: list[str] = []
        self.error: Exception | None = None
        self.asked: list[float] = []
        self._link = link

    def server_of(self, _key: str) -> object:
        """The next name."""
        return self.names.pop(0) if len(self.names) > 1 else self.names[0]

    async def run(self, *arguments: Any, **options: Any) -> Any:
        """Of a script."""
        self.asked.append(SYSTEM_CLOCK.monotonic())
        if self.error is not None:
            raise self.error
        return await self._link.run(*arguments, **options)

    async def renew(self, node: Node, *names: str) -> int:
        """One pass of the lease thread, while these are looked at; how many scripts it took."""
        self.names, before = list(names), len(self.asked)
        untyped: Any = self
        await node._staff._renew(untyped)
        return len(self.asked) - before


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease thread does nothing: the test renews."""

    def start(_thread: LeaseThread) -> None:
        """Never."""

    monkeypatch.setattr(LeaseThread, "start", start)


@on_one_server
@pytest.mark.usefixtures("by_hand")
async def test_renewal_counts_if_one_server_had_the_leases_all_the_time(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """Else it is asked for again, at the one that has them now."""
    async with make_node(worker_ttl=LONG) as node:
        worker, link = await node.add_worker(recorder), MovingLink(node._link)
        tenure = node._staff._tenure
        assert await link.renew(node, "old") == 1
        first = tenure.deadline(worker.id)
        assert first <= link.asked[-1] + LONG
        assert await link.renew(node, "old", "new") == 2
        assert first < tenure.deadline(worker.id) <= link.asked[-1] + LONG
        assert await link.renew(node, "new") == 1
        assert await link.renew(node, "new", "old", "old", "new") == 2
        assert tenure.deadline(worker.id) <= link.asked[-1] + REVALIDATION


@on_one_server
@pytest.mark.usefixtures("by_hand")
async def test_owner_that_cannot_ask_the_new_server_stops_soon(
    make_node: MakeNode, recorder: Recorder, watched: pulsewire.Hub, facts: Facts
) -> None:
    """What it renewed a moment ago may be unknown there. It is no matter of the length of its lease."""
    async with make_node(of=watched, worker_ttl=LONG) as node:
        worker, link = await node.add_worker(recorder), MovingLink(node._link)
        await node.dispatch("a")
        before = worker.id
        await link.renew(node, "old")
        link.error = ServerUnavailable("the new one", 0.0, "it does not answer")
        with pytest.raises(ServerUnavailable):
            await link.renew(node, "new")
        assert node._staff._tenure.deadline(before) <= link.asked[-1] + REVALIDATION
        await wait_until(lambda: bool(facts.of("worker_fenced")), what="it stops")
        assert facts.of("worker_fenced") == [("pool", before, 1)]
        await wait_until(lambda: len(recorder.starts("a")) == 2, what="the job is back")


@on_one_server
async def test_jobs_of_a_worker_that_was_fenced_wait_for_no_vigil(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """Its handlers have stopped: it says so."""
    async with make_node(worker_ttl=TTL) as node:
        begin_vigil(node)
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        await lapse(node, worker.id, raw)
        await wait_until(lambda: len(recorder.starts("a")) == 2, what="the job is back")
        assert [call.what for call in recorder.calls] == ["start", "stop", "start"]
