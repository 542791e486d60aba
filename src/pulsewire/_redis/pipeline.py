"""The joiner: one connection, many callers, one write per turn of the event loop.

`submit` is a plain call: it packs the command, remembers who waits for the reply, and returns a future. All commands
of one turn of the loop leave in one write; replies are matched in order. What it is responsible for:

* back-pressure: `is_congested` is true while too many replies are outstanding or the socket does not take more;
* silence: when the reply at the head is late, the connection is dead. It is dropped and every caller learns whether
  its command had been sent. One timer per connection, none per command, and none while nothing is outstanding;
* cancelled callers: only their future is dropped; the reply is swallowed in its place, so order is kept;
* pushes (RESP3) go to a callback, but those that confirm a `subscribe` or `unsubscribe` are its reply.

It does not retry, route or translate; that is `link.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from pulsewire._core.tasks import check_loop
from pulsewire._redis.adopt import Adopted, adopt
from pulsewire._redis.translate import ReplyError
from pulsewire.errors import ConnectionLost

Argument = str | bytes | int | float
Command = tuple[Argument, ...] | bytes
"""The words of a command, or a command that is packed already (see `bulk`)."""

MAX_IN_FLIGHT = 10_000
"""Replies that may be outstanding on one connection before callers have to wait."""
NO_REPLY = "no reply for"
"""How the reason begins why a connection was lost that had gone silent."""

# hiredis's own default for "not enough data" is False, which RESP3 also uses as a value
_NOTHING = object()
_pack = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)


def bulk(*words: Argument) -> bytes:
    r"""Words as they travel (RESP bulk strings), for commands that are sent often and packed by their owner.

    A packed command is `b"*<number of words>\r\n"` and its words.
    """
    data = (word if isinstance(word, bytes) else str(word).encode() for word in words)
    return b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in data)


def take_note(future: asyncio.Future[Any]) -> None:
    """Take note of an outcome, so that asyncio does not report it as never retrieved."""
    if not future.cancelled():
        future.exception()


class _Hearing:
    """Stands among the futures of outstanding replies, and tells its owner at once."""

    __slots__ = ("_hear",)

    def __init__(self, hear: Callable[[Any], None]) -> None:
        self._hear = hear

    def done(self) -> bool:
        """Never, since it is asked before the outcome is set."""
        return False

    def set_result(self, reply: Any) -> None:
        """The reply."""
        self._hear(reply)

    def set_exception(self, error: Exception) -> None:
        """The error reply, or the loss of the connection."""
        self._hear(error)


class JoinedConnection(asyncio.Protocol):
    """One adopted socket. Use it from the event loop it was opened on, and from no other thread."""

    def __init__(
        self,
        address: str,
        *,
        silence: float,
        on_push: Callable[[Sequence[Any]], None] | None = None,
        on_lost: Callable[[JoinedConnection, str, int], None] | None = None,
    ) -> None:
        """Prepare a protocol for `take_over`.

        Args:
            address: for messages.
            silence: seconds a reply may be late before the connection counts as dead.
            on_push: called with each RESP3 push.
            on_lost: called once, with the reason and the number of replies that were outstanding.
        """
        self.address = address
        self.silence = silence
        self.client_id = 0
        self.name = ""
        self._loop = asyncio.get_running_loop()
        self._on_push = on_push
        self._on_lost = on_lost
        self._adopted: Adopted | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = hiredis.Reader(replyError=ReplyError, notEnoughData=_NOTHING)
        self._outbox: list[bytes] = []
        self._late: list[tuple[int, Callable[[], bytes]]] = []
        self._waiting: deque[asyncio.Future[Any] | _Hearing] = deque()
        self._confirmed_by_push: deque[tuple[asyncio.Future[Any], bytes, bytes]] = deque()
        self._flush_is_due = False
        self._is_paused = False
        self._is_retiring = False
        self._progress_at = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self._room: deque[asyncio.Future[None]] = deque()
        self._admitted = 0  # waited for room, were let in, and have not submitted yet
        self._lost: str | None = None
        self._refusal: str | None = None  # why no more commands are taken

    def take_over(self, connection: Any) -> None:
        """Adopt the socket of a connected redis-py connection.

        Raises:
            CannotAdopt: see `adopt`.
        """
        self._adopted = adopt(connection, self)
        self._transport = self._adopted.transport
        if self._adopted.unread:
            self.data_received(self._adopted.unread)
        if self._adopted.is_ended:
            self.eof_received()

    # --- what callers use

    @property
    def is_usable(self) -> bool:
        """Whether a command may be submitted."""
        return self._refusal is None

    @property
    def is_congested(self) -> bool:
        """Whether callers should wait for `room` before they submit more."""
        return self._is_paused or len(self._waiting) + self._admitted >= MAX_IN_FLIGHT

    @property
    def in_flight(self) -> int:
        """How many replies are outstanding."""
        return len(self._waiting)

    def submit(self, command: Command) -> asyncio.Future[Any]:
        """Send a command with the others of this turn; the future brings its reply.

        The future raises `ReplyError` for an error reply and `ConnectionLost` when the connection goes away.

        Raises:
            ConnectionLost: it is gone already; nothing was sent.
            ConfigurationError: another event loop than the connection's is running.
        """
        if self._refusal is not None:
            raise ConnectionLost(self.address, self._refusal, was_sent=False)
        # packing may raise on a wrong type: before anything is remembered
        packed = command if type(command) is bytes else _pack(command)  # type: ignore[arg-type]  # type() narrows not
        if not self._flush_is_due:
            check_loop(self._loop)
            self._flush_is_due = True
            self._loop.call_soon(self._flush)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._outbox.append(packed)
        self._waiting.append(future)
        return future

    def submit_unheard(self, command: Command) -> None:
        """Send a command whose reply nobody needs."""
        self.submit(command).add_done_callback(take_note)

    def submit_with(self, command: Command, hear: Callable[[Any], None]) -> None:
        """Send a command, and call `hear` with its reply, or with the exception, the moment it comes.

        For who must know what came before it and what after: a future's callbacks run only once everything that
        arrived together has been handed out. `hear` must not raise.
        """
        self.submit(command).cancel()
        self._waiting[-1] = _Hearing(hear)  # in the place of the future

    def submit_late(self, pack: Callable[[], bytes], hear: Callable[[Any], None]) -> None:
        """Send a command that is packed when the write of this turn leaves; `hear` as in `submit_with`.

        For commands that several callers fill in the same turn. `pack` must not raise, and is not called if the
        connection is lost before.
        """
        self._late.append((len(self._outbox), pack))
        try:
            self.submit_with(b"", hear)
        except BaseException:
            self._late.pop()
            raise

    def submit_subscription(self, verb: str, channel: str) -> asyncio.Future[Any]:
        """Send SUBSCRIBE or one of its kin for one channel; the future is done when the server has confirmed it.

        In RESP3 the confirmation is a push, in the place where the reply would be.
        """
        future = self.submit((verb, channel))
        self._confirmed_by_push.append((future, verb.lower().encode(), channel.encode()))
        return future

    async def room(self) -> None:
        """Wait until the connection is not congested any more, or lost. First come, first served.

        Submit without awaiting anything else: the place is kept until the caller runs on.
        """
        if not self.is_congested or self._lost is not None:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._room.append(waiter)
        try:
            await waiter
        finally:
            if not waiter.cancelled():
                self._admitted -= 1
                # the next one, if this place is not used after all
                self._loop.call_soon(self._let_in)

    def retire(self) -> None:
        """Take no more commands, and close once the replies that are still outstanding have come."""
        self._is_retiring = True
        self._refusal = "retired"
        if not self._waiting:
            self.lose("retired")

    def lose(self, reason: str) -> None:
        """Drop the connection now. Every outstanding future raises `ConnectionLost`."""
        if self._lost is not None:
            return
        self._lost = self._refusal = reason
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        if self._transport is not None:
            self._transport.abort()
        outstanding, self._waiting = self._waiting, deque()
        unsent_from = len(outstanding) - len(self._outbox)
        self._outbox.clear()
        self._late.clear()
        self._confirmed_by_push.clear()
        for index, future in enumerate(outstanding):
            if not future.done():
                future.set_exception(
                    ConnectionLost(self.address, reason, was_sent=index < unsent_from)
                )
        self._let_in()
        if self._on_lost is not None:
            self._on_lost(self, reason, len(outstanding))

    # --- asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Hand out the replies that are complete."""
        parser, waiting = self._parser, self._waiting
        parser.feed(data)
        gets = parser.gets
        try:
            while (reply := gets()) is not _NOTHING:
                if type(reply) is hiredis.PushNotification:
                    self._take_push(reply)
                    continue
                future = waiting.popleft()
                if self._confirmed_by_push and self._confirmed_by_push[0][0] is future:
                    self._confirmed_by_push.popleft()  # it was refused
                if future.done():  # its caller was cancelled
                    continue
                if type(reply) is ReplyError:
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except hiredis.ProtocolError as error:
            self.lose(f"what came from the server is no Redis protocol ({error})")
            return
        except IndexError:
            self.lose("a reply came that nobody had asked for")
            return
        self._progress_at = self._loop.time()
        if self._room:
            self._let_in()
        if self._is_retiring and not waiting:
            self.lose("retired")

    def eof_received(self) -> bool | None:
        """The server closed its side."""
        self.lose("the server closed the connection")
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self.lose(f"the connection was lost ({exc})" if exc else "the connection was closed")

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The socket takes data again."""
        self._is_paused = False
        self._let_in()

    # --- insides

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._lost is not None or self._transport is None:
            return
        outbox = self._outbox
        if self._late:
            for place, pack in self._late:
                outbox[place] = pack()
            self._late.clear()
        data = outbox[0] if len(outbox) == 1 else b"".join(outbox)
        # nothing was outstanding: the wait for a reply begins now
        if len(self._waiting) == len(outbox):
            self._progress_at = self._loop.time()
        outbox.clear()
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self.silence, self._sweep)
        self._transport.write(data)

    def _sweep(self) -> None:
        self._sweeper = None
        if not self._waiting or self._lost is not None:
            return  # armed again by the next flush
        due_in = self._progress_at + self.silence - self._loop.time()
        if due_in <= 0:
            self.lose(f"{NO_REPLY} {self.silence:.1f} s")
        else:
            self._sweeper = self._loop.call_later(due_in, self._sweep)

    def _take_push(self, push: Sequence[Any]) -> None:
        if self._confirmed_by_push:
            future, verb, channel = self._confirmed_by_push[0]
            if self._waiting[0] is future and push[0] == verb and push[1] == channel:
                self._confirmed_by_push.popleft()
                self._waiting.popleft()
                if not future.done():
                    future.set_result(push)
                return
        if self._on_push is not None:
            self._on_push(push)

    def _let_in(self) -> None:
        while self._room and (self._lost is not None or not self.is_congested):
            waiter = self._room.popleft()
            if not waiter.done():
                self._admitted += 1
                waiter.set_result(None)
