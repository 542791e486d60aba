"""Every error of the library has an exit code, and most a hint."""

from __future__ import annotations

import pytest

from pulsewire import errors
from pulsewire.cli.failures import FAILED, USAGE, explain, sole_error


@pytest.mark.parametrize(
    ("error", "exit_code", "hint"),
    [
        (errors.InvalidTarget("http://x", "unknown scheme"), USAGE, "--url"),
        (errors.InvalidName("stream", "", "it is empty"), USAGE, "--help"),
        (errors.ServerUnavailable("h:1", 1.0, "refused"), FAILED, "--url"),
        (errors.ConnectionLost("h:1", "cut", was_sent=True), FAILED, "--url"),
        (errors.AuthenticationFailed("h:1", "WRONGPASS"), FAILED, "user:password"),
        (errors.ServerError("XINFO", "WRONGTYPE Operation against a key"), FAILED, "--plain"),
        (errors.OutcomeUnknown("XADD", "cut"), FAILED, "stream tail"),
    ],
)
def test_an_error_comes_with_what_to_do(
    error: errors.PulsewireError, exit_code: int, hint: str
) -> None:
    failure = explain(error)
    assert failure.message == str(error)
    assert failure.exit_code == exit_code
    assert hint in failure.hint


def test_an_error_without_a_hint_has_none() -> None:
    assert explain(errors.ServerError("XADD", "ERR something")).hint == ""


def test_of_several_errors_the_one_with_a_message_for_people_is_told() -> None:
    full = errors.ServerFull("XADD", "OOM")
    group = BaseExceptionGroup("", [ValueError("a"), BaseExceptionGroup("", [KeyError("b"), full])])
    assert sole_error(group) is full
    other = ValueError("a")
    assert sole_error(BaseExceptionGroup("", [other, KeyError("b")])) is other
