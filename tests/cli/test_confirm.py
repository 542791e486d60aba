"""Nothing that cannot be undone is done unasked."""

from __future__ import annotations

import sys
from io import StringIO

import pytest
import typer

from pulsewire.cli.confirm import confirm


class Screen(StringIO):
    """Standard input where somebody sits."""

    def isatty(self) -> bool:
        return True


def ask(*, yes: bool = False) -> None:
    confirm("Remove it?", yes=yes, refusal="this removes it: add --yes", about="NAME")


def test_what_was_said_beforehand_is_not_asked(capsys: pytest.CaptureFixture[str]) -> None:
    ask(yes=True)
    assert capsys.readouterr().out == ""


def test_scripts_are_told_how_to_say_it_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands on their standard input."""
    monkeypatch.setattr(sys, "stdin", StringIO("y\n"))
    with pytest.raises(typer.BadParameter, match="this removes it: add --yes") as caught:
        ask()
    assert caught.value.param_hint == "NAME"


def test_only_yes_is_yes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Screen("y\n"))
    ask()
    assert "Remove it? [y/N]" in capsys.readouterr().out
    for answer in ("n\n", "\n"):
        monkeypatch.setattr(sys, "stdin", Screen(answer))
        with pytest.raises(typer.Abort):
            ask()
