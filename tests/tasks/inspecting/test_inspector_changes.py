"""What inspectors do to tasks: every operation in every state, the whole queue compared (spec/asynq.md 3.7, 6.5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pulsewire import (
    DecodeError,
    InvalidName,
    InvalidOption,
    PayloadTooLarge,
    QueueNotFound,
    TaskNotFound,
    WrongState,
)
from pulsewire.tasks.inspecting.inspector import ALLOWED, Inspector
from pulsewire.tasks.inspecting.inspector_store import AT_ONCE, Changed, InspectorStore
from pulsewire.tasks.states import MOVES, TaskState
from tests.facts import on_one_server
from tests.tasks.content import Content, Kept, Window, changed
from tests.tasks.inspecting.crowds import GROUP, PLACES, SET, STATES, crowd, of_asynq, put, without
from tests.tasks.scenes import LONG_AGO, Queue, misplaced, packed, unpacked

TOPOLOGIES = ["standalone", "cluster", "redis7"]
ONE = ("run", "archive", "delete")
REFUSED = {
    "run": ("pending", "active"),
    "archive": ("archived", "active"),
    "delete": ("active",),
}

Operation = Callable[[Inspector, str], Awaitable[None]]


def change(inspector: Inspector, verb: str, task_id: str) -> Awaitable[None]:
    """One operation on one task."""
    operation: Operation = {
        "run": lambda one, task: one.run_task("default", task),
        "archive": lambda one, task: one.archive_task("default", task),
        "delete": lambda one, task: one.delete_task("default", task),
    }[verb]
    return operation(inspector, task_id)


def change_all(
    inspector: Inspector, verb: str, state: str, group: str | None = None
) -> Awaitable[int]:
    """One operation on all tasks of a place."""
    group = GROUP if state == "aggregating" and group is None else group
    operation = {
        "run": inspector.run_all,
        "archive": inspector.archive_all,
        "delete": inspector.delete_all,
    }[verb]
    return operation("default", state, group=group)


def after(before: Content, verb: str, state: str, tasks: list[str], window: Window) -> Content:
    """What a queue is to hold after an operation on some tasks of one state."""
    place = PLACES[state]
    changes: dict[str, Any] = {place: without(before, place, *tasks)}
    if state == "aggregating" and changes[place] is None:
        changes["groups"] = None
    for task in tasks:
        fields = dict(before[f"t:{task}"])
        for gone in ("pulsewire:owner", "pulsewire:lost", "pending_since"):
            fields.pop(gone, None)
        if verb == "run":
            fields.pop("group", None)
            fields |= {"state": b"pending", "pending_since": window.stamp()}
        elif verb == "archive":
            fields["state"] = b"archived"
        changes[f"t:{task}"] = None if verb == "delete" else fields
    if verb == "run":
        changes["pending"] = [*reversed(tasks), *before.get("pending", [])]
    elif verb == "archive":
        now = dict.fromkeys(tasks, window.seconds())
        changes["archived"] = {**before.get("archived", {}), **now}
    return changed(before, changes)


# --- one task


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("verb", ONE)
async def test_each_operation_in_each_state(
    inspector: Inspector, queue: Queue, verb: str, state: str
) -> None:
    """It does what it says and nothing else, or it says why not and changes nothing."""
    await crowd(queue)
    before = await queue.content()
    task = f"{state}-1"
    if state in REFUSED[verb]:
        with pytest.raises(WrongState) as refused:
            await change(inspector, verb, task)
        error = refused.value
        assert (error.queue, error.task_id, error.state) == ("default", task, state)
        assert error.operation == verb
        assert of_asynq(await queue.content()) == before
        return
    async with queue.window() as window:
        await change(inspector, verb, task)
    content = of_asynq(await queue.content())
    assert content == after(before, verb, state, [task], window)
    assert misplaced(content) == []


@pytest.mark.parametrize("verb", ONE)
async def test_last_task_of_a_group_takes_the_group_along(
    inspector: Inspector, queue: Queue, verb: str
) -> None:
    await put(queue, "aggregating", "only")
    await change(inspector, verb, "only")
    assert {GROUP, "groups", f"g:{GROUP}"}.isdisjoint(await queue.content())


def test_operations_on_all_are_moves_of_the_table() -> None:
    """What `ALLOWED` lists is what `states.MOVES` knows; active tasks belong to their servers."""
    for verb, target in (("run", "pending"), ("archive", "archived"), ("delete", None)):
        to = None if target is None else TaskState(target)
        moves = {
            state
            for state, ways in MOVES.items()
            if state is not None and to in ways and state is not TaskState.ACTIVE
        }
        assert set(ALLOWED[verb]) == moves  # type: ignore[index]  # the loop's words are verbs


@on_one_server
@pytest.mark.parametrize("verb", ONE)
async def test_what_is_not_there_cannot_be_changed(
    inspector: Inspector, queue: Queue, verb: str
) -> None:
    await crowd(queue)
    before = await queue.content()
    with pytest.raises(TaskNotFound) as missing:
        await change(inspector, verb, "nobody")
    assert (missing.value.queue, missing.value.task_id) == ("default", "nobody")
    assert of_asynq(await queue.content()) == before
    for call in (inspector.run_task, inspector.archive_task, inspector.delete_task):
        with pytest.raises(QueueNotFound):
            await call("other", "pending-1")


@on_one_server
async def test_names_are_checked_before_anything_is_sent(inspector: Inspector) -> None:
    for call in (inspector.run_task, inspector.archive_task, inspector.delete_task):
        with pytest.raises(InvalidName):
            await call("brace{", "id")
        with pytest.raises(InvalidName):
            await call("default", "\ud800")
        with pytest.raises(InvalidName):
            await call("default", 7)  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize("verb", ONE)
async def test_member_of_an_aggregation_set_is_left_alone(
    inspector: Inspector, queue: Queue, verb: str
) -> None:
    """Its aggregator has it in hand. Go says UNKNOWN here (spec/asynq.md 7.3, 25)."""
    await queue.set_apart(GROUP, SET, "member")
    before = await queue.content()
    with pytest.raises(WrongState, match="being aggregated"):
        await change(inspector, verb, "member")
    assert of_asynq(await queue.content()) == before


@pytest.mark.parametrize("verb", ["run", "archive"])
async def test_task_that_is_nowhere_is_lost(inspector: Inspector, queue: Queue, verb: str) -> None:
    """Such as Go leaves when it trims the archive (7.3, 6): its id is taken, and nothing else can be done with it."""
    await queue.hash("leaked", "archived" if verb == "run" else "retry")
    with pytest.raises(WrongState, match="lost"):
        await change(inspector, verb, "leaked")
    await inspector.delete_task("default", "leaked")
    assert of_asynq(await queue.content()) == {}


async def test_active_task_that_nobody_runs_can_be_deleted(
    inspector: Inspector, queue: Queue
) -> None:
    """Go's Archive leaves such when it fails half way (7.3, 5)."""
    await queue.hash("stuck", "active")
    with pytest.raises(WrongState, match="lost"):
        await inspector.run_task("default", "stuck")
    await inspector.delete_task("default", "stuck")
    assert of_asynq(await queue.content()) == {}


