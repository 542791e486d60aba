"""Type checkers know the arguments of a task from its function.

`make check` reads this file: an `assert_type` that does not hold is an error, and so is an `ignore` of an error that is
not there any more. What a checker refuses here is refused while it runs, too, which is what the tests see.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_type

import pytest

from pulsewire.tasks.apps.app import App
from pulsewire.tasks.states import TaskState
from pulsewire.tasks.wire import NewTask, TaskInfo

app = App()


@app.task("email:welcome", queue="critical", max_retry=5)
async def welcome(user_id: int, *, greeting: str = "hi") -> str:
    """A coroutine function."""
    return f"{greeting} {user_id}"


@app.task("sum")
def add(a: int, b: int = 0) -> int:
    """A plain function."""
    return a + b


@app.periodic("@daily", "clean")
async def clean() -> None:
    """A periodic one."""


COMPLETED = TaskInfo(
    id="1", queue="q", type="sum", payload=b"", state=TaskState.COMPLETED, result=b"3"
)


async def test_types_come_from_the_function() -> None:
    """Calls, new tasks and results are those of the function."""
    assert_type(add(1, 2), int)
    assert_type(await welcome(1), str)
    assert_type(welcome(user_id=1, greeting="yo").close(), None)
    assert_type(add.result(COMPLETED), int)
    assert_type(welcome.new(1, greeting="yo"), NewTask)
    assert_type(welcome.options(queue="low", process_in=5.0).new(user_id=1), NewTask)
    assert_type(add.new(1), NewTask)
    assert_type(clean.new(), NewTask)
    running: Coroutine[Any, Any, str] = welcome(1)
    assert await running == "hi 1"


async def test_wrong_arguments_are_type_errors() -> None:
    """A type checker says so, and Python too."""
    with pytest.raises(TypeError):
        welcome.new("42")  # type: ignore[arg-type]  # the proof
    with pytest.raises(TypeError):
        welcome.new()  # type: ignore[call-arg]  # the proof
    with pytest.raises(TypeError):
        welcome.new(1, colour="red")  # type: ignore[call-arg]  # the proof
    with pytest.raises(TypeError):
        welcome.new(1, "yo")  # type: ignore[call-arg]  # the proof
    with pytest.raises(TypeError):
        add.new(1, b="2")  # type: ignore[arg-type]  # the proof
    with pytest.raises(TypeError):
        clean.new(1)  # type: ignore[call-arg]  # the proof
    with pytest.raises(TypeError):
        welcome.options(queue="low").new(user_id="42")  # type: ignore[arg-type]  # the proof
    with pytest.raises(TypeError):
        welcome.options(queu="low")  # type: ignore[call-arg]  # the proof
    with pytest.raises(TypeError):
        App(concurency=5)  # type: ignore[call-arg]  # the proof


async def enqueue_as_it_should_be() -> None:
    """Not run: it needs no server to be checked."""
    assert_type(await welcome.enqueue(user_id=42), TaskInfo)
    assert_type(await welcome.options(task_id="1").enqueue(42, greeting="yo"), TaskInfo)
    assert_type(add.enqueue_from_thread(1, b=2), TaskInfo)


async def enqueue_wrongly() -> None:
    """Not run: the checker's errors are what counts."""
    await welcome.enqueue("42")  # type: ignore[arg-type]  # the proof
    await welcome.enqueue(user_id=None)  # type: ignore[arg-type]  # the proof
    await welcome.enqueue(user=42)  # type: ignore[call-arg]  # the proof
    await welcome.enqueue()  # type: ignore[call-arg]  # the proof
    await clean.enqueue(1)  # type: ignore[call-arg]  # the proof
    await welcome.options(retention=5.0).enqueue("42")  # type: ignore[arg-type]  # the proof
    await welcome.options(max_retry="5").enqueue(42)  # type: ignore[arg-type]  # the proof
    add.enqueue_from_thread("1")  # type: ignore[arg-type]  # the proof
    text: str = add(1, 2)  # type: ignore[assignment]  # the proof
    print(text)
