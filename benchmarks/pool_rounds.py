"""The rounds of pools: several node processes, one that dispatches, and for a failover one that is killed.

Every round has a pool of its own. All processes of a contender stand ready before the first is given the signal; what
they cost is taken from before the first dispatch until after the last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from benchmarks.clocks import Clocks, Watcher, commands_between, foreign_share
from benchmarks.contender_process import ContenderFailed, ContenderProcess
from benchmarks.plan import Contender, Measure, Shape
from benchmarks.results import Sample, percentile
from benchmarks.server import Server

RUN_SECONDS: Final = 90.0
"""A contender that takes longer than this has failed."""
PRELOAD_SECONDS: Final = 120.0
"""Many jobs may have to be running before the dispatcher is ready."""
SETTLE_SECONDS: Final = 0.5
"""All nodes shall know each other before the first dispatch."""
NODE: Final = "pool-node"
DISPATCHER: Final = "pool-dispatch"
SURVIVOR: Final = "pool-survivor"


class PoolRounds:
    """Runs pool contenders on one server; `start` starts one process of a contender."""

    def __init__(
        self,
        server: Server,
        start: Callable[..., ContenderProcess],
        watcher: Watcher | None = None,
    ) -> None:
        self._watcher = watcher
        self._server = server
        self._start = start

    def sample(self, contender: Contender, pool: str) -> Sample:
        """One round of a contender."""
        run = self.failover if contender.shape is Shape.FAILOVER else self.dispatch
        return run(contender, pool)

    def dispatch(self, contender: Contender, pool: str) -> Sample:
        """So many dispatches, to so many node processes."""
        server = self._server
        with ExitStack() as stack:
            stack.callback(server.remove, pool)
            nodes = [self._ready(stack, contender, pool, NODE) for _ in range(contender.processes)]
            time.sleep(SETTLE_SECONDS)
            dispatcher = self._ready(stack, contender, pool, DISPATCHER)
            for node in nodes:
                node.signal()
            if self._watcher:
                self._watcher.begin(nodes[0].pid)
            counts, before = server.command_counts(), Clocks.read(server)
            dispatcher.signal()
            outcome = dispatcher.outcome(RUN_SECONDS)
            after, later = Clocks.read(server), server.command_counts()
            if self._watcher:
                self._watcher.end()
            for node in nodes:
                node.signal()
            nodes_cpu = sum(node.outcome(RUN_SECONDS).cpu_seconds for node in nodes)
        count = outcome.operations
        if not count:
            raise ContenderFailed("no dispatch came to an end")
        costs = {
            Measure.CLIENT_US: outcome.cpu_seconds / count * 1e6,
            Measure.NODES_US: nodes_cpu / count * 1e6,
            Measure.SERVER_US: (after.server - before.server) / count * 1e6,
        }
        return {
            Measure.RATE: count / outcome.seconds,
            Measure.P50_MS: percentile(outcome.samples_ms, 0.50),
            Measure.P99_MS: percentile(outcome.samples_ms, 0.99),
            **costs,
            Measure.CPU_US: sum(costs.values()),
            Measure.COMMANDS_EACH: commands_between(counts, later) / count,
            Measure.STALLED: outcome.figures[Measure.STALLED],
            **foreign_share(before, after, outcome.cpu_seconds + nodes_cpu),
        }

    def failover(self, contender: Contender, pool: str) -> Sample:
        """Jobs on two nodes; one is killed. How long until the other has started the last of its jobs."""
        server = self._server
        with ExitStack() as stack:
            stack.callback(server.remove, pool)
            survivor = self._ready(stack, contender, pool, SURVIVOR)
            victim = self._ready(stack, contender, pool, NODE)
            time.sleep(SETTLE_SECONDS)
            dispatcher = self._ready(stack, contender, pool, DISPATCHER)
            survivor.signal()
            before = Clocks.read(server)
            killed = time.clock_gettime(time.CLOCK_MONOTONIC) * 1e3
            victim.kill()
            outcome = survivor.outcome(RUN_SECONDS)
            after = Clocks.read(server)
            dispatcher.kill()
        moved = [started - killed for started in outcome.samples_ms if started > killed]
        if not moved:
            raise ContenderFailed("no job had to move")
        return {
            Measure.FIRST_S: min(moved) / 1e3,
            Measure.LAST_S: max(moved) / 1e3,
            Measure.MOVED: len(moved),
            **foreign_share(before, after, outcome.cpu_seconds),
        }

    def _ready(
        self, stack: ExitStack, contender: Contender, pool: str, role: str
    ) -> ContenderProcess:
        process = self._start(contender, pool, role=role, events=contender.events)
        stack.enter_context(process)
        process.wait_ready(PRELOAD_SECONDS)
        return process
