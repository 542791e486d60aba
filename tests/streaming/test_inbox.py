"""The buffer between feeds and takers: bounded by demand, fair to waiters, never lossy."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire.streaming.demand import Demand
from pulsewire.streaming.inbox import Inbox


def eager_inbox(limit: int = 10) -> Inbox[int]:
    """As a reader has it."""
    return Inbox(Demand(limit, even=False))


def frugal_inbox() -> Inbox[int]:
    """As a sink has it."""
    return Inbox(Demand(1000, even=True))


async def let_all_run() -> None:
    """Every task gets as far as it can without something new."""
    for _ in range(5):
        await asyncio.sleep(0)


# --- taking


async def test_events_come_out_in_order() -> None:
    inbox = eager_inbox()
    inbox.put([1, 2])
    inbox.put([3])
    assert [await inbox.take() for _ in range(3)] == [1, 2, 3]
    assert inbox.take_nowait() is None


async def test_takers_are_served_in_the_order_they_came() -> None:
    inbox = frugal_inbox()
    takers = [asyncio.ensure_future(inbox.take()) for _ in range(3)]
    await let_all_run()
    inbox.put([1, 2])
    inbox.put([3])
    assert await asyncio.gather(*takers) == [1, 2, 3]


async def test_takers_get_what_is_left_and_then_the_end() -> None:
    inbox = eager_inbox()
    inbox.put([1])
    inbox.end()
    assert inbox.is_ended
    assert await inbox.take() == 1
    assert await inbox.take() is None
    assert await inbox.take() is None


async def test_inbox_may_be_opened_again_after_the_end() -> None:
    """Another stream to read has been added; but what was closed stays so."""
    inbox = eager_inbox()
    inbox.end()
    inbox.reopen()
    inbox.put([1])
    assert not inbox.is_ended
    assert await inbox.take() == 1
    inbox.close()
    inbox.reopen()
    assert await inbox.take() is None


async def test_closed_inbox_hands_out_nothing_more() -> None:
    """Neither what is left nor what comes later: it stays with whoever sent it."""
    inbox = eager_inbox()
    inbox.put([1])
    inbox.close()
    inbox.put([2])
    assert await inbox.take() is None
    assert len(inbox) == 0


async def test_taker_of_a_batch_makes_room_for_all_of_it() -> None:
    inbox = frugal_inbox()
    taker = asyncio.ensure_future(inbox.take(100))
    await let_all_run()
    assert inbox.room() == 100
    inbox.put(list(range(40)))
    assert await taker == 0
    assert inbox.room() < 0


async def test_end_wakes_all_takers() -> None:
    inbox = frugal_inbox()
    takers = [asyncio.ensure_future(inbox.take()) for _ in range(3)]
    await let_all_run()
    inbox.end()
    assert await asyncio.gather(*takers) == [None, None, None]


async def test_cleared_events_are_forgotten() -> None:
    inbox = eager_inbox()
    inbox.put([1, 2])
    inbox.close()
    assert len(inbox) == 0
    assert inbox.take_nowait() is None


# --- cancelled takers


async def test_cancelled_taker_takes_nothing() -> None:
    inbox = frugal_inbox()
    with anyio.move_on_after(0.01):
        await inbox.take()
    inbox.put([1])
    assert await inbox.take() == 1


async def test_taker_cancelled_on_its_turn_passes_it_on() -> None:
    """The event was meant for the first; when that one is cancelled in the same moment, the second gets it."""
    inbox = frugal_inbox()
    first, second = (asyncio.ensure_future(inbox.take()) for _ in range(2))
    await let_all_run()
    inbox.put([1])
    first.cancel()
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_taker_cancelled_just_before_an_event_comes_ends_as_cancelled() -> None:
    """The event comes after the cancellation and before the taker has noticed it."""
    inbox = frugal_inbox()
    first, second = (asyncio.ensure_future(inbox.take()) for _ in range(2))
    await let_all_run()
    first.cancel()
    inbox.put([1])
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_taker_cancelled_just_before_the_end_ends_as_cancelled() -> None:
    inbox = frugal_inbox()
    taker = asyncio.ensure_future(inbox.take())
    await let_all_run()
    taker.cancel()
    inbox.end()
    with pytest.raises(asyncio.CancelledError):
        await taker


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(1, 4)),
            st.tuples(st.just("take"), st.just(0)),
            st.tuples(st.just("cancel"), st.integers(0, 5)),
            st.tuples(st.just("pause"), st.just(0)),
        ),
        max_size=60,
    )
)
async def test_any_history_loses_nothing(history: list[tuple[str, int]]) -> None:
    """Whoever comes, waits and is cancelled: each event goes to one, in order, and nobody waits beside events."""
    inbox = frugal_inbox()
    takers: list[asyncio.Future[int | None]] = []
    got: list[int] = []
    put = 0

    async def take() -> int | None:
        item = await inbox.take()
        if item is not None:
            got.append(item)
        return item

    for what, number in history:
        if what == "put":
            inbox.put(list(range(put, put + number)))
            put += number
        elif what == "take":
            takers.append(asyncio.ensure_future(take()))
        elif what == "cancel" and takers:
            takers[number % len(takers)].cancel()
        else:
            await let_all_run()
    await let_all_run()
    waiting = [taker for taker in takers if not taker.done()]
    assert not waiting or len(inbox) == 0
    rest = [inbox.take_nowait() for _ in range(len(inbox))]
    assert sorted([*got, *(item for item in rest if item is not None)]) == list(range(put))
    assert got == sorted(got)
    inbox.end()
    outcomes = await asyncio.gather(*takers, return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert all(isinstance(error, asyncio.CancelledError) for error in errors), errors


# --- room


async def test_room_is_what_takers_wait_for_and_what_is_held_ahead() -> None:
    inbox = eager_inbox(limit=10)
    assert inbox.room() == 10
    inbox.put([1, 2, 3])
    assert inbox.room() == 7
    inbox.put(list(range(7)))
    assert inbox.room() == 0


async def test_frugal_inbox_has_room_only_for_those_who_wait() -> None:
    """Nobody consumes, nothing is read (S1)."""
    inbox = frugal_inbox()
    assert inbox.room() == 0
    takers = [asyncio.ensure_future(inbox.take()) for _ in range(3)]
    await let_all_run()
    assert inbox.room() == 3
    inbox.put([1])
    await let_all_run()
    assert inbox.room() == 2
    inbox.end()
    await asyncio.gather(*takers)


async def test_feed_waits_for_room() -> None:
    inbox = frugal_inbox()
    feed = asyncio.ensure_future(inbox.wait_room())
    await let_all_run()
    assert not feed.done()
    taker = asyncio.ensure_future(inbox.take())
    await feed
    inbox.put([1])
    assert await taker == 1


async def test_feed_is_woken_when_more_than_half_of_the_buffer_is_gone() -> None:
    inbox = eager_inbox(limit=10)
    inbox.put(list(range(10)))
    feed = asyncio.ensure_future(inbox.wait_room())
    await let_all_run()
    for _ in range(5):
        await inbox.take()
    await let_all_run()
    assert not feed.done()
    assert inbox.take_nowait() is not None
    await feed
    assert inbox.room() == 6


async def test_feed_is_not_woken_by_a_taker_that_leaves_no_room() -> None:
    """A slow worker that takes its event makes no room for another one: it could be done elsewhere."""
    inbox = frugal_inbox()
    taker = asyncio.ensure_future(inbox.take())
    await let_all_run()

    async def read_once_and_wait_for_room() -> None:
        inbox.put([1])
        await inbox.wait_room()

    feed = asyncio.ensure_future(read_once_and_wait_for_room())
    assert await taker == 1
    await let_all_run()
    assert not feed.done()
    inbox.end()
    await feed


async def test_end_and_wake_let_feeds_look_again() -> None:
    """A feed that was asked to stop must not wait for room first."""
    inbox = frugal_inbox()
    feed = asyncio.ensure_future(inbox.wait_room())
    await let_all_run()
    inbox.wake_feeds()
    await feed
    feed = asyncio.ensure_future(inbox.wait_room())
    await let_all_run()
    inbox.end()
    await feed
    await inbox.wait_room()


async def test_cancelled_feed_is_forgotten() -> None:
    inbox = frugal_inbox()
    feed = asyncio.ensure_future(inbox.wait_room())
    await let_all_run()
    feed.cancel()
    inbox.wake_feeds()
    with pytest.raises(asyncio.CancelledError):
        await feed


async def test_stall_forgets_events_and_pace() -> None:
    """What nobody takes is left to others."""
    inbox = frugal_inbox()
    inbox.put([1, 2])
    inbox.stall()
    assert len(inbox) == 0
    assert inbox.room() == 0


async def test_event_that_has_just_come_was_not_left_lying() -> None:
    """After an hour without events, the next one is not given up because nothing was taken for an hour."""
    inbox = frugal_inbox()
    inbox.taken_at -= 3600.0
    before = asyncio.get_running_loop().time()
    inbox.put([1])
    assert inbox.taken_at >= before
    inbox.taken_at -= 5.0
    left_at = inbox.taken_at
    inbox.put([2])
    assert inbox.taken_at == left_at
