"""Reading through: one load for all who ask, and whose error or cancellation goes where."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from pulsewire._core.tasks import OwnedTasks
from pulsewire.rmap.loading import Loader
from tests.facts import PATIENCE


class Source:
    """Where values come from, when the test says so."""

    def __init__(self) -> None:
        self.loads = 0
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.trouble: Exception | None = None

    async def load(self) -> str:
        """Wait for the word, then give a value of its own."""
        self.loads += 1
        number = self.loads
        self.began.set()
        await self.may_end.wait()
        if self.trouble is not None:
            raise self.trouble
        return f"value {number}"


class Storing:
    """Where loaded values are put, when the test says so."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, str]] = []
        self.may_end = asyncio.Event()

    async def store(self, key: str, value: str) -> None:
        """Take note, then wait for the word."""
        self.stored.append((key, value))
        await self.may_end.wait()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def storing() -> Storing:
    return Storing()


@pytest.fixture
async def loader(
    anyio_backend: object, source: Source, storing: Storing
) -> AsyncIterator[Loader[str]]:
    """A loader within the tasks of a map; what it still stores is cut short when the test is over."""
    tasks = OwnedTasks()
    await tasks.enter()
    yield Loader(tasks, storing.store)
    storing.may_end.set()
    await tasks.leave(None, None, None)


Begin = Callable[[], Awaitable["asyncio.Task[str]"]]


@pytest.fixture
async def begin(loader: Loader[str], source: Source) -> AsyncIterator[Begin]:
    """Ask for a key in a task that has gone as far as it can when it is returned."""
    begun: list[asyncio.Task[str]] = []

    async def ask() -> asyncio.Task[str]:
        task = asyncio.create_task(loader.load("k", source.load))
        begun.append(task)
        with anyio.fail_after(PATIENCE):
            await source.began.wait()
        await anyio.lowlevel.checkpoint()
        return task

    yield ask
    for task in begun:
        task.cancel()
    await asyncio.gather(*begun, return_exceptions=True)


async def test_one_load_serves_all_who_ask(begin: Begin, source: Source, storing: Storing) -> None:
    tasks = [await begin() for _ in range(20)]
    source.may_end.set()
    assert await asyncio.gather(*tasks) == ["value 1"] * 20
    assert source.loads == 1
    await anyio.lowlevel.checkpoint()
    assert storing.stored == [("k", "value 1")]


async def test_keys_are_loaded_beside_each_other(loader: Loader[str], source: Source) -> None:
    source.may_end.set()
    values = await asyncio.gather(loader.load("a", source.load), loader.load("b", source.load))
    assert [*values] == ["value 1", "value 2"]


async def test_value_serves_until_it_is_stored(
    loader: Loader[str], source: Source, storing: Storing
) -> None:
    """A server that is away makes a cache slower, not useless."""
    source.may_end.set()
    assert await loader.load("k", source.load) == "value 1"
    assert await loader.load("k", source.load) == "value 1"
    storing.may_end.set()
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    assert await loader.load("k", source.load) == "value 2"


async def test_error_reaches_all_who_asked(begin: Begin, source: Source, storing: Storing) -> None:
    source.trouble = LookupError("no such thing")
    tasks = [await begin() for _ in range(3)]
    source.may_end.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes == [source.trouble] * 3
    assert storing.stored == []


async def test_error_is_not_remembered(loader: Loader[str], source: Source) -> None:
    source.trouble = LookupError("not yet")
    source.may_end.set()
    with pytest.raises(LookupError):
        await loader.load("k", source.load)
    source.trouble = None
    assert await loader.load("k", source.load) == "value 2"


async def test_cancelled_asker_leaves_the_load_to_the_others(begin: Begin, source: Source) -> None:
    """A caller that gives up must not take the value from those who still wait."""
    first, second, third = [await begin() for _ in range(3)]
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    source.may_end.set()
    assert [*await asyncio.gather(first, third)] == ["value 1"] * 2


async def test_another_takes_over_when_the_loading_one_is_cancelled(
    begin: Begin, source: Source
) -> None:
    first, second, third = [await begin() for _ in range(3)]
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.may_end.set()
    assert [*await asyncio.gather(second, third)] == ["value 2"] * 2
    assert source.loads == 2


async def test_cancelling_both_at_once_cancels_both(begin: Begin, source: Source) -> None:
    """The one that waits must not take the other's cancellation for its own reason to go on."""
    first, second = [await begin() for _ in range(2)]
    first.cancel()
    second.cancel()
    source.may_end.set()
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
    assert source.loads == 1


async def test_value_is_given_though_the_map_was_left_meanwhile(
    anyio_backend: object, source: Source, storing: Storing
) -> None:
    """It is stored nowhere then; who asks again has it loaded again."""
    tasks = OwnedTasks()
    await tasks.enter()
    loader = Loader(tasks, storing.store)
    loading = asyncio.ensure_future(loader.load("k", source.load))
    await source.began.wait()
    await tasks.leave(None, None, None)
    source.may_end.set()
    assert await loading == "value 1"
    assert await loader.load("k", source.load) == "value 2"
    assert storing.stored == []
