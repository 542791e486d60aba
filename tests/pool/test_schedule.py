"""Schedules: a producer says now and then which jobs there shall be, and one node at a time asks it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import pulsewire
from pulsewire import Closed, InvalidName, InvalidOption
from pulsewire.pool import Node, Plan, StopSchedule
from pulsewire.testing import FaultProxy, wait_until
from tests.facts import Facts, let_pass, on_one_server, on_two_topologies
from tests.pool.facts import KeysOf, MakeNode, Recorder, wait_gone, wait_running, wait_workers

EVERY = 0.05


class Producer:
    """Says what its test wants next.

    Attributes:
        asked: how often `plan` was called, on all nodes that share it.
    """

    def __init__(self, name: str = "producer", *plans: Plan | Exception) -> None:
        self.name = name
        self.asked = 0
        self.wanted: Plan | Exception = Plan()
        self._plans = list(plans)

    async def plan(self) -> Plan:
        """The next of the plans, then what is wanted now."""
        self.asked += 1
        plan = self._plans.pop(0) if self._plans else self.wanted
        if isinstance(plan, Exception):
            raise plan
        return plan

    async def wait_asked(self, times: int = 2) -> None:
        """Return when it was asked so often from now on: after two, one plan was followed in between."""
        until = self.asked + times
        await wait_until(lambda: self.asked >= until, what=f"it was asked {times} times more")


def jobs(*keys: str) -> list[tuple[str, bytes]]:
    """Jobs whose payloads are their keys."""
    return [(key, key.encode()) for key in keys]


async def planned(node: Node) -> set[str]:
    """What the schedule has started, as Redis says."""
    return set(await node._store.planned("producer"))


@on_two_topologies
async def test_producer_starts_and_stops_jobs(make_node: MakeNode, recorder: Recorder) -> None:
    """Start, stop one, start two, stop all, start, start with stop all, stop the schedule (spec/pulse.md 6)."""
    producer = Producer()
    async with make_node() as node:
        await node.add_worker(recorder)
        node.schedule(producer, every=EVERY)

        async def want(plan: Plan, *keys: str) -> None:
            producer.wanted = plan
            await wait_running(keys, recorder)
            await producer.wait_asked()
            assert await planned(node) == set(keys)

        await want(Plan(start=jobs("a")), "a")
        assert recorder.starts("a")[0].payload == b"a"
        await want(Plan(stop=["a"]))
        await want(Plan(start=jobs("b", "c")), "b", "c")
        await want(Plan(stop_all=True))
        await want(Plan(start=jobs("d")), "d")
        await want(Plan(start=jobs("e"), stop_all=True), "e")
        producer.wanted = StopSchedule()
        count = producer.asked
        await wait_until(lambda: producer.asked == count + 1, what="it was asked once more")

        async def is_over() -> bool:
            return not await planned(node) and not await node._store.stop_ticker(
                "schedule:producer", EVERY
            )

        await wait_until(is_over, what="nothing of the schedule is left")
        assert producer.asked == count + 1
        assert set(recorder.running) == {"e"}
        assert len(recorder.starts("e")) == 1


@on_two_topologies
async def test_first_plan_comes_at_once_and_on_one_node_only(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder
) -> None:
    """Pulse asks on every node that calls Schedule (P34). The interval is an hour here."""
    producer = Producer("producer", Plan(start=jobs("a")))
    async with make_node() as one, make_node(of=watched) as two:
        await one.add_worker(recorder)
        await wait_workers(two, 1)
        for node in (one, two):
            node.schedule(producer, every=3600.0)
        await wait_running(["a"], recorder)
        async with make_node() as three:
            three.schedule(producer, every=3600.0)
            await let_pass(watched, 0.3)
        assert producer.asked == 1


@on_one_server
async def test_schedule_goes_on_at_another_node_when_one_leaves(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder
) -> None:
    here, there = Producer(), Producer()
    async with make_node() as stays:
        await stays.add_worker(recorder)
        async with make_node(of=watched) as leaves:
            leaves.schedule(there, every=EVERY)
            await there.wait_asked()
            stays.schedule(here, every=EVERY)
        count = there.asked
        here.wanted = Plan(start=jobs("a"))
        await wait_running(["a"], recorder)
        assert there.asked == count


@on_two_topologies
async def test_stop_schedule_ends_it_on_every_node(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder
) -> None:
    """Its jobs go on; it can be made anew."""
    one, two = Producer(), Producer()
    for producer in (one, two):
        producer.wanted = Plan(start=jobs("a"))
    async with make_node() as first, make_node(of=watched) as second:
        await first.add_worker(recorder)
        await wait_workers(second, 1)
        first.schedule(one, every=EVERY)
        second.schedule(two, every=EVERY)
        await wait_running(["a"], recorder)
        for producer in (one, two):
            producer.wanted = StopSchedule()
        counts = one.asked + two.asked
        await wait_until(lambda: one.asked + two.asked > counts, what="one has ended it")
        await let_pass(watched, 5 * EVERY)
        assert one.asked + two.asked <= counts + 2  # the other one may have been asked just then
        assert set(recorder.running) == {"a"}
        assert await planned(first) == set()
        again = Producer("producer", Plan(start=jobs("b")))
        second.schedule(again, every=EVERY)
        await wait_running("ab", recorder)


@on_one_server
async def test_producer_that_raises_is_asked_again(
    make_node: MakeNode,
    watched: pulsewire.Hub,
    facts: Facts,
    recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first time, too: Pulse aborts then, and leaks ticker and map (P34)."""
    error = ValueError("no plan")
    producer = Producer("producer", error, error, Plan(start=jobs("a")))
    async with make_node(of=watched) as node:
        await node.add_worker(recorder)
        node.schedule(producer, every=EVERY)
        await wait_running(["a"], recorder)
        assert [arguments[3:] for arguments in facts.of("job_failed")] == [("plan", error)] * 2
    assert "a handler failed" in caplog.messages


