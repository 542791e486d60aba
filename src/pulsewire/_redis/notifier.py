"""The notifier: one subscriber connection per server for all channels that a hub listens to.

It is a RESP3 connection, so ordinary commands may be asked on it between the messages. That gives the order from which
listeners draw their conclusions: what the server published before it carried out a command has been heard before the
reply to that command. So a snapshot asked for here misses no message and repeats none, and a revision asked for here
that is not the last one heard proves a loss.

About every `PROBE_EVERY` seconds all listeners of a connection are asked for their probes, which leave in one write;
that also notices a connection that has gone silent. Connections are thrown away after trouble, never repaired: each
listener is told that it is cut off, and subscribes again. On a cluster the messages stay in the shard of their channel
where the server can do that (SSUBSCRIBE); then a slot that moves cuts its listeners off.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import anyio

from pulsewire._redis.lane import Lane
from pulsewire._redis.link import Link
from pulsewire._redis.pipeline import Argument, Command, JoinedConnection, take_note
from pulsewire._redis.translate import ReplyError, Verdict, from_reply, verdict
from pulsewire.errors import ConnectionLost, ServerUnavailable

PROBE_EVERY = 1.0
"""Seconds between probes (jittered by 10%): what was lost in silence is noticed within this time and a round trip."""
SILENCE = 3.0
"""Seconds that the reply to a probe may be late before the connection counts as dead, at most."""

Probe = tuple[Command, Callable[[Any], None]]


class Listener(Protocol):
    """Who listens to one channel. Its methods are called on the event loop, must be quick and must not raise."""

    @property
    def key(self) -> str:
        """The key that the channel tells of: it decides which server is listened to."""
        ...

    @property
    def channel(self) -> str:
        """The channel."""
        ...

    def hear(self, message: bytes) -> None:
        """A message has come."""
        ...

    def probes(self) -> Iterable[Probe]:
        """Commands about the key, and whom to tell their replies."""
        ...

    def cut_off(self, reason: str) -> None:
        """The subscription has ended; messages will be missed."""
        ...


class Notifier:
    """The subscriptions of one hub. They end with its link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lines: dict[tuple[Lane, bool], _Line] = {}

    @property
    def is_closed(self) -> bool:
        """Whether the hub was left: there will be no more subscriptions."""
        return not self._link.tasks.is_open

    async def subscribe(self, listener: Listener, *, everywhere: bool = False) -> Subscription:
        """Listen to a channel, once the server has confirmed it.

        Args:
            listener: who.
            everywhere: hear what is published at any node of a cluster (PUBLISH), not what stays in the shard of the
                channel (SPUBLISH).

        Raises:
            ServerUnavailable: not now; try again.
            PulsewireError: the server refuses it.
        """
        lane = await self._link.lane_for(listener.key, self._link.options.wait_for_server)
        is_sharded = self._link.info.has_sharded_pubsub and not everywhere
        line = self._lines.get((lane, is_sharded))
        if line is None:
            self._drop_idle_lines()
            line = self._lines[lane, is_sharded] = _Line(
                self._link, lane, "S" if is_sharded else ""
            )
        try:
            return await line.subscribe(listener)
        except ServerUnavailable:
            # Perhaps another node has the key by now: a command finds that out (MOVED), opening a connection does not.
            for command, _ in listener.probes():
                await self._link.send(listener.key, command, repeatable=True)
            raise

    def _drop_idle_lines(self) -> None:
        """Forget servers that nothing is heard from any more, such as former masters."""
        self._lines = {place: line for place, line in self._lines.items() if line.is_in_use}


class Subscription:
    """One listener's place on a connection."""

    __slots__ = ("_line", "connection", "is_live", "listener")

    def __init__(self, line: _Line, connection: JoinedConnection, listener: Listener) -> None:
        self._line = line
        self.connection = connection
        self.listener = listener
        self.is_live = False

    async def ask(self, *commands: tuple[Argument, ...]) -> list[Any]:
        """Ask about the key, in order with the messages. All commands leave in one write.

        While a cluster's slot is half moved the key may be elsewhere; then the order is lost, and a later probe cuts
        the listener off so that it asks again.

        Raises:
            ServerUnavailable: not now; try again.
            PulsewireError: the server refuses it.
        """
        return await self._line.ask(self, commands)

    def probe(self) -> None:
        """Send the listener's probes now, not at the next turn."""
        self._line.probe(self)

    def end(self) -> asyncio.Future[Any] | None:
        """Stop listening. Nothing is heard after that.

        Returns:
            The server's confirmation, where it is told; until then it may still count this listener.
        """
        return self._line.end(self)


