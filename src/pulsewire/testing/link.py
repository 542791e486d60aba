"""One connection through the fault proxy.

Responsible for moving bytes both ways in order, at the pace that the weather allows, and for the
book-keeping that single-command faults need. What the weather is, is said in `proxy.py`; which
command a fault waits for, in `faults.py`.

Requests and replies are cut into whole values (`resp.Framer`). Every request leaves a note of what
is to become of its reply, replies take the notes in order, pushes take none. Whole values are
forwarded as they came, so a fault always falls between two of them.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast

import anyio

from pulsewire.testing.faults import Fault, arguments_of, name_of
from pulsewire.testing.resp import Framer

__all__ = ["CutStyle", "Link", "Side", "Traffic", "Weather"]

CutStyle: TypeAlias = Literal["rst", "fin"]
Way: TypeAlias = Literal["to_server", "to_client"]

DIAL_TIMEOUT = 5.0
# More than this held back by a delay, and the proxy reads no more from that side.
MOST_HELD = 1 << 20

_PUSH, _ARRAY = b">*"
_CONFIRMED = frozenset(
    (b"subscribe", b"psubscribe", b"ssubscribe", b"unsubscribe", b"punsubscribe", b"sunsubscribe")
)
_MESSAGES = frozenset((b"message", b"pmessage", b"smessage"))
_NOT_UNDERSTOOD = frozenset(("MONITOR", "SYNC", "PSYNC"))
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Weather:
    """What all connections have to bear now."""

    stalled: set[Way] = field(default_factory=set)
    delays: dict[Way, tuple[float, float]] = field(
        default_factory=lambda: {"to_server": (0.0, 0.0), "to_client": (0.0, 0.0)}
    )
    faults: list[Fault] = field(default_factory=list)
    random: random.Random = field(default_factory=random.Random)

    def draw_delay(self, way: Way) -> float:
        """How long the next bytes take."""
        seconds, jitter = self.delays[way]
        return seconds + self.random.uniform(0, jitter) if jitter else seconds


@dataclass(slots=True)
class Traffic:
    """What went through so far, and what is open now."""

    connections: int = 0
    sockets: int = 0
    commands: Counter[str] = field(default_factory=Counter)
    sent: dict[Way, int] = field(default_factory=lambda: {"to_server": 0, "to_client": 0})
    links: set[Link] = field(default_factory=set)


@dataclass(slots=True)
class _Subscribing:
    """The note of a (un)subscribe command: as many confirmations, or one error."""

    kind: bytes
    left: int


# What is to become of a reply: None, it is forwarded; a Fault, it is swallowed; bytes, the command
# was not sent, and this is its reply.
_Note: TypeAlias = Fault | bytes | _Subscribing | None
_FORWARD: Final = None


class Link:
    """One connection: the client's socket, the server's, a lane each way, and the notes."""

    def __init__(self, weather: Weather, traffic: Traffic, dial: Callable[[Link], None]) -> None:
        self.weather = weather
        self.traffic = traffic
        self.is_lost = False  # a reply was swallowed: what comes now is thrown away
        self.to_server = Lane(self, "to_server")
        self.to_client = Lane(self, "to_client")
        self.client = Side(self, self.to_server, self.to_client, self._from_client)
        self.server = Side(self, self.to_client, self.to_server, self._from_server)
        self._dial = dial
        self._requests = Framer(inline=True)
        self._replies = Framer()
        self._notes: deque[_Note] = deque()
        self._is_new = True
        self._is_blind = False
        self._has_subscribed = False
        self._is_swallowing = False

    # --- its life

    async def dial(self, host: str, port: int) -> None:
        """Connect to the server. A client whose server cannot be reached is cut off."""
        loop = asyncio.get_running_loop()
        try:
            with anyio.fail_after(DIAL_TIMEOUT):
                await loop.create_connection(lambda: self.server, host, port)
        except (OSError, TimeoutError):
            self.cut("rst")

    def side_opened(self, side: Side) -> None:
        """A socket is there."""
        self.traffic.sockets += 1
        if side is self.client:
            self.traffic.connections += 1
            self.traffic.links.add(self)
            self._dial(self)
        self.weather_changed()

    def side_closed(self, side: Side) -> None:
        """A socket is gone: the other one follows as soon as it has got everything."""
        self.traffic.sockets -= 1
        onward, back = (
            (self.to_server, self.to_client)
            if side is self.client
            else (self.to_client, self.to_server)
        )
        back.drop()
        onward.finish()
        if onward.sink is None or onward.sink.is_closing():
            self._forget()

    def cut(self, how: CutStyle) -> None:
        """End both sockets at once. What is held back is lost."""
        for lane in (self.to_client, self.to_server):
            lane.drop()
            transport = lane.sink
            if transport is None or transport.is_closing():
                continue
            if how == "rst":
                handle = cast("socket.socket", transport.get_extra_info("socket"))
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                transport.abort()
            else:
                transport.close()
        self._forget()

    def weather_changed(self) -> None:
        """Look again whether anything may move."""
        self.to_server.flush()
        self.to_client.flush()

    def _forget(self) -> None:
        self.traffic.links.discard(self)
        for note in self._notes:
            if isinstance(note, Fault):
                note.give_back()
        self._notes.clear()

    # --- requests

    def _from_client(self, data: bytes) -> None:
        self.traffic.sent["to_server"] += len(data)
        if self._is_new:
            self._is_new = False
            self._is_blind = not (data.startswith(b"*") or data[:1].isalpha())  # TLS, for one
        if self.is_lost:
            return
        if self._is_blind:
            self.to_server.put(data)
            return
        try:
            frames = self._requests.feed(data)
        except ValueError:
            self._go_blind()
        else:
            self._forward_requests(frames)

    def _forward_requests(self, frames: list[bytes]) -> None:
        commands, notes = self.traffic.commands, self._notes
        forwarded: list[bytes] = []
        is_understood = True
        for frame in frames:
            name = name_of(frame)
            if name:
                commands[name] += 1
                note = self._note_about(name, frame)
                notes.append(note)
                if isinstance(note, bytes):
                    continue
                if name in _NOT_UNDERSTOOD or (name == "CLIENT" and _sets_replies(frame)):
                    is_understood = False
            forwarded.append(frame)
        if forwarded:
            self.to_server.put(b"".join(forwarded))
        if notes and isinstance(notes[0], bytes):
            self.to_client.put(self._due_replies())
        if not is_understood:
            self._go_blind()

    def _note_about(self, name: str, frame: bytes) -> _Note:
        for fault in self.weather.faults:
            if fault.error is None and self._is_swallowing:
                continue  # one swallowed reply ends the connection, so there is no second one
            if fault.takes(name, frame):
                if fault.error is not None:
                    fault.hits += 1
                    return b"-%b\r\n" % fault.error
                self._is_swallowing = True
                return fault
        if name.endswith("SUBSCRIBE"):
            self._has_subscribed = True
            return _Subscribing(name.lower().encode(), max(1, len(arguments_of(frame)) - 1))
        return _FORWARD

    # --- replies

    def _from_server(self, data: bytes) -> None:
        self.traffic.sent["to_client"] += len(data)
        if self.is_lost:
            return
        if self._is_blind:
            self.to_client.put(data)
            return
        try:
            frames = self._replies.feed(data)
        except ValueError:
            self._go_blind()
        else:
            self._forward_replies(frames)

    def _forward_replies(self, frames: list[bytes]) -> None:
        notes = self._notes
        forwarded: list[bytes] = []
        for frame in frames:
            if notes and not self._is_push(frame):
                note = notes.popleft()
                if isinstance(note, Fault):
                    note.hits += 1
                    self._lose(b"".join(forwarded), note)
                    return
            forwarded.append(frame)
            if notes and isinstance(notes[0], bytes):
                forwarded.append(self._due_replies())
        if forwarded:
            self.to_client.put(b"".join(forwarded))

    def _is_push(self, frame: bytes) -> bool:
        """Whether this is no reply. A confirmation of a subscription settles its note here."""
        first = frame[0]
        if first != _PUSH and not (first == _ARRAY and self._has_subscribed):
            return False
        words = frame.split(b"\r\n", 3)  # up to the first element: >3, $7, message
        kind = words[2] if len(words) > 2 else b""
        if kind in _CONFIRMED:
            note = self._notes[0]
            if isinstance(note, _Subscribing) and note.kind == kind:
                note.left -= 1
                if not note.left:
                    self._notes.popleft()
            return True
        return first == _PUSH or kind in _MESSAGES

    def _due_replies(self) -> bytes:
        """The replies of ours whose turn it is."""
        due: list[bytes] = []
        while self._notes and isinstance(self._notes[0], bytes):
            due.append(self._notes[0])
            self._notes.popleft()
        return b"".join(due)

    def _lose(self, before: bytes, fault: Fault) -> None:
        """A reply was swallowed. What came before it still arrives, nothing else does."""
        if before:
            self.to_client.put(before)
        self.is_lost = True
        if fault.ending == "cut" and self.to_server.sink is not None:
            self.to_server.sink.close()  # the client's socket follows, see side_closed
        self.weather_changed()

    def _go_blind(self) -> None:
        """From here on pass on whatever comes."""
        self._is_blind = True
        for note in self._notes:
            if isinstance(note, Fault):
                note.give_back()
        self._notes.clear()
        self.to_server.put(self._requests.take_rest())
        self.to_client.put(self._replies.take_rest())


class Lane:
    """One way of one connection: keeps the order, and holds back what may not leave yet."""

    def __init__(self, link: Link, way: Way) -> None:
        self._link = link
        self._weather = link.weather
        self._way: Way = way
        self._held: deque[tuple[float, bytes]] = deque()
        self._held_size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_ending = False
        self._is_reading = True
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self.sink_is_full = False

    def put(self, data: bytes) -> None:
        """Forward bytes, now or when they may leave."""
        weather, way = self._weather, self._way
        sink = self.sink
        if sink is not None and sink.is_closing():
            return
        delay = weather.draw_delay(way)
        if not (self._held or delay or way in weather.stalled or sink is None):
            sink.write(data)
            return
        due = asyncio.get_running_loop().time() + delay
        if self._held:
            due = max(due, self._held[-1][0])
        self._held.append((due, data))
        self._held_size += len(data)
        self.flush()

    def finish(self) -> None:
        """The source has closed: close the sink after what is held has left."""
        self._is_ending = True
        self.flush()

    def flush(self) -> None:
        """Send what may leave, and see to it that the rest leaves in time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.sink is not None and self._way not in self._weather.stalled:
            loop = asyncio.get_running_loop()
            now = loop.time()
            while self._held and self._held[0][0] <= now:
                _, data = self._held.popleft()
                self._held_size -= len(data)
                self.sink.write(data)
            if self._held:
                self._timer = loop.call_at(self._held[0][0], self.flush)
            elif self._is_ending:
                self.sink.close()
        self.regulate()

    def regulate(self) -> None:
        """Read from the source only while there is a place for more."""
        if self.source is None or self.source.is_closing():
            return
        may_read = (
            self.sink is not None
            and not self.sink_is_full
            and not self._link.is_lost
            and self._way not in self._weather.stalled
            and self._held_size <= MOST_HELD
        )
        if may_read and not self._is_reading:
            self.source.resume_reading()
        elif self._is_reading and not may_read:
            self.source.pause_reading()
        self._is_reading = may_read

    def drop(self) -> None:
        """Forget what is held."""
        self._held.clear()
        self._held_size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Side(asyncio.Protocol):
    """One of the two sockets of a connection."""

    def __init__(
        self, link: Link, incoming: Lane, outgoing: Lane, received: Callable[[bytes], None]
    ) -> None:
        self._link = link
        self._incoming = incoming
        self._outgoing = outgoing
        self._received = received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Both lanes get their end."""
        self._incoming.source = self._outgoing.sink = cast("asyncio.Transport", transport)
        self._link.side_opened(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""
        self._received(data)

    def pause_writing(self) -> None:
        """The other end reads slower than we write."""
        self._outgoing.sink_is_full = True
        self._outgoing.regulate()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._outgoing.sink_is_full = False
        self._outgoing.regulate()

    def connection_lost(self, exc: Exception | None) -> None:
        """It closed, or we closed it."""
        self._link.side_closed(self)


def _sets_replies(frame: bytes) -> bool:
    return [word.upper() for word in arguments_of(frame)[1:2]] == [b"REPLY"]
