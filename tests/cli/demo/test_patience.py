"""When the demo gives up waiting."""

from __future__ import annotations

import time

import pytest

from pulsewire.cli.demo.patience import Patience


def test_patience_lasts_while_something_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    patience = Patience(5.0)
    assert not patience.is_over((0,))
    now = 105.0
    assert not patience.is_over((0,))
    now = 105.5
    assert not patience.is_over((1,))
    now = 110.5
    assert not patience.is_over((1,))
    now = 110.6
    assert patience.is_over((1,))