@pytest.mark.parametrize("place", ["pending", "active", "retry", "archived"])
async def test_entry_without_a_task_can_be_deleted(
    inspector: Inspector, queue: Queue, place: str
) -> None:
    """Lists show it, so it can be got rid of; also what Go made of it by taking it (7.3, 7)."""
    await put(queue, place, "ghost")
    await queue.send("DEL", queue.keys.task("ghost"))
    for call in (inspector.run_task, inspector.archive_task):
        with pytest.raises(TaskNotFound):
            await call("default", "ghost")
    await inspector.delete_task("default", "ghost")
    assert of_asynq(await queue.content()) == {}
    with pytest.raises(TaskNotFound):
        await inspector.delete_task("default", "ghost")


@pytest.mark.parametrize("state", ["active", "aggregating", "completed"])
async def test_task_without_a_message_can_be_deleted(
    inspector: Inspector, queue: Queue, state: str
) -> None:
    await put(queue, state, "ghost", msg=None)
    with pytest.raises(TaskNotFound):
        await inspector.run_task("default", "ghost")
    await inspector.delete_task("default", "ghost")
    assert of_asynq(await queue.content()) == {}


async def test_key_of_another_kind_can_be_deleted(inspector: Inspector, queue: Queue) -> None:
    await queue.send("SET", queue.keys.task("text"), "no task")
    await queue.send("ZADD", queue.keys.retry, LONG_AGO, "text")
    with pytest.raises(TaskNotFound):
        await inspector.archive_task("default", "text")
    await inspector.delete_task("default", "text")
    assert of_asynq(await queue.content()) == {}


