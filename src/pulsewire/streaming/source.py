"""What readers and sinks need of a stream: its entries and how to read them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Generic, TypeVar

from pulsewire._core.hooks import Hooks
from pulsewire.errors import DecodeError
from pulsewire.streaming.filters import Filter
from pulsewire.streaming.store import AddRules, StreamStore
from pulsewire.streaming.wire import Acknowledger, EntryFormat, Event, RawFields

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """One stream, as seen by those who read it."""

    name: str
    store: StreamStore
    entry_format: EntryFormat[T]
    hooks: Hooks
    logger: logging.Logger
    rules: AddRules

    def decode(
        self,
        entry_id: str,
        fields: RawFields,
        sink: str = "",
        deliveries: int = 1,
        origin: Acknowledger | None = None,
    ) -> Event[T]:
        """The event of an entry.

        Raises:
            DecodeError: it is not in the stream's format.
        """
        name, topic, payload, headers = self.entry_format.parts(fields)
        return Event(entry_id, self.name, sink, name, topic, payload, headers, deliveries, origin)

    def wants(self, fields: RawFields, wanted: Filter | None) -> bool:
        """Whether a filter lets an entry through."""
        return wanted is None or wanted(self.entry_format.topic(fields))

    def report_malformed(self, entry_id: str, error: DecodeError, sink: str = "") -> None:
        """Count an entry that is not in the stream's format, and say so."""
        self.hooks.entry_malformed(self.name, sink, entry_id, error.reason)
        self.logger.warning(
            "malformed entry passed over",
            extra={"stream": self.name, "sink": sink, "entry_id": entry_id, "why": error.reason},
        )
