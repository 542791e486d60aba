"""The test kit: real servers in every topology, a proxy for bad weather, and waiting for facts.

What pulsewire's own tests use, and what tests of programs built on it may use. Everything runs on
127.0.0.1, is started privately, and is gone when its `async with` block ends::

    async with SingleServer() as server, FaultProxy(server) as proxy:
        async with pulsewire.connect(proxy.url) as hub:
            proxy.swallow_reply("XADD")
            ...

Of the product only `pulsewire chaos` imports this package, which lets faults happen on purpose.
"""

from __future__ import annotations

from pulsewire.testing.binaries import (
    ServerVersion,
    embedded_binary,
    redis7_binary,
    server_version,
)
from pulsewire.testing.certificates import Certificates, make_certificates
from pulsewire.testing.clusters import ClusterGroup, ClusterNode, SlotMove, slot_of
from pulsewire.testing.faults import Fault
from pulsewire.testing.held import Held, held
from pulsewire.testing.processes import ServerDied, ServerProcess
from pulsewire.testing.proxy import FaultProxy, ProxyStatistics
from pulsewire.testing.resp import Push, RawConnection, ReplyError
from pulsewire.testing.sentinels import SentinelGroup
from pulsewire.testing.servers import SingleServer, Topology
from pulsewire.testing.waiting import wait_until

__all__ = [
    "Certificates",
    "ClusterGroup",
    "ClusterNode",
    "Fault",
    "FaultProxy",
    "Held",
    "ProxyStatistics",
    "Push",
    "RawConnection",
    "ReplyError",
    "SentinelGroup",
    "ServerDied",
    "ServerProcess",
    "ServerVersion",
    "SingleServer",
    "SlotMove",
    "Topology",
    "embedded_binary",
    "held",
    "make_certificates",
    "redis7_binary",
    "server_version",
    "slot_of",
    "wait_until",
]
