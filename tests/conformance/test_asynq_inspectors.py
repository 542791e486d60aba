"""Go's inspector on queues that we serve, ours on queues that Go serves: they see the same, and do the same."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

import pulsewire
from pulsewire.errors import (
    AlreadyPaused,
    NotPaused,
    PulsewireError,
    QueueInUse,
    QueueNotEmpty,
    QueueNotFound,
    TaskNotFound,
    WrongState,
)
from pulsewire.tasks import TaskInfo, TaskState
from pulsewire.testing import SingleServer, wait_until
from tests.conformance.asynq_keys import content_of
from tests.conformance.asynq_programs import PATIENCE, Programs, Refused, payload_of
from tests.conformance.asynq_scenes import GROUP, HOW, QUEUE, Fleet, a_task, every_state

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]  # the first run downloads

LISTS = {
    "pending": "ListPendingTasks",
    "active": "ListActiveTasks",
    "scheduled": "ListScheduledTasks",
    "retry": "ListRetryTasks",
    "archived": "ListArchivedTasks",
    "completed": "ListCompletedTasks",
    "aggregating": "ListAggregatingTasks",
}
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "run": ("scheduled", "retry", "archived", "completed", "aggregating"),
    "archive": ("pending", "scheduled", "retry", "completed", "aggregating"),
    "delete": ("pending", "scheduled", "retry", "archived", "completed", "aggregating"),
}
ALL_AT_ONCE: Mapping[str, tuple[str, ...]] = {
    "run": ("scheduled", "retry", "archived", "aggregating"),
    "archive": ("pending", "scheduled", "retry", "aggregating"),
    "delete": ("pending", "scheduled", "retry", "archived", "completed", "aggregating"),
}
AFTERWARDS = {"run": "pending", "archive": "archived", "delete": "gone"}


class Looking:
    """An inspector of one language, by words that both have."""

    def __init__(self, language: str, programs: Programs, hub: pulsewire.Hub) -> None:
        self.is_go = language == "go"
        self.programs = programs
        self.ours = hub.tasks.inspector

    async def tasks(self, state: str) -> list[dict[str, Any]]:
        """The tasks of a state, as far as both say something of them."""
        group = GROUP if state == "aggregating" else None
        if not self.is_go:
            return [ours_said(info) for info in await self.ours.tasks(QUEUE, state, group=group)]
        arguments = [QUEUE, group] if group else [QUEUE]
        return [go_said(info) for info in await self.programs.inspect(LISTS[state], *arguments)]

    async def task(self, task_id: str) -> dict[str, Any]:
        """One task; only the state "gone" where there is none."""
        if self.is_go:
            answer = await self.programs.ask(
                {"inspect": "GetTaskInfo", "arguments": [QUEUE, task_id]}
            )
            is_gone = answer == {"error": "asynq: task not found"}
            return {"state": "gone"} if is_gone else go_said(answer)
        try:
            return ours_said(await self.ours.task(QUEUE, task_id))
        except TaskNotFound:
            return {"state": "gone"}

    async def sizes(self) -> dict[str, Any]:
        """Numbers of a queue."""
        if self.is_go:
            info = await self.programs.inspect("GetQueueInfo", QUEUE)
            return {
                **{state: info[state.title()] for state in LISTS},
                "groups": info["Groups"],
                "processed": (info["Processed"], info["ProcessedTotal"]),
                "failed": (info["Failed"], info["FailedTotal"]),
                "is_paused": info["Paused"],
                "size": info["Size"],
                "latency": info["Latency"] > 0,
                "memory": info["MemoryUsage"] > 0,
            }
        found = await self.ours.queue_info(QUEUE)
        return {
            **{state: getattr(found, state) for state in LISTS},
            "groups": found.groups,
            "processed": (found.processed, found.processed_total),
            "failed": (found.failed, found.failed_total),
            "is_paused": found.is_paused,
            "size": found.size,
            "latency": found.latency > 0,
            "memory": (found.memory or 0) > 0,
        }

    async def change(self, verb: str, task_id: str) -> None:
        """Run, archive or delete a task."""
        if self.is_go:
            await self.programs.inspect(f"{verb.title()}Task", QUEUE, task_id)
        else:
            await getattr(self.ours, f"{verb}_task")(QUEUE, task_id)

    async def change_all(self, verb: str, state: str) -> int:
        """The same with all tasks of a state: how many."""
        is_group = state == "aggregating"
        if self.is_go:
            arguments = [QUEUE, GROUP] if is_group else [QUEUE]
            method = f"{verb.title()}All{state.title()}Tasks"
            return int(await self.programs.inspect(method, *arguments))
        changing = getattr(self.ours, f"{verb}_all")
        return int(await changing(QUEUE, state, group=GROUP if is_group else None))

    async def pause(self, queue: str = QUEUE) -> None:
        """Pause a queue."""
        if self.is_go:
            await self.programs.inspect("PauseQueue", queue)
        else:
            await self.ours.pause(queue)

    async def unpause(self, queue: str = QUEUE) -> None:
        """Let it go on."""
        if self.is_go:
            await self.programs.inspect("UnpauseQueue", queue)
        else:
            await self.ours.unpause(queue)

    async def cancel(self, task_id: str) -> None:
        """Cancel a running task."""
        if self.is_go:
            await self.programs.inspect("CancelProcessing", task_id)
        else:
            await self.ours.cancel(task_id)


def go_said(info: Mapping[str, Any]) -> dict[str, Any]:
    """A TaskInfo of Go."""
    return {
        "id": info["ID"],
        "queue": info["Queue"],
        "type": info["Type"],
        "payload": payload_of(info),
        "headers": info["Headers"] or {},
        "state": info["State"],
        "max_retry": info["MaxRetry"],
        "retried": info["Retried"],
        "last_error": info["LastErr"],
        "last_failed_at": _moment(info["LastFailedAt"]),
        "timeout": info["Timeout"] / 1e9,
        "deadline": _moment(info["Deadline"]),
        "group": info["Group"],
        "next": _next(info["State"], _moment(info["NextProcessAt"])),
        "is_orphaned": info["IsOrphaned"],
        "retention": info["Retention"] / 1e9,
        "completed_at": _moment(info["CompletedAt"]),
        "result": payload_of({"payload": info["Result"]}),
    }


def ours_said(info: TaskInfo) -> dict[str, Any]:
    """A TaskInfo of ours."""
    return {
        "id": info.id,
        "queue": info.queue,
        "type": info.type,
        "payload": info.payload,
        "headers": dict(info.headers),
        "state": str(info.state),
        "max_retry": info.max_retry,
        "retried": info.retried,
        "last_error": info.last_error,
        "last_failed_at": info.last_failed_at,
        "timeout": info.timeout,
        "deadline": info.deadline,
        "group": info.group,
        "next": _next(info.state, info.next_process_at),
        "is_orphaned": info.is_orphaned,
        "retention": info.retention,
        "completed_at": info.completed_at,
        "result": info.result,
    }


def _moment(text: str) -> datetime | None:
    return None if text.startswith("0001-") else datetime.fromisoformat(text).astimezone(UTC)


def _next(state: str, moment: datetime | None) -> object:
    """Of a pending task it is the moment of asking."""
    return moment is not None if state == "pending" else moment


@pytest.fixture(params=["go", "ours"], ids=["go serves", "we serve"])
def fleet(
    request: pytest.FixtureRequest,
    programs: Programs,
    asynq_hub: pulsewire.Hub,
    asynq_redis: SingleServer,
) -> Fleet:
    """Whose servers make the scene; the other language's clients enqueue."""
    enqueuer = "ours" if request.param == "go" else "go"
    return Fleet(enqueuer, request.param, programs, asynq_hub, asynq_redis)


