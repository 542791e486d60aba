"""What comes for a node: entries that are malformed, newer or late, and connections that break while it reads."""

from __future__ import annotations

from functools import partial

import pytest

import pulsewire
from pulsewire.testing import FaultProxy, wait_until
from tests.facts import Raw, on_one_server, on_two_topologies
from tests.pool.facts import MakeNode, Recorder, wait_running
from tests.pool.scenes import gather

MALFORMED = [
    (b"nonsense", b"x"),
    (b"do", b"start"),
    (b"do", b"start", b"key", b"k", b"epoch", b"x"),
    (b"do", b"start", b"key", b"\xff", b"epoch", b"1"),
    (b"do", b"notify", b"epoch", b"1"),
    (b"do", b"stop", b"key", b"k"),
]


@on_two_topologies
async def test_malformed_order_is_dropped_and_the_next_ones_are_carried_out(
    make_node: MakeNode, recorder: Recorder, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    """In Pulse it kills the routing loop, and the next node's after that (P8)."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        inbox = node._store.keys.inbox(worker.id)
        for fields in MALFORMED:
            await raw(inbox, "XADD", inbox, "*", *fields)
        await node.dispatch("a")
        assert [call.key for call in recorder.calls] == ["a"]

        async def is_empty() -> bool:
            return int(await raw(inbox, "XLEN", inbox)) == 0

        await wait_until(is_empty, what="they are deleted")
        said = [record for record in caplog.records if "malformed" in record.message]
        assert len(said) == len(MALFORMED)


@on_one_server
async def test_order_of_a_newer_version_is_passed_over(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """Unknown orders and unknown fields (protocol 8)."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        epoch = recorder.running["a"]
        inbox = node._store.keys.inbox(worker.id)
        await raw(inbox, "XADD", inbox, "*", "do", "dance", "key", "a", "epoch", epoch)
        notify = ("do", "notify", "key", "a", "epoch", epoch, "payload", "hi", "colour", "blue")
        await raw(inbox, "XADD", inbox, "*", *notify)
        await wait_until(lambda: recorder.notifications("a") == [b"hi"], what="it was told")

        async def is_empty() -> bool:
            return int(await raw(inbox, "XLEN", inbox)) == 0

        await wait_until(is_empty, what="both are deleted")
        assert set(recorder.running) == {"a"}


@on_one_server
async def test_order_of_an_older_owner_is_of_no_concern(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """Its epoch is not that of the job (protocol 3.4): a start, a stop."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        old = recorder.running["a"] - 1
        inbox = node._store.keys.inbox(worker.id)
        for do in ("start", "stop"):
            await raw(inbox, "XADD", inbox, "*", "do", do, "key", "a", "epoch", old)
        await node.notify("a", b"behind them")
        await wait_until(lambda: bool(recorder.notifications()), what="they were read")
        assert [call.what for call in recorder.calls] == ["start", "notify"]


@on_one_server
async def test_start_that_comes_twice_is_one_start(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """Pulse starts the same key again without noticing (P7)."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        epoch = recorder.running["a"]
        inbox = node._store.keys.inbox(worker.id)
        for _ in range(3):
            await raw(inbox, "XADD", inbox, "*", "do", "start", "key", "a", "epoch", epoch)
        await node.notify("a", b"behind them")
        await wait_until(lambda: bool(recorder.notifications()), what="they were read")
        assert len(recorder.starts()) == 1
        assert not recorder.stops()


@on_two_topologies
async def test_malformed_and_unknown_replies_harm_nobody(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """Also one for a caller that is not there any more, which ends a loop of Pulse (P18)."""
    async with make_node() as node:
        await node.add_worker(recorder)
        replies = node._store.keys.replies(node.id)
        await node.dispatch("a")
        for fields in (
            ("nonsense", "x"),
            ("request", b"\xff", "outcome", "started"),
            ("request", "nobody's", "outcome", "started"),
            ("request", "nobody's", "outcome", "dance", "text", b"\xff"),
        ):
            await raw(replies, "XADD", replies, "*", *fields)
        await node.dispatch("b")
        assert set(recorder.running) == {"a", "b"}


@on_two_topologies
async def test_replies_have_an_end(make_node: MakeNode, recorder: Recorder, raw: Raw) -> None:
    """They lapse with their node."""
    async with make_node() as node:
        await node.add_worker(recorder)
        await node.dispatch("a")
        replies = node._store.keys.replies(node.id)
        assert 0 < await raw(replies, "PTTL", replies) <= 3_600_000
        await raw(replies, "DEL", replies)  # or were deleted before (P16)
        await node.dispatch("b")
        await node.stop_job("a")


@on_one_server
async def test_nothing_is_lost_when_connections_are_cut(
    make_node: MakeNode, weathered: pulsewire.Hub, proxy: FaultProxy, recorder: Recorder
) -> None:
    """Every key ends up started once and told once, whenever the reading connection broke."""
    keys = [f"job-{number}" for number in range(60)]
    async with make_node(client_only=True) as client, make_node(of=weathered) as node:
        await node.add_worker(recorder)
        for number, key in enumerate(keys):
            await client.dispatch(key, wait=False)
            await client.notify(key, key.encode())
            if number % 10 == 5:
                proxy.cut()
        await wait_running(keys, recorder)
        heard = {key.encode() for key in keys}
        await wait_until(lambda: set(recorder.notifications()) == heard, what="all were told")
        assert len(recorder.starts()) == 60
        assert len(recorder.notifications()) == 60


@on_one_server
async def test_reply_that_the_connection_swallowed_changes_nothing(
    make_node: MakeNode, weathered: pulsewire.Hub, proxy: FaultProxy, recorder: Recorder
) -> None:
    """The server has carried the script out, the node asks again: one job (protocol 4.1)."""
    async with make_node(of=weathered) as node:
        await node.add_worker(recorder)
        await node.dispatch("warm-up")
        fault = proxy.swallow_reply("EVALSHA", count=3)
        outcomes = await gather(*(partial(node.dispatch, f"job-{n}") for n in range(5)))
        assert outcomes == [None] * 5
        await fault.wait_hit()
        fault.disarm()
        for number in range(5):
            await node.stop_job(f"job-{number}")
        assert set(recorder.running) == {"warm-up"}
        assert len(recorder.starts()) == 6
        assert len(recorder.stops()) == 5


@on_one_server
async def test_a_thousand_orders_at_once_are_all_carried_out(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """More than one read brings. Pulse trims acknowledgements beyond 1,000 (P38)."""
    async with make_node(max_queued_jobs=2000) as node:
        await node.add_worker(recorder)
        keys = [f"job-{number}" for number in range(1100)]
        assert not any(await gather(*(partial(node.dispatch, key) for key in keys)))
        assert len(recorder.running) == 1100
        assert len(recorder.starts()) == 1100
