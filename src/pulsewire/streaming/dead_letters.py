"""Moving events that cannot be handled to a stream of their own, each exactly once.

The copy is added under an idempotency key made of stream, sink and event id, and only then is the original
acknowledged: a crash in between repeats the move, and the key makes the repetition one event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pulsewire.errors import StreamFull
from pulsewire.streaming.source import Source
from pulsewire.streaming.store import AddRules
from pulsewire.streaming.wire import REQUEST, RawFields

WINDOW = 86_400.0
"""Seconds for which a move is remembered."""
HEADER_PREFIX = "h:"


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Where dead letters go."""

    source: Source[Any]
    rules: AddRules

    async def move(
        self,
        origin: Source[Any],
        sink: str,
        event_id: str,
        fields: RawFields,
        facts: dict[str, str],
    ) -> None:
        """Copy an entry, with what is known about it in extra fields (headers, in Pulse's format).

        Raises:
            As `Stream.add`; the original is untouched then.
        """
        told = {"stream": origin.name, "sink": sink, "id": event_id, **facts}
        prefix = HEADER_PREFIX if origin.entry_format.has_requests else ""
        copied = [item for pair in _pairs(fields) if pair[0] != REQUEST for item in pair]
        extra = [
            item for key, value in told.items() for item in (f"{prefix}pulsewire-{key}", value)
        ]
        added = await self.source.store.add_by_rules(
            self.rules,
            [*copied, *extra],
            only_if_exists=False,
            once=f"{origin.name}:{sink}:{event_id}",
            window=WINDOW,
        )
        if added.outcome == "full":
            limit = self.rules.hard_limit
            raise StreamFull(self.source.name, added.length, limit, added.held_by)


def _pairs(fields: RawFields) -> list[tuple[bytes, bytes]]:
    return list(zip(fields[::2], fields[1::2], strict=False))
