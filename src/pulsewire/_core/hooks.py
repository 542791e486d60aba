"""Facts worth counting, one typed method each.

Behaviour calls a hook in one line and never looks at what it does. `Hooks` itself does nothing and is the default;
override the methods you care about. A hook runs on the event loop: it must return quickly and must not raise.
"""

from __future__ import annotations


class Hooks:
    """Override what you want to count. All durations are seconds, all names are without namespace."""

    __slots__ = ()

    def connection_opened(self, address: str, attempts: int) -> None:
        """A connection to a server is ready, after this many attempts."""

    def connection_lost(self, address: str, reason: str, in_flight: int) -> None:
        """A connection was given up while this many commands waited for their replies."""

    def command_repeated(self, command: str, reason: str) -> None:
        """A command is sent again, since it certainly did no harm the first time."""

    def write_settled(self, stream: str, *, was_there: bool) -> None:
        """The outcome of an `add` whose reply was lost has been found out."""

    def events_delivered(self, stream: str, sink: str, count: int, lag: float) -> None:
        """Events went to their consumer; `lag` is the age of the oldest, by the server's ids and this clock."""

    def events_acked(self, stream: str, sink: str, count: int) -> None:
        """Events were acknowledged."""

    def events_claimed(self, stream: str, sink: str, count: int) -> None:
        """Events of consumers that went silent were taken over."""

    def events_filtered(self, stream: str, sink: str, count: int) -> None:
        """Events were passed over because of their topic."""

    def entry_malformed(self, stream: str, sink: str, entry_id: str, reason: str) -> None:
        """An entry is not in the stream's format and was passed over or dead-lettered."""

    def event_dead_lettered(self, stream: str, sink: str, event_id: str, reason: str) -> None:
        """An event was moved to the dead-letter stream."""

    def events_missed(self, stream: str, sink: str, count: int) -> None:
        """Events were gone before they could be read: trimmed, or deleted while pending. 0 means an unknown number."""

    def events_lost_to_others(self, stream: str, sink: str, count: int) -> None:
        """Events still in work here were taken over by other consumers, since this one was silent for too long."""

    def handler_failed(self, stream: str, sink: str, event_id: str, error: BaseException) -> None:
        """A handler raised; the event will be delivered again."""

    def group_rebuilt(self, stream: str, sink: str, position: str) -> None:
        """A consumer group had vanished and was created again at `position`."""

    def loop_troubled(self, duty: str, error: BaseException, failures: int) -> None:
        """A background duty met passing trouble and will be tried again."""


NO_HOOKS = Hooks()
