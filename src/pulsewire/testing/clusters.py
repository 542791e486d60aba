"""A cluster of three masters and three replicas.

Responsible for starting one quickly, for failovers and slots that move under a test's hands, and
for bringing it back to health. The processes are `processes.py` and `servers.py`; clients that
follow MOVED and ASK are what is tested, so nothing here does.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio

from pulsewire.testing.processes import ServerProcess
from pulsewire.testing.resp import ReplyError
from pulsewire.testing.servers import SingleServer
from pulsewire.testing.waiting import wait_until, wait_well

__all__ = ["ClusterGroup", "ClusterNode", "SlotMove", "slot_of"]

SLOTS = 16_384
MASTERS = 3
REPLICAS_EACH = 1
HEALTH_TIMEOUT = 30.0
_MIGRATE_TIMEOUT = 5_000  # milliseconds


def slot_of(key: str) -> int:
    """The slot of a key: CRC16 of its hash tag (Redis Cluster specification, "Hash tags")."""
    start = key.find("{")
    end = key.find("}", start + 1)
    tag = key[start + 1 : end] if start >= 0 and end > start + 1 else key
    return crc_hqx(tag.encode(), 0) % SLOTS


class ClusterNode(SingleServer):
    """One node of a cluster. `node_id` is its name there, kept over restarts."""

    node_id: str = ""

    def __init__(self, binary: Path | None, node_timeout: float, args: Sequence[str]) -> None:
        super().__init__(binary, args=args, bus=True)
        self._node_timeout = node_timeout

    def arguments(self) -> list[str]:
        """What makes a data server a node."""
        node_timeout = str(int(self._node_timeout * 1000))
        return [
            *("--cluster-enabled", "yes"),
            *("--cluster-port", str(self.bus_port)),
            *("--cluster-node-timeout", node_timeout),
            *("--cluster-allow-replica-migration", "no"),
            *("--cluster-replica-validity-factor", "0"),
            *super().arguments(),
        ]


@dataclass(frozen=True, slots=True)
class _Line:
    """One node as another one sees it, from CLUSTER NODES."""

    node_id: str
    address: str
    flags: frozenset[str]
    master_id: str
    is_linked: bool
    slots: tuple[str, ...]


class SlotMove:
    """A slot on its way from one master to another, one step at a time.

    After `open` the old owner answers ASK for keys it does not have, and TRYAGAIN for commands
    whose keys are split between both. After `close` it answers MOVED.
    """

    def __init__(
        self, group: ClusterGroup, slot: int, source: ClusterNode, target: ClusterNode
    ) -> None:
        self.slot = slot
        self.source = source
        self.target = target
        self._group = group

    def __repr__(self) -> str:
        return f"<SlotMove of slot {self.slot} from {self.source!r} to {self.target!r}>"

    async def open(self) -> None:
        """Tell both ends that the slot is moving."""
        await self.target.command("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self.source.node_id)
        await self.source.command("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self.target.node_id)

    async def migrate(self, *keys: str | bytes) -> None:
        """Move these keys, atomically each. Keys that do not exist are no error."""
        if keys:
            await self.source.command(
                *("MIGRATE", self.target.host, self.target.port, "", 0, _MIGRATE_TIMEOUT),
                *("KEYS", *keys),
            )

    async def migrate_all(self) -> int:
        """Move every key of the slot; returns how many."""
        moved = 0
        while keys := await self.source.command("CLUSTER", "GETKEYSINSLOT", self.slot, 100):
            await self.migrate(*keys)
            moved += len(keys)
        return moved

    async def close(self) -> None:
        """Give the slot to the target, and tell every master.

        Raises:
            RuntimeError: the source still has keys of it; nothing was done.
        """
        left = await self.source.command("CLUSTER", "COUNTKEYSINSLOT", self.slot)
        if left:
            raise RuntimeError(f"{self.source!r} still has {left} keys of slot {self.slot}")
        others = [n for n in await self._group.masters() if n not in (self.target, self.source)]
        # The target first: until it knows, it sends clients back to the source.
        for node in (self.target, self.source, *others):
            await node.command("CLUSTER", "SETSLOT", self.slot, "NODE", self.target.node_id)

    async def cancel(self) -> None:
        """Leave the slot where it was. Keys already moved are moved back."""
        # In this order: a source that migrates answers ASK to keys it does not have, and a target
        # that does not import answers MOVED.
        await self.source.command("CLUSTER", "SETSLOT", self.slot, "STABLE")
        await SlotMove(self._group, self.slot, self.target, self.source).migrate_all()
        await self.target.command("CLUSTER", "SETSLOT", self.slot, "STABLE")


class ClusterGroup:
    """Three masters and three replicas; an async context manager, healthy when entered.

    Args:
        binary: the server program; the one of the embedded server if none is given.
        node_timeout: seconds after which a silent node counts as failed.
        args: more arguments for every node.
    """

    def __init__(
        self,
        binary: Path | None = None,
        *,
        node_timeout: float = 1.0,
        args: Sequence[str] = (),
    ) -> None:
        count = MASTERS * (1 + REPLICAS_EACH)
        self.nodes = tuple(ClusterNode(binary, node_timeout, args) for _ in range(count))
        self._is_started = False

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            self._clean_up()
            raise
        self._is_started = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._clean_up()

    def __repr__(self) -> str:
        return f"<ClusterGroup {self.url if self._is_started else 'not started'}>"

    @property
    def kind(self) -> str:
        """The name of this topology."""
        return "cluster"

    @property
    def url(self) -> str:
        """What to give to `pulsewire.connect`: the first three nodes."""
        places = ",".join(f"{node.host}:{node.port}" for node in self.nodes[:MASTERS])
        return f"redis+cluster://{places}"

    @property
    def servers(self) -> tuple[ServerProcess, ...]:
        """All six processes."""
        return self.nodes

    async def masters(self) -> tuple[ClusterNode, ...]:
        """The nodes that own slots now, in the order of `nodes`."""
        lines = await self._view()
        return tuple(
            node for node in self.nodes if node.node_id in lines and lines[node.node_id].slots
        )

    async def node_of(self, key: str) -> ClusterNode:
        """The master that owns the slot of `key` now."""
        return await self.owner_of(slot_of(key))

    async def owner_of(self, slot: int) -> ClusterNode:
        """The master that owns `slot` now."""
        lines = await self._view()
        for node in self.nodes:
            if node.node_id in lines and _covers(lines[node.node_id].slots, slot):
                return node
        raise RuntimeError(f"nobody owns slot {slot}")

    async def replicas_of(self, master: ClusterNode) -> tuple[ClusterNode, ...]:
        """The living replicas of a master."""
        lines = await self._view()
        return tuple(
            node
            for node in self.nodes
            if node.is_alive
            and node.node_id in lines
            and lines[node.node_id].master_id == master.node_id
        )

    async def kill_master_of(self, key: str) -> ClusterNode:
        """End the master of `key` with SIGKILL; returns it. `wait_new_owner` and `restart` come next."""
        master = await self.node_of(key)
        await master.kill()
        return master

    async def wait_new_owner(
        self, slot: int, old: ClusterNode, *, timeout: float = 20.0
    ) -> ClusterNode:
        """The master that owns `slot` instead of `old`, as soon as all living nodes agree and serve.

        Raises:
            AssertionError: nobody took over in time.
        """

        async def complaint() -> str:
            for node in self.nodes:
                if not node.is_alive or node is old:
                    continue
                lines = await _view_of(node)
                if old.node_id not in lines or _covers(lines[old.node_id].slots, slot):
                    return f"{node!r} still holds {old!r} for the owner"
                if not await _is_ok(node):
                    return f"{node!r} does not say cluster_state:ok"
            return ""

        await wait_well(complaint, timeout=timeout, what=f"slot {slot} left {old!r}")
        return await self.owner_of(slot)

    async def failover(self, master: ClusterNode, *, timeout: float = 20.0) -> ClusterNode:
        """Let a replica of `master` take its place in an orderly way; returns the new master."""
        first_slot = int((await self._view())[master.node_id].slots[0].split("-")[0])
        replica = (await self.replicas_of(master))[0]
        await replica.command("CLUSTER", "FAILOVER")

        async def is_master() -> bool:
            return (await replica.info("replication"))["role"] == "master"

        await wait_until(is_master, timeout=timeout, what=f"{replica!r} replaced {master!r}")

        async def all_know() -> bool:
            for node in self.nodes:
                if node.is_alive:
                    line = (await _view_of(node)).get(replica.node_id)
                    if line is None or not _covers(line.slots, first_slot):
                        return False
            return True

        await wait_until(
            all_know, timeout=timeout, what=f"all nodes know that {replica!r} is master"
        )
        return replica

    async def slot_move(self, slot: int, target: ClusterNode) -> SlotMove:
        """A move of `slot` to the master `target`, of which nothing is done yet."""
        return SlotMove(self, slot, await self.owner_of(slot), target)

    async def move_slot(self, slot: int, target: ClusterNode) -> int:
        """Move a slot with its keys while clients use it; returns the number of keys."""
        move = await self.slot_move(slot, target)
        if move.source is target:
            return 0
        await move.open()
        moved = await move.migrate_all()  # no new key appears there: the source answers ASK
        await move.close()
        return moved

    async def restart(self, node: ClusterNode) -> None:
        """Start a node again; it finds its place by itself (`wait_healthy` waits for that)."""
        await node.restart()

    async def heal(self) -> None:
        """Resume and restart every node, then `wait_healthy`."""
        for node in self.nodes:
            if node.is_alive:
                node.resume()
            else:
                await node.restart()
        await self.wait_healthy()

    async def wait_healthy(self, *, timeout: float = HEALTH_TIMEOUT) -> None:
        """Return when all nodes agree on the slots, all slots are served, and all replicas are in sync.

        Raises:
            AssertionError: it did not come to that; the message says what was wrong.
        """
        await wait_well(self._complaint, timeout=timeout, what="the cluster is healthy")

    # --- inside

    async def _start(self) -> None:
        async with anyio.create_task_group() as tasks:
            for node in self.nodes:
                tasks.start_soon(node.start)
        for number, node in enumerate(self.nodes):
            first, last = (SLOTS * number // MASTERS, SLOTS * (number + 1) // MASTERS - 1)
            meet = [
                ("CLUSTER", "MEET", other.host, other.port, other.bus_port)
                for other in self.nodes[:number]
            ]
            own = [("CLUSTER", "ADDSLOTSRANGE", first, last)] if number < MASTERS else []
            _, node_id, *replies = await node.pipeline(
                # Distinct from the start: equal epochs are sorted out one by one otherwise.
                ("CLUSTER", "SET-CONFIG-EPOCH", number + 1),
                ("CLUSTER", "MYID"),
                *own,
                *meet,
            )
            node.node_id = node_id.decode()
            _raise_errors(replies)
        await wait_until(self._all_have_met, timeout=HEALTH_TIMEOUT, what="all nodes have met")
        masters, replicas = self.nodes[:MASTERS], self.nodes[MASTERS:]
        for number, replica in enumerate(replicas):
            await replica.command("CLUSTER", "REPLICATE", masters[number % MASTERS].node_id)
        await self.wait_healthy()

    async def _all_have_met(self) -> bool:
        for node in self.nodes:
            lines = await _view_of(node)
            if any("handshake" in line.flags for line in lines.values()):
                return False
            if not {other.node_id for other in self.nodes} <= lines.keys():
                return False
        return True

    async def _complaint(self) -> str:
        """What is not healthy yet; empty if all is well."""
        try:
            return await self._first_complaint()
        except (OSError, TimeoutError, ReplyError) as error:
            return f"{type(error).__name__}: {error}"

    async def _first_complaint(self) -> str:
        agreed: set[frozenset[tuple[str, tuple[str, ...]]]] = set()
        for node in self.nodes:
            lines = await _view_of(node)
            for line in lines.values():
                if not line.is_linked or not line.flags.isdisjoint(_NOT_WELL):
                    return f"{node!r} sees {line}"
            if {other.node_id for other in self.nodes} != lines.keys():
                return f"{node!r} knows {len(lines)} nodes"
            owners = {(line.node_id, line.slots) for line in lines.values() if line.slots}
            agreed.add(frozenset(owners))
            if len(agreed) > 1:
                return f"{node!r} has another map of the slots"
            if len(owners) != MASTERS or not await _is_ok(node):
                return f"{node!r} says {(await node.command('CLUSTER', 'INFO')).decode()}"
            seen = await node.info("replication")
            if node.node_id in {owner for owner, _ in owners}:
                online = [v for k, v in seen.items() if k.startswith("slave") and "online" in v]
                if seen["role"] != "master" or len(online) != REPLICAS_EACH:
                    return f"master {node!r} has {len(online)} replicas online"
            elif seen.get("master_link_status") != "up":
                return f"replica {node!r} is not in sync: {seen}"
        return ""

    async def _view(self) -> dict[str, _Line]:
        """The cluster as one living node sees it: the first that answers and says it is ok."""
        view: dict[str, _Line] = {}
        for node in self.nodes:
            if node.is_alive:
                view = await _view_of(node) or view
                if view and await _is_ok(node):
                    break
        return view

    def _clean_up(self) -> None:
        for node in self.nodes:
            node.clean_up()


_NOT_WELL = frozenset({"fail", "fail?", "handshake", "noaddr"})


async def _view_of(node: ClusterNode) -> dict[str, _Line]:
    """Every node as this one sees it; empty if it does not answer."""
    try:
        text = (await node.command("CLUSTER", "NODES")).decode()
    except (OSError, TimeoutError, ReplyError):
        return {}
    lines = {}
    for words in (line.split(" ") for line in text.splitlines()):
        # id address flags master ping-sent pong-received config-epoch link-state slot...
        node_id, address, flags, master_id, _, _, _, link, *slots = words
        lines[node_id] = _Line(
            node_id=node_id,
            address=address,
            flags=frozenset(flags.split(",")),
            master_id=master_id,
            is_linked=link == "connected",
            slots=tuple(slot for slot in slots if not slot.startswith("[")),
        )
    return lines


async def _is_ok(node: ClusterNode) -> bool:
    try:
        return b"cluster_state:ok" in await node.command("CLUSTER", "INFO")
    except (OSError, TimeoutError, ReplyError):
        return False


def _covers(ranges: Sequence[str], slot: int) -> bool:
    for part in ranges:
        first, _, last = part.partition("-")
        if int(first) <= slot <= int(last or first):
            return True
    return False


def _raise_errors(replies: Sequence[object]) -> None:
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise reply
