"""Periodic tasks: what a scheduler of one language shows and enqueues, the other one reads and runs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import pulsewire
from pulsewire.errors import DuplicateTask, PulsewireError
from pulsewire.tasks.messages import EnqueueEventMessage, EntryMessage
from pulsewire.testing import SingleServer, wait_until
from tests.conformance.asynq_keys import content_of
from tests.conformance.asynq_programs import PATIENCE, Facts, Programs, changed, in_json, payload_of
from tests.conformance.asynq_scenes import QUEUE, a_task
from tests.conformance.asynq_worker import Handling

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]  # the first run downloads

LATER = 4_102_444_800  # in the year 2100
TICK = a_task("note:tick", task_id=None, retention=600.0, max_retry=3)
RARE = a_task(
    "note:rare",
    task_id=None,
    queue='"low": ñ',
    max_retry=0,
    timeout=90.5,
    deadline=LATER,
    unique=3600.0,
    retention=86_400.0,
)
READABLE = [
    'Queue("\\"low\\": ñ")',
    "MaxRetry(0)",
    "Timeout(1m30.5s)",
    "Deadline(Fri Jan  1 00:00:00 UTC 2100)",
    "Unique(1h0m0s)",
    "Retention(24h0m0s)",
]


async def test_what_a_scheduler_of_go_enqueues_runs_here(
    programs: Programs, asynq_hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Its entries and their histories are read here, and written again the same."""
    facts = Facts()
    inspector = asynq_hub.tasks.inspector
    entries = [
        {"spec": "@every 1s", **in_json(TICK)},
        {"spec": "CRON_TZ=Asia/Tokyo 0 9 29 2 *", **in_json(RARE)},
    ]
    async with (
        programs.go_scheduler(*entries) as scheduler,
        asynq_hub.task_server(Handling("ours", facts.add), queues=[QUEUE]),
    ):
        tick, rare = (await scheduler.ready())["entries"]
        await facts.heard("ended", count=2)

        async def are_shown() -> bool:
            shown = await programs.inspect("SchedulerEntries")
            return any(not entry["Prev"].startswith("0001") for entry in shown)

        await wait_until(are_shown, timeout=PATIENCE, what="the entries are shown")
        content = await content_of(asynq_redis)
        theirs = {entry["ID"]: entry for entry in await programs.inspect("SchedulerEntries")}
        ours = {entry.id: entry for entry in await inspector.scheduler_entries()}
        events = await programs.inspect("ListSchedulerEnqueueEvents", tick)
        found = await inspector.enqueue_events(tick)
    assert set(ours) == set(theirs) == {tick, rare}
    for entry_id, entry in ours.items():
        seen = theirs[entry_id]
        assert (entry.spec, entry.task_type) == (seen["Spec"], seen["Type"])
        assert entry.payload == payload_of(seen)
        assert moment(seen["Next"]) == entry.next_at or entry_id == tick
    assert [option.text for option in ours[rare].options] == READABLE
    assert theirs[rare]["Prev"].startswith("0001")
    assert ours[rare].previous_at is None
    assert {fact["id"] for fact in facts.of("begun")} <= {event["TaskID"] for event in events}
    assert {event.task_id for event in found} >= {event["TaskID"] for event in events}
    told = facts.of("begun")[0]
    assert (told["type"], told["max_retry"]) == ("note:tick", 3)
    records = 0
    for key, (kind, value) in content.items():
        if key.startswith("asynq:schedulers:"):
            assert kind == "list"
            again = [EntryMessage.FromString(data).SerializeToString() for data in value]
            assert again == value
            records += len(value)
        if key.startswith("asynq:scheduler_history:"):
            for data in value:
                assert EnqueueEventMessage.FromString(data).SerializeToString() == data
                records += 1
    assert records >= 4


def moment(text: str) -> datetime | None:
    """A time that Go has told."""
    return None if text.startswith("0001-") else datetime.fromisoformat(text).astimezone(UTC)


