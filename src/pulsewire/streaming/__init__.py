"""Event streams: append, read, share.

A *stream* keeps events in order. A *reader* has its own cursor and sees every event; *sinks* of one name share a
cursor, and each event goes to one of them, at least once, until it is acknowledged. Everything lives in one Redis
stream per stream and one consumer group per sink, in the format of Go Pulse.
"""

from __future__ import annotations

from pulsewire.streaming.reader import Reader, ReaderStatistics
from pulsewire.streaming.retention import StreamOptions
from pulsewire.streaming.sink import Sink, SinkStatistics
from pulsewire.streaming.stream import Stream
from pulsewire.streaming.wire import (
    FIELDS,
    ConsumerInfo,
    Event,
    Fields,
    GroupInfo,
    NewEvent,
    StreamInfo,
)

__all__ = [
    "FIELDS",
    "ConsumerInfo",
    "Event",
    "Fields",
    "GroupInfo",
    "NewEvent",
    "Reader",
    "ReaderStatistics",
    "Sink",
    "SinkStatistics",
    "Stream",
    "StreamInfo",
    "StreamOptions",
]