class _Line:
    """The subscriber connection to one server: opened for the first listener, closed when the last one leaves."""

    def __init__(self, link: Link, lane: Lane, prefix: str) -> None:
        self._link = link
        self._lane = lane
        self._prefix = prefix
        self._connection: JoinedConnection | None = None
        self._opening = anyio.Lock()
        self._by_channel: dict[bytes, list[Subscription]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_in_use(self) -> bool:
        """Whether anybody listens, or is about to."""
        return bool(self._by_channel) or self._opening.locked()

    async def subscribe(self, listener: Listener) -> Subscription:
        """See `Notifier.subscribe`."""
        connection = await self._connected()
        subscription = Subscription(self, connection, listener)
        channel = listener.channel
        self._by_channel.setdefault(channel.encode(), []).append(subscription)
        try:
            await connection.submit_subscription(f"{self._prefix}SUBSCRIBE", channel)
        except BaseException as error:
            self.end(subscription)
            if isinstance(error, ReplyError):
                raise self._explained(error, "SUBSCRIBE") from error
            raise
        subscription.is_live = True
        return subscription

    async def _connected(self) -> JoinedConnection:
        async with self._opening:
            connection = self._connection
            if connection is None or not connection.is_usable:
                connection = await self._lane.open_beside(
                    silence=min(self._link.options.silence, SILENCE),
                    on_push=self._take_push,
                    on_lost=self._when_lost,
                )
                self._connection = connection
                if self._timer is None:
                    self._set_timer()
            return connection

    async def ask(
        self, subscription: Subscription, commands: Sequence[tuple[Argument, ...]]
    ) -> list[Any]:
        """See `Subscription.ask`."""
        futures = [subscription.connection.submit(command) for command in commands]
        try:
            return list(await asyncio.gather(*futures))
        except ReplyError as error:
            if error.code in ("ASK", "TRYAGAIN"):
                key, call = subscription.listener.key, self._link.call
                return [await call(key, *command, repeatable=True) for command in commands]
            raise self._explained(error, str(commands[0][0])) from error

    def _explained(self, error: ReplyError, command: str) -> Exception:
        """What to raise for an error reply. Learns from a redirection."""
        what = verdict(error)
        if what is Verdict.RAISE:
            return from_reply(error, command, self._lane.address)
        if what is Verdict.REDIRECT:
            self._link.redirect(error, self._lane)
        return ServerUnavailable(self._lane.address, 0.0, error.text)

    # --- what comes from the server

    def _take_push(self, push: Sequence[Any]) -> None:
        kind = push[0]
        if kind in (b"message", b"smessage"):
            for subscription in tuple(self._by_channel.get(push[1], ())):
                subscription.listener.hear(push[2])
        elif kind == b"sunsubscribe":  # not asked for: the slot of the channel has moved away
            for subscription in tuple(self._by_channel.get(push[1], ())):
                self._cut_off(subscription, "the slot of its channel has moved")

    def _when_lost(self, connection: JoinedConnection, reason: str, _in_flight: int) -> None:
        if self._connection is connection:
            self._connection = None
            self._stop_timer()
        for subscriptions in tuple(self._by_channel.values()):
            for subscription in tuple(subscriptions):
                if subscription.connection is connection and subscription.is_live:
                    self._cut_off(subscription, reason)

    def _cut_off(self, subscription: Subscription, reason: str) -> None:
        self.end(subscription)
        subscription.listener.cut_off(reason)

    def end(self, subscription: Subscription) -> asyncio.Future[Any] | None:
        """See `Subscription.end`."""
        goodbye = None
        subscription.is_live = False
        channel = subscription.listener.channel
        mine = self._by_channel.get(channel.encode(), [])
        if subscription not in mine:
            return None
        mine.remove(subscription)
        connection = subscription.connection
        if not mine:
            del self._by_channel[channel.encode()]
            if connection.is_usable:
                goodbye = connection.submit_subscription(f"{self._prefix}UNSUBSCRIBE", channel)
                goodbye.add_done_callback(take_note)
        if not self._by_channel and self._connection is connection:
            self._connection = None
            self._stop_timer()
            connection.retire()
        return goodbye

    # --- probes

    def probe(self, subscription: Subscription) -> None:
        """See `Subscription.probe`."""
        connection = subscription.connection
        if not subscription.is_live or not connection.is_usable:
            return
        for command, take in subscription.listener.probes():
            connection.submit_with(command, partial(self._probed, subscription, take))

    def _probe_all(self) -> None:
        self._set_timer()
        for subscriptions in tuple(self._by_channel.values()):
            for subscription in tuple(subscriptions):
                self.probe(subscription)

    def _probed(
        self, subscription: Subscription, take: Callable[[Any], None], reply: object
    ) -> None:
        if not subscription.is_live or isinstance(reply, ConnectionLost):
            return  # who has lost the connection is told so in another place
        if isinstance(reply, ReplyError):
            if verdict(reply) is Verdict.REDIRECT:
                self._link.redirect(reply, self._lane)
            self._cut_off(subscription, reply.text)
            return
        take(reply)

    def _set_timer(self) -> None:
        pause = PROBE_EVERY * random.uniform(0.9, 1.1)
        self._timer = asyncio.get_running_loop().call_later(pause, self._probe_all)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
