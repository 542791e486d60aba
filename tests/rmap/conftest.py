"""What the tests of replicated maps share: maps of which nothing is left afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import pulsewire
from pulsewire.testing import wait_until
from tests.facts import PATIENCE
from tests.rmap.facts import MakeMap


@pytest.fixture
async def make_map(hub: pulsewire.Hub) -> AsyncIterator[MakeMap]:
    """Maps, not joined, of `hub` or of another one in its namespace; each is destroyed and forgotten after the test."""
    names: set[str] = set()

    def make(
        name: str = "map", *, of: pulsewire.Hub | None = None, **options: Any
    ) -> pulsewire.ReplicatedMap[Any]:
        made: pulsewire.ReplicatedMap[Any] = (of or hub).map(name, **options)
        names.add(name)
        return made

    yield make
    for name in names:
        leftover = hub.map(name)
        await leftover.destroy()
        what = f"nobody listens to map {name!r} any more, so that it can be forgotten"
        await wait_until(leftover.forget, timeout=PATIENCE, what=what)
