"""Replicated maps: read from memory, write atomically, everyone converges and knows when it has not.

A map is one Redis hash and a channel of notices, in the format of Go Pulse. Every process that has joined it holds a
copy. The copy is right by three rules:

* *A notice is a hint, the revision is the truth.* The server counts changes one by one. A notice is applied only when
  it is exactly the next one; a gap, or a revision that was there already, brings a new snapshot at once.
* *A subscription that was lost has missed something.* After each new one there is a snapshot, asked for on the same
  connection, so that it fits what is heard before and after it.
* *Silence proves nothing.* About once a second the revision is read on the connection that the notices come on. It is
  ours, or something was lost. `stale_for` counts from the last time that it was ours.

A revision that steps back means that the server has lost data (a failover to older data, a hash that expired): the
replica adopts what the server has, and reports a reset.

Writes are scripts: each changes the hash, counts the revision and publishes the notice, or does nothing at all. Each
carries a request number, so that one whose reply was lost is sent again and still happens once.
"""

from __future__ import annotations

from pulsewire.rmap.following import MapStatistics
from pulsewire.rmap.map import ReplicatedMap
from pulsewire.rmap.options import MapOptions
from pulsewire.rmap.watching import Changes
from pulsewire.rmap.wire import Change, MapInfo, Removed, TestAndDelete, TestAndSet

__all__ = [
    "Change",
    "Changes",
    "MapInfo",
    "MapOptions",
    "MapStatistics",
    "Removed",
    "ReplicatedMap",
    "TestAndDelete",
    "TestAndSet",
]
