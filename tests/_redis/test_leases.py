"""The thread that keeps leases: it works while the main loop is blocked, through outages, and ends without a trace."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from pulsewire import OutcomeUnknown, ServerUnavailable
from pulsewire._redis.leases import LeaseThread
from pulsewire._redis.link import Link
from pulsewire.testing import ClusterGroup, SentinelGroup, SingleServer, Topology, wait_until
from tests._redis.kit import CountingHooks, opened_link
from tests.facts import PATIENCE, on_one_server

LOGGER = logging.getLogger("leases-of-a-test")


class Duty:
    """A duty that remembers its passes.

    Attributes:
        passes: the thread of each pass that went well.
        attempts: how many were begun.
        links: whom it was given.
        errors: raised by the next passes.
    """

    def __init__(self, key: str = "a") -> None:
        self.key = key
        self.passes: list[int] = []
        self.attempts = 0
        self.links: list[Link] = []
        self.errors: list[BaseException] = []

    async def do(self, link: Link) -> None:
        """One pass: ask the server something."""
        self.attempts += 1
        if self.errors:
            raise self.errors.pop(0)
        await link.call(self.key, "EXISTS", self.key, repeatable=True)
        if link not in self.links:
            self.links.append(link)
        self.passes.append(threading.get_ident())

    async def wait_passes(self, count: int = 1) -> None:
        """Return when so many more have gone well."""
        until = len(self.passes) + count
        await wait_until(
            lambda: len(self.passes) >= until, timeout=PATIENCE, what=f"{count} more passes"
        )


@asynccontextmanager
async def keeping(
    link: Link,
    duty: Callable[[Link], Awaitable[None]],
    every: float = 0.05,
    failures: list[BaseException] | None = None,
) -> AsyncIterator[LeaseThread]:
    """A thread that runs within the block; failures are unexpected unless a list is given for them."""
    unexpected: list[BaseException] = []
    told = failures if failures is not None else unexpected
    thread = LeaseThread(link, every, duty, told.append, LOGGER)
    thread.start()
    try:
        yield thread
    finally:
        await thread.stop()
        await wait_until(lambda: not thread._thread.is_alive(), what="the thread has ended")
    assert unexpected == []


# --- on every topology


async def test_duty_is_done_again_and_again_in_a_thread_with_a_link_of_its_own(
    topology: Topology,
) -> None:
    duty = Duty()
    async with opened_link(topology.url) as link:
        async with keeping(link, duty.do):
            await duty.wait_passes(3)
        count = len(duty.passes)
        assert set(duty.passes).isdisjoint({threading.get_ident()})
        assert len(set(duty.passes)) == 1
        assert len(duty.links) == 1
        assert duty.links[0] is not link
        assert await link.call("a", "EXISTS", "a", repeatable=True) == 0
        assert len(duty.passes) == count


async def test_blocked_main_loop_does_not_hold_the_thread_up(topology: Topology) -> None:
    duty = Duty()
    async with opened_link(topology.url) as link, keeping(link, duty.do, every=0.02):
        await duty.wait_passes()
        before = len(duty.passes)
        time.sleep(0.5)
        assert len(duty.passes) >= before + 3


# --- outages


async def test_thread_goes_on_after_a_server_was_away(fresh_server: SingleServer) -> None:
    """The same thread, as soon as the server is back."""
    duty = Duty()
    async with opened_link(fresh_server.url) as link, keeping(link, duty.do):
        await duty.wait_passes()
        await fresh_server.kill()
        attempts = duty.attempts
        await wait_until(
            lambda: duty.attempts > attempts + 2, what="it tries while nobody is there"
        )
        await fresh_server.restart()
        await duty.wait_passes(3)
        assert len(set(duty.passes)) == 1


async def test_thread_that_finds_no_server_at_first_tries_on(fresh_server: SingleServer) -> None:
    duty = Duty()
    async with opened_link(fresh_server.url) as link:
        await fresh_server.kill()
        async with keeping(link, duty.do):
            await anyio.sleep(0)
            await fresh_server.restart()
            await duty.wait_passes(2)


async def test_silent_server_is_given_up_soon(fresh_server: SingleServer) -> None:
    """A connection that says nothing counts as dead well within a lease; the passes go on when it speaks again."""
    duty = Duty()
    async with opened_link(fresh_server.url) as link, keeping(link, duty.do) as thread:
        await duty.wait_passes()
        assert thread._options.silence < link.options.silence
        fresh_server.pause()
        attempts = duty.attempts
        await wait_until(lambda: duty.attempts > attempts + 1, what="it has given one up")
        fresh_server.resume()
        await duty.wait_passes(2)


async def test_thread_follows_a_failover_by_sentinels(sentinel_group: SentinelGroup) -> None:
    """Its door to the sentinels is its own, too."""
    duty = Duty()
    async with opened_link(sentinel_group.url) as link, keeping(link, duty.do):
        await duty.wait_passes()
        old = await sentinel_group.kill_master()
        await sentinel_group.wait_new_master(old)
        await duty.wait_passes(3)
        assert len(set(duty.passes)) == 1


async def test_thread_makes_a_pass_when_another_master_is_announced(
    sentinel_group: SentinelGroup,
) -> None:
    """What was renewed at the old one last may be unknown to it. The next pass would come in an hour."""
    duty = Duty()
    async with (
        opened_link(sentinel_group.url) as link,
        keeping(link, duty.do, every=3600.0),
    ):
        await duty.wait_passes()
        (twin,) = duty.links
        before = twin.server_of(duty.key)
        new = await sentinel_group.failover()
        await wait_until(
            lambda: twin.server_of(duty.key) == (new.host, new.port), what="the thread knows"
        )
        assert before != twin.server_of(duty.key)
        await wait_until(
            lambda: len(duty.passes) > 1, timeout=PATIENCE, what="a pass at the new one"
        )


async def test_thread_follows_a_failover_in_a_cluster(cluster_group: ClusterGroup) -> None:
    duty = Duty("{pool}")
    async with opened_link(cluster_group.url) as link, keeping(link, duty.do):
        await duty.wait_passes()
        old = await cluster_group.node_of(duty.key)
        await cluster_group.failover(old)
        assert (await cluster_group.node_of(duty.key)).port != old.port
        await duty.wait_passes(3)
        assert len(set(duty.passes)) == 1


# --- what a pass raises


@on_one_server
@pytest.mark.parametrize(
    "error", [ServerUnavailable("here", 1.0, "away"), OutcomeUnknown("EVALSHA", "cut")]
)
async def test_passing_trouble_is_tried_again_at_once(topology: Topology, error: Exception) -> None:
    """Not an interval later, which is an hour here."""
    duty = Duty()
    duty.errors = [error] * 3
    async with opened_link(topology.url) as link, keeping(link, duty.do, every=3600.0):
        await wait_until(lambda: len(duty.passes) == 1, what="the first pass")
        assert duty.attempts == 4


@on_one_server
async def test_lasting_trouble_is_logged_once(
    topology: Topology, caplog: pytest.LogCaptureFixture
) -> None:
    duty = Duty()
    duty.errors = [ServerUnavailable("here", 1.0, "away")] * 6
    async with opened_link(topology.url) as link:
        async with keeping(link, duty.do):
            await duty.wait_passes()
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.message for record in said] == ["leases could not be renewed"]
    assert "away" in vars(said[0])["why"]


@on_one_server
async def test_any_other_error_ends_the_thread_and_is_told_on_the_main_loop(
    topology: Topology,
) -> None:
    error, told = RuntimeError("a bug"), asyncio.Event()
    failures: list[tuple[BaseException, int, asyncio.AbstractEventLoop]] = []

    def on_failed(failure: BaseException) -> None:
        failures.append((failure, threading.get_ident(), asyncio.get_running_loop()))
        told.set()

    duty = Duty()
    duty.errors = [error]
    async with opened_link(topology.url) as link:
        thread = LeaseThread(link, 0.05, duty.do, on_failed, LOGGER)
        thread.start()
        with anyio.fail_after(PATIENCE):
            await told.wait()
            await thread.stop()
        assert failures == [(error, threading.get_ident(), asyncio.get_running_loop())]
        assert duty.attempts == 1
        await wait_until(lambda: not thread._thread.is_alive(), what="the thread has ended")
        thread.hurry()


# --- hurrying and ending


@on_one_server
async def test_hurry_makes_a_pass_now(topology: Topology) -> None:
    duty = Duty()
    async with opened_link(topology.url) as link, keeping(link, duty.do, every=3600.0) as thread:
        await wait_until(lambda: len(duty.passes) == 1, what="the first pass")
        for count in (2, 3):
            thread.hurry()
            await wait_until(lambda count=count: len(duty.passes) == count, what="one more pass")  # type: ignore[misc]


@on_one_server
async def test_stop_lets_the_pass_that_is_under_way_end(topology: Topology) -> None:
    may_end, ended = threading.Event(), threading.Event()
    begun = threading.Event()

    async def slow(link: Link) -> None:
        begun.set()
        while not may_end.is_set():
            await asyncio.sleep(0.002)
        ended.set()

    async with opened_link(topology.url) as link:
        thread = LeaseThread(link, 3600.0, slow, lambda error: None, LOGGER)
        thread.start()
        await wait_until(begun.is_set, what="the pass has begun")
        async with anyio.create_task_group() as group:
            group.start_soon(thread.stop)
            await wait_until(lambda: thread._is_stopping, what="it is to stop")
            assert thread._thread.is_alive()
            may_end.set()
        assert ended.is_set()
        await wait_until(lambda: not thread._thread.is_alive(), what="the thread has ended")


@on_one_server
async def test_stop_may_be_called_at_any_time(topology: Topology) -> None:
    """Before the start, right after it, twice."""
    duty = Duty()
    async with opened_link(topology.url) as link:
        never = LeaseThread(link, 0.05, duty.do, lambda error: None, LOGGER)
        never.hurry()
        await never.stop()
        for _ in range(10):
            thread = LeaseThread(link, 3600.0, duty.do, lambda error: None, LOGGER)
            thread.start()
            with anyio.fail_after(PATIENCE):
                await thread.stop()
                await thread.stop()
            await wait_until(lambda thread=thread: not thread._thread.is_alive(), what="it ended")  # type: ignore[misc]


async def test_stop_does_not_wait_for_a_server_that_is_away(fresh_server: SingleServer) -> None:
    duty = Duty()
    async with opened_link(fresh_server.url) as link:
        thread = LeaseThread(link, 0.05, duty.do, lambda error: None, LOGGER)
        thread.start()
        await duty.wait_passes()
        await fresh_server.kill()
        attempts = duty.attempts
        await wait_until(lambda: duty.attempts > attempts, what="it has noticed")
        with anyio.fail_after(PATIENCE):
            await thread.stop()
        await wait_until(lambda: not thread._thread.is_alive(), what="the thread has ended")


@on_one_server
async def test_thread_leaves_no_connection_and_tells_no_hook_of_its_own(
    topology: Topology, single_server: SingleServer
) -> None:
    """Hooks are the main loop's: they are not called from another thread."""
    duty, hooks = Duty(), CountingHooks()
    async with opened_link(topology.url, hooks=hooks) as link:
        await link.call("a", "PING", repeatable=True)
        before, opened = set(await single_server.clients()), list(hooks.opened)
        async with keeping(link, duty.do):
            await duty.wait_passes()
            assert len(set(await single_server.clients()) - before) >= 1

        async def all_are_gone() -> bool:
            return set(await single_server.clients()) <= before

        await wait_until(all_are_gone, what="its connections are gone")
        assert (hooks.opened, hooks.lost) == (opened, [])


@on_one_server
async def test_main_loop_that_has_ended_is_not_told(topology: Topology) -> None:
    other = asyncio.new_event_loop()
    other.close()
    async with opened_link(topology.url) as link:
        thread = LeaseThread(link, 0.05, Duty().do, lambda error: None, LOGGER)
        thread._main = other
        thread.tell_main(lambda: None)
