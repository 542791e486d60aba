"""What all tests of the weather say of themselves."""

from __future__ import annotations

import pytest

from tests.weather.seeds import SEED


@pytest.fixture(autouse=True)
def seed_is_said() -> None:
    """A test that fails shows the seed that repeats what it drew."""
    print(f"PULSEWIRE_SEED={SEED}")
