"""What comes at the wrong moment: suspects without room, loops that stood still, servers that are away just then.

Each is a scene that two clocks play once in a while; here it is brought about, step by step.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import OutcomeUnknown, ServerUnavailable
from pulsewire.tasks import NewTask
from pulsewire.tasks.store import Taken
from pulsewire.testing import FaultProxy, wait_until
from tests.facts import PATIENCE, Facts, Raw
from tests.tasks.facts import MakeServer, Recorder
from tests.tasks.scenes import Queue, misplaced
from tests.tasks.scheduling.ticks import Ticks

TOPOLOGIES = ["standalone"]
AWAY = ServerUnavailable("here", 1.0, "away")


# --- suspects


async def test_suspect_begins_beside_others_that_do_not_end(
    make_server: MakeServer, recorder: Recorder, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for them for a while, and they for it; neither keeps the other from running for ever."""
    monkeypatch.setattr("pulsewire.tasks.serving.attempts.ALONE_FOR", 0.05)
    recorder.hold()
    async with make_server():
        await queue.pending("long")
        await recorder.wait_runs(1)
        await queue.pending("suspect", lost=2)
        await recorder.wait_runs(1, "suspect")
        assert recorder.running == {"long": 1, "suspect": 1}
        assert "pulsewire:alone" not in (await queue.content())["t:suspect"]
        await queue.pending("later")
        await recorder.wait_runs(1, "later")
        assert recorder.running.total() == 3
        recorder.release()
        await queue.wait_empty()


async def test_suspect_that_has_not_begun_goes_back_when_its_server_ends(
    make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """At once: nobody waits for those that it waited for."""
    recorder.hold()
    seen: list[int] = []

    async def release_once_it_is_back() -> None:
        await queue.wait_state("suspect", "pending")
        seen.append(recorder.running["long"])
        recorder.release()

    async with anyio.create_task_group() as tasks:
        async with make_server(shutdown_timeout=PATIENCE) as server:
            await queue.pending("long")
            await recorder.wait_runs(1)
            await queue.pending("suspect", lost=2)
            await wait_until(lambda: server._attempts._suspect is not None, what="it waits")
            tasks.start_soon(release_once_it_is_back)
    assert seen == [1]
    assert recorder.count("suspect") == 0
    assert misplaced(await queue.content()) == []


# --- taking


async def test_tasks_that_were_taken_while_the_loop_stood_still_are_run_once(
    make_server: MakeServer, recorder: Recorder, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their leases may have lapsed meanwhile: they are looked at again before they begin, as often as it takes."""
    async with make_server() as server:
        late = [True, True, False]
        monkeypatch.setattr(server._supply, "_is_late", lambda _: bool(late and late.pop(0)))
        await queue.pending("a", "b", "c")
        await queue.wait_empty()
        assert late == []
    assert sorted(recorder.ids) == ["a", "b", "c"]
    assert all(run.retried == 0 for run in recorder.runs)


async def test_queue_that_cannot_be_asked_does_not_keep_the_others_from_running(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    watched: pulsewire.Hub,
    facts: Facts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a cluster one of whose masters is away; it is asked again."""
    for queue in ("one", "two"):
        await hub.tasks.enqueue("t", queue=queue, task_id=queue)
    server = make_server(of=watched, queues={"one": 1, "two": 1})
    store = server._crew.places["one"].store
    take, tries = type(store).take, list[str]()

    async def fails_first(self: Any, count: int, *rest: Any) -> Taken:
        if self is store:
            tries.append("one")
            if len(tries) == 1:
                raise AWAY
        return await take(self, count, *rest)

    monkeypatch.setattr(type(store), "take", fails_first)
    async with server:
        for queue in ("one", "two"):
            await recorder.wait_ended(queue)
        assert sorted(recorder.ids) == ["one", "two"]
        assert len(facts.of("loop_troubled")) == 1


# --- intervening


async def test_change_that_nobody_can_tell_of_any_more_is_an_unknown_outcome(
    proxy: FaultProxy, namespace: str
) -> None:
    """The server may have carried it out, and is away since. What was never sent was not carried out."""
    async with pulsewire.connect(proxy.url, namespace=namespace, wait_for_server=0.3) as far:
        await far.tasks.enqueue("t")
        inspector = far.tasks.inspector
        await inspector.pause("default")
        await proxy.refuse()
        proxy.swallow_reply("EVALSHA")
        with pytest.raises(OutcomeUnknown):
            await inspector.unpause("default")
        with pytest.raises(ServerUnavailable):
            await inspector.pause("default")
        await proxy.accept()

        async def is_paused() -> bool:
            try:
                await inspector.pause("default")
            except ServerUnavailable:
                return False
            return (await inspector.queue_info("default")).is_paused

        await wait_until(is_paused, timeout=PATIENCE, what="the server is there again")


async def test_cancelled_change_is_remembered_until_it_cannot_come_any_more(
    weathered: pulsewire.Hub, proxy: FaultProxy
) -> None:
    """Whether it was carried out nobody knows; what is asked for after it holds."""
    await weathered.tasks.enqueue("t")
    inspector = weathered.tasks.inspector
    await inspector.pause("default")
    proxy.stall("to_client")
    with anyio.move_on_after(0.05):
        await inspector.unpause("default")
    assert inspector._stores["default"]._requests.has_doubtful
    proxy.resume()
    await inspector.pause("default")
    assert (await inspector.queue_info("default")).is_paused


# --- schedulers


async def test_scheduler_ticks_on_where_nothing_else_can_be_asked_or_written(
    watched: pulsewire.Hub, raw: Raw, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time, the history and the goodbye are left out; the tasks are enqueued."""
    scheduler = watched.scheduler(heartbeat_interval=0.1)
    scheduler.register("@every 1s", NewTask(type="t"))

    async def fail(*arguments: object) -> None:
        raise AWAY

    async with scheduler:
        ticks = Ticks.of(raw, scheduler)
        for name in ("time", "note", "hide"):
            monkeypatch.setattr(scheduler._store, name, fail)
        await ticks.wait_more(1)
        troubled = {"asking for the time", "noting periodic tasks"}
        await wait_until(
            lambda: troubled <= {told[0] for told in facts.of("loop_troubled")}, what="both failed"
        )
