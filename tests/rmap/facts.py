"""Types of the fixtures of maps, and what their tests do again and again."""

from __future__ import annotations

from typing import Any, Protocol

import pulsewire


class MakeMap(Protocol):
    """Makes maps, not joined, that are destroyed and forgotten after the test."""

    def __call__(
        self, name: str = ..., *, of: pulsewire.Hub | None = ..., **options: Any
    ) -> pulsewire.ReplicatedMap[Any]: ...
