"""All exceptions can be copied and pickled: a program may let them out of a pool of processes."""

from __future__ import annotations

import copy
import inspect
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from pulsewire import errors
from pulsewire.errors import PulsewireError, ServerUnavailable

VALUES: dict[str, object] = {"float": 1.5, "bool": True, "int": 2, "BaseException": ValueError("x")}
"""What an argument of an annotated type may be; all others are texts."""


def made(kind: type[PulsewireError]) -> PulsewireError:
    """An error of that kind."""
    if not inspect.isfunction(kind.__init__):
        return kind("a text")
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    values = {
        one.name: VALUES.get(str(one.annotation).removesuffix(" | None"), one.name)
        for one in parameters
    }
    return kind(**values)


@pytest.mark.parametrize("name", errors.__all__)
def test_error_comes_out_of_a_copy_as_it_went_in(name: str) -> None:
    error = made(getattr(errors, name))
    error.add_note("a note")
    pickled = [pickle.loads(pickle.dumps(error, way)) for way in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in (*pickled, copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert repr(other.args) == repr(error.args)
        assert repr(vars(other)) == repr(vars(error))


def fail() -> None:
    """What a worker process does."""
    raise ServerUnavailable("a", 1.0, "b")


@pytest.mark.slow
def test_error_comes_out_of_another_process() -> None:
    """It would break the pool for good."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(ServerUnavailable, match="b") as caught:
            pool.submit(fail).result()
    assert caught.value.waited == 1.0
