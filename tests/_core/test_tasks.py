"""An owner's background tasks: which error comes out of its block, and that nothing outlives it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import anyio
import pytest

from pulsewire._core.tasks import OwnedTasks, see_through


class Owner:
    """The smallest owner: as hubs, readers and sinks do it."""

    def __init__(self) -> None:
        self.tasks = OwnedTasks()

    async def __aenter__(self) -> Self:
        await self.tasks.enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self.tasks.leave(kind, error, trace)


async def fail(error: BaseException) -> None:
    raise error


async def test_leaving_the_block_ends_every_task() -> None:
    ended = []

    async def duty(number: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(number)

    async with Owner() as owner:
        for number in range(3):
            owner.tasks.start_soon(duty, number)
        await anyio.lowlevel.checkpoint()
    assert sorted(ended) == [0, 1, 2]


async def test_error_of_the_user_comes_out_as_it_is() -> None:
    """Not inside an ExceptionGroup: `except KeyError` around the block works."""
    with pytest.raises(KeyError) as caught:
        async with Owner() as owner:
            owner.tasks.start_soon(anyio.sleep_forever)
            raise KeyError("mine")
    assert caught.value.args == ("mine",)


async def test_error_of_a_background_task_comes_out_as_the_one_error_it_was() -> None:
    """It ends the block wherever that waits."""
    failure = OSError("background")
    with pytest.raises(OSError, match="background") as caught:
        async with Owner() as owner:
            owner.tasks.start_soon(fail, failure)
            await anyio.sleep_forever()
    assert caught.value is failure


async def test_background_error_while_leaving_comes_out_too() -> None:
    """A task that fails when it is told to end is not silent about it."""

    async def bad_ending() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise OSError("while ending")

    with pytest.raises(OSError, match="while ending"):
        async with Owner() as owner:
            owner.tasks.start_soon(bad_ending)
            await anyio.lowlevel.checkpoint()


async def test_several_background_errors_come_out_as_a_group() -> None:
    """Nothing is hidden when it is more than one."""

    async def fail_when_ending() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("second")

    with pytest.raises(BaseExceptionGroup) as caught:
        async with Owner() as owner:
            owner.tasks.start_soon(fail_when_ending)
            await anyio.lowlevel.checkpoint()
            owner.tasks.start_soon(fail, OSError("first"))
            await anyio.sleep_forever()
    assert {type(error) for error in caught.value.exceptions} == {OSError, ValueError}


async def test_when_both_fail_the_users_error_wins_and_notes_the_other() -> None:
    async def bad_ending() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise OSError("background")

    with pytest.raises(KeyError) as caught:
        async with Owner() as owner:
            owner.tasks.start_soon(bad_ending)
            await anyio.lowlevel.checkpoint()
            raise KeyError("mine")
    assert any("background" in note for note in caught.value.__notes__)


async def test_outer_cancellation_passes_through() -> None:
    """Whoever cancelled the block sees it end as cancelled, with its tasks."""
    ended = anyio.Event()

    async def duty() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    with anyio.CancelScope() as scope:
        async with Owner() as owner:
            owner.tasks.start_soon(duty)
            await anyio.lowlevel.checkpoint()
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert ended.is_set()


async def test_cancellation_of_the_asyncio_task_passes_through() -> None:
    async def block() -> None:
        async with Owner() as owner:
            owner.tasks.start_soon(anyio.sleep_forever)
            await anyio.sleep_forever()

    task = asyncio.create_task(block())
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_timeout_around_the_block_is_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.01):
            async with Owner() as owner:
                owner.tasks.start_soon(anyio.sleep_forever)
                await anyio.sleep_forever()


async def test_user_catches_the_cancellation_of_his_own_scope_inside_the_block() -> None:
    """A cancel scope within the block is none of the owner's business."""
    async with Owner() as owner:
        owner.tasks.start_soon(anyio.sleep_forever)
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_exception_group_of_the_user_is_not_unwrapped() -> None:
    mine = ExceptionGroup("mine", [ValueError("inner")])
    with pytest.raises(ExceptionGroup) as caught:
        async with Owner():
            raise mine
    assert caught.value is mine


async def test_owners_nest() -> None:
    """An error in the inner block passes the outer one unchanged."""
    with pytest.raises(KeyError, match="inner"):
        async with Owner() as outer, Owner() as inner:
            outer.tasks.start_soon(anyio.sleep_forever)
            inner.tasks.start_soon(anyio.sleep_forever)
            raise KeyError("inner")


