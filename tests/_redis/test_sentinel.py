"""The link to whichever master the sentinels name."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from pulsewire._redis.link import Link, Unsettled
from pulsewire.errors import InvalidTarget, ServerUnavailable
from pulsewire.testing import SentinelGroup, SingleServer, wait_until
from tests._redis.kit import CountingHooks, opened_link

SERVICE = "mymaster"
PACE = (
    0.002  # seconds between the writes of one writer: the sentinels need some of the machine, too
)


@pytest.fixture
def topology(sentinel_group: SentinelGroup) -> SentinelGroup:
    """These tests are about sentinels alone. The name makes the suite look after its connections and keys."""
    return sentinel_group


def url_of(*sentinels: object, service: str = SERVICE, options: str = "") -> str:
    """A URL with these sentinels, in this order."""
    places = ",".join(f"127.0.0.1:{getattr(sentinel, 'port', sentinel)}" for sentinel in sentinels)
    return f"redis+sentinel://{places}/{service}{options}"


class Writers:
    """Concurrent writers without permission to repeat: what they were told is compared with what is there."""

    def __init__(self, link: Link, key: str, count: int = 20) -> None:
        self.link = link
        self.key = key
        self.done: list[int] = []
        self.unsettled = 0
        self._tasks = [asyncio.create_task(self._write()) for _ in range(count)]
        self._is_ending = False

    async def _write(self) -> None:
        while not self._is_ending:
            try:
                self.done.append(await self.link.call(self.key, "INCR", self.key))
            except Unsettled:
                self.unsettled += 1
            await anyio.sleep(PACE)

    async def wait_more(self, count: int = 100) -> None:
        """Return when so many more writes were done."""
        goal = len(self.done) + count
        failed = [task for task in self._tasks if task.done()]
        assert not failed, failed
        await wait_until(lambda: len(self.done) >= goal, timeout=20.0, what="the writers go on")

    async def end(self) -> None:
        """Let them finish, and raise what went wrong."""
        self._is_ending = True
        await asyncio.gather(*self._tasks)


async def test_master_is_found(sentinel_group: SentinelGroup, namespace: str) -> None:
    async with opened_link(sentinel_group.url) as link:
        assert link.info.topology == "sentinel"
        assert link.info.role == "master"
        assert not link.is_cluster
        await link.call("k", "SET", f"{namespace}:k", "v", "EX", 60)
        master = await sentinel_group.master()
        assert await master.command("GET", f"{namespace}:k") == b"v"


async def test_calls_go_on_at_the_new_master_after_the_old_one_was_killed(
    sentinel_group: SentinelGroup, namespace: str
) -> None:
    """Nobody restarts anything; writes under way have an outcome, and acknowledged ones that were replicated stay."""
    key = f"{namespace}:count"
    async with opened_link(sentinel_group.url) as link:
        await link.call(key, "SET", key, 0, "EX", 300)
        writers = Writers(link, key)
        await writers.wait_more()
        old = await sentinel_group.kill_master()
        new = await sentinel_group.wait_new_master(old)
        await writers.wait_more()
        await writers.end()
        assert writers.unsettled <= 20
        assert int(await link.call(key, "GET", key)) >= max(writers.done)
        assert int(await new.command("GET", key)) >= max(writers.done)


async def test_calls_go_on_at_the_new_master_after_an_orderly_failover(
    sentinel_group: SentinelGroup, namespace: str
) -> None:
    """The old master turns replica under load: READONLY, connections closed, and the way to the new one."""
    key, hooks = f"{namespace}:count", CountingHooks()
    async with opened_link(sentinel_group.url, hooks=hooks) as link:
        await link.call(key, "SET", key, 0, "EX", 300)
        old = await sentinel_group.master()
        writers = Writers(link, key, 10)
        await writers.wait_more()
        new = await sentinel_group.failover()
        assert new is not old

        async def is_demoted() -> bool:
            return (await old.info("replication"))["role"] == "slave"

        await wait_until(is_demoted, what="the old master is a replica")
        await writers.wait_more()
        await writers.end()
        connection = await link.connection_for(key)
        assert connection.client_id in await new.clients()
        assert int(await new.command("GET", key)) >= writers.done[-1]


async def test_master_that_sentinels_have_replaced_is_left_though_it_still_takes_writes(
    sentinel_group: SentinelGroup, namespace: str
) -> None:
    """After an ordered failover it goes on accepting them until it is told, for seconds: all of them would be lost."""
    key = f"{namespace}:k"
    async with opened_link(sentinel_group.url) as link:
        await link.call(key, "SET", key, "before", "EX", 300)
        new = await sentinel_group.failover()

        async def is_at_the_new_one() -> bool:
            connection = await link.connection_for(key)
            return connection.client_id in await new.clients()

        await wait_until(is_at_the_new_one, timeout=1.0, what="the link went to the new master")
        await link.call(key, "SET", key, "after", "EX", 300)
        assert await new.command("GET", key) == b"after"


async def test_server_has_another_name_after_a_failover(sentinel_group: SentinelGroup) -> None:
    """And whoever wants to know is told, once the sentinels have said so."""
    old, told = await sentinel_group.master(), list[object]()
    async with opened_link(sentinel_group.url) as link:
        link.on_moved = lambda: told.append(link.server_of("k"))
        assert link.may_fail_over
        assert link.server_of("k") == (old.host, old.port)
        new = await sentinel_group.failover()
        await wait_until(lambda: bool(told), what="the link has heard of it")
        assert set(told) == {(new.host, new.port)}
        await link.call("k", "EXISTS", "k", repeatable=True)
        assert link.server_of("k") == (new.host, new.port)


@pytest.mark.parametrize("trouble", ["killed", "paused"])
async def test_some_sentinels_may_be_down(sentinel_group: SentinelGroup, trouble: str) -> None:
    """One that answers is enough, wherever it stands in the URL; a silent one costs a second."""
    first, *_, last = sentinel_group.sentinels
    if trouble == "killed":
        await first.kill()
    else:
        first.pause()
    async with opened_link(url_of(first, 1, last)) as link:
        assert await link.call("k", "ECHO", "x") == b"x"


async def test_link_that_is_connected_does_not_need_its_sentinels(
    sentinel_group: SentinelGroup,
) -> None:
    async with opened_link(sentinel_group.url) as link:
        for sentinel in sentinel_group.sentinels:
            sentinel.pause()
        assert await link.call("k", "ECHO", "x") == b"x"
        for sentinel in sentinel_group.sentinels:
            sentinel.resume()


async def test_no_sentinel_at_all_is_said_with_the_services_name() -> None:
    with pytest.raises(ServerUnavailable, match="'mymaster'"):
        async with opened_link(url_of(1, 2), wait_for_server=0.2):
            pass


async def test_wrong_service_name_is_said(sentinel_group: SentinelGroup) -> None:
    with pytest.raises(ServerUnavailable, match="No master found for 'wrongmaster'"):
        async with opened_link(
            url_of(*sentinel_group.sentinels, service="wrongmaster"), wait_for_server=0.3
        ):
            pass


async def test_server_that_is_no_sentinel_is_said_at_once(single_server: SingleServer) -> None:
    with pytest.raises(InvalidTarget, match="not sentinels"):
        async with opened_link(url_of(single_server)):
            pass


async def test_sentinel_is_refused_as_a_data_server(sentinel_group: SentinelGroup) -> None:
    with pytest.raises(InvalidTarget, match=r"redis\+sentinel://"):
        async with opened_link(f"redis://127.0.0.1:{sentinel_group.sentinels[0].port}"):
            pass


async def test_password_of_the_sentinels_is_used(sentinel_group: SentinelGroup) -> None:
    """And a wrong one is said, without repeating it."""
    guard = sentinel_group.sentinels[0]
    async with guard.connection() as connection:
        await connection.command("ACL", "SETUSER", "default", "resetpass", ">guard-pw")
        try:
            async with opened_link(url_of(guard, options="?sentinel_password=guard-pw")) as link:
                assert await link.call("k", "ECHO", "x") == b"x"
            for options in ("", "?sentinel_password=XSECRETX"):
                with pytest.raises(ServerUnavailable, match="[Aa]uth|password") as caught:
                    async with opened_link(url_of(guard, options=options), wait_for_server=0.3):
                        pass
                assert "XSECRETX" not in str(caught.value)
        finally:
            await connection.command("ACL", "SETUSER", "default", "nopass")


async def test_nothing_stays_connected_to_the_sentinels_afterwards(
    sentinel_group: SentinelGroup,
) -> None:
    before = [len(await sentinel.clients()) for sentinel in sentinel_group.sentinels]
    async with opened_link(sentinel_group.url):
        pass

    async def are_gone() -> bool:
        return before == [len(await sentinel.clients()) for sentinel in sentinel_group.sentinels]

    await wait_until(are_gone, what="the sentinels see as many clients as before")
