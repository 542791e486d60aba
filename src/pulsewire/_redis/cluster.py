"""The link to a cluster: one lane per master, commands routed by the slot of their key.

MOVED, ASK and TRYAGAIN are followed for each command alone. MOVED corrects one slot at once and has the whole map asked
for again in the background, once for many. When an owner does not answer, the map is asked for again before it is tried
once more, so that a failover is noticed by whoever needs it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import anyio

from pulsewire._core.backoff import Backoff
from pulsewire._redis.doors import ClusterDoors
from pulsewire._redis.lane import RECONNECT_CAP, Lane
from pulsewire._redis.link import TOLD_LANE_PATIENCE, Link, LinkOptions, kill_lost
from pulsewire._redis.opening import HOPELESS, LostConnection, ServerInfo, open_connection
from pulsewire._redis.pipeline import Argument
from pulsewire._redis.slots import NodeAddress, SlotMap, key_slot, parse_redirection
from pulsewire._redis.translate import ReplyError, Verdict, from_reply, verdict
from pulsewire.errors import ConnectionLost, InvalidTarget, PulsewireError, ServerUnavailable

OWNER_PATIENCE = 0.5
"""Seconds to wait for the owner of a slot before the map is asked for again."""
ASK_TIMEOUT = 2.0
"""Seconds one node gets to answer CLUSTER SLOTS."""


class ClusterLink(Link):
    """Keys are spread over the masters of a Redis Cluster."""

    def __init__(self, doors: ClusterDoors, options: LinkOptions) -> None:
        super().__init__(doors.shown, options)
        self._doors = doors
        self._slots = SlotMap.empty()
        self._lanes: dict[NodeAddress, Lane] = {}
        self._last_info: ServerInfo | None = None
        self._learning: anyio.Event | None = None
        self._last_trouble = "no node was asked yet"
        self._is_closed = False

    @property
    def info(self) -> ServerInfo:
        """What a node said of itself when it was greeted last."""
        for lane in self._lanes.values():
            if lane.info is not None:
                self._last_info = lane.info
        if self._last_info is None:
            raise AssertionError("a link that was started has been greeted")
        return replace(self._last_info, topology="cluster", role="master")

    @property
    def is_cluster(self) -> bool:
        """Always."""
        return True

    async def _start(self) -> None:
        backoff = Backoff(cap=RECONNECT_CAP)
        patience = min(self.options.wait_at_first, self.options.wait_for_server)
        with anyio.move_on_after(patience):
            while not await self._learn():  # noqa: ASYNC110  # each turn asks the nodes
                await anyio.sleep(backoff.next_pause())
        if not self._slots.masters():
            raise ServerUnavailable(self.shown, patience, self._last_trouble)

    def _close(self) -> None:
        self._is_closed = True
        for lane in self._lanes.values():
            lane.close()

    # --- routing

    def _lane(self, key: str) -> Lane | None:
        owner = self._slots.owners[key_slot(key)]
        return None if owner is None else self._lanes.get(owner)

    def _lane_to(self, node: NodeAddress) -> Lane:
        lane = self._lanes.get(node)
        if lane is None:
            options = self.options
            lane = Lane(
                self._doors.to(node),
                self.tasks,
                options.hooks,
                options.logger,
                silence=options.silence,
            )
            self._lanes[node] = lane
            if self._is_closed:
                lane.close()
        return lane

    async def _open_lane(self, key: str, within: float) -> Lane:
        clock = self.options.clock
        deadline = clock.monotonic() + within
        backoff = Backoff(base=0.05, cap=RECONNECT_CAP)
        while True:
            if self._is_closed:
                raise ServerUnavailable(self.shown, 0.0, "the hub is closed")
            owner = self._slots.owners[key_slot(key)]
            if owner is not None:
                lane = self._lane_to(owner)
                try:
                    await lane.ready(max(min(OWNER_PATIENCE, deadline - clock.monotonic()), 0.001))
                except HOPELESS:
                    raise
                except ServerUnavailable as error:
                    self._last_trouble = f"{owner}: {error.reason}"
                else:
                    return lane
            if clock.monotonic() >= deadline:
                trouble = (
                    self._last_trouble
                    if owner is not None
                    else f"no node serves slot {key_slot(key)}"
                )
                # who has little patience and asks again must not ask the old owner for ever
                if not self._is_closed:
                    self.tasks.start_soon(self._learn_quietly)
                raise ServerUnavailable(self.shown, within, trouble)
            await self._learn()
            await anyio.sleep(min(backoff.next_pause(), max(deadline - clock.monotonic(), 0.0)))

    def redirect(self, error: ReplyError, lane: Lane) -> Lane | None:
        asked = next(
            (node for node, known in self._lanes.items() if known is lane), NodeAddress("", 0)
        )
        where = parse_redirection(error.text, asked)
        if where is None:
            return None
        if where.kind == "MOVED":
            self._slots.move(where.slot, where.to)
            if not self._is_closed:
                self.tasks.start_soon(self._learn_quietly)
        return self._lane_to(where.to)

    # --- the map of slots

    async def _learn(self) -> bool:
        """Ask for the map of slots; callers that come meanwhile share the answer. True when it was learned."""
        if self._learning is not None:
            await self._learning.wait()
            return True
        if self._is_closed:
            return False
        self._learning = anyio.Event()
        try:
            hopeless: PulsewireError | None = None
            for node in self._whom_to_ask():
                try:
                    reply = await self._ask(node)
                except HOPELESS as error:
                    hopeless = error  # the next node may know us
                    continue
                if reply is not None:
                    self._adopt_map(SlotMap.from_reply(reply, node))
                    return True
            if hopeless is not None:
                raise hopeless
            return False
        finally:
            self._learning.set()
            self._learning = None

    async def _learn_quietly(self) -> None:
        """In the background: who needs a node that refuses us learns so from it."""
        with contextlib.suppress(*HOPELESS):
            await self._learn()

    def _whom_to_ask(self) -> list[NodeAddress]:
        """Nodes we are connected to first, then everybody we know."""
        connected = [node for node, lane in self._lanes.items() if lane.connection is not None]
        return list(dict.fromkeys([*connected, *self._slots.masters(), *self._doors.startup]))

    async def _ask(self, node: NodeAddress) -> Any:
        """The reply of CLUSTER SLOTS; None when the node does not give one in time."""
        lane = self._lanes.get(node)
        shared = lane.connection if lane is not None else None
        try:
            with anyio.fail_after(ASK_TIMEOUT):
                if shared is not None:
                    return await shared.submit(("CLUSTER", "SLOTS"))
                connection, self._last_info = await open_connection(
                    self._doors.to(node), master_only=False, silence=ASK_TIMEOUT
                )
                try:
                    return await connection.submit(("CLUSTER", "SLOTS"))
                finally:
                    connection.lose("asked what there was to ask")
        except ReplyError as error:
            if "cluster support disabled" in error.text:
                raise InvalidTarget(
                    self.shown, f"{node} is not a cluster node; use redis://{node}"
                ) from error
            if verdict(error) is Verdict.RAISE and error.code != "ERR":
                raise from_reply(error, "CLUSTER SLOTS", str(node)) from error
            self._last_trouble = f"{node}: {error.text}"
        except HOPELESS:
            raise
        except (ServerUnavailable, TimeoutError) as error:
            reason = (
                error.reason
                if isinstance(error, ServerUnavailable)
                else f"no answer in {ASK_TIMEOUT:.0f} s"
            )
            self._last_trouble = f"{node}: {reason}"
        return None

    def _adopt_map(self, slots: SlotMap) -> None:
        self._slots = slots
        masters = set(slots.masters())
        for node in [node for node in self._lanes if node not in masters]:
            self._lanes.pop(node).abandon("it is no longer a master of this cluster")
        for node in masters:
            self._lane_to(node)

    def twin(self, options: LinkOptions) -> ClusterLink:
        """Another link; the doors hold nothing that belongs to an event loop."""
        return ClusterLink(self._doors, options)

    # --- all servers

    def masters(self) -> list[str]:
        """`host:port` of each master."""
        return [str(node) for node in self._slots.masters()]

    def lanes(self) -> list[Lane]:
        """Those to the masters that a connection was opened to at any time."""
        return [lane for lane in self._lanes.values() if lane.info is not None]

    def server_of(self, key: str) -> object:
        """The node that has its slot, by the map."""
        return self._slots.owners[key_slot(key)]

    async def look_around(self) -> None:
        """Ask for the map of slots; a node that does not answer is passed over."""
        await self._learn_quietly()

    async def call_at(self, master: str, *command: Argument) -> Any:
        """Send a repeatable command to one master."""
        node = next((node for node in self._slots.masters() if str(node) == master), None)
        if node is None:
            raise ServerUnavailable(master, 0.0, "it is no longer a master of this cluster")
        return await self._call_node(node, self.options.wait_for_server, *command)

    async def _call_node(self, node: NodeAddress, within: float, *command: Argument) -> Any:
        clock, lane, backoff = self.options.clock, self._lane_to(node), Backoff(base=0.02, cap=1.0)
        deadline = clock.monotonic() + within
        while True:
            connection = await lane.ready(max(deadline - clock.monotonic(), 0.001))
            await connection.room()
            try:
                return await connection.submit(command)
            except ConnectionLost as error:
                reason = error.reason
            except ReplyError as error:
                if verdict(error) is Verdict.RAISE:
                    raise from_reply(error, str(command[0]), lane.address) from error
                reason = error.text
            if clock.monotonic() >= deadline:
                raise ServerUnavailable(lane.address, within, reason)
            await anyio.sleep(backoff.next_pause())

    async def make_sure_dead(self, key: str, lost: LostConnection) -> None:
        """Also where the connection led, which need not be to the key's owner: ASK leads elsewhere."""
        owner = self._slots.owners[key_slot(key)]
        for node, lane in list(self._lanes.items()):
            if node != owner and lane.address == lost.address:
                with contextlib.suppress(ServerUnavailable):  # dead, and so is its connection
                    await kill_lost(partial(self._call_node, node, TOLD_LANE_PATIENCE), lost)
        await super().make_sure_dead(key, lost)

    def together(self, keys: Sequence[str]) -> list[list[str]]:
        """Those of one slot."""
        groups: dict[int, list[str]] = {}
        for key in keys:
            groups.setdefault(key_slot(key), []).append(key)
        return list(groups.values())