async def test_what_our_scheduler_enqueues_runs_in_go(
    programs: Programs, asynq_hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Go's inspector shows its entries and their histories; the records are those that a scheduler of Go writes."""
    scheduler = asynq_hub.scheduler(heartbeat_interval=0.5)
    tick = scheduler.register("@every 1s", TICK)
    rare = scheduler.register("CRON_TZ=Asia/Tokyo 0 9 29 2 *", RARE)
    entry = {"spec": "CRON_TZ=Asia/Tokyo 0 9 29 2 *", **in_json(RARE)}
    async with programs.go_server(queues={QUEUE: 1}) as go, scheduler:
        async with programs.go_scheduler(entry) as theirs:
            [its] = (await theirs.ready())["entries"]
            await go.facts.heard("ended", count=2)

            async def are_shown() -> bool:
                shown = await programs.inspect("SchedulerEntries")
                return {one["ID"] for one in shown} == {tick, rare, its}

            await wait_until(are_shown, timeout=PATIENCE, what="the entries are shown")
            content = await content_of(asynq_redis)
        shown = {one["ID"]: one for one in await programs.inspect("SchedulerEntries")}
        events = await programs.inspect("ListSchedulerEnqueueEvents", tick)
    told = go.facts.of("begun")
    assert (told[0]["type"], told[0]["max_retry"]) == ("note:tick", 3)
    assert {fact["id"] for fact in told} <= {event["TaskID"] for event in events}
    assert set(shown) == {tick, rare}
    assert shown[tick]["Options"] == [f'Queue("{QUEUE}")', "MaxRetry(3)", "Retention(10m0s)"]
    assert shown[rare]["Options"] == READABLE
    assert not shown[tick]["Prev"].startswith("0001")
    assert shown[rare]["Prev"].startswith("0001")
    assert await programs.inspect("SchedulerEntries") == []
    written = {}
    for key, (_, value) in content.items():
        if key.startswith("asynq:schedulers:"):
            for data in value:
                message = EntryMessage.FromString(data)
                written[message.id] = message
    assert written[rare].next_enqueue_time == written[its].next_enqueue_time
    written[its].id = rare
    assert written[rare].SerializeToString() == written[its].SerializeToString()


async def test_schedulers_of_both_stand_beside_each_other(
    programs: Programs, asynq_hub: pulsewire.Hub
) -> None:
    """Each shows and enqueues its own entries, any server runs them, and a lock makes one task of what both enqueue."""
    facts = Facts()
    errors: list[PulsewireError] = []
    both = a_task("note:both", task_id=None, queue="not served", unique=3600.0)
    scheduler = asynq_hub.scheduler(
        heartbeat_interval=0.5,
        post_enqueue=lambda _, error: errors.extend([error] if error else []),
    )
    ours = scheduler.register("@every 1s", changed(TICK, type="note:ours"))
    our_both = scheduler.register("@every 1s", both)
    entries = [{"spec": "@every 1s", **in_json(one)} for one in (TICK, both)]
    async with (
        programs.go_server(queues={QUEUE: 1}) as go,
        asynq_hub.task_server(Handling("ours", facts.add), queues=[QUEUE]),
        programs.go_scheduler(*entries) as theirs,
        scheduler,
    ):
        its, its_both = (await theirs.ready())["entries"]

        def enqueued(kind: str) -> set[str]:
            told = [*go.facts.of("begun"), *facts.of("begun")]
            return {fact["id"] for fact in told if fact["type"] == kind}

        await wait_until(
            lambda: len(enqueued("note:ours")) > 1 and len(enqueued("note:tick")) > 1,
            timeout=PATIENCE,
            what="both have enqueued",
        )
        await wait_until(
            lambda: bool(errors and theirs.facts.of("refused")),
            timeout=PATIENCE,
            what="each was refused what the other one had enqueued, or itself before",
        )

        async def are_shown() -> bool:
            shown = await programs.inspect("SchedulerEntries")
            return {one["ID"] for one in shown} == {ours, our_both, its, its_both}

        await wait_until(are_shown, timeout=PATIENCE, what="the entries of both are shown")
        seen = {entry.id for entry in await asynq_hub.tasks.inspector.scheduler_entries()}
        events = {
            entry: {
                event["TaskID"]
                for event in await programs.inspect("ListSchedulerEnqueueEvents", entry)
            }
            for entry in seen
        }
        alone = await programs.inspect("ListPendingTasks", "not served")
    assert seen == {ours, our_both, its, its_both}
    assert enqueued("note:ours") & events[ours]
    assert enqueued("note:tick") & events[its]
    assert not events[ours] & events[its]
    assert [task["Type"] for task in alone] == ["note:both"]
    assert events[our_both] | events[its_both] == {alone[0]["ID"]}
    assert {type(error) for error in errors} <= {DuplicateTask}
    assert {fact["error"] for fact in theirs.facts.of("refused")} <= {"task already exists"}
