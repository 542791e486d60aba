"""Waiting for a fact."""

from __future__ import annotations

import anyio
import pytest

from pulsewire.testing import wait_until
from pulsewire.testing.waiting import wait_well


async def test_a_fact_that_holds_is_seen_at_once() -> None:
    """The condition is asked before any time passes."""
    asked = 0

    def condition() -> bool:
        nonlocal asked
        asked += 1
        return True

    await wait_until(condition, timeout=0.0001, what="it holds")
    assert asked == 1


async def test_a_coroutine_function_is_asked_until_it_says_yes() -> None:
    """The condition may await, and may take several turns."""
    answers = iter([False, False, True])

    async def condition() -> bool:
        await anyio.lowlevel.checkpoint()
        return next(answers)

    await wait_until(condition, what="the third answer")
    assert list(answers) == []


async def test_failure_says_what_did_not_happen() -> None:
    """The fact is in the message."""
    with pytest.raises(AssertionError, match=r"not seen within 0\.02 s: pigs fly"):
        await wait_until(lambda: False, timeout=0.02, what="pigs fly")


async def test_condition_that_hangs_does_not_hang_the_wait() -> None:
    """A condition that awaits for ever is cancelled when the time is up."""

    async def condition() -> bool:
        await anyio.sleep_forever()
        return True

    with pytest.raises(AssertionError, match="pigs fly"):
        await wait_until(condition, timeout=0.02, what="pigs fly")


async def test_error_of_the_condition_comes_out() -> None:
    """An exception is not "not yet"."""

    def condition() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await wait_until(condition, what="nothing")


async def test_last_complaint_ends_the_message() -> None:
    """A wait for something with many parts says which part was wrong."""

    async def complain() -> str:
        return "the left wheel is missing"

    with pytest.raises(AssertionError, match="the cart rolls; the left wheel is missing"):
        await wait_well(complain, timeout=0.02, what="the cart rolls")
