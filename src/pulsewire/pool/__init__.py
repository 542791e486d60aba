"""Worker pools: long-running jobs, routed by key to one owner at a time, that survive workers, nodes and rebalances.

A *node* is a process in a pool; it has *workers*, which run *jobs*. Who owns a job stands in Redis and nowhere else;
every change of owner is one script and gives the job a larger *fencing token*. Nodes propose owners by hashing the key
over the workers they know (`ring.py`). A worker counts as alive as long as its *lease* holds, by the server's clock. A
node that cannot renew its leases stops its jobs before anybody else may start them.

The essay, the picture of the states and the numbered rules: `docs/internals/pool-protocol.md`.
"""

from __future__ import annotations

from pulsewire.pool.handling import Handler, Job
from pulsewire.pool.jobs import JobState
from pulsewire.pool.node import Node
from pulsewire.pool.options import NodeOptions
from pulsewire.pool.schedule import Plan, Producer, StopSchedule
from pulsewire.pool.ticker import Tick, Ticker
from pulsewire.pool.wire import JobInfo, WorkerInfo
from pulsewire.pool.worker import Worker

__all__ = [
    "Handler",
    "Job",
    "JobInfo",
    "JobState",
    "Node",
    "NodeOptions",
    "Plan",
    "Producer",
    "StopSchedule",
    "Tick",
    "Ticker",
    "Worker",
    "WorkerInfo",
]