async def test_task_runs_though_its_message_is_garbage(inspector: Inspector, queue: Queue) -> None:
    """A server can shelve it then; it need not be understood to be moved."""
    await put(queue, "retry", "garbage", msg=b"\xff\xff\xff")
    await inspector.run_task("default", "garbage")
    assert await queue.state("garbage") == "pending"
    await inspector.archive_task("default", "garbage")
    await inspector.delete_task("default", "garbage")
    assert of_asynq(await queue.content()) == {}


# --- locks


async def hold(queue: Queue, lock: str, owner: str) -> str:
    """A unique lock of the queue; its whole name."""
    name = f"{queue.keys.prefix}unique:{lock}"
    await queue.send("SET", name, owner, "EX", 1000)
    return name


@pytest.mark.parametrize("state", [state for state in STATES if state != "active"])
@pytest.mark.parametrize("told_by", ["field", "message"])
async def test_deleted_task_gives_its_lock_up(
    inspector: Inspector, queue: Queue, state: str, told_by: str
) -> None:
    """Also one that only the message names: so it is with group tasks of Go (1.2; 7.3, 9)."""
    name = await hold(queue, "t:abc", "mine")
    fields = {"msg": packed("mine", unique_key=name, group_key=GROUP, headers={"a": "b"})}
    if told_by == "field":
        fields = {"unique_key": name.encode()}
    await put(queue, state, "mine", **fields)
    await inspector.delete_task("default", "mine")
    assert of_asynq(await queue.content()) == {}


@pytest.mark.parametrize("all_of_them", [False, True])
async def test_lock_of_another_task_stays(
    inspector: Inspector, queue: Queue, all_of_them: bool
) -> None:
    name = await hold(queue, "t:abc", "other")
    await put(queue, "retry", "mine", unique_key=name)
    if all_of_them:
        await inspector.delete_all("default", "retry")
    else:
        await inspector.delete_task("default", "mine")
    assert list(of_asynq(await queue.content())) == ["unique:t:abc"]


@pytest.mark.parametrize(
    "key", ["elsewhere", "asynq:{other}:unique:t:", "", "\x00", "asynq:{default}:pending"]
)
async def test_lock_that_is_none_of_the_queue_is_not_touched(
    inspector: Inspector, queue: Queue, key: str
) -> None:
    """On a cluster it would be of another slot, and the script would fail half way."""
    await put(queue, "retry", "one", "two", unique_key=key)
    await inspector.delete_task("default", "one")
    assert await inspector.delete_all("default", "retry") == 1
    assert of_asynq(await queue.content()) == {}


@pytest.mark.parametrize("state", [state for state in STATES if state != "active"])
async def test_deleting_all_gives_their_locks_up(
    inspector: Inspector, queue: Queue, state: str
) -> None:
    """Go forgets those of pending tasks and of groups (7.3, 9)."""
    field = await hold(queue, "t:field", "one")
    message = await hold(queue, "t:message", "two")
    await put(queue, state, "one", unique_key=field)
    await put(queue, state, "two", msg=packed("two", unique_key=message))
    assert await change_all(inspector, "delete", state) == 2
    assert of_asynq(await queue.content()) == {}


@pytest.mark.parametrize("all_of_them", [False, True])
@pytest.mark.parametrize("field", [None, "", "kept"])
async def test_group_task_of_go_keeps_its_lock_when_it_is_run(
    inspector: Inspector, queue: Queue, field: str | None, all_of_them: bool
) -> None:
    """The HASH names it then, since it says no more that the task was of a group."""
    name = await hold(queue, "t:abc", "mine")
    message = packed("mine", unique_key=name, group_key=GROUP)
    await put(queue, "aggregating", "mine", msg=message, unique_key=field)
    if all_of_them:
        await inspector.run_all("default", "aggregating", group=GROUP)
    else:
        await inspector.run_task("default", "mine")
    fields = (await queue.content())["t:mine"]
    assert fields["msg"] == message
    assert fields["unique_key"] == (field or name).encode()
    assert "group" not in fields


