"""Tickers: each tick goes to one of all that wait for it, by the server's clock; what was missed follows a policy."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from itertools import pairwise
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import InvalidName, InvalidOption
from pulsewire.pool import Node, Tick, Ticker
from pulsewire.testing import FaultProxy, wait_until
from tests.facts import PATIENCE, Raw, let_pass, on_one_server, on_two_topologies
from tests.pool.facts import KeysOf, MakeNode


async def collect(ticker: Ticker, into: list[Tick]) -> None:
    """Take ticks until the ticker ends."""
    async for tick in ticker:
        into.append(tick)  # noqa: PERF401  # the test looks while more come


async def take(ticker: Ticker, count: int) -> list[Tick]:
    """The next ticks."""
    with anyio.fail_after(PATIENCE):
        return [await anext(ticker) for _ in range(count)]


def steps(ticks: list[Tick], every: float) -> list[int]:
    """Distances between ticks, in intervals."""
    due = [tick.due.timestamp() for tick in ticks]
    return [round((after - before) / every) for before, after in pairwise(due)]


async def stored(node: Node, raw: Raw, name: str) -> bytes | None:
    """What Redis has of a ticker."""
    tickers = node._store.keys.tickers
    found: bytes | None = await raw(tickers, "HGET", tickers, name)
    return found


async def test_each_tick_goes_to_one_of_three_nodes(
    make_node: MakeNode, watched: pulsewire.Hub
) -> None:
    """All ticks, each once, in order at each node."""
    taken: list[list[Tick]] = [[], [], []]
    async with (
        make_node() as one,
        make_node(of=watched) as two,
        make_node(client_only=True) as three,
    ):
        async with anyio.create_task_group() as group:
            for node, mine in zip((one, two, three), taken, strict=True):
                group.start_soon(collect, node.ticker("t", every=0.05), mine)
            await wait_until(lambda: sum(map(len, taken)) >= 8, what="eight ticks came")
            await one.ticker("t", every=0.05).stop()
    ticks = sorted((tick for mine in taken for tick in mine), key=lambda tick: tick.due)
    assert max(Counter(tick.due for tick in ticks).values()) == 1
    assert all(step >= 1 for step in steps(ticks, 0.05))
    assert {tick.name for tick in ticks} == {"t"}
    for mine in taken:
        assert [tick.due for tick in mine] == sorted(tick.due for tick in mine)


@on_two_topologies
async def test_first_tick_is_due_after_one_interval(
    make_node: MakeNode, hub: pulsewire.Hub
) -> None:
    async with make_node() as node:
        before = await hub.time()
        (tick,) = await take(node.ticker("t", every=0.2), 1)
        after = await hub.time()
        assert before + 0.19 <= tick.due.timestamp() <= after
        assert isinstance(tick.due, datetime)
        assert tick.due.tzinfo is not None


@on_one_server
async def test_latest_gives_one_tick_in_place_of_all_that_were_missed(
    make_node: MakeNode, hub: pulsewire.Hub
) -> None:
    async with make_node() as node:
        ticker = node.ticker("t", every=0.05)
        first = await take(ticker, 1)
        await let_pass(hub, 0.5)
        rest = await take(ticker, 2)
        assert sum(steps(first + rest, 0.05)) >= 10
        assert steps(first + rest, 0.05)[1] > 5  # the oldest stands for all


@on_one_server
async def test_all_gives_every_tick_that_was_missed(
    make_node: MakeNode, hub: pulsewire.Hub
) -> None:
    """In order, at once."""
    async with make_node() as node:
        ticker = node.ticker("t", every=0.05, missed="all")
        first = await take(ticker, 1)
        await let_pass(hub, 0.5)
        rest = await take(ticker, 10)
        assert steps(first + rest, 0.05) == [1] * 10


@on_one_server
async def test_nobody_loses_a_tick_by_not_waiting(
    make_node: MakeNode, watched: pulsewire.Hub
) -> None:
    """A node competes only while it waits: Pulse loses the winner's tick when it is busy, 21 of 40 (P33)."""
    async with make_node() as busy, make_node(of=watched) as free:
        idle = busy.ticker("t", every=0.05, missed="all")
        await take(idle, 1)
        ticks = await take(free.ticker("t", every=0.05, missed="all"), 10)
        assert steps(ticks, 0.05) == [1] * 9


