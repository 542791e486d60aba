"""The link to one server: a standalone one, or whichever master the sentinels name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pulsewire._redis.doors import PoolDoor, SentinelDoor
from pulsewire._redis.lane import Lane
from pulsewire._redis.link import Link, LinkOptions
from pulsewire._redis.opening import ServerInfo
from pulsewire._redis.pipeline import Argument
from pulsewire._redis.sentinels import SwitchListener, ask_quorum
from pulsewire._redis.targets import Topology
from pulsewire._redis.translate import ReplyError
from pulsewire.errors import InvalidTarget


class SingleLink(Link):
    """All keys live on one server."""

    def __init__(self, door: PoolDoor, topology: Topology, options: LinkOptions) -> None:
        super().__init__(door.address, options)
        self._door = door
        self._topology = topology
        self._only: Lane | None = None

    @property
    def info(self) -> ServerInfo:
        """What the server said of itself when it was greeted last."""
        if self._only is None or self._only.info is None:
            raise AssertionError("a link that was started has been greeted")
        return replace(self._only.info, topology=self._topology.value)

    @property
    def is_cluster(self) -> bool:
        """Never."""
        return False

    async def _start(self) -> None:
        options = self.options
        self._only = Lane(
            self._door, self.tasks, options.hooks, options.logger, silence=options.silence
        )
        await self._only.ready(min(options.wait_at_first, options.wait_for_server))
        mode = "" if self._only.info is None else self._only.info.topology
        if mode == "cluster":
            raise InvalidTarget(
                self.shown, "this server is part of a cluster; use redis+cluster://host:port"
            )
        if mode == "sentinel":
            raise InvalidTarget(
                self.shown, "this is a sentinel; use redis+sentinel://host:port/name-of-the-master"
            )
        if isinstance(self._door, SentinelDoor):
            self._only.on_moved = self._note_moved
            SwitchListener(self._door, self._only, options.logger).start(self.tasks)

    def _note_moved(self) -> None:
        self.on_moved()

    def _close(self) -> None:
        if self._only is not None:
            self._only.close()

    def _lane(self, key: str) -> Lane | None:
        return self._only

    async def _open_lane(self, key: str, within: float) -> Lane:
        if self._only is None:
            raise AssertionError("a link is entered before it is used")
        await self._only.ready(within)
        return self._only

    def redirect(self, error: ReplyError, lane: Lane) -> Lane | None:
        raise InvalidTarget(
            self.shown, f"the server answered {error.text!r}; use redis+cluster://host:port"
        ) from error

    def twin(self, options: LinkOptions) -> SingleLink:
        """Another link through a door of its own."""
        twin = SingleLink(self._door.twin(), self._topology, options)
        if isinstance(self._door, SentinelDoor):
            twin.own_doors = twin._door
        return twin

    def masters(self) -> list[str]:
        """The one there is."""
        return [""]

    def lanes(self) -> list[Lane]:
        """The one there is."""
        return [] if self._only is None else [self._only]

    def server_of(self, key: str) -> object:
        """The address of the master that was announced last, or that was connected to."""
        return self._door.leads_to if isinstance(self._door, SentinelDoor) else None

    async def ask_sentinels(self) -> list[tuple[str, bool | None, str]]:
        """See `Link.ask_sentinels`."""
        if not isinstance(self._door, SentinelDoor):
            return []
        return await ask_quorum(self._door)

    async def look_around(self) -> None:
        """The door asks the sentinels each time it is opened."""

    async def call_at(self, master: str, *command: Argument) -> Any:
        """Send a repeatable command to the server."""
        return await self.call("", *command, repeatable=True)

    def together(self, keys: Sequence[str]) -> list[list[str]]:
        """One command may name them all."""
        return [list(keys)] if keys else []