@pytest.mark.parametrize("verb", ["run", "archive"])
@pytest.mark.parametrize("state", ["scheduled", "retry", "completed", "aggregating"])
async def test_task_that_is_moved_has_no_traces_of_its_runs(
    inspector: Inspector, queue: Queue, verb: str, state: str
) -> None:
    """A Go server that moves a task of ours leaves the owner in it, who could take it for its own again."""
    for task in ("one", "two"):
        await put(queue, state, task, owner="server-1", lost=2)
        await queue.send("HSET", queue.keys.task(task), "pulsewire:alone", "server-1")
    await change(inspector, verb, "one")
    await change_all(inspector, verb, state)
    content = of_asynq(await queue.content())
    assert misplaced(content) == []
    for task in ("one", "two"):
        assert not [name for name in content[f"t:{task}"] if name.startswith("pulsewire:")]


@pytest.mark.parametrize("all_of_them", [False, True])
async def test_task_for_later_that_is_run_is_run_by_itself(
    inspector: Inspector, queue: Queue, all_of_them: bool
) -> None:
    """Its group is forgotten, so that it does not get there after a failure."""
    await put(queue, "scheduled", "mine", msg=packed("mine", group_key=GROUP))
    await queue.send("HSET", queue.keys.task("mine"), "pulsewire:group", GROUP)
    if all_of_them:
        await inspector.run_all("default", "scheduled")
    else:
        await inspector.run_task("default", "mine")
    fields = (await queue.content())["t:mine"]
    assert set(fields) == {"msg", "state", "pending_since"}


MESSAGES = {
    "a plain one": (packed("mine"), False),
    "among all fields": (
        packed(
            "mine",
            payload=bytes(range(256)) * 300,
            error_msg="x" * 200,
            timeout=2**62,
            deadline=-1,
            unique_key="%s",
            last_failed_at=1700000000,
            group_key="g",
            headers={"a": "b", "c": "d" * 300},
        ),
        True,
    ),
    "twice: the last one counts": (packed("mine", unique_key="no") + b"\x52\x02%s", True),
    "fields that nobody knows": (
        b"\x99\x06" + b"8bytes__" + b"\x9d\x06" + b"4byt" + b"\x52\x02%s",
        True,
    ),
    "cut off": (b"\x52\x7f" + b"x", False),
    "a tag that does not end": (b"\xff" * 20, False),
    "a number that does not end": (b"\x28" + b"\xff" * 20, False),
    "a group, which proto3 has not": (b"\x53\x52\x02%s", False),
    "empty": (b"\x00", False),
}


@on_one_server
@pytest.mark.parametrize("name", MESSAGES)
async def test_lock_is_found_in_whatever_message(
    inspector: Inspector, queue: Queue, name: str
) -> None:
    """The script reads protobuf itself; what is none has no lock, and is deleted as well."""
    message, has_lock = MESSAGES[name]
    lock = await hold(queue, "t:", "mine")
    if b"\x52\x02%s" in message:
        field = b"\x52" + bytes([len(lock)]) + lock.encode()
        message = message.replace(b"\x52\x02%s", field)
    elif b"%s" in message:
        message = packed("mine", **{**unpacked(message), "unique_key": lock})
    await put(queue, "retry", "mine", msg=message)
    await inspector.delete_task("default", "mine")
    left = of_asynq(await queue.content())
    assert left == ({} if has_lock else {"unique:t:": Kept(b"mine", left["unique:t:"].until)})


# --- all tasks of a place


@pytest.mark.parametrize(
    ("verb", "state"), [(verb, state) for verb in ONE for state in STATES], ids="-".join
)
async def test_each_operation_on_all_of_each_state(
    inspector: Inspector, queue: Queue, verb: str, state: str
) -> None:
    """They are changed in their order, and nothing else is; or it is refused before anything is sent."""
    await crowd(queue)
    before = await queue.content()
    if state not in ALLOWED[verb]:  # type: ignore[index]  # it is a verb
        with pytest.raises(InvalidOption, match=state):
            await change_all(inspector, verb, state)
        assert of_asynq(await queue.content()) == before
        return
    tasks = [f"{state}-1", f"{state}-2"]
    async with queue.window() as window:
        assert await change_all(inspector, verb, state) == 2
    content = of_asynq(await queue.content())
    assert content == after(before, verb, state, tasks, window)
    assert misplaced(content) == []
    assert await change_all(inspector, verb, state) == 0


