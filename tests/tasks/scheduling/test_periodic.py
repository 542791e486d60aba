"""Periodic tasks that a provider knows: registered, unregistered and kept as it says, whatever happens to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import pulsewire
from pulsewire.errors import Closed, InvalidOption
from pulsewire.tasks import NewTask
from pulsewire.tasks.scheduling.periodic import PeriodicTask, PeriodicTaskManager
from pulsewire.testing import Topology, wait_until
from tests.facts import PATIENCE, Facts, Raw, on_one_server
from tests.tasks.scheduling.ticks import Leaping, Ticks

TOPOLOGIES = ["standalone", "cluster"]
NEVER = 100_000.0
"""Seconds between two syncs, for tests that ask for one themselves."""


def wanted(name: str, spec: str = "@yearly", **options: Any) -> PeriodicTask:
    """One that a provider gives."""
    return PeriodicTask(spec, NewTask(type=name, **options))


class Table:
    """A provider whose content changes, and that may fail."""

    def __init__(self, *rows: Any) -> None:
        self.rows: list[Any] = list(rows)
        self.error: Exception | None = None
        self.asked = 0
        self.threads: set[int] = set()

    def __call__(self) -> list[Any]:
        self.asked += 1
        self.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error
        return list(self.rows)


def types(manager: PeriodicTaskManager) -> list[str]:
    """The types of the entries, sorted."""
    return sorted(entry.task.type for entry in manager.scheduler._timetable.entries)


def ids(manager: PeriodicTaskManager) -> dict[str, str]:
    """Type -> id of the entry."""
    return {entry.task.type: entry.id for entry in manager.scheduler._timetable.entries}


async def test_entries_are_what_the_provider_wants(hub: pulsewire.Hub, raw: Raw) -> None:
    """They are shown, enqueued, and gone at the end, like any scheduler's."""
    table = Table(wanted("digest", "@every 1s"), wanted("report"))
    async with hub.periodic_tasks(table, sync_interval=NEVER) as manager:
        entries = await hub.tasks.inspector.scheduler_entries()
        assert sorted(entry.task_type for entry in entries) == ["digest", "report"]
        ticks = Ticks.of(raw, manager.scheduler)
        await Leaping(manager.scheduler).go_on(2.0)
        await ticks.wait_more(2)
    await ticks.assert_each_once()
    assert await hub.tasks.inspector.scheduler_entries() == []
    assert table.asked == 1


@on_one_server
async def test_what_changes_is_registered_and_unregistered(hub: pulsewire.Hub) -> None:
    """And nothing else: the others keep their ids, and so their histories."""
    table = Table(wanted("a"), wanted("b"))
    async with hub.periodic_tasks(table, sync_interval=NEVER) as manager:
        before = ids(manager)
        table.rows = [wanted("b"), wanted("c")]
        await manager.sync_once()
        assert types(manager) == ["b", "c"]
        assert ids(manager)["b"] == before["b"]
        table.rows = []
        await manager.sync_once()
        assert types(manager) == []
        table.rows = [wanted("b")]
        await manager.sync_once()
        assert ids(manager)["b"] != before["b"]


@pytest.mark.parametrize(
    "changed",
    [
        wanted("a", "@monthly"),
        wanted("a", payload=b"x"),
        wanted("a", queue="low"),
        wanted("a", max_retry=3),
        wanted("a", headers={"k": "v"}),
        wanted("a", task_id="x"),
    ],
)
@on_one_server
async def test_every_change_of_a_task_is_noticed(hub: pulsewire.Hub, changed: PeriodicTask) -> None:
    """Its headers and options, too; Go overlooks those."""
    table = Table(wanted("a"))
    async with hub.periodic_tasks(table, sync_interval=NEVER) as manager:
        before = ids(manager)["a"]
        table.rows = [changed]
        await manager.sync_once()
        assert ids(manager)["a"] != before
        assert len(manager.scheduler._timetable) == 1


@on_one_server
async def test_what_is_given_twice_is_registered_once(hub: pulsewire.Hub) -> None:
    """And unregistered with it; in Go one of the two would stay."""
    table = Table(wanted("a"), wanted("a"), wanted("b"))
    async with hub.periodic_tasks(table, sync_interval=NEVER) as manager:
        assert types(manager) == ["a", "b"]
        table.rows = [wanted("a"), wanted("b"), wanted("b")]
        await manager.sync_once()
        assert types(manager) == ["a", "b"]
        table.rows = [wanted("b")]
        await manager.sync_once()
        assert types(manager) == ["b"]


@on_one_server
async def test_equal_ones_with_names_are_several(hub: pulsewire.Hub) -> None:
    table = Table(
        PeriodicTask("@yearly", NewTask(type="a"), "first"),
        PeriodicTask("@yearly", NewTask(type="a"), "second"),
    )
    async with hub.periodic_tasks(table, sync_interval=NEVER) as manager:
        assert types(manager) == ["a", "a"]


