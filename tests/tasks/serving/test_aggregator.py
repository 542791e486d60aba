"""Groups that become one task (spec/asynq.md 5.4). When it is time is in `test_store.py`, by `gather`."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import SkipRetry
from pulsewire.tasks import NewTask, Task
from pulsewire.tasks.store import BUNDLE, GATHER
from pulsewire.testing import FaultProxy, wait_until
from tests.facts import PATIENCE, Facts, on_one_server
from tests.tasks.content import Content
from tests.tasks.facts import MakeServer, Recorder
from tests.tasks.scenes import FAR_AHEAD, LONG_AGO, Queue, misplaced, packed
from tests.tasks.serving.test_supply import calls

TOPOLOGIES = ["standalone", "cluster"]


class Bundler:
    """An aggregator that remembers, and makes or raises what it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.payloads: list[bytes] = []
        self.makes: Any = NewTask(type="bundle", payload=b"all", task_id="bundle")
        self.hold: anyio.Event | None = None

    async def __call__(self, group: str, tasks: list[Task]) -> NewTask:
        """Make one task of many."""
        self.calls.append((group, [task.id for task in tasks]))
        self.payloads += [task.payload for task in tasks]
        if self.hold is not None:
            await self.hold.wait()
        if isinstance(self.makes, BaseException):
            raise self.makes
        made: NewTask = self.makes
        return made

    async def wait_called(self, count: int = 1) -> None:
        """Return when it was called so often."""
        what = f"the aggregator was called {count} times"
        await wait_until(lambda: len(self.calls) >= count, timeout=PATIENCE, what=what)


@pytest.fixture
def bundler() -> Bundler:
    """An aggregator."""
    return Bundler()


QUICK: dict[str, Any] = {"group_grace": 1.0}


async def settled(queue: Queue) -> Content:
    """The content at a moment when no set is under way."""
    seen: list[Content] = []

    async def is_over() -> bool:
        seen.append(await queue.content())
        return "aggregation_sets" not in seen[-1]

    await wait_until(is_over, timeout=PATIENCE, what="no aggregation is under way")
    return seen[-1]


@pytest.mark.parametrize(
    ("options", "ages"),
    [
        ({"group_grace": 1.0}, [10, 5, 2]),
        ({"group_grace": 3600.0, "group_max_delay": 1.0}, [10, 0, -50]),
        ({"group_grace": 3600.0, "group_max_size": 3, "group_max_delay": 1.5}, [0, -1, -2]),
    ],
    ids=["grace", "delay", "size"],
)
@on_one_server
async def test_group_becomes_one_task_when_it_is_time(
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    bundler: Bundler,
    options: dict[str, Any],
    ages: list[int],
) -> None:
    """Nobody came for the grace, or the oldest has waited long enough, or there are enough."""
    now = int((await queue.send("TIME"))[0])
    for task_id, age in zip("abc", ages, strict=True):
        await queue.grouped(
            "g:1", task_id, score=now - age, msg=packed(task_id, payload=task_id.encode())
        )
    async with make_server(aggregator=bundler, **options):
        await recorder.wait_ended("bundle")
        await queue.wait_empty()
    assert bundler.calls == [("g:1", ["a", "b", "c"])]
    assert bundler.payloads == [b"a", b"b", b"c"]
    assert [(run.type, run.payload) for run in recorder.runs] == [("bundle", b"all")]
    assert misplaced(await queue.content()) == []


async def test_members_come_with_all_they_have(
    hub: pulsewire.Hub, make_server: MakeServer, queue: Queue
) -> None:
    """A plain function will do as an aggregator, too."""
    seen: list[Task] = []

    def bundle(group: str, tasks: list[Task]) -> NewTask:
        seen.extend(tasks)
        return NewTask(type="bundle")

    await hub.tasks.enqueue("email:send", b"pay", task_id="a", group="g", headers={"k": "v"})
    await queue.send("ZADD", queue.keys.group("g"), LONG_AGO, "a")
    async with make_server(aggregator=bundle, **QUICK):
        await queue.wait_empty()
    (task,) = seen
    assert (task.id, task.type, task.payload, dict(task.headers)) == (
        "a",
        "email:send",
        b"pay",
        {"k": "v"},
    )
    assert task.group == "g"