@pytest.fixture
def go(programs: Programs, asynq_hub: pulsewire.Hub) -> Looking:
    return Looking("go", programs, asynq_hub)


@pytest.fixture
def ours(programs: Programs, asynq_hub: pulsewire.Hub) -> Looking:
    return Looking("ours", programs, asynq_hub)


@pytest.fixture
def looking(fleet: Fleet, go: Looking, ours: Looking) -> Looking:
    """The inspector of the language that does not serve."""
    return go if fleet.enqueuer == "go" else ours


# --- looking


async def test_both_see_the_same(fleet: Fleet, go: Looking, ours: Looking) -> None:
    """Every state, every field, and the numbers of the queue."""
    async with every_state(fleet, "one", "two"):
        sizes = await go.sizes()
        assert await ours.sizes() == sizes
        assert {state: sizes[state] for state in LISTS} == dict.fromkeys(LISTS, 2)
        assert (sizes["size"], sizes["is_paused"], sizes["groups"]) == (14, True, 1)
        assert (sizes["processed"], sizes["failed"]) == ((6, 6), (4, 4))
        for state in LISTS:
            seen = await go.tasks(state)
            assert await ours.tasks(state) == seen
            assert {task["id"] for task in seen} == {f"{state} one", f"{state} two"}
            for task in seen:
                assert await go.task(task["id"]) == await ours.task(task["id"]) == task
    history = await fleet.programs.inspect("History", QUEUE, 3)
    assert [(day["Processed"], day["Failed"]) for day in history] == [
        (day.processed, day.failed) for day in await ours.ours.history(QUEUE, 3)
    ]
    assert history[0]["Processed"] == 6


