"""Finding handlers, and what is put around them (spec/asynq.md 6.1)."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from pulsewire import HandlerNotFound, InvalidOption
from pulsewire.tasks import Mux, Task
from pulsewire.tasks.mux import AsyncHandler, as_async
from pulsewire.tasks.wire import decode_message
from tests.tasks.scenes import packed


def task(kind: str) -> Task:
    """A task of a type."""
    return Task(decode_message(packed("a", type=kind), "a"))


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("email:welcome", "email:welcome"),
        ("email:welcome:back", "email:welcome"),
        ("email:", "email:"),
        ("email:reset", "email:"),
        ("email", ""),
        ("Email:welcome", ""),
        ("", ""),
    ],
)
def test_longest_pattern_wins(kind: str, pattern: str) -> None:
    mux = Mux()
    for known in ("email:", "email:welcome", "image:"):
        mux.add(known, lambda _: None)
    assert mux.find(kind)[1] == pattern
    assert mux.find(kind)[1] == pattern  # as remembered


async def test_middleware_is_put_around_all_first_added_outermost() -> None:
    """Also around what nobody handles; whenever it is added."""
    mux, seen = Mux(), []

    def around(name: str) -> Any:
        def middleware(handler: AsyncHandler) -> AsyncHandler:
            async def call(task: Task) -> None:
                seen.append(f"{name} in")
                await handler(task)
                seen.append(f"{name} out")

            return call

        return middleware

    mux.use(around("a"))

    @mux.handle("t")
    async def handler(task: Task) -> None:
        seen.append(task.type)

    await mux(task("t"))
    mux.use(around("b"))
    await mux(task("t1"))
    assert seen == ["a in", "t", "a out", "a in", "b in", "t1", "b out", "a out"]
    with pytest.raises(HandlerNotFound):
        await mux(task("unknown"))
    assert seen[-2:] == ["a in", "b in"]


@pytest.mark.parametrize("pattern", ["", " ", None, 5])
def test_impossible_pattern_is_refused(pattern: Any) -> None:
    with pytest.raises(InvalidOption):
        Mux().add(pattern, lambda _: None)


def test_pattern_has_one_handler() -> None:
    mux = Mux()
    mux.add("t", lambda _: None)
    with pytest.raises(InvalidOption):
        mux.add("t", lambda _: None)


@pytest.mark.parametrize("handler", [None, "text", Mux, 5])
def test_what_cannot_be_called_is_refused(handler: Any) -> None:
    with pytest.raises(InvalidOption):
        Mux().add("t", handler)


def test_middleware_must_be_callable() -> None:
    nonsense: Any = "text"
    with pytest.raises(InvalidOption):
        Mux().use(nonsense)


async def test_whatever_can_be_called_is_a_handler() -> None:
    """Objects, methods, partial functions; coroutine functions and plain ones."""
    seen: list[str] = []

    class Object:
        async def __call__(self, task: Task) -> None:
            seen.append("object")

        def method(self, task: Task) -> None:
            seen.append("method")

    async def two(word: str, task: Task) -> None:
        seen.append(word)

    for handler in (Object(), Object().method, functools.partial(two, "partial")):
        await as_async(handler)(task("t"))
    assert seen == ["object", "method", "partial"]
