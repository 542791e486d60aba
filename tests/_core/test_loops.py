"""Loops: passing trouble is tried again, other errors end the owner, a stop ends every pause."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio
import pytest

from pulsewire._core import loops
from pulsewire._core.hooks import NO_HOOKS, Hooks
from pulsewire._core.loops import LoopContext, Stop, do_every, keep_doing
from pulsewire.errors import (
    AuthenticationFailed,
    ConnectionLost,
    OutcomeUnknown,
    PermissionDenied,
    PulsewireError,
    ServerError,
    ServerFull,
    ServerUnavailable,
)

LOGGER = logging.getLogger("pulsewire.test.loops")
PASSING = [
    ServerUnavailable("a", 1.0, "down"),
    ConnectionLost("a", "cut", was_sent=True),
    OutcomeUnknown("XADD", "cut"),
    AuthenticationFailed("a", "rotated"),
    ServerFull("XADD", "OOM"),
]


class Recorder(Hooks):
    """Remembers the trouble of loops."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: list[tuple[str, BaseException, int]] = []

    def loop_troubled(self, duty: str, error: BaseException, failures: int) -> None:
        self.seen.append((duty, error, failures))


def context(stop: Stop, hooks: Hooks = NO_HOOKS) -> LoopContext:
    return LoopContext(stop, hooks, LOGGER)


def failing(stop: Stop, *outcomes: Exception | None) -> Callable[[], Awaitable[None]]:
    """A duty with these outcomes, one per pass; the last pass stops the loop."""
    left = list(outcomes)

    async def duty() -> None:
        outcome = left.pop(0)
        if not left:
            stop.set()
        if outcome is not None:
            raise outcome

    return duty


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses after trouble are not worth waiting for here."""
    monkeypatch.setattr(loops, "RETRY_BASE", 1e-6)
    monkeypatch.setattr(loops, "RETRY_CAP", 1e-6)


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
async def test_passing_trouble_is_counted_and_tried_again(error: Exception, quick: None) -> None:
    stop, hooks = Stop(), Recorder()
    await keep_doing("sweep", failing(stop, error, error, None), context(stop, hooks))
    assert hooks.seen == [("sweep", error, 1), ("sweep", error, 2)]


@pytest.mark.parametrize(
    "error",
    [PermissionDenied("XADD", "no"), ServerError("XADD", "WRONGTYPE x"), KeyError("bug")],
    ids=lambda error: type(error).__name__,
)
async def test_any_other_error_ends_the_loop(error: Exception) -> None:
    """It comes out as it was; the owner's group does the rest."""
    stop, hooks = Stop(), Recorder()
    with pytest.raises(type(error)) as caught:
        await keep_doing("sweep", failing(stop, error, None), context(stop, hooks))
    assert caught.value is error
    assert hooks.seen == []


async def test_failures_are_counted_in_a_row(quick: None) -> None:
    """A pass that works starts the count again."""
    stop, hooks, error = Stop(), Recorder(), PASSING[0]
    await keep_doing("sweep", failing(stop, error, error, None, error, None), context(stop, hooks))
    assert [failures for _, _, failures in hooks.seen] == [1, 2, 1]


async def test_lasting_trouble_is_a_warning_each_time_it_has_doubled(
    quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Not one line per pass; and one line when it is over."""
    stop, error = Stop(), PASSING[0]
    with caplog.at_level(logging.DEBUG, LOGGER.name):
        await keep_doing("sweep", failing(stop, *[error] * 20, None, None), context(stop))
    lines = [
        (record.levelname, record.message, vars(record)["failures"]) for record in caplog.records
    ]
    lasting = [failures for _, message, failures in lines if "lasts" in message]
    assert lasting[0] == loops.LASTING
    assert lasting == [lasting[0] * 2**number for number in range(len(lasting))]
    assert len(lasting) == 3
    assert lines[-1] == ("WARNING", "trouble is over", 20)
    assert all(vars(record)["duty"] == "sweep" for record in caplog.records)


async def test_short_trouble_is_no_warning(quick: None, caplog: pytest.LogCaptureFixture) -> None:
    """Neither that it came nor that it is over."""
    stop, error = Stop(), PASSING[0]
    with caplog.at_level(logging.DEBUG, LOGGER.name):
        await keep_doing(
            "sweep", failing(stop, *[error] * (loops.LASTING - 1), None, None), context(stop)
        )
    assert not caplog.records


async def test_stop_ends_the_pause_after_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that waits for better weather ends at once when its owner does."""
    monkeypatch.setattr(loops, "RETRY_BASE", 1e6)
    monkeypatch.setattr(loops, "RETRY_CAP", 1e6)
    stop = Stop()

    async def duty() -> None:
        raise PASSING[0]

    async with anyio.create_task_group() as group:
        group.start_soon(keep_doing, "sweep", duty, context(stop))
        await anyio.wait_all_tasks_blocked()
        stop.set()


async def test_stop_ends_the_pause_between_passes() -> None:
    """And the pass that was due is not made."""
    stop, passes = Stop(), []

    async def duty() -> None:
        passes.append(1)

    async with anyio.create_task_group() as group:
        group.start_soon(do_every, "sweep", 3600.0, duty, context(stop))
        await anyio.wait_all_tasks_blocked()
        stop.set()
    assert passes == []


async def test_passes_are_made_again_and_again() -> None:
    stop, passes = Stop(), []

    async def duty() -> None:
        passes.append(1)
        if len(passes) == 3:
            stop.set()

    await do_every("sweep", 0.001, duty, context(stop))
    assert len(passes) == 3


async def test_interval_is_jittered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet does not march in step: each pause is drawn from 80% to 120% of the interval."""
    stop, pauses = Stop(), []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 200:
            stop.set()

    async def duty() -> None:
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(Stop, "sleep", lambda self, seconds: sleep(seconds))
    await do_every("sweep", 10.0, duty, context(stop))
    assert all(8.0 <= pause <= 12.0 for pause in pauses)
    assert min(pauses) < 9.0
    assert max(pauses) > 11.0


async def test_loop_that_is_stopped_before_it_begins_makes_no_pass() -> None:
    stop = Stop()
    stop.set()

    async def duty() -> None:
        raise AssertionError("made a pass")

    await keep_doing("sweep", duty, context(stop))
    await do_every("sweep", 0.001, duty, context(stop))
    await stop.wait()
    await stop.sleep(3600.0)


async def test_cancelling_a_loop_is_not_trouble() -> None:
    stop, hooks = Stop(), Recorder()

    async def duty() -> None:
        await anyio.sleep_forever()

    with anyio.move_on_after(0.001) as scope:
        await keep_doing("sweep", duty, context(stop, hooks))
    assert scope.cancelled_caught
    assert hooks.seen == []


def test_what_passes_is_a_pulsewire_error() -> None:
    """The list is closed: whoever adds an error decides about it here."""
    assert set(loops.PASSING) == {
        ServerUnavailable,
        OutcomeUnknown,
        AuthenticationFailed,
        ServerFull,
    }
    assert all(issubclass(error, PulsewireError) for error in loops.PASSING)