async def test_lists_have_the_same_order_and_pages(
    go: Looking, ours: Looking, asynq_hub: pulsewire.Hub
) -> None:
    """What is next comes first."""
    names = [f"task {number}" for number in range(7)]
    for name in names:
        await asynq_hub.tasks.enqueue(a_task("note:it", name))
    for page in (1, 2, 3, 4):
        theirs = await go.programs.inspect("ListPendingTasks", QUEUE, {"size": 3, "page": page})
        found = await ours.ours.tasks(QUEUE, "pending", page=page, size=3)
        assert [info["ID"] for info in theirs] == [info.id for info in found]
        assert [info.id for info in found] == names[3 * page - 3 : 3 * page]


# --- changing


@pytest.mark.parametrize("verb", ALLOWED)
async def test_one_task_is_changed(
    fleet: Fleet, go: Looking, ours: Looking, looking: Looking, verb: str
) -> None:
    """By the inspector of one language, of tasks that the other's server has written; both see what became of it."""
    async with every_state(fleet, "one"):
        for state in ALLOWED[verb]:
            await looking.change(verb, f"{state} one")
            for either in (go, ours):
                seen = await either.task(f"{state} one")
                assert seen["state"] == AFTERWARDS[verb], state
        assert (await go.task("active one"))["state"] == "active"
        assert (await go.sizes())["groups"] == 0
    if verb == "delete":
        # what is active was handed back, with its lock; what had succeeded had given it up before
        locks = [key for key in await fleet.left() if key.startswith("unique:")]
        assert len(locks) == 1
        assert {key for key in await fleet.left() if key.startswith("t:")} == {"t:active one"}


@pytest.mark.parametrize("verb", ALL_AT_ONCE)
async def test_all_tasks_of_a_state_are_changed(
    fleet: Fleet, go: Looking, ours: Looking, looking: Looking, verb: str
) -> None:
    """And how many they were is said."""
    async with every_state(fleet, "one", "two"):
        for state in ALL_AT_ONCE[verb]:
            # what was run or archived before is there, too
            count = (await go.sizes())[state]
            assert await looking.change_all(verb, state) == count >= 2
            assert await looking.change_all(verb, state) == 0
            for task_id in (f"{state} one", f"{state} two"):
                for either in (go, ours):
                    assert (await either.task(task_id))["state"] == AFTERWARDS[verb]
        assert await ours.sizes() == await go.sizes()


async def test_what_is_run_by_hand_runs(fleet: Fleet, go: Looking, looking: Looking) -> None:
    """In the other language's server, as often as it is wanted, whatever had become of it."""
    async with every_state(fleet, "one"):
        await looking.unpause()
        await fleet.state_is("gone", "pending one")
        for state, then in {
            "scheduled": "gone",
            "retry": "retry",
            "archived": "archived",
            "completed": "completed",
            "aggregating": "gone",
        }.items():
            task_id = f"{state} one"
            before = len(fleet.facts.of("begun", task_id))
            await looking.change("run", task_id)
            await fleet.facts.heard("ended", task_id, count=before + 1)
            await fleet.state_is(then, task_id)
        assert (await go.task("retry one"))["retried"] == 2


async def test_a_payload_is_changed(fleet: Fleet, go: Looking, looking: Looking) -> None:
    """Of a scheduled task, all else staying as it is."""
    await fleet.enqueue(a_task("note:it", process_in=600.0, headers={"k": "v"}, max_retry=3))
    before = await go.task("one")
    if looking.is_go:
        await looking.programs.inspect("UpdateTaskPayload", QUEUE, "one", "b3RoZXI=")
    else:
        await looking.ours.update_payload(QUEUE, "one", b"other")
    assert await go.task("one") == {**before, "payload": b"other"}