@on_two_topologies
async def test_stop_ends_a_ticker_on_every_node(
    make_node: MakeNode, watched: pulsewire.Hub, raw: Raw
) -> None:
    """Asked from one that takes no ticks; no tick comes afterwards, until it is made again."""
    taken: list[list[Tick]] = [[], []]
    async with make_node() as one, make_node(of=watched) as two:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for node, mine in zip((one, two), taken, strict=True):
                    group.start_soon(collect, node.ticker("t", every=0.1), mine)
                await wait_until(lambda: sum(map(len, taken)) >= 2, what="ticks came")
                await two.ticker("t", every=0.1).stop()
        value = await stored(one, raw, "t")
        assert value is not None
        assert value.startswith(b"stopped|")
        again = await take(one.ticker("t", every=0.05), 1)
        assert again[0].due > max(tick.due for mine in taken for tick in mine)


@on_two_topologies
async def test_ticker_that_was_lost_is_made_again(make_node: MakeNode, raw: Raw) -> None:
    """By who waits for it, also where there are no workers: Pulse panics (P33)."""
    async with make_node() as node:
        ticker = node.ticker("t", every=0.1)
        await take(ticker, 1)
        tickers, meta = node._store.keys.tickers, node._store.keys.meta
        await raw(tickers, "DEL", tickers)
        await raw(meta, "DEL", meta)
        assert steps(await take(ticker, 3), 0.1) == [1, 1]
        assert 0 < await raw(tickers, "PTTL", tickers) <= 86_400_000


@on_one_server
async def test_tickers_outlive_the_longest_wait_for_one(make_node: MakeNode, raw: Raw) -> None:
    """They vanish by themselves, long after the last one who might ask."""
    async with make_node() as node:
        seldom = 10 * 86_400
        assert repr(node.ticker("clean-up", every=60.0)) == "<Ticker 'clean-up' every 60 s>"
        await node.ticker("seldom", every=seldom)._take("request")
        await take(node.ticker("often", every=0.05), 1)
        tickers = node._store.keys.tickers
        assert await raw(tickers, "PTTL", tickers) > 2 * seldom * 1000


@on_one_server
async def test_stopped_ticker_is_remembered_for_longer_than_anybody_waits_for_it(
    make_node: MakeNode, raw: Raw, hub: pulsewire.Hub
) -> None:
    """A day, or twice its interval; what was stopped longer ago is cleared away with the next that is stopped."""
    day = 86_400
    async with make_node() as node:
        now = await hub.time()
        for name, every in (("often", 1.0), ("seldom", 10.0 * day)):
            ticker = node.ticker(name, every=every)
            await ticker._take("request")
            await ticker.stop()
        often, seldom = await stored(node, raw, "often"), await stored(node, raw, "seldom")
        assert often is not None
        assert seldom is not None
        for value, remembered in ((often, day), (seldom, 20 * day)):
            word, until = value.split(b"|")
            assert word == b"stopped"
            assert abs(int(until) / 1000 - now - remembered) < PATIENCE
        tickers = node._store.keys.tickers
        await raw(tickers, "HSET", tickers, "often", b"stopped|%d" % ((now - 1) * 1000))
        assert not await node._store.stop_ticker("never made", 1.0)
        assert await stored(node, raw, "often") is None
        assert await stored(node, raw, "seldom") == seldom


@on_two_topologies
async def test_newcomer_with_another_interval_changes_it_for_all(
    make_node: MakeNode, watched: pulsewire.Hub, raw: Raw
) -> None:
    """As in Pulse the last one who makes it decides; nodes that have it follow."""
    async with make_node() as one, make_node(of=watched) as two:
        old = one.ticker("t", every=0.05, missed="all")
        await take(old, 1)
        await take(two.ticker("t", every=0.15), 1)
        value = await stored(one, raw, "t")
        assert value is not None
        assert value.split(b"|")[1] == b"150"
        assert steps(await take(old, 3), 0.15) == [1, 1]
        value = await stored(one, raw, "t")
        assert value is not None
        assert value.split(b"|")[1] == b"150"


