"""Records that are no tasks, in every place where one can stand: they hold nobody else up, and do not stay for ever.

Go's recoverer rescues nothing in any queue once there is one of them (spec/asynq.md 7.3, 8), and what has lost its HASH
is active for ever (7.3, 7).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import get_args

import pytest

import pulsewire
from pulsewire.tasks.store import Leaving, Verb
from pulsewire.tasks.task import Task
from pulsewire.tasks.wire import NewTask
from pulsewire.testing import wait_until
from tests.facts import PATIENCE, Facts
from tests.tasks.facts import MakeServer, Recorder
from tests.tasks.scenes import DAY, LONG_AGO, OWNER, Queue, misplaced, order, packed

TOPOLOGIES = ["standalone", "cluster"]
DAMAGES = ["missing", "another type", "no message"]
"""Of a task's HASH, as far as scripts notice. What cannot be decoded is a server's business."""
LAPSED = LONG_AGO + 0.5
Scene = Callable[[Queue, str], Awaitable[None]]
SCENES: list[Scene] = []


def scene(prepared: Scene) -> Scene:
    """Declare a scene: a script meets good records and bad ones, whose ids begin with `bad`."""
    SCENES.append(prepared)
    return prepared


async def spoil(queue: Queue, damage: str, *task_ids: str) -> None:
    """Do damage."""
    for task_id in task_ids:
        key = queue.keys.task(task_id)
        if damage == "no message":
            await queue.send("HDEL", key, "msg")
            continue
        if damage == "undecodable":
            await queue.send("HSET", key, "msg", b"\xff\xff no message")
            continue
        await queue.send("DEL", key)
        if damage == "another type":
            await queue.send("RPUSH", key, "what is this?")


@scene
async def take(queue: Queue, damage: str) -> None:
    await queue.pending("a", "bad", "z")
    await spoil(queue, damage, "bad")
    reply = await queue.store.take(10, 50.0, OWNER)
    assert reply.gone == [b"bad"]
    assert [task_id for task_id, *_ in reply.tasks] == [b"a", b"z"]


@scene
async def forward(queue: Queue, damage: str) -> None:
    for state in ("scheduled", "retry"):
        await queue.later(state, f"a-{state}", f"bad-{state}", f"z-{state}", score=LONG_AGO)
        await spoil(queue, damage, f"bad-{state}")
    await queue.store.forward()
    waiting = (await queue.content())["pending"]
    assert waiting == ["z-retry", "a-retry", "z-scheduled", "a-scheduled"]


@scene
async def forget(queue: Queue, damage: str) -> None:
    await queue.later("completed", "a", "bad", "z", score=LONG_AGO)
    await queue.later("archived", "a-old", "bad-old", "z-old", score=LONG_AGO)
    await spoil(queue, damage, "bad", "bad-old")
    await queue.store.forget(100)
    assert await queue.content() == {}


@scene
async def done(queue: Queue, damage: str) -> None:
    await queue.active("a", "bad", "z", lease=LAPSED)
    await spoil(queue, damage, "bad")
    lost = await queue.done("a", "bad", "z")
    assert lost <= {"bad"}
    assert await queue.send("GET", queue.keys.processed) == b"%d" % (3 - len(lost))


@scene
async def leave(queue: Queue, damage: str) -> None:
    verbs: tuple[Verb, ...] = get_args(Verb)
    ids = {verb: (f"bad-{verb}", f"a-{verb}") for verb in verbs}
    for verb in verbs:
        await queue.active(*ids[verb], lease=LAPSED)
        await spoil(queue, damage, f"bad-{verb}")
    leaving = [Leaving(one, verb, packed("x"), 10.0) for verb in verbs for one in ids[verb]]
    words = await queue.store.leave(OWNER, leaving, DAY)
    assert set(words[::2]) <= {"gone", "other"}
    assert words[1::2] == ["left"] * len(verbs)


@scene
async def extend(queue: Queue, damage: str) -> None:
    await queue.active("a", "bad", "z", lease=LAPSED)
    await spoil(queue, damage, "bad")
    assert await queue.store.extend(OWNER, ["a", "bad", "z"], 0.001) in (["bad"], [])
    leases = (await queue.content())["lease"]
    assert leases["a"] == leases["z"] > LAPSED


@scene
async def lapsed(queue: Queue, damage: str) -> None:
    await queue.active("a", "bad", "z", lease=LAPSED)
    await queue.active_in_go("a-go", "bad-go", "z-go", lease=LONG_AGO)
    await spoil(queue, damage, "bad", "bad-go")
    found = [one.task_id for one in await queue.store.lapsed()]
    assert sorted(found) == ["a", "a-go", "z", "z-go"]


@scene
async def recover(queue: Queue, damage: str) -> None:
    """It was good when the lapsed ones were looked for."""
    await queue.active("a", "bad", "z", lease=LAPSED)
    await spoil(queue, damage, "bad")
    leaving = [Leaving(one, "recover") for one in ("a", "bad", "z")]
    assert await queue.store.leave("", leaving, DAY) == ["left", "gone", "left"]


@scene
async def trim(queue: Queue, damage: str) -> None:
    await queue.active("new")
    await queue.later("archived", "a", "bad", "z", score=LONG_AGO)
    await spoil(queue, damage, "bad")
    leaving = [Leaving("new", "archive", packed("new"))]
    assert await queue.store.leave(OWNER, leaving, DAY) == ["left"]
    assert await queue.send("ZRANGE", queue.keys.archived, 0, -1) == [b"new"]


@scene
async def mine(queue: Queue, damage: str) -> None:
    await queue.active("a", "bad", "z", lease=LAPSED)
    await spoil(queue, damage, "bad")
    _, found = await queue.store.mine(OWNER, 0, 0.001)
    assert [task_id for task_id, *_ in found] == [b"z", b"a"]
    await queue.send("ZADD", queue.keys.lease, LAPSED, "bad")


@scene
async def bundle(queue: Queue, damage: str) -> None:
    await queue.set_apart("g", "S", "a", "bad", "z")
    await spoil(queue, damage, "bad")
    members = [("a", packed("a")), ("bad", b""), ("z", packed("z"))]
    assert await queue.store.members("g", "S", 0) == members
    assert await queue.store.bundle("g", "S", order("new")) == "pending"
    assert set(await queue.content()) == {"t:new", "pending"}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("act", SCENES)
async def test_script_passes_over_a_bad_record(queue: Queue, act: Scene, damage: str) -> None:
    """What is good is treated as if it were alone, and once leases have lapsed nothing is left of what is bad."""
    await act(queue, damage)

    async def is_gone() -> bool:
        await queue.store.lapsed()
        return "bad" not in str(await queue.content())

    await wait_until(is_gone, what="nothing is left of bad records")
    assert misplaced(await queue.content()) == []


# --- what else may be of another type


async def test_lock_of_another_type_keeps_no_task_from_ending(queue: Queue) -> None:
    """It stays: nobody can say whose it is."""
    lock = queue.keys.lock("t", None)
    await queue.send("RPUSH", lock, "what is this?")
    await queue.active("a", "b", "c", "d", unique_key=lock)
    await queue.later("archived", "old", score=LONG_AGO, unique_key=lock)
    await queue.later("completed", "kept", score=LONG_AGO, unique_key=lock)
    leaving = [
        Leaving("a", "done", lock=lock),
        Leaving("b", "complete", packed("b"), 10, lock),
        Leaving("c", "archive", packed("c")),
    ]
    assert await queue.store.leave(OWNER, leaving, DAY) == ["left"] * 3
    assert await queue.store.forget(10) == 1
    assert await queue.done("d") == set()
    assert misplaced(await queue.content()) == [f"{lock.removeprefix(queue.keys.prefix)}: no lock"]


@pytest.mark.parametrize("value", ["text", "list"])
async def test_counters_that_are_no_numbers_keep_no_task_from_ending(
    queue: Queue, value: str
) -> None:
    """They start again."""
    await queue.active("a", "b")
    keys = queue.keys
    for key in (keys.processed, keys.failed, keys.processed_on(DAY), keys.failed_on(DAY)):
        await queue.send(*(("SET", key, "many") if value == "text" else ("RPUSH", key, "many")))
    assert await queue.done("a") == set()
    leaving = [Leaving("b", "retry", packed("b"), 10.0)]
    assert await queue.store.leave(OWNER, leaving, DAY) == ["left"]
    assert await queue.send("GET", keys.processed) == b"2"
    assert await queue.send("GET", keys.failed_on(DAY)) == b"1"


async def test_lost_leases_are_made_again(queue: Queue) -> None:
    """Somebody has deleted the key of all leases, or the server has evicted it: nothing stays active for ever (F19)."""
    await queue.active("done", "retried", "held", lease=None)
    assert await queue.store.extend(OWNER, ["held"], 1000.0) == []
    assert await queue.done("done") == set()
    assert await queue.store.leave(OWNER, [Leaving("retried", "back")], DAY) == ["left"]
    content = await queue.content()
    assert set(content["lease"]) == {"held"}
    assert misplaced(content) == []


# --- a server that meets all of it


@pytest.mark.parametrize("damage", [*DAMAGES, "undecodable"])
async def test_server_works_on_whatever_stands_in_its_queue(
    queue: Queue,
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    damage: str,
) -> None:
    """Good tasks are run from every state; what cannot be decoded is archived as it is, the rest is gone."""
    await queue.pending("a", "bad")
    await queue.later("scheduled", "a-scheduled", "bad-scheduled", score=LONG_AGO)
    await queue.later("retry", "a-retry", "bad-retry", score=LONG_AGO)
    await queue.active("a-active", "bad-active", lease=LAPSED)
    await queue.active_in_go("a-go", "bad-go", lease=LONG_AGO)
    await queue.later("completed", "a-completed", "bad-completed", score=LONG_AGO)
    await queue.grouped("g", "a-group", "bad-group")
    await queue.set_apart("g", "S", "a-set", "bad-set", ends=LONG_AGO)
    names = ["", "-scheduled", "-retry", "-active", "-go", "-completed", "-group", "-set"]
    await spoil(queue, damage, *(f"bad{name}" for name in names))

    members: list[str] = []

    def bundle(group: str, tasks: list[Task]) -> NewTask:
        members.extend(task.id for task in tasks)
        return NewTask(type="bundle", task_id=f"bundle-{len(members)}")

    async with make_server(
        aggregator=bundle, group_grace=1.0, retry_delay=lambda *_: 0.0
    ) as server:
        await server._upkeep.reclaim_once()  # its turn comes every ten seconds
        expected = {"a", "a-scheduled", "a-retry", "a-active", "a-go"}
        await wait_until(
            lambda: expected <= set(recorder.ids) and {"a-group", "a-set"} <= set(members),
            timeout=PATIENCE,
            what="all good tasks have been run",
        )

        async def is_settled() -> bool:
            content = await queue.content()
            return not content.keys() & {"pending", "active", "lease", "scheduled", "retry", "g:g"}

        await wait_until(is_settled, timeout=PATIENCE, what="nothing is left to do")
        assert not server.is_stopped
    content = await queue.content()
    shelved = {"bad", "bad-scheduled", "bad-retry", "bad-active", "bad-go"}
    assert set(content.get("archived", {})) == (shelved if damage == "undecodable" else set())
    assert {name for name in content if name.startswith("t:")} == (
        {f"t:{task_id}" for task_id in shelved} if damage == "undecodable" else set()
    )
    assert misplaced(content) == []


async def test_what_cannot_be_decoded_is_told(
    queue: Queue, watched: pulsewire.Hub, make_server: MakeServer, facts: Facts
) -> None:
    """With its id; and the record stays as it is."""
    await queue.pending("bad")
    await spoil(queue, "undecodable", "bad")
    async with make_server(of=watched):
        await queue.wait_state("bad", "archived")
    assert [arguments[:2] for arguments in facts.of("task_malformed")] == [("default", "bad")]
    record = await queue.send("HGET", queue.keys.task("bad"), "msg")
    assert record == b"\xff\xff no message"