@pytest.mark.parametrize("state", ["pending", "scheduled"])
@pytest.mark.parametrize("verb", ["archive", "delete"])
async def test_more_than_one_script_looks_at(
    inspector: Inspector, queue: Queue, verb: str, state: str
) -> None:
    ids = [f"{index:05}" for index in range(2 * AT_ONCE + 1)]
    await put_many(queue, state, ids)
    assert await change_all(inspector, verb, state) == len(ids)
    content = of_asynq(await queue.content())
    assert misplaced(content) == []
    if verb == "delete":
        assert content == {}
    else:
        assert set(content["archived"]) == set(ids)


async def test_all_are_run_in_order_over_several_scripts(
    inspector: Inspector, queue: Queue
) -> None:
    ids = [f"{index:05}" for index in range(AT_ONCE + 7)]
    await put_many(queue, "scheduled", ids)
    assert await inspector.run_all("default", "scheduled") == len(ids)
    assert (await queue.content())["pending"] == ids[::-1]


async def put_many(queue: Queue, state: str, ids: list[str]) -> None:
    """Many tasks at once."""
    place = f"{queue.keys.prefix}{state}"
    commands: list[tuple[Any, ...]] = []
    for index, task in enumerate(ids):
        fields = ("msg", packed(task), "state", state)
        since = ("pending_since", 1) if state == "pending" else ()
        commands.append(("HSET", queue.keys.task(task), *fields, *since))
        is_list = state == "pending"
        commands.append(("LPUSH", place, task) if is_list else ("ZADD", place, index, task))
    await queue.send_many(commands)


async def test_large_tasks_are_read_a_few_at_a_time(inspector: Inspector, queue: Queue) -> None:
    """A script that reads the messages of many large tasks at once would stop the server for too long."""
    for number in range(5):
        message = packed(str(number), payload=bytes(2_000_000), unique_key=f"lock-{number}")
        await put(queue, "retry", str(number), msg=message)
    store = inspector._of("default")
    taken, changed = await store.change_some("delete", TaskState.RETRY, "", 5)
    assert taken == changed == 3
    assert await inspector.delete_all("default", "retry") == 2


async def test_what_is_no_task_is_not_run_but_removed(inspector: Inspector, queue: Queue) -> None:
    """An entry without a task, one without a message, one of another kind: they are not counted."""
    await put(queue, "retry", "good", "gone", "empty", "text")
    await queue.send("DEL", queue.keys.task("gone"), queue.keys.task("text"))
    await queue.send("HDEL", queue.keys.task("empty"), "msg")
    await queue.send("SET", queue.keys.task("text"), "no task")
    assert await inspector.run_all("default", "retry") == 1
    content = of_asynq(await queue.content())
    assert content["pending"] == ["good"]
    assert misplaced(content) == []


async def test_entries_without_a_task_are_deleted_with_all(
    inspector: Inspector, queue: Queue
) -> None:
    await put(queue, "pending", "good", "gone")
    await queue.send("DEL", queue.keys.task("gone"))
    assert await inspector.delete_all("default", "pending") == 2
    assert of_asynq(await queue.content()) == {}


@on_one_server
async def test_states_and_groups_that_make_no_sense_are_refused(inspector: Inspector) -> None:
    for call in (inspector.run_all, inspector.archive_all, inspector.delete_all):
        with pytest.raises(InvalidOption, match="state"):
            await call("default", "sleeping")
        with pytest.raises(InvalidOption, match="group"):
            await call("default", "aggregating")
        with pytest.raises(InvalidOption, match="group"):
            await call("default", "retry", group="g")
        with pytest.raises(InvalidName):
            await call("default", "aggregating", group=" ")
        with pytest.raises(QueueNotFound):
            await call("other", "retry")


# --- the archive is bounded (4.6)


async def fill_archive(queue: Queue, count: int, *, score: float) -> None:
    """So many archived tasks, the oldest first; each holds a lock."""
    commands: list[tuple[Any, ...]] = []
    for number in range(count):
        task, lock = f"old-{number:05}", f"{queue.keys.prefix}unique:t:{number}"
        fields = ("msg", packed(task), "state", "archived", "unique_key", lock)
        commands.append(("HSET", queue.keys.task(task), *fields))
        commands.append(("ZADD", queue.keys.archived, score + number, task))
        commands.append(("SET", lock, task, "EX", 1000))
    await queue.send_many(commands)


