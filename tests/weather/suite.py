"""The fault suite: which test proves which fault for which block, how often it happens in full, and the bounds.

`make chaos` runs it, `docs/guarantees.md` shows it, and a contract test holds the two together. Faults are numbered;
their wording and their bounds stand here once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["FAULTS", "PROOFS", "Fault", "Proof", "chosen"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens.

    Attributes:
        number: by which it is known, such as "F1".
        what: happens.
        bound: what must hold nevertheless.
    """

    number: str
    what: str
    bound: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Tests of one block, or of all at once, under one fault.

    Attributes:
        fault: its number.
        block: streams, maps, pools, tasks, "all", "connections" or "health".
        tests: their full forms, below `tests/`.
        tries: how often the full form lets it happen; None where it says that itself.
        seconds: for how long it goes on, where that is what counts.
        recovery: seconds within which 99 of 100 recoveries must have come; None where nothing is to recover.
        setting: what changes the bound.
    """

    fault: str
    block: str
    tests: tuple[str, ...]
    tries: int | None = 20
    seconds: float | None = None
    recovery: float | None = None
    setting: str = ""


FAULTS = (
    Fault("F1", "A process is killed with SIGKILL", "lost 0; restarted within 15 s (p99); twice only what ran"),
    Fault("F2", "A process is frozen for three leases", "0 changes by the stale owner, which stops within 1 s"),
    Fault("F3", "Processes are restarted one after the other", "lost 0, twice 0, 0 attempts spent; grace + 2 s"),
    Fault("F4", "A handler exits, crashes or is killed", "`max_deliveries` runs, then dead letter"),
    Fault("F5", "Event loop blocked 60 s; interpreter held", "0 duplicates; fenced; the log names the handler"),
    Fault("F6", "Server restarted, AOF always, everysec, none", "lost 0, 1 s of writes, reported; 5 s"),
    Fault("F7", "CLIENT KILL normal and pubsub every 2 s", "lost 0, no error, 0 connections leaked"),
    Fault("F8", "Black hole, each direction", "recovery 5 s; `/livez` red within 15 s"),
    Fault("F9", "Reply dropped, request applied", "exactly once"),
    Fault("F10", "Half of the processes cut off for three leases", "no double owner; 10 s after healing"),
    Fault("F11", "Slow server, stalls below half a lease", "0 leases lost; health is degraded"),
    Fault("F12", "Sentinel failover: killed, ordered, frozen", "lost 0 when replicated, else counted; 10 s"),
    Fault("F13", "READONLY, LOADING, MASTERDOWN, TRYAGAIN, UNBLOCKED", "all retried, none fatal"),
    Fault("F14", "Cluster failover of masters", "15 s, other slots go on"),
    Fault("F15", "All our slots move under load", "0 errors, lost 0"),
    Fault("F16", "SCRIPT FLUSH every 100 ms", "0 errors, half of the work is done"),
    Fault("F17", "Server full, `noeviction`", "typed error, workers finish, lost 0"),
    Fault("F19", "Keys deleted at random", "every task terminal or flagged, loops live"),
    Fault("F20", "FLUSHALL, groups, streams and pools deleted", "all work again within 5 s, loss reported"),
    Fault("F21", "Clocks wrong by ten minutes, one jumps by an hour", "0 early, 0 double"),
    Fault("F23", "Connection storm", "5 attempts a second each; connections as before within 10 s"),
    Fault("F24", "Notices lost, doubled, reordered, blocked", "maps converge within 3 s, 5 s when blocked"),
    Fault("F25", "Pool churn: 1,000 jobs, 200 events", "double owners 0; lease + 5 s; 1.3/N moves"),
    Fault("F28", "Limited user whose password is rotated, 10 min", "0 failures"),
    Fault("F31", "100,000 random cancellations", "0 crossed replies, connections constant"),
)  # fmt: skip

_STREAMS = "weather/test_one_server.py::test_consuming_goes_on_in_many_tries"
_MAPS = "weather/test_maps.py::test_replicas_converge_in_many_tries"
_POOLS = "weather/test_pools.py::test_jobs_go_on_in_many_tries"
_TASKS = "weather/test_tasks.py::test_tasks_go_on_in_many_tries"
_ALL = "weather/test_house.py::test_all_blocks_go_on_in_many_tries"
_PROCESSES = "weather/test_processes.py"
_FAILOVER = "weather/test_failover.py"


def _each(test: str, *kinds: str) -> tuple[str, ...]:
    return tuple(f"{test}[{kind.replace(' ', '-')}]" for kind in kinds)


PROOFS = (
    Proof(
        fault="F1",
        block="streams",
        tests=_each(f"{_PROCESSES}::test_consumers_are_killed", "many")
        + _each(f"{_PROCESSES}::test_publishers_are_killed", "many"),
        tries=100,
        recovery=3.0,
        setting="`ack_grace` (1 s here)",
    ),
    Proof(
        fault="F1",
        block="maps",
        tests=("weather/test_replica_processes.py::test_replicas_are_killed",),
        tries=100,
        recovery=3.0,
        setting="nothing",
    ),
    Proof(
        fault="F1",
        block="pools",
        tests=_each(_POOLS, "process killed", "all processes killed"),
        tries=50,
        recovery=6.5,
        setting="`worker_ttl` (1.5 s here)",
    ),
    Proof(
        fault="F1",
        block="tasks",
        tests=(
            *_each(_TASKS, "server killed", "producer killed", "schedulers killed"),
            "weather/test_tasks.py::test_servers_killed_every_second",
        ),
        tries=50,
        recovery=15.0,
        setting="`lease` (1.5 and 12 s here)",
    ),
    Proof(
        fault="F2",
        block="streams",
        tests=_each(f"{_PROCESSES}::test_consumer_is_frozen_for_longer_than_its_grace", "many"),
        tries=34,
        setting="`ack_grace`",
    ),
    Proof(
        fault="F2",
        block="maps",
        tests=("weather/test_replica_processes.py::test_replicas_are_frozen",),
        tries=34,
        recovery=3.0,
        setting="`stale_after` (1.5 s here)",
    ),
    Proof(
        fault="F2",
        block="pools",
        tests=_each(
            _POOLS, "process frozen for three leases", "two processes frozen for about a lease"
        ),
        tries=33,
        recovery=6.5,
        setting="`worker_ttl`",
    ),
    Proof(
        fault="F2",
        block="tasks",
        tests=_each(_TASKS, "server frozen for three leases"),
        tries=33,
        setting="`lease`",
    ),
    Proof(
        fault="F3",
        block="streams",
        tests=_each(f"{_PROCESSES}::test_consumers_are_restarted", "many"),
        tries=100,
        recovery=2.0,
        setting="how long handlers take",
    ),
    Proof(
        fault="F3",
        block="pools",
        tests=("weather/test_pools.py::test_rolling_restart",),
        tries=None,
        setting="`worker_shutdown_ttl`",
    ),
    Proof(
        fault="F3",
        block="tasks",
        tests=_each(_TASKS, "servers restarted one after the other"),
        tries=50,
        setting="`shutdown_timeout`",
    ),
    Proof(
        fault="F4",
        block="streams",
        tests=_each(f"{_PROCESSES}::test_events_that_end_their_consumer", "many"),
        setting="`max_deliveries`",
    ),
    Proof(
        fault="F4",
        block="tasks",
        tests=_each(_TASKS, "handler that ends the process", "handlers that end the process"),
        setting="`max_lost`",
    ),
    Proof(
        fault="F5",
        block="streams",
        tests=_each(f"{_PROCESSES}::test_blocked_event_loop", "loop-blocked", "interpreter-held"),
        tries=None,
        setting="`ack_grace`: a blocked loop is as silent as a frozen process",
    ),
    Proof(
        fault="F5",
        block="pools",
        tests=_each(_POOLS, "event loop blocked for 60 s", "interpreter held for three leases"),
        tries=3,
        setting="`worker_ttl`, for what holds the interpreter",
    ),
    Proof(
        fault="F5",
        block="tasks",
        tests=_each(_TASKS, "event loop blocked", "interpreter held for three leases"),
        tries=5,
        setting="`lease`, for what holds the interpreter",
    ),
    Proof(
        fault="F6",
        block="all",
        tests=_each(
            _ALL,
            "server killed, fsync always",
            "server killed, fsync every second",
            "server killed, nothing kept",
        ),
        tries=50,
        recovery=5.0,
        setting="`appendonly`, `appendfsync` of the server",
    ),
    Proof(
        fault="F6",
        block="streams",
        tests=_each(_STREAMS, "server killed", "server killed for long", "server shut down"),
        tries=50,
        recovery=5.0,
        setting="`appendonly`, `appendfsync` of the server",
    ),
    Proof(
        fault="F6",
        block="pools",
        tests=_each(_POOLS, "server restarted", "server away for long"),
        recovery=6.5,
        setting="`worker_ttl`",
    ),
    Proof(
        fault="F6",
        block="tasks",
        tests=_each(_TASKS, "Redis restarted", "Redis away for long"),
        recovery=5.0,
        setting="`lease`",
    ),
    Proof(
        fault="F7",
        block="all",
        tests=_each(_ALL, "CLIENT KILL every two seconds"),
        tries=1,
        seconds=300.0,
        recovery=5.0,
        setting="nothing",
    ),
    Proof(
        fault="F8",
        block="all",
        tests=_each(_ALL, "black hole 1 to 8 s"),
        recovery=5.0,
        setting="`?socket_timeout=`",
    ),
    Proof(
        fault="F8",
        block="streams",
        tests=_each(_STREAMS, "black hole to the server", "black hole to the client"),
        recovery=5.0,
        setting="`?socket_timeout=`",
    ),
    Proof(
        fault="F8",
        block="health",
        tests=("health/test_hub.py::test_black_hole_by_the_clock",),
        tries=None,
        setting="`HealthLimits(silence=)`",
    ),
    Proof(
        fault="F9",
        block="streams",
        tests=_each(
            _STREAMS,
            "reply to XADD swallowed, then cut",
            "reply to XADD swallowed, then stall",
            "reply to EVALSHA swallowed, then stall",
            "reply to XACK swallowed, then cut",
            "any reply swallowed",
        ),
        recovery=5.0,
        setting="`idempotency_key=`",
    ),
    Proof(
        fault="F9",
        block="maps",
        tests=_each(_MAPS, "replies swallowed, then cut", "replies swallowed, then stall"),
        recovery=5.0,
        setting="nothing",
    ),
    Proof(
        fault="F9",
        block="pools",
        tests=_each(_POOLS, "replies swallowed, then cut", "replies swallowed, then stall"),
        setting="nothing",
    ),
    Proof(
        fault="F9",
        block="tasks",
        tests=_each(_TASKS, "replies swallowed and cut", "replies swallowed and silence"),
        setting="nothing",
    ),
    Proof(
        fault="F10",
        block="streams",
        tests=_each(f"{_PROCESSES}::test_half_of_the_consumers_are_cut_off", "many"),
        recovery=10.0,
        setting="`ack_grace`",
    ),
    Proof(
        fault="F10",
        block="pools",
        tests=_each(_POOLS, "half of the nodes hear nothing", "half of the nodes cut off"),
        recovery=6.5,
        setting="`worker_ttl`",
    ),
    Proof(
        fault="F10",
        block="tasks",
        tests=_each(_TASKS, "half of the servers cut off"),
        setting="`lease`",
    ),
    Proof(
        fault="F11",
        block="all",
        tests=_each(
            _ALL,
            "server slow by 50 ms",
            "server slow by 500 ms",
            "server stalls for less than half a lease",
        ),
        setting="`worker_ttl`, `lease`",
    ),
    Proof(
        fault="F11",
        block="health",
        tests=("health/test_hub.py::test_a_slow_server_makes_a_process_degraded",),
        tries=None,
        setting="`HealthLimits(slow=)`",
    ),
    Proof(
        fault="F12",
        block="all",
        tests=_each(
            "weather/test_house.py::test_sentinel_failover_of_all_blocks",
            "killed",
            "ordered",
            "frozen",
        ),
        recovery=10.0,
        setting="`down-after` of the sentinels (0.5 s here)",
    ),
    Proof(
        fault="F12",
        block="streams",
        tests=(
            f"{_FAILOVER}::test_sentinel_failover[killed in full flow-many]",
            f"{_FAILOVER}::test_sentinel_failover[ordered in full flow-many]",
        ),
        recovery=5.0,
        setting="`min-replicas-to-write` of the server",
    ),
    Proof(
        fault="F13",
        block="all",
        tests=_each(
            _ALL,
            "READONLY to random commands",
            "LOADING to random commands",
            "MASTERDOWN to random commands",
            "TRYAGAIN to random commands",
            "UNBLOCKED to blocking reads",
        ),
        recovery=5.0,
        setting="nothing",
    ),
    Proof(
        fault="F14",
        block="streams",
        tests=_each(
            f"{_FAILOVER}::test_cluster_master_is_killed",
            "all-replicated-many",
            "in-full-flow-many",
        ),
        recovery=5.0,
        setting="`cluster-node-timeout` (1 s here)",
    ),
    Proof(
        fault="F14",
        block="maps",
        tests=_each(
            "weather/test_maps.py::test_replicas_follow_a_cluster_failover_and_their_slot", "many"
        ),
        recovery=3.0,
        setting="`cluster-node-timeout`",
    ),
    Proof(
        fault="F14",
        block="pools",
        tests=_each("weather/test_pools.py::test_cluster_failover", "killed-many", "ordered-many"),
        recovery=6.5,
        setting="`worker_ttl`",
    ),
    Proof(
        fault="F14",
        block="tasks",
        tests=_each("weather/test_tasks.py::test_master_killed", "many")
        + _each("weather/test_tasks.py::test_master_ordered_away", "many"),
        recovery=15.0,
        setting="`lease`",
    ),
    Proof(
        fault="F15",
        block="all",
        tests=_each("weather/test_house.py::test_all_slots_move", "many"),
        tries=None,
        recovery=5.0,
        setting="nothing",
    ),
    Proof(
        fault="F15",
        block="streams",
        tests=_each(f"{_FAILOVER}::test_slot_moves_under_load", "many"),
        recovery=5.0,
        setting="nothing",
    ),
    Proof(
        fault="F16",
        block="all",
        tests=_each(_ALL, "SCRIPT FLUSH every 100 ms"),
        tries=1,
        seconds=60.0,
        recovery=5.0,
        setting="nothing",
    ),
    Proof(
        fault="F16",
        block="streams, maps, pools, tasks",
        tests=("weather/test_flush.py::test_half_of_the_work_is_done_while_scripts_are_flushed",),
        tries=None,
        seconds=60.0,
        setting="nothing",
    ),
    Proof(
        fault="F17",
        block="all",
        tests=_each(_ALL, "server full"),
        recovery=5.0,
        setting="`maxmemory` of the server",
    ),
    Proof(
        fault="F17",
        block="tasks",
        tests=_each(_TASKS, "Redis full"),
        setting="`maxmemory` of the server",
    ),
    Proof(
        fault="F19",
        block="all",
        tests=_each(_ALL, "one key in a hundred deleted"),
        recovery=5.0,
        setting="nothing",
    ),
    Proof(
        fault="F19",
        block="tasks",
        tests=_each(_TASKS, "keys deleted", "lists deleted", "records that cannot be read"),
        setting="`janitor_interval`",
    ),
    Proof(
        fault="F20",
        block="all",
        tests=_each(_ALL, "everything flushed", "groups, streams and pools deleted"),
        recovery=5.0,
        setting="nothing",
    ),
    Proof(
        fault="F21",
        block="streams",
        tests=_each(
            f"{_PROCESSES}::test_wrong_clock",
            "ten-minutes-ahead",
            "ten-minutes-behind",
            "jumps-back-an-hour",
        ),
        tries=None,
        setting="nothing: the server's clock decides",
    ),
    Proof(
        fault="F21",
        block="pools",
        tests=("weather/test_pools.py::test_wrong_clocks",),
        tries=None,
        setting="nothing: the server's clock decides",
    ),
    Proof(
        fault="F21",
        block="tasks",
        tests=_each(_TASKS, "clocks wrong by ten minutes"),
        tries=5,
        setting="nothing: the server's clock decides",
    ),
    Proof(
        fault="F23",
        block="connections",
        tests=_each("weather/test_storm.py::test_clients_do_not_storm_their_server", "long"),
        tries=None,
        recovery=10.0,
        setting="nothing",
    ),
    Proof(
        fault="F24",
        block="maps",
        tests=(
            "rmap/test_histories.py::test_five_replicas_converge_under_ten_thousand_writes",
            *_each(
                _MAPS,
                "CLIENT KILL TYPE pubsub",
                "connections frozen",
                "black hole",
                "server frozen",
            ),
        ),
        recovery=5.0,
        setting="`?socket_timeout=`",
    ),
    Proof(
        fault="F25",
        block="pools",
        tests=_each("weather/test_pools.py::test_churn", "long")
        + _each("weather/test_pools.py::test_few_jobs_move", "many"),
        tries=5,
        recovery=6.5,
        setting='`worker_ttl`; `routing="jump"` moves more',
    ),
    Proof(
        fault="F28",
        block="all",
        tests=("hub/test_rotation.py::test_password_is_rotated_for_ten_minutes",),
        tries=None,
        setting="the program's credential provider",
    ),
    Proof(
        fault="F31",
        block="streams",
        tests=_each("weather/test_cancellations.py::test_random_cancellations", "many"),
        tries=None,
        setting="nothing",
    ),
    Proof(
        fault="F31",
        block="maps, pools, tasks",
        tests=_each(
            "weather/test_cancellations.py::test_random_cancellations_of_maps_pools_and_tasks",
            "many",
        ),
        tries=None,
        setting="nothing",
    ),
)


def chosen(faults: Iterable[str] = (), blocks: Iterable[str] = ()) -> list[Proof]:
    """The proofs of these faults and blocks; all of them where none are named."""
    wanted, where = set(faults), set(blocks)
    return [
        proof
        for proof in PROOFS
        if (not wanted or proof.fault in wanted) and (not where or proof.block in where)
    ]
