"""What a sink's consumer holds of one stream, and what to do about it. Pure.

```
            take                    begin                 ack
 (server) ───────► HELD, buffered ───────► HELD, in work ─────► gone
                        │                        │  finish without ack (handler failed, loop moved on)
                        │ stalled: give up       ▼
                        └──────────────────► let go: its idle time runs, after ack_grace somebody claims it
```

Held events are kept ours by resetting their idle time (`due_for_refresh`), buffered ones only while the consumer makes
progress: a consumer whose handlers stand still must not sit on events that others could do.
"""

from __future__ import annotations

from collections.abc import Iterable


class Holdings:
    """The ids one consumer holds of one stream."""

    __slots__ = ("_buffered", "_extended", "_in_work")

    def __init__(self) -> None:
        self._buffered: dict[str, None] = {}
        self._in_work: dict[str, None] = {}
        self._extended: set[str] = set()

    def __len__(self) -> int:
        return len(self._buffered) + len(self._in_work)

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._buffered or event_id in self._in_work

    @property
    def in_work(self) -> int:
        """How many events are begun and not finished."""
        return len(self._in_work)

    def take(self, event_id: str) -> bool:
        """An event came. False when it is held already and must not be handed out a second time."""
        if event_id in self._in_work or event_id in self._buffered:
            return False
        self._buffered[event_id] = None
        return True

    def begin(self, event_id: str) -> bool:
        """An event is handed to whoever works on it. False when it was given up meanwhile."""
        if event_id not in self._buffered:
            return False
        del self._buffered[event_id]
        self._in_work[event_id] = None
        return True

    def finish(self, event_id: str) -> None:
        """Nobody here works on it any more: it was acknowledged, or its idle time may run."""
        self._in_work.pop(event_id, None)
        self._extended.discard(event_id)

    def move_on(self, event_id: str) -> None:
        """The loop that had it has come to the next one: its idle time may run, unless it was extended."""
        if event_id not in self._extended:
            self._in_work.pop(event_id, None)

    def extend(self, event_id: str) -> None:
        """Keep an event until it is finished, also one that was let go, as long as nobody else has it."""
        if event_id not in self._buffered:
            self._in_work[event_id] = None
            self._extended.add(event_id)

    def due_for_refresh(self) -> list[str]:
        """All that is held: first what is in work, then what waits, each in the order in which it came."""
        return [*self._in_work, *self._buffered]

    def give_up_buffered(self) -> list[str]:
        """Let go of everything that was not begun."""
        given_up, self._buffered = list(self._buffered), {}
        return given_up

    def drop(self, event_ids: Iterable[str]) -> None:
        """These belong to others now."""
        for event_id in event_ids:
            self._buffered.pop(event_id, None)
            self.finish(event_id)
