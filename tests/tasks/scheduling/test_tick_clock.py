"""What a scheduler knows of the server's clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from pulsewire.tasks.scheduling import tick_clock
from pulsewire.tasks.scheduling.tick_clock import TickClock


class Machine:
    """The clocks of this machine, in the place of the module `time`."""

    def __init__(self) -> None:
        self.awake = 100.0
        self.set = 1_000_000.0

    def monotonic(self) -> float:
        return self.awake

    def time(self) -> float:
        return self.awake + self.set

    def server(self, ahead: float, *ways: float) -> Callable[[], Awaitable[float]]:
        """Asks a server whose clock is ahead by so much, and whose answers take so long each."""
        left = list(ways)

        async def ask() -> float:
            said = self.time() + ahead
            self.awake += left.pop(0) if left else 0.0
            return said

        return ask


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(tick_clock, "time", machine)
    return machine


async def test_it_is_never_ahead_of_the_server(machine: Machine) -> None:
    """Nothing is enqueued before its time. Of several answers the quickest counts."""
    clock = TickClock()
    await clock.measure(machine.server(1000.0, 0.5, 0.125, 0.25))
    assert clock.now() == machine.time() + 1000.0 - 0.125
    machine.awake += 60.0
    assert clock.now() == machine.time() + 1000.0 - 0.125


async def test_it_says_by_how_much_it_was_behind(machine: Machine) -> None:
    clock = TickClock()
    shifts = [await clock.measure(machine.server(ahead)) for ahead in (-500.0, -500.0, 7.0)]
    assert shifts == [-500.0, 0.0, 507.0]


async def test_it_notices_that_the_machine_has_slept(machine: Machine) -> None:
    """Then one of the machine's clocks went on, and the other did not."""
    clock = TickClock()
    machine.awake += 3600.0
    assert not clock.has_slept
    machine.set += 3600.0
    assert clock.has_slept
    await clock.measure(machine.server(0.0))
    assert not clock.has_slept
    assert clock.now() == machine.time()
