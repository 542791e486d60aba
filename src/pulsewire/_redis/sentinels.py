"""Listening to the sentinels: a lane leaves its master as soon as one of them announces another (`+switch-master`).

A master that was replaced need not know it yet: after SENTINEL FAILOVER it goes on taking writes, for seconds, that the
new one never gets. Every sentinel that redis-py knows is listened to on a connection of its own, since each announces
the change when it learns of it, and the one that leads the failover last. What is missed while nobody listens is found
out by asking after each subscription. A sentinel that is away is tried again for ever; none of this ends the hub, which
can do without (a lost connection or READONLY tells it, later).

Who is master, and connecting to it, stay with the door.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from pulsewire._core.backoff import Backoff
from pulsewire._core.tasks import OwnedTasks
from pulsewire._redis.doors import PoolDoor, SentinelDoor
from pulsewire._redis.lane import Lane
from pulsewire._redis.opening import SILENCE, open_connection
from pulsewire._redis.pipeline import JoinedConnection
from pulsewire._redis.translate import ReplyError, from_reply
from pulsewire.errors import (
    InvalidTarget,
    PermissionDenied,
    PulsewireError,
    ServerTooOld,
    ServerUnavailable,
)

CHANNEL = "+switch-master"
CHECK_EVERY = 5.0
"""Seconds (jittered by 20%) after which a sentinel that has said nothing is asked whether it is still there."""
_FINAL = (PermissionDenied, InvalidTarget, ServerTooOld)
"""Refusals of a sentinel that asking again does not mend. Credentials may be about to change: those it may."""


@dataclass(frozen=True, slots=True)
class Switch:
    """What `+switch-master` says: the master of a service was replaced."""

    service: str
    old: tuple[str, int]
    new: tuple[str, int]


def parse_push(push: Sequence[Any]) -> Switch | None:
    """The switch that a RESP3 push tells of; None if it tells of something else."""
    if len(push) != 3 or push[0] != b"message" or push[1] != CHANNEL.encode():
        return None
    words = push[2].decode(errors="replace").split(" ")
    if len(words) != 5 or not (words[2].isdecimal() and words[4].isdecimal()):
        return None
    return Switch(words[0], (words[1], int(words[2])), (words[3], int(words[4])))


def address_of(named: Sequence[bytes]) -> tuple[str, int]:
    """The address in a reply of SENTINEL GET-MASTER-ADDR-BY-NAME."""
    return named[0].decode(), int(named[1])


def doors_of_sentinels(door: SentinelDoor) -> list[PoolDoor]:
    """A door to each sentinel that a door to their master knows."""
    pool: Any = door.pool  # redis-py gives it no types
    doors = []
    for client in tuple(pool.sentinel_manager.sentinels):
        options = client.connection_pool.connection_kwargs
        address = f"the sentinel {options.get('host')}:{options.get('port')}"
        doors.append(PoolDoor(client.connection_pool, address))
    return doors


async def ask_quorum(door: SentinelDoor) -> list[tuple[str, bool | None, str]]:
    """For each sentinel its address, whether it could have a failover decided (None: no answer), and its words."""
    pool: Any = door.pool
    answers: list[tuple[str, bool | None, str]] = []
    for sentinel in doors_of_sentinels(door):
        try:
            connection, _info = await open_connection(sentinel, master_only=False, silence=SILENCE)
            try:
                said = await connection.submit(("SENTINEL", "CKQUORUM", pool.service_name))
            finally:
                connection.lose("asked what there was to ask")
        except ReplyError as error:
            able = None if error.code == "NOPERM" else False
            answers.append((sentinel.address, able, error.text))
        except PulsewireError as error:
            answers.append((sentinel.address, None, str(error)))
        else:
            answers.append((sentinel.address, True, bytes(said).decode(errors="replace")))
    return answers


class SwitchListener:
    """Listens to the sentinels of one door, and moves its lane."""

    def __init__(self, door: SentinelDoor, lane: Lane, logger: logging.Logger) -> None:
        self._door = door
        self._lane = lane
        self._logger = logger
        self._pool: Any = door.pool  # redis-py gives it no types

    def start(self, tasks: OwnedTasks) -> None:
        """Listen until these tasks are ended, to each sentinel by itself."""
        for sentinel in doors_of_sentinels(self._door):
            tasks.start_soon(self._listen, sentinel)

    async def _listen(self, sentinel: PoolDoor) -> None:
        """Listen again and again, whatever comes in between."""
        backoff, is_warned = Backoff(), False
        while True:
            try:
                await self._listen_once(sentinel, backoff)
            except ServerUnavailable as error:
                self._logger.debug(
                    "sentinel lost", extra={"address": sentinel.address, "why": error.reason}
                )
            except PulsewireError as error:
                if not is_warned or isinstance(error, _FINAL):
                    self._logger.warning(
                        "a sentinel does not tell of failovers",
                        extra={"address": sentinel.address, "why": str(error)},
                    )
                is_warned = True
                if isinstance(error, _FINAL):
                    return
            await anyio.sleep(backoff.next_pause())

    async def _listen_once(self, sentinel: PoolDoor, backoff: Backoff) -> None:
        """Listen until the connection is lost.

        Raises:
            ServerUnavailable: it could not be opened, or was lost.
            PulsewireError: the sentinel refused.
        """
        lost = anyio.Event()

        def when_lost(_connection: JoinedConnection, _reason: str, _in_flight: int) -> None:
            lost.set()

        connection, _info = await open_connection(
            sentinel, master_only=False, silence=SILENCE, on_push=self._heed, on_lost=when_lost
        )
        try:
            await connection.submit_subscription("SUBSCRIBE", CHANNEL)
            backoff.reset()
            await self._catch_up(connection)
            while True:
                with anyio.move_on_after(CHECK_EVERY * random.uniform(0.8, 1.2)):
                    await lost.wait()
                await connection.submit(("PING",))
        except ReplyError as error:
            raise from_reply(error, "SUBSCRIBE", sentinel.address) from error
        finally:
            connection.lose("nobody listens any more")

    async def _catch_up(self, connection: JoinedConnection) -> None:
        """Leave a master that was replaced while nobody listened.

        This sentinel has to say so, and the door, too: some are behind, and addresses may be translated.
        """
        with contextlib.suppress(PulsewireError, ReplyError):  # then others tell, or nobody knows
            named = await connection.submit(
                ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._pool.service_name)
            )
            led_to = self._door.whereabouts.led_to
            if named is None or led_to is None or address_of(named) == led_to:
                return
            found = await self._door.find()
            if found == address_of(named) and led_to == self._door.whereabouts.led_to:
                self._move(led_to, found)

    def _heed(self, push: Sequence[Any]) -> None:
        switch = parse_push(push)
        if switch is None or switch.service != self._pool.service_name:
            return
        if self._door.heed(switch.old, switch.new):
            self._move(switch.old, switch.new)

    def _move(self, old: tuple[str, int], new: tuple[str, int]) -> None:
        self._logger.warning(
            "the sentinels have named another master",
            extra={"service": self._pool.service_name, "old": old, "new": new},
        )
        self._lane.move("the sentinels have named another master")
