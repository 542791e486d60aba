"""The pure part of cluster routing: which slot a key has, who owns a slot, what a redirection says.

Source: Redis Cluster specification. CRC-16/XMODEM of the hash tag, modulo 16384.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pulsewire._redis.namespace import hash_tag

SLOT_COUNT = 16384


def key_slot(key: str) -> int:
    """The slot of a key."""
    return crc_hqx(hash_tag(key).encode() if "{" in key else key.encode(), 0) % SLOT_COUNT


@dataclass(frozen=True, slots=True, order=True)
class NodeAddress:
    """Where a node of a cluster listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Redirection:
    """A MOVED or ASK reply."""

    kind: str
    slot: int
    to: NodeAddress


def parse_redirection(reply: str, asked: NodeAddress) -> Redirection | None:
    """What a MOVED or ASK reply says; None for another reply. An empty host means the node that was asked."""
    kind, _, rest = reply.partition(" ")
    if kind not in ("MOVED", "ASK"):
        return None
    try:
        slot, _, where = rest.partition(" ")
        host, _, port = where.split(" ")[0].rpartition(":")
        to = NodeAddress(host.strip("[]") or asked.host, int(port))
        if not to.host or not 0 <= int(slot) < SLOT_COUNT:
            return None
        return Redirection(kind, int(slot), to)
    except ValueError:
        return None


@dataclass(slots=True)
class SlotMap:
    """Which master owns each slot, as far as this client knows."""

    owners: list[NodeAddress | None]

    @classmethod
    def empty(cls) -> SlotMap:
        """A map that knows nothing."""
        return cls([None] * SLOT_COUNT)

    @classmethod
    def from_reply(cls, reply: Sequence[Any], asked: NodeAddress) -> SlotMap:
        """The map of a CLUSTER SLOTS reply that `asked` gave. Slots nobody serves stay without an owner."""
        slots = cls.empty()
        for first, last, master, *_replicas in reply:
            host = master[0].decode() if master[0] else ""
            if host in ("", "?"):
                host = asked.host
            address = NodeAddress(host, int(master[1]))
            slots.owners[int(first) : int(last) + 1] = [address] * (int(last) - int(first) + 1)
        return slots

    def masters(self) -> list[NodeAddress]:
        """Every node that owns a slot."""
        return sorted({owner for owner in self.owners if owner is not None})

    def move(self, slot: int, to: NodeAddress) -> None:
        """One slot has a new owner (a MOVED reply said so)."""
        self.owners[slot] = to