@on_one_server
async def test_refused_job_does_not_keep_the_others_from_starting(
    make_node: MakeNode, watched: pulsewire.Hub, facts: Facts, recorder: Recorder
) -> None:
    """It is tried again with the next plan, and is not of the schedule before it has started."""
    producer = Producer()
    producer.wanted = Plan(start=jobs("bad", "good"))
    recorder.fail("start", ValueError("refused"), key="bad")
    async with make_node(of=watched) as node:
        await node.add_worker(recorder)
        node.schedule(producer, every=EVERY)
        await wait_running(["good"], recorder)
        await producer.wait_asked()
        assert await planned(node) == {"good"}
        assert "schedule" in {arguments[3] for arguments in facts.of("job_failed")}
        recorder.succeed("start", key="bad")
        await wait_running(["good", "bad"], recorder)


@on_one_server
@pytest.mark.parametrize(
    "entry", [("", b"x"), ("fine", "text"), ("fine", None), (5, b"x"), "no pair", None]
)
async def test_impossible_entry_of_a_plan_is_told_and_the_schedule_goes_on(
    make_node: MakeNode, watched: pulsewire.Hub, facts: Facts, recorder: Recorder, entry: object
) -> None:
    """What stands before it starts; the next plan is followed as ever."""
    producer = Producer()
    producer.wanted = Plan(start=[*jobs("a"), entry])  # type: ignore[list-item]  # it is impossible
    async with make_node(of=watched) as node:
        await node.add_worker(recorder)
        node.schedule(producer, every=EVERY)
        await producer.wait_asked(3)
        assert facts.of("job_failed")
        producer.wanted = Plan(start=jobs("a", "b"))
        await wait_until(lambda: {"a", "b"} <= set(recorder.running), what="both run")