async def test_larger_groups_become_several_tasks(
    make_server: MakeServer, recorder: Recorder, queue: Queue, bundler: Bundler
) -> None:
    """The oldest first; what is left waits until it is time."""
    bundler.makes = NewTask(type="bundle")
    now = int((await queue.send("TIME"))[0])
    for number in range(7):
        await queue.grouped("g", f"{number}", score=now + 1000 + number)
    async with make_server(aggregator=bundler, group_max_size=3, group_grace=1.0):
        await recorder.wait_runs(2)
    assert bundler.calls == [("g", ["0", "1", "2"]), ("g", ["3", "4", "5"])]
    content = await settled(queue)
    assert content["g:g"] == {"6": now + 1006.0}
    assert misplaced(content) == []


@on_one_server
async def test_thousands_of_members_become_one_task(
    make_server: MakeServer, recorder: Recorder, queue: Queue, bundler: Bundler
) -> None:
    """More than one script reads."""
    commands: list[tuple[Any, ...]] = [("SADD", queue.keys.groups, "g")]
    for number in range(1_200):
        name = f"{number:04}"
        commands.append(
            (
                "HSET",
                queue.keys.task(name),
                "msg",
                packed(name),
                "state",
                "aggregating",
                "group",
                "g",
            )
        )
        commands.append(("ZADD", queue.keys.group("g"), LONG_AGO + number, name))
    await queue.send_many(commands)
    async with make_server(aggregator=bundler, **QUICK):
        await queue.wait_empty()
    assert bundler.calls == [("g", [f"{number:04}" for number in range(1_200)])]


async def test_new_task_has_its_own_options(
    make_server: MakeServer, recorder: Recorder, queue: Queue, bundler: Bundler
) -> None:
    """But for its queue, which is that of the group (5.4)."""
    bundler.makes = NewTask(
        type="bundle",
        task_id="b",
        queue="elsewhere",
        process_at=FAR_AHEAD,
        unique=60.0,
        max_retry=1,
    )
    await queue.grouped("g", "a")
    async with make_server(aggregator=bundler, **QUICK):
        await queue.wait_state("b", "scheduled")
    content = await queue.content()
    assert content["scheduled"] == {"b": FAR_AHEAD}
    message = await queue.message("b")
    assert (message["queue"], message["retry"]) == ("default", 1)
    assert "unique_key" in message
    assert misplaced(content) == []


async def test_locks_of_members_are_released(
    hub: pulsewire.Hub, make_server: MakeServer, queue: Queue, bundler: Bundler
) -> None:
    """Go leaves them (7.3, 9)."""
    await hub.tasks.enqueue("t", task_id="a", group="g", unique=1000)
    await queue.send("ZADD", queue.keys.group("g"), LONG_AGO, "a")
    async with make_server(aggregator=bundler, **QUICK):
        await queue.wait_empty()
    await hub.tasks.enqueue("t", task_id="b", group="g", unique=1000)
    assert misplaced(await queue.content()) == []


# --- trouble


@pytest.mark.parametrize(
    "makes",
    [
        ValueError("boom"),
        SkipRetry(),
        None,
        "nonsense",
        NewTask(type=""),
        NewTask(type="t", task_id="taken"),
    ],
    ids=repr,
)
@on_one_server
async def test_failed_aggregation_gives_the_members_back(
    make_server: MakeServer,
    queue: Queue,
    bundler: Bundler,
    caplog: pytest.LogCaptureFixture,
    makes: Any,
) -> None:
    """At once, and tries again: in Go they go round every two minutes, and then get lost (7.3, 2 and 17)."""
    bundler.makes = makes
    await queue.later("archived", "taken")
    await queue.grouped("g", "a", "b")
    before = await queue.content()
    async with make_server(aggregator=bundler, **QUICK) as server:
        await bundler.wait_called(2)
        assert not server.is_stopped
        assert await settled(queue) == before
        bundler.makes = NewTask(type="bundle")
        await queue.wait_state("a", "")
    assert any("could not be aggregated" in record.message for record in caplog.records)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
@on_one_server
async def test_aggregator_cannot_end_the_process(
    make_server: MakeServer, queue: Queue, bundler: Bundler, error: BaseException
) -> None:
    """A panic in it kills Go's (7.3, 17)."""
    bundler.makes = error
    await queue.grouped("g", "a")
    async with make_server(aggregator=bundler, **QUICK) as server:
        await bundler.wait_called(2)
        assert not server.is_stopped
    assert misplaced(await settled(queue)) == []


