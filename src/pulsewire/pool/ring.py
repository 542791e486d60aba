"""Who should own a key: the routing of a pool. Pure.

*Rendezvous* hashing with weights is the default (Thaler and Ravishankar, "Using name-based mappings to increase hit
rates", 1998; weights after Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005). Every worker gets a
score for the key, the highest wins. When a worker joins or leaves, only the keys it wins or held move, 1/N of them.

*Jump* hashing is what Go Pulse does (Lamping and Veach, "A fast, minimal memory, consistent hash algorithm", 2014), on
workers in the order of their creation: cheaper to work out, but a worker that leaves from the middle moves many keys.
It knows no weights.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Routing = Literal["rendezvous", "jump"]
ROUTINGS: tuple[Routing, ...] = ("rendezvous", "jump")

_MASK = 2**64 - 1
_CRC64_POLYNOMIAL = 0xC96C5795D7870F42  # CRC-64/XZ, reflected


def _crc64_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        register = byte
        for _ in range(8):
            register = (register >> 1) ^ (_CRC64_POLYNOMIAL if register & 1 else 0)
        table.append(register)
    return tuple(table)


_CRC64 = _crc64_table()


def crc64(data: bytes) -> int:
    """CRC-64/XZ, which Go calls crc64.ECMA (spec/pulse.md 3.4)."""
    register = _MASK
    for byte in data:
        register = (register >> 8) ^ _CRC64[(register ^ byte) & 0xFF]
    return register ^ _MASK


def jump(number: int, buckets: int) -> int:
    """The bucket of a 64-bit number, -1 where there are none. Two operations in doubles, in this order (3.4)."""
    bucket, following = -1, 0
    while following < buckets:
        bucket = following
        number = (number * 2862933555777941757 + 1) & _MASK
        following = int((bucket + 1) * (float(1 << 31) / ((number >> 33) + 1)))
    return bucket


@dataclass(frozen=True, slots=True)
class Member:
    """A worker that keys may go to.

    Attributes:
        started: server time, which orders the workers for jump hashing; the id breaks ties.
        weight: its share relative to others, for rendezvous hashing.
    """

    worker: str
    weight: float = 1.0
    started: float = 0.0


class Ring:
    """The active workers of a pool at one moment, and whom each key belongs to."""

    __slots__ = ("_members", "_routing", "_seeds")

    def __init__(self, members: Sequence[Member], routing: Routing) -> None:
        self._routing = routing
        self._members = sorted(members, key=lambda member: (member.started, member.worker))
        self._seeds = [
            (member.worker, _hash64(member.worker.encode()), member.weight)
            for member in self._members
        ]

    def __len__(self) -> int:
        return len(self._members)

    def is_like(self, other: Ring) -> bool:
        """Whether keys belong to the same workers."""
        return self._routing == other._routing and self._members == other._members

    def owner(self, key: str, but: str = "") -> str | None:
        """The worker a key belongs to, or would without the worker `but`; None where there is none."""
        if self._routing == "jump":
            members = [member for member in self._members if member.worker != but]
            if not members:
                return None
            return members[jump(crc64(key.encode()), len(members))].worker
        number = _hash64(key.encode())
        best: str | None = None
        best_score = math.inf
        for worker, seed, weight in self._seeds:
            if worker == but:
                continue
            mixed = _mix(number ^ seed)
            # An exponential variable with rate `weight`; the smallest of several is that of a worker with a
            # probability proportional to its weight.
            score = -math.log((mixed + 1) / (_MASK + 2)) / weight
            if best is None or score < best_score or (score == best_score and worker < best):
                best, best_score = worker, score
        return best


def _hash64(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _mix(number: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input changes half of the output."""
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)