@pytest.mark.parametrize("all_of_them", [False, True])
async def test_archiving_drops_what_is_too_old_with_all_that_it_has(
    inspector: Inspector, queue: Queue, all_of_them: bool
) -> None:
    """Go drops the entry alone, and the id is taken for ever (7.3, 6)."""
    await fill_archive(queue, 3, score=LONG_AGO)
    await put(queue, "retry", "new")
    if all_of_them:
        assert await inspector.archive_all("default", "retry") == 1
    else:
        await inspector.archive_task("default", "new")
    assert set(of_asynq(await queue.content())) == {"archived", "t:new"}


async def test_archiving_all_keeps_the_newest_9999(inspector: Inspector, queue: Queue) -> None:
    """However many come at once; those that go leave neither records nor locks."""
    async with queue.window() as window:
        pass
    await fill_archive(queue, 9_990, score=int(window.low) - 10_000)
    await put_many(queue, "pending", [f"new-{number:04}" for number in range(700)])
    assert await inspector.archive_all("default", "pending") == 700
    content = of_asynq(await queue.content())
    assert len(content["archived"]) == 9_999
    assert content["archived"].keys() >= {f"new-{number:04}" for number in range(700)}
    assert misplaced(content) == []


# --- payloads


async def test_payload_of_a_scheduled_task_is_replaced(inspector: Inspector, queue: Queue) -> None:
    """Everything else of it stays, also what this version does not know of."""
    unknown = b"\x82\x7d\x03abc"  # field 2000
    message = packed("mine", unique_key="lock", retried=2, headers={"a": "b"}, retention=5)
    await put(queue, "scheduled", "mine", msg=message + unknown, result=b"r", group="g")
    before = await queue.content()
    await inspector.update_payload("default", "mine", "new")
    content = await queue.content()
    new = content["t:mine"].pop("msg")
    assert unpacked(new) == {**unpacked(message), "payload": b"new"}
    assert unknown in new
    before["t:mine"].pop("msg")
    assert content == before


@pytest.mark.parametrize("state", [state for state in STATES if state != "scheduled"])
async def test_payload_of_other_tasks_stays(inspector: Inspector, queue: Queue, state: str) -> None:
    await put(queue, state, "mine")
    before = await queue.content()
    with pytest.raises(WrongState) as refused:
        await inspector.update_payload("default", "mine", b"new")
    assert (refused.value.state, refused.value.operation) == (state, "update")
    assert await queue.content() == before


@on_one_server
async def test_payload_is_not_replaced_where_that_cannot_be(
    inspector: Inspector, queue: Queue
) -> None:
    await put(queue, "scheduled", "mine")
    await put(queue, "scheduled", "garbage", msg=b"\xff\xff")
    with pytest.raises(TaskNotFound):
        await inspector.update_payload("default", "nobody", b"new")
    with pytest.raises(QueueNotFound):
        await inspector.update_payload("other", "mine", b"new")
    with pytest.raises(PayloadTooLarge):
        await inspector.update_payload("default", "mine", bytes(1001))
    with pytest.raises(DecodeError):
        await inspector.update_payload("default", "garbage", b"new")
    assert (await queue.message("mine"))["payload"] == b"pay"


async def test_change_that_comes_between_is_not_overwritten(
    inspector: Inspector, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is replaced only if it is the one that was read; else it is read again."""
    await put(queue, "scheduled", "mine")
    update = InspectorStore.update
    times = 0

    async def meddled(store: InspectorStore, task: str, old: bytes, new: bytes) -> Changed:
        nonlocal times
        times += 1
        if times == 1:
            await queue.hash("mine", "scheduled", msg=packed("mine", retried=2))
        return await update(store, task, old, new)

    monkeypatch.setattr(InspectorStore, "update", meddled)
    await inspector.update_payload("default", "mine", b"new")
    message = await queue.message("mine")
    assert (times, message["payload"], message["retried"]) == (2, b"new", 2)


async def test_update_sent_again_says_the_same(inspector: Inspector, queue: Queue) -> None:
    await put(queue, "scheduled", "mine")
    old, new = packed("mine"), packed("mine", payload=b"new")
    store = inspector._of("default")
    assert [(await store.update("mine", old, new)).outcome for _ in range(2)] == ["updated"] * 2
    assert (await store.update("mine", old, packed("mine", payload=b"x"))).outcome == "changed"
