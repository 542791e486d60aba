"""Sets and increments of one turn of the loop: one script, each answered for itself, each carried out once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pulsewire
from pulsewire.rmap.turn import HEAVY, MOST, in_shares
from pulsewire.testing import FaultProxy, wait_until
from tests.facts import Raw, on_one_server
from tests.rmap.facts import MakeMap

TOPOLOGIES = ["standalone", "cluster"]


async def gather(*writes: Awaitable[Any]) -> list[Any]:
    """Begin all in one turn of the loop."""
    return list(await asyncio.gather(*writes))


def scripts(proxy: FaultProxy) -> int:
    """How many scripts have passed."""
    commands = proxy.statistics().commands
    return commands.get("EVALSHA", 0) + commands.get("EVAL", 0)


# --- what each is told


async def test_each_is_told_what_was_there_before_it(make_map: MakeMap) -> None:
    """In the order in which they were asked for, also where they are about one key."""
    async with make_map() as m:
        assert await gather(m.set("k", "1"), m.set("k", "2"), m.set("other", "x")) == [
            None,
            "1",
            None,
        ]
        assert await gather(m.set("k", "3"), m.set("k", "4")) == ["2", "3"]
        assert await gather(*(m.inc("n", by) for by in (1, 10, -5))) == [1, 11, 6]
        info = await m.info()
        assert (info.revision, info.entries) == (8, 3)


async def test_conditions_see_what_came_before_them(make_map: MakeMap) -> None:
    async with make_map() as m:
        found = await gather(
            m.set_if_absent("k", "1"),
            m.set_if_absent("k", "2"),
            m.test_and_set("k", "2", "3"),
            m.test_and_set("k", "1", "4"),
            m.set_if_absent("k", "5"),
        )
        assert [bool(each) for each in found] == [True, False, False, True, False]
        assert await m.fetch("k") == "4"
        assert (await m.info()).revision == 2


async def test_where_nothing_is_changed_nothing_is_announced(make_map: MakeMap) -> None:
    async with make_map() as m:
        await m.set("k", "1")
        assert await gather(m.set_if_absent("k", "2"), m.set_if_absent("k", "3")) == [False, False]
        assert (await m.info()).revision == 1


async def test_what_cannot_be_added_is_refused_alone(make_map: MakeMap) -> None:
    """Beyond 64 bits, beyond what Lua counts exactly, and no number at all."""
    async with make_map() as m:
        await m.set_many({"text": "x", "most": str(2**63 - 1), "large": str(2**60)})
        found = await asyncio.gather(
            *(m.inc("text"), m.inc("n"), m.inc("most"), m.inc("large", 2), m.inc("large", 3)),
            return_exceptions=True,
        )
        refused = [isinstance(each, pulsewire.PulsewireError) for each in found]
        assert refused == [True, False, True, False, False]
        assert (found[1], *found[3:]) == (1, 2**60 + 2, 2**60 + 5)
        assert await m.fetch("most") == str(2**63 - 1)
        assert (await m.info()).revision == 6


async def test_each_change_is_seen_by_all(make_map: MakeMap) -> None:
    """One notice for each, with a revision of its own."""
    async with make_map() as m:
        await gather(*(m.set("k", str(number)) for number in range(20)), m.set("last", "x"))
        await wait_until(lambda: m.get("last") == "x", what="all have come")
        assert (m.get("k"), m.revision) == ("19", 21)


# --- how they travel


@on_one_server
async def test_one_turn_is_one_script(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub
) -> None:
    async with make_map(of=weathered) as m:
        await gather(m.set("k", "v"), m.inc("n"))  # the scripts are loaded
        before = scripts(proxy)
        await gather(*(m.set(f"k{number}", "v") for number in range(MOST)))
        assert scripts(proxy) == before + 1
        await gather(*(m.inc("n") for _ in range(MOST + 1)))
        assert scripts(proxy) == before + 3
        await gather(m.set("k", "x" * HEAVY), m.set("other", "v"))
        assert scripts(proxy) == before + 5


def test_shares_are_bounded_by_count_and_weight() -> None:
    writes = [(b"%d" % number, b"v") for number in range(2 * MOST + 1)]
    shares = list(in_shares(writes))
    assert [len(share) // 2 for share in shares] == [MOST, MOST, 1]
    assert [word for share in shares for word in share] == [word for one in writes for word in one]
    heavy = [(b"k", b"x" * HEAVY), (b"k", b"v"), (b"k", b"v")]
    assert [len(share) // 2 for share in in_shares(heavy)] == [1, 2]
    assert list(in_shares([])) == []


async def test_one_who_is_cancelled_takes_nothing_from_the_others(make_map: MakeMap) -> None:
    async with make_map() as m:
        tasks = [asyncio.ensure_future(m.inc("n")) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        assert [await tasks[0], await tasks[2]] == [1, 3]
        assert tasks[1].cancelled()
        assert await m.fetch("n") == "3"


@on_one_server
async def test_where_all_are_cancelled_it_is_forgotten_when_the_reply_has_come(
    make_map: MakeMap, raw: Raw
) -> None:
    async with make_map() as m:
        tasks = [asyncio.ensure_future(m.inc("n")) for _ in range(3)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert await m.fetch("n") == "3"
        writer = m._store._writer
    assert await raw(writer, "EXISTS", writer) == 0


# --- trouble


@on_one_server
async def test_lost_reply_is_found_for_all_and_nothing_happens_twice(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub
) -> None:
    async with make_map(of=weathered) as m:
        await m.inc("n")
        proxy.swallow_reply("EVALSHA", count=1, then="cut")
        assert await gather(*(m.inc("n") for _ in range(10))) == list(range(2, 12))
        proxy.swallow_reply("EVALSHA", count=1, then="cut")
        found = await gather(*(m.set("k", str(number)) for number in range(10)))
        assert found == [None, *(str(number) for number in range(9))]
        assert await m.fetch("n") == "11"


@on_one_server
async def test_the_next_one_finds_out_when_the_first_is_cancelled(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub
) -> None:
    async with make_map(of=weathered) as m:
        await m.inc("n")
        proxy.swallow_reply("EVALSHA", count=1, then="stall")
        tasks = [asyncio.ensure_future(m.inc("n")) for _ in range(3)]
        store: Any = m._store
        await wait_until(lambda: store._requests.has_doubtful, what="the first one looks")
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        proxy.clear()
        assert [await task for task in tasks[1:]] == [3, 4]


@on_one_server
async def test_what_fails_fails_for_all(make_map: MakeMap, raw: Raw) -> None:
    """The map's key holds something else: each is told, and nothing was written."""
    async with make_map() as m:
        content = m._store.content
        await m.destroy()
        await raw(content, "DEL", content)
        await raw(content, "SET", content, "x")
        found = await asyncio.gather(
            *(m.set(f"k{number}", "v") for number in range(5)), return_exceptions=True
        )
        assert all(isinstance(each, pulsewire.PulsewireError) for each in found)
        assert await raw(content, "GET", content) == b"x"
        await raw(content, "DEL", content)