async def test_refusals_are_the_same(fleet: Fleet, go: Looking, ours: Looking) -> None:
    """What Go refuses, we refuse."""
    programs, inspector = go.programs, ours.ours
    async with every_state(fleet, "one"):
        refused: list[tuple[str, str, type[PulsewireError]]] = [
            ("run", "absent", TaskNotFound),
            ("run", "active one", WrongState),
            ("run", "pending one", WrongState),
            ("archive", "absent", TaskNotFound),
            ("archive", "active one", WrongState),
            ("archive", "archived one", WrongState),
            ("delete", "absent", TaskNotFound),
            ("delete", "active one", WrongState),
        ]
        for verb, task_id, error in refused:
            with pytest.raises(Refused):
                await go.change(verb, task_id)
            with pytest.raises(error):
                await ours.change(verb, task_id)
        for task_id, error in {"absent": TaskNotFound, "retry one": WrongState}.items():
            with pytest.raises(Refused):
                await programs.inspect("UpdateTaskPayload", QUEUE, task_id, "b3RoZXI=")
            with pytest.raises(error):
                await inspector.update_payload(QUEUE, task_id, b"other")
        with pytest.raises(Refused, match="already paused"):
            await go.pause()
        with pytest.raises(AlreadyPaused):
            await ours.pause()
        with pytest.raises(Refused, match="not paused"):
            await go.unpause("elsewhere")
        with pytest.raises(NotPaused):
            await ours.unpause("elsewhere")
        for force, refusal in ((False, QueueNotEmpty), (True, QueueInUse)):
            with pytest.raises(Refused):
                await programs.inspect("DeleteQueue", QUEUE, force)
            with pytest.raises(refusal):
                await inspector.remove_queue(QUEUE, force=force)
        with pytest.raises(Refused, match="does not exist"):
            await programs.inspect("GetQueueInfo", "elsewhere")
        with pytest.raises(QueueNotFound):
            await inspector.queue_info("elsewhere")


async def test_a_queue_is_removed(
    fleet: Fleet, looking: Looking, asynq_hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """By force with its tasks. It is there again when somebody enqueues."""
    await fleet.enqueue(
        a_task("note:it", "pending"), a_task("note:it", "scheduled", process_in=600.0)
    )
    if looking.is_go:
        await looking.programs.inspect("DeleteQueue", QUEUE, True)
    else:
        await looking.ours.remove_queue(QUEUE, force=True)
    assert await looking.programs.inspect("Queues") == []
    assert await looking.ours.queues() == []
    left = await content_of(asynq_redis)
    assert not [key for key in left if not key.startswith("pulsewire:")]
    async with pulsewire.connect(fleet.programs.url) as another:
        await another.tasks.enqueue(a_task("note:it"))
    assert await looking.programs.inspect("Queues") == await looking.ours.queues() == [QUEUE]


# --- servers


async def test_a_pause_holds_the_other_up(
    fleet: Fleet, looking: Looking, go: Looking, ours: Looking
) -> None:
    """Until it ends; both see it."""
    async with fleet.running():
        await looking.pause()
        await fleet.enqueue(a_task("note:it", "held up"))
        await fleet.enqueue(a_task("note:it", "elsewhere", queue="other"))
        await fleet.facts.heard("ended", "elsewhere")
        assert (await go.sizes())["is_paused"] is (await ours.sizes())["is_paused"] is True
        assert (await go.task("held up"))["state"] == "pending"
        await looking.unpause()
        await fleet.facts.heard("ended", "held up")
    assert (await go.sizes())["is_paused"] is (await ours.sizes())["is_paused"] is False


async def test_a_task_is_cancelled(fleet: Fleet, looking: Looking) -> None:
    """Which means that it has failed: it is tried again, with asynq's words for it."""
    async with fleet.running(retry_delay=600.0):
        await fleet.enqueue(a_task("hold:it", "cancelled"), a_task("hold:it", "other"))
        await fleet.facts.heard("begun", count=2)

        async def has_ended() -> bool:
            await looking.cancel("cancelled")  # nobody may have been listening yet
            return bool(fleet.facts.of("ended", "cancelled"))

        await wait_until(has_ended, timeout=PATIENCE, what="the task was cancelled")
        info = await fleet.state_is("retry", "cancelled")
        assert fleet.facts.of("ended", "other") == []
    assert (info["LastErr"], info["Retried"]) == ("context canceled", 1)


def test_every_state_is_looked_at() -> None:
    """The tables here have them all."""
    assert set(LISTS) == set(HOW) == {str(state) for state in TaskState}
