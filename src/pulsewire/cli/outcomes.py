"""What became of each of several things that a command was told to do: one that fails keeps no other back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pulsewire.cli import failures, render
from pulsewire.errors import TaskError

__all__ = ["Outcomes", "found_ones"]

T = TypeVar("T")


class Outcomes:
    """Tells each outcome as it comes, and at the end with which code the command exits.

    What succeeded is a line; with `as_json` an object of the one document that `finish` prints. What failed is a line
    on standard error either way.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._data: list[dict[str, object]] = []
        self._failed = 0

    def done(self, line: str, **data: object) -> None:
        """Tell that something succeeded: as a line for people, as names and values for programs."""
        self._data.append(data | {"done": True, "error": None})
        if not self._as_json:
            render.say(line)

    @contextmanager
    def of(self, **data: object) -> Iterator[None]:
        """While inside, an error about queues and tasks is a failure of this thing alone."""
        try:
            yield
        except TaskError as error:
            self.failed(error, **data)

    def failed(self, error: TaskError, **data: object) -> None:
        """Tell that something failed."""
        self._failed += 1
        self._data.append(data | {"done": False, "error": str(error)})
        failure = failures.explain(error)
        render.fail(failure.message, failure.hint)

    def finish(self) -> int:
        """Print the document if one is wanted, and return the exit code."""
        if self._as_json:
            render.json_document(self._data)
        return failures.FAILED if self._failed else 0


async def found_ones(
    names: Iterable[str], ask: Callable[[str], Awaitable[T]]
) -> tuple[list[T], int]:
    """Return what is known of those of these things that there are, and the exit code; tell which there are not."""
    outcomes, found = Outcomes(as_json=False), []
    for name in names:
        with outcomes.of():
            found.append(await ask(name))
    return found, outcomes.finish()