@pytest.mark.parametrize(
    "rows",
    [
        [wanted("new"), wanted("broken", "* * *")],
        [wanted("new"), wanted(" ")],
        [wanted("new"), wanted("broken", max_retry=-1)],
        [wanted("new"), ("@yearly", "broken")],
        [wanted("new"), PeriodicTask("@yearly", "broken")],  # type: ignore[arg-type]  # the mistake
    ],
)
@on_one_server
async def test_one_that_is_impossible_changes_nothing(hub: pulsewire.Hub, rows: list[Any]) -> None:
    """When it is there from the start nothing begins; later the entries stay as they are."""
    with pytest.raises(pulsewire.ConfigurationError):
        async with hub.periodic_tasks(Table(*rows), sync_interval=NEVER):
            pytest.fail("it began")
    table = Table(wanted("a"))
    async with hub.periodic_tasks(table, sync_interval=NEVER) as manager:
        table.rows = rows
        with pytest.raises(pulsewire.ConfigurationError):
            await manager.sync_once()
        assert types(manager) == ["a"]


async def test_a_provider_that_fails_at_first_keeps_it_from_beginning(
    hub: pulsewire.Hub, topology: Topology, namespace: str
) -> None:
    """Its error comes out, and nothing was written."""
    table = Table()
    table.error = LookupError("no table")
    with pytest.raises(LookupError, match="no table"):
        async with hub.periodic_tasks(table):
            pytest.fail("it began")
    for master in await topology.masters():
        assert not await master.command("KEYS", f"*{namespace}*")


@on_one_server
async def test_a_provider_that_fails_later_is_asked_again(
    watched: pulsewire.Hub, facts: Facts, caplog: pytest.LogCaptureFixture
) -> None:
    """By itself. Meanwhile the entries stay as they are."""
    table = Table(wanted("a"))
    async with watched.periodic_tasks(table, sync_interval=0.02) as manager:
        table.error = LookupError("no table")
        table.rows = [wanted("b")]
        await wait_until(lambda: len(caplog.records) >= 3, timeout=PATIENCE, what="three failures")
        assert types(manager) == ["a"]
        table.error = None
        await wait_until(lambda: types(manager) == ["b"], timeout=PATIENCE, what="b is there")
    assert {one.exc_info[0] for one in caplog.records if one.exc_info} == {LookupError}
    troubles = facts.of("loop_troubled")
    assert [failures for *_, failures in troubles[:3]] == [1, 2, 3]


@on_one_server
async def test_a_plain_provider_is_called_in_a_thread(hub: pulsewire.Hub) -> None:
    """Since it may wait for a database."""
    table = Table(wanted("a"))
    async with hub.periodic_tasks(table, sync_interval=NEVER):
        assert threading.get_ident() not in table.threads


@on_one_server
async def test_a_provider_may_be_a_coroutine_function_or_a_generator(hub: pulsewire.Hub) -> None:
    here = threading.get_ident()

    async def ask() -> list[PeriodicTask]:
        assert threading.get_ident() == here
        return [wanted("a")]

    def generate() -> Iterator[PeriodicTask]:
        assert threading.get_ident() != here
        yield wanted("a")

    for provider in (ask, generate, lambda: ask()):  # noqa: PLW0108  # a plain function that gives a coroutine
        async with hub.periodic_tasks(provider, sync_interval=NEVER) as manager:
            assert types(manager) == ["a"]


@on_one_server
async def test_replicas_of_a_manager_enqueue_each_tick_once(
    hub: pulsewire.Hub, watched: pulsewire.Hub, raw: Raw
) -> None:
    table = Table(wanted("digest", "@every 1s"))
    async with (
        hub.periodic_tasks(table) as one,
        watched.periodic_tasks(table) as other,
    ):
        ticks = Ticks.of(raw, one.scheduler)
        for manager in (one, other):
            await Leaping(manager.scheduler).go_on(3.0)
        await ticks.wait_more(3)
    await ticks.assert_each_once()


@on_one_server
async def test_what_somebody_unregistered_by_its_id_does_no_harm(hub: pulsewire.Hub) -> None:
    table = Table(wanted("a"), wanted("b"))
    async with hub.periodic_tasks(table, sync_interval=NEVER) as manager:
        manager.scheduler.unregister(ids(manager)["a"])
        table.rows = []
        await manager.sync_once()
        assert types(manager) == []


@on_one_server
async def test_arguments_are_checked(hub: pulsewire.Hub) -> None:
    table: Any = [wanted("a")]
    with pytest.raises(InvalidOption, match="provider"):
        hub.periodic_tasks(table)
    with pytest.raises(InvalidOption, match="sync_interval"):
        hub.periodic_tasks(Table(), sync_interval=0)
    manager = hub.periodic_tasks(Table())
    async with manager:
        assert "entries=0" in repr(manager)
    with pytest.raises(Closed):
        await manager.__aenter__()