async def test_tasks_are_started_only_between_enter_and_leave() -> None:
    owner = Owner()
    with pytest.raises(AssertionError, match="between enter and leave"):
        owner.tasks.start_soon(anyio.sleep_forever)
    async with owner:
        pass
    with pytest.raises(AssertionError, match="between enter and leave"):
        owner.tasks.start_soon(anyio.sleep_forever)


async def test_cancelled_block_leaves_its_duties_to_their_owner() -> None:
    """They go on until `leave`, so that the owner can end in order."""
    tasks, done = OwnedTasks(), anyio.Event()
    seen: list[str] = []

    async def duty() -> None:
        try:
            await done.wait()
            seen.append("asked")
            await anyio.sleep_forever()
        finally:
            seen.append("ended")

    with anyio.CancelScope() as scope:
        await tasks.enter()
        tasks.start_soon(duty)
        scope.cancel()
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                done.set()
                await anyio.wait_all_tasks_blocked()
            assert seen == ["asked"]
            await tasks.leave(type(error), error, error.__traceback__)
            raise
    assert scope.cancelled_caught
    assert seen == ["asked", "ended"]


async def test_error_of_a_task_group_in_the_block_comes_out() -> None:
    """Python 3.11's own task group leaves its task marked as cancelled; that must not hide its error."""

    async def fail_soon() -> None:
        await asyncio.sleep(0)
        raise ValueError("of the user")

    with pytest.raises(ExceptionGroup) as caught:
        async with Owner() as owner:
            owner.tasks.start_soon(anyio.sleep_forever)
            async with asyncio.TaskGroup() as group:
                group.create_task(fail_soon())
                group.create_task(asyncio.sleep(60))
    assert [str(error) for error in caught.value.exceptions] == ["of the user"]


async def test_duty_that_is_started_while_its_owner_leaves_ends_at_once() -> None:
    seen: list[str] = []

    async def late() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("late one ended")

    async def starter(owner: Owner) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            owner.tasks.start_soon(late)
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            seen.append("starter ended")

    async with Owner() as owner:
        owner.tasks.start_soon(starter, owner)
        await anyio.lowlevel.checkpoint()
    assert sorted(seen) == ["late one ended", "starter ended"]


# --- seeing a step through


class Step:
    """A step that is held until `go`, and remembers how it ended."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.ended = ""
        self.failure: Exception | None = None

    async def take(self) -> str:
        """Take it."""
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "well"
        if self.failure is not None:
            raise self.failure
        return "what it returns"


async def test_step_returns_what_it_returns() -> None:
    step = Step()
    step.go.set()
    assert await see_through(step.take()) == "what it returns"


async def test_step_raises_what_it_raises() -> None:
    step = Step()
    step.failure = OSError("of the step")
    step.go.set()
    with pytest.raises(OSError, match="of the step"):
        await see_through(step.take())


@pytest.mark.parametrize("failure", [None, OSError("of the step")], ids=repr)
async def test_cancelled_task_sees_its_step_through(failure: Exception | None) -> None:
    """And is cancelled behind it; but if the step has failed, that comes out."""
    step = Step()
    step.failure = failure
    task = asyncio.create_task(see_through(step.take()))
    await step.begun.wait()
    task.cancel()
    await anyio.wait_all_tasks_blocked()
    assert not task.done()
    step.go.set()
    with pytest.raises(type(failure) if failure is not None else asyncio.CancelledError):
        await task
    assert step.ended == "well"


async def test_second_cancellation_reaches_the_step() -> None:
    step = Step()
    task = asyncio.create_task(see_through(step.take()))
    await step.begun.wait()
    for _ in range(2):
        task.cancel()
        await anyio.wait_all_tasks_blocked()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert step.ended == "cancelled"


async def test_timeout_of_asyncio_around_a_step_is_a_timeout_behind_it() -> None:
    """The cancellation that comes out is the one that `asyncio.timeout` takes back."""
    step = Step()

    async def in_time() -> int:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await see_through(step.take())
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    task = asyncio.create_task(in_time())
    while not task.cancelling():
        await asyncio.sleep(0.001)
    step.go.set()
    assert await task == 0
    assert step.ended == "well"


async def test_cancelled_scope_around_a_step_waits_for_it() -> None:
    """As with any shield of anyio's."""
    step = Step()
    with anyio.CancelScope() as scope:
        scope.cancel()
        step.go.set()
        assert await see_through(step.take()) == "what it returns"
    assert step.ended == "well"


async def test_step_that_others_have_cancelled_is_cancelled() -> None:
    async def end_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.sleep_forever()

    with pytest.raises(asyncio.CancelledError):
        await see_through(end_itself())