@on_one_server
async def test_members_go_back_when_the_server_ends(
    make_server: MakeServer, queue: Queue, bundler: Bundler
) -> None:
    """While its aggregator is at work: another server can go on with them."""
    bundler.hold = anyio.Event()
    await queue.grouped("g", "a", "b")
    before = await queue.content()
    async with make_server(aggregator=bundler, **QUICK):
        await bundler.wait_called()
        assert "aggregation_sets" in await queue.content()
    assert await queue.content() == before


@on_one_server
async def test_aggregation_whose_reply_is_lost_happens_once(
    weathered: pulsewire.Hub,
    make_server: MakeServer,
    proxy: FaultProxy,
    recorder: Recorder,
    queue: Queue,
    bundler: Bundler,
    facts: Facts,
) -> None:
    """When Go's server dies between enqueuing and deleting, its members are aggregated twice (7.2)."""
    await queue.grouped("g", "a", "b")
    await queue.send("SCRIPT", "LOAD", BUNDLE.text)  # else it is not carried out the first time
    fault = proxy.swallow_reply(calls(BUNDLE))
    async with make_server(of=weathered, aggregator=bundler, **QUICK):
        await fault.wait_hit()
        await recorder.wait_ended("bundle")
        await queue.wait_empty()
    assert len(bundler.calls) == 1
    assert recorder.ids == ["bundle"]
    assert misplaced(await queue.content()) == []


@on_one_server
async def test_members_whose_gathering_was_not_heard_of_are_aggregated(
    weathered: pulsewire.Hub,
    make_server: MakeServer,
    proxy: FaultProxy,
    queue: Queue,
    bundler: Bundler,
) -> None:
    """Those that wait behind them do not take their place in the set."""
    bundler.makes = NewTask(type="bundle")
    await queue.grouped("g", *"abcdefg")
    await queue.send("SCRIPT", "LOAD", GATHER.text)  # else it is not carried out the first time
    fault = proxy.swallow_reply(calls(GATHER))
    async with make_server(of=weathered, aggregator=bundler, group_max_size=3, **QUICK):
        await fault.wait_hit()
        await bundler.wait_called(3)
        await queue.wait_empty()
    assert [ids for _, ids in bundler.calls] == [list("abc"), list("def"), ["g"]]
    assert not [name for name in await queue.content() if name.startswith("t:")]


@on_one_server
async def test_two_servers_aggregate_a_group_once(
    make_server: MakeServer, recorder: Recorder, queue: Queue, facts: Facts
) -> None:
    one, two = Bundler(), Bundler()
    for bundler in (one, two):
        bundler.makes = NewTask(type="bundle")
    async with make_server(aggregator=one, **QUICK), make_server(aggregator=two, **QUICK):
        for number in range(10):
            await queue.grouped(f"g{number}", f"{number}-a", f"{number}-b")
        await recorder.wait_runs(10)
        await queue.wait_empty()
    seen = sorted(group for group, _ in one.calls + two.calls)
    assert seen == sorted(f"g{number}" for number in range(10))
    assert len(recorder.runs) == 10


async def test_sets_of_servers_that_died_go_back_to_their_groups(
    make_server: MakeServer, queue: Queue
) -> None:
    """Also by servers without an aggregator; and the groups are known again: in Go they are not (7.3, 2)."""
    await queue.set_apart("g:1", "S", "a", "b", ends=LONG_AGO)
    async with make_server() as server:
        await server._upkeep.reclaim_once()
    content = await queue.content()
    assert set(content["g:g:1"]) == {"a", "b"}
    assert misplaced(content) == []


@on_one_server
async def test_server_without_an_aggregator_leaves_groups_alone(
    make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    await queue.grouped("g", "a")
    before = await queue.content()
    async with make_server(**QUICK):
        await queue.pending("b")
        await recorder.wait_ended("b")
    content = await queue.content()
    assert {name: content[name] for name in before} == before


async def test_aggregation_is_told(
    watched: pulsewire.Hub, make_server: MakeServer, queue: Queue, bundler: Bundler, facts: Facts
) -> None:
    await queue.grouped("g", "a", "b")
    async with make_server(of=watched, aggregator=bundler, **QUICK):
        await queue.wait_empty()
    assert facts.of("tasks_aggregated") == [("default", "g", 2)]
