"""Waiting for a fact instead of for some time to pass.

Responsible for polling a condition and for saying what did not happen. Knows nothing of servers.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

import anyio

__all__ = ["wait_until", "wait_well"]

FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.1
GROWTH = 1.5


async def wait_until(
    condition: Callable[[], bool | Awaitable[bool]], *, timeout: float = 30.0, what: str
) -> None:
    """Return as soon as `condition` is true.

    The condition is asked at once, then every 5 ms, then at growing intervals up to 100 ms. An
    exception that it raises comes out of here: "not yet" is False, not an error.

    Args:
        condition: a function, or a coroutine function, that looks at the fact.
        timeout: seconds to wait. A condition that still awaits something then is cancelled.
        what: the fact, as a sentence that the failure can show ("the consumer has two events").

    Raises:
        AssertionError: the fact was not seen in time.
    """
    pause = FIRST_PAUSE
    with anyio.move_on_after(timeout):
        while True:
            answer = condition()
            if await answer if inspect.isawaitable(answer) else answer:
                return
            await anyio.sleep(pause)
            pause = min(pause * GROWTH, LONGEST_PAUSE)
    raise AssertionError(f"not seen within {timeout:g} s: {what}")


async def wait_well(complain: Callable[[], Awaitable[str]], *, timeout: float, what: str) -> None:
    """Return as soon as `complain` has nothing to say.

    Args:
        complain: looks at something with many parts, and says what is wrong first; "" if nothing is.
        timeout: seconds to wait.
        what: as in `wait_until`.

    Raises:
        AssertionError: it never came to that; the message ends with the last complaint.
    """
    last = "nobody looked"

    async def is_well() -> bool:
        nonlocal last
        last = await complain()
        return not last

    try:
        await wait_until(is_well, timeout=timeout, what=what)
    except AssertionError as error:
        raise AssertionError(f"{error}; {last}") from None