@on_one_server
async def test_job_that_exists_belongs_to_the_schedule_from_then_on(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """So stop_all stops it; Pulse does not record it (P34)."""
    producer = Producer()
    async with make_node() as node:
        await node.add_worker(recorder)
        await node.dispatch("a")
        await node.dispatch("other")
        producer.wanted = Plan(start=jobs("a"))
        node.schedule(producer, every=EVERY)
        await producer.wait_asked()
        assert len(recorder.starts("a")) == 1
        producer.wanted = Plan(stop_all=True)
        await wait_gone(node, "a")
        assert set(recorder.running) == {"other"}


@on_one_server
async def test_stopping_what_is_not_there_is_no_failure(
    make_node: MakeNode, watched: pulsewire.Hub, facts: Facts, recorder: Recorder
) -> None:
    producer = Producer()
    async with make_node(of=watched) as node:
        await node.add_worker(recorder)
        node.schedule(producer, every=EVERY)
        producer.wanted = Plan(start=jobs("a"))
        await wait_running(["a"], recorder)
        await node.stop_job("a")
        producer.wanted = Plan(stop=["a", "never"], stop_all=True)
        await producer.wait_asked()
        assert facts.of("job_failed") == []
        assert await planned(node) == set()


@on_one_server
@pytest.mark.parametrize("name", ["workers", "jobs", "leases", "tickers", "meta", "shutdown"])
async def test_producer_may_have_any_name(
    make_node: MakeNode, recorder: Recorder, name: str
) -> None:
    """In Pulse some collide with the maps of the pool (P34)."""
    producer = Producer(name)
    producer.wanted = Plan(start=jobs("a"))
    async with make_node() as node:
        await node.add_worker(recorder)
        node.schedule(producer, every=EVERY)
        await wait_running(["a"], recorder)
        await node.notify("a", b"hi")
        await node.stop_job("a")


@on_one_server
async def test_producer_and_ticker_of_one_name_do_not_meet(
    make_node: MakeNode, recorder: Recorder
) -> None:
    producer = Producer("same")
    async with make_node() as node:
        await node.add_worker(recorder)
        node.schedule(producer, every=EVERY)
        await producer.wait_asked()
        await node.ticker("same", every=60.0).stop()
        await producer.wait_asked()


@on_one_server
async def test_schedule_ends_as_soon_as_the_server_takes_it(
    proxy: FaultProxy, namespace: str, make_node: MakeNode, recorder: Recorder
) -> None:
    """A server that is away at that moment is asked again; the node and its jobs go on."""
    producer = Producer()
    producer.wanted = Plan(start=jobs("a"))
    async with (
        pulsewire.connect(proxy.url, namespace=namespace, wait_for_server=0.2) as hub,
        make_node(of=hub) as node,
    ):
        await node.add_worker(recorder)
        node.schedule(producer, every=EVERY)
        await wait_running(["a"], recorder)
        fault = proxy.inject_error(b"LOADING not yet", "UNLINK", count=20)
        producer.wanted = StopSchedule()
        await fault.wait_hit(2)
        fault.disarm()

        async def is_over() -> bool:
            value = await node._store.link.call(
                node._store.keys.tickers, "HGET", node._store.keys.tickers, "schedule:producer"
            )
            return bool(value.startswith(b"stopped")) and not await planned(node)

        await wait_until(is_over, what="the schedule is over")
        assert set(recorder.running) == {"a"}


@on_two_topologies
async def test_shutdown_leaves_nothing_of_a_schedule(
    make_node: MakeNode, recorder: Recorder, keys_of: KeysOf
) -> None:
    """It ends with the pool and starts nothing more."""
    producer = Producer()
    producer.wanted = Plan(start=jobs("a"))
    async with make_node() as node:
        await node.add_worker(recorder)
        node.schedule(producer, every=EVERY)
        await wait_running(["a"], recorder)
        await producer.wait_asked()
        await node.shutdown()
        assert recorder.running == {}
        left = [key for key in await keys_of("pool") if "planned" in key or "ticker" in key]
        assert left == []


IMPOSSIBLE: list[tuple[str, float, type[Exception]]] = [
    ("", 1.0, InvalidName),
    ("a b", 1.0, InvalidName),
    ("p", 0.0, InvalidOption),
    ("p", float("nan"), InvalidOption),
]


@on_one_server
@pytest.mark.parametrize(("name", "every", "error"), IMPOSSIBLE)
async def test_impossible_schedule_is_refused(
    make_node: MakeNode, name: str, every: float, error: type[Exception]
) -> None:
    producer = Producer(name)
    async with make_node() as node:
        with pytest.raises(error):
            node.schedule(producer, every=every)
        assert producer.asked == 0


@on_one_server
async def test_schedule_of_a_closed_or_client_only_node_is_refused(make_node: MakeNode) -> None:
    async with make_node() as node, make_node(client_only=True) as client:
        with pytest.raises(InvalidOption):
            client.schedule(Producer(), every=1.0)
        await node.close()
        with pytest.raises(Closed):
            node.schedule(Producer(), every=1.0)


def test_plan_wants_nothing_by_default() -> None:
    make: Callable[[], Plan] = Plan
    assert (list(make().start), list(make().stop), make().stop_all) == ([], [], False)