@on_one_server
async def test_node_with_the_same_interval_adopts_what_is_there(
    make_node: MakeNode, watched: pulsewire.Hub, raw: Raw
) -> None:
    async with make_node() as one, make_node(of=watched) as two:
        (first,) = await take(one.ticker("t", every=0.3, missed="all"), 1)
        value = await stored(one, raw, "t")
        (second,) = await take(two.ticker("t", every=0.3, missed="all"), 1)
        assert value is not None
        assert second.due.timestamp() == int(value.split(b"|")[0]) / 1000
        assert steps([first, second], 0.3) == [1]


@on_one_server
async def test_ticker_ends_with_its_node(make_node: MakeNode, raw: Raw) -> None:
    """And goes on for the others: it is in the pool, not at a node."""
    mine: list[Tick] = []
    async with make_node() as other:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                async with make_node() as node:
                    group.start_soon(collect, node.ticker("t", every=0.05), mine)
                    await wait_until(lambda: bool(mine), what="a tick came")
        assert await stored(other, raw, "t") is not None
        (tick,) = await take(other.ticker("t", every=0.05), 1)
        assert tick.due > mine[-1].due


@on_two_topologies
async def test_ticker_ends_with_the_pool(make_node: MakeNode, keys_of: KeysOf) -> None:
    taken: list[Tick] = []
    async with make_node() as node, make_node() as asker:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(collect, node.ticker("t", every=0.02), taken)
                await wait_until(lambda: bool(taken), what="a tick came")
                await asker.shutdown()
        assert not [key for key in await keys_of("pool") if "tickers" in key]


@on_one_server
async def test_tick_whose_reply_got_lost_is_taken_again(
    make_node: MakeNode, weathered: pulsewire.Hub, proxy: FaultProxy
) -> None:
    """By the same request: no tick is skipped, none comes twice."""
    async with make_node(of=weathered) as node:
        ticker = node.ticker("t", every=0.1, missed="all")
        ticks = await take(ticker, 1)
        fault = proxy.swallow_reply("EVALSHA", count=2)
        ticks += await take(ticker, 4)
        await fault.wait_hit()
        assert steps(ticks, 0.1) == [1, 1, 1, 1]


@on_one_server
async def test_two_tickers_do_not_meet(make_node: MakeNode) -> None:
    async with make_node() as node, make_node("other") as other:
        one, two = node.ticker("one", every=0.05), node.ticker("two", every=0.07)
        three = other.ticker("one", every=0.05)
        for ticker in (one, two, three):
            (tick,) = await take(ticker, 1)
            assert tick.name == ticker.name


IMPOSSIBLE: list[tuple[Any, Any, type[Exception]]] = [
    ("", 1.0, InvalidName),
    ("a b", 1.0, InvalidName),
    (5, 1.0, InvalidName),
    ("t", 0, InvalidOption),
    ("t", -1, InvalidOption),
    ("t", math.nan, InvalidOption),
    ("t", math.inf, InvalidOption),
    ("t", "1", InvalidOption),
    ("t", 0.001, InvalidOption),
]


@on_one_server
@pytest.mark.parametrize(("name", "every", "error"), IMPOSSIBLE)
async def test_impossible_ticker_is_refused(
    make_node: MakeNode, keys_of: KeysOf, name: Any, every: Any, error: type[Exception]
) -> None:
    async with make_node() as node:
        before = await keys_of("pool")
        with pytest.raises(error):
            node.ticker(name, every=every)
        assert await keys_of("pool") == before


@on_one_server
@pytest.mark.parametrize("missed", ["none", "", None, True])
async def test_unknown_policy_for_missed_ticks_is_refused(make_node: MakeNode, missed: Any) -> None:
    async with make_node() as node:
        with pytest.raises(InvalidOption):
            node.ticker("t", every=1.0, missed=missed)
