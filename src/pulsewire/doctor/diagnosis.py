"""What the facts of the servers mean, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pulsewire.doctor.facts import ClusterFacts, Facts, SentinelFacts, ServerFacts
from pulsewire.doctor.findings import Finding, Level

SLOTS = 16384
NEARLY_FULL = 0.9
NEARLY_ALL_CLIENTS = 0.8
MANY_SCRIPTS = 5000
"""Scripts that are kept; ours are about a hundred."""
CLOCK_WARN, CLOCK_RED = 1.0, 60.0
"""Seconds. Our own decisions use the server's clock; Go's use that of each machine."""
FORBIDDEN = "the server does not let this user ask, or does not know the question"


def diagnose_servers(facts: Facts) -> list[Finding]:
    """Everything that can be said of the servers."""
    findings: list[Finding] = []
    for server in facts.servers:
        findings += [
            _version(server, facts.topology),
            _persistence(server),
            _eviction(server),
            _memory(server),
            _replicas(server, facts.topology),
            _clients(server),
            _scripts(server),
            _clock(server),
        ]
    if facts.cluster is not None:
        findings += _cluster(facts.cluster, facts.url)
    if facts.topology == "sentinel":
        findings.append(_sentinels(facts.sentinels))
    return findings


def _unknown(check: str, where: str, what: str, ask: str) -> Finding:
    return Finding(Level.UNKNOWN, check, where, f"{what}: {FORBIDDEN}", f"Allow {ask} to see it.")


def _version(server: ServerFacts, topology: str) -> Finding:
    if server.version is None:
        return _unknown("server", server.address, "its version is not known", "INFO")
    what = f"{server.kind} {server.version}, {topology}"
    return Finding(Level.OK, "server", server.address, what)


def _persistence(server: ServerFacts) -> Finding:
    check, where = "persistence", server.address
    if server.appends is None:
        return _unknown(check, where, "whether it keeps anything is not known", "INFO")
    if server.last_save_failed:
        what = "the last attempt to save has failed: what is written now may be lost"
        return Finding(
            Level.RED, check, where, what, "Look at its log, and at the free disk space."
        )
    if server.appends and server.fsync == "no":
        what = "append-only file, synced when the system likes: a crash of the machine loses up to about 30 s"
        return Finding(
            Level.WARN, check, where, what, "CONFIG SET appendfsync everysec, or always."
        )
    if server.appends:
        how = {"always": "nothing is lost", "everysec": "a crash loses at most about 1 s"}
        what = "append-only file" + (f", synced {server.fsync}" if server.fsync else "")
        return Finding(Level.OK, check, where, f"{what}: {how.get(server.fsync or '', 'on')}")
    advice = "CONFIG SET appendonly yes, and have the configuration file say so."
    if server.snapshots:
        what = (
            f"snapshots only (save {server.snapshots}): a crash loses what came after the last one"
        )
        return Finding(Level.WARN, check, where, what, advice)
    if server.snapshots is None:
        what = "no append-only file; whether snapshots are saved is not known"
        return Finding(Level.WARN, check, where, what, advice)
    what = "nothing is saved: a restart loses all streams, maps, jobs and tasks"
    return Finding(Level.RED, check, where, what, advice)


def _eviction(server: ServerFacts) -> Finding:
    check, where = "eviction", server.address
    if server.eviction is None:
        return _unknown(check, where, "what it does when its memory is full is not known", "INFO")
    if server.eviction == "noeviction":
        what = "noeviction: a full server refuses writes and loses nothing"
        return Finding(Level.OK, check, where, what)
    what = f"{server.eviction}: a full server deletes tasks, jobs and events at will"
    advice = "CONFIG SET maxmemory-policy noeviction, and have the configuration file say so."
    return Finding(Level.RED, check, where, what, advice)


def _memory(server: ServerFacts) -> Finding:
    check, where, used, limit = "memory", server.address, server.used_memory, server.maxmemory
    if used is None or limit is None:
        return _unknown(check, where, "how much it uses is not known", "INFO")
    if not limit:
        what = f"{_mib(used)} in use, and no limit: the system ends it when the machine is full"
        return Finding(Level.WARN, check, where, what, "Set maxmemory below what the machine has.")
    what = f"{_mib(used)} of {_mib(limit)} in use"
    if used >= NEARLY_FULL * limit:
        advice = "Raise maxmemory, or find what grows: `pulsewire stream ls`, `pulsewire queue ls`."
        return Finding(
            Level.RED, check, where, f"{what}: it refuses writes when it is full", advice
        )
    return Finding(Level.OK, check, where, what)


def _replicas(server: ServerFacts, topology: str) -> Finding:
    check, where, replicas = "replicas", server.address, server.replicas
    if replicas is None:
        return _unknown(check, where, "whether it has replicas is not known", "INFO")
    if not replicas:
        if topology == "standalone":
            what = "none: while this server is away nothing goes on"
            return Finding(Level.OK, check, where, what)
        what = "none is connected: there is nothing to fail over to"
        return Finding(Level.RED, check, where, what, "Start its replicas, and look at their logs.")
    what = f"{replicas} connected"
    if server.min_replicas is None:
        return Finding(Level.OK, check, where, f"{what}; whether writes need them is not known")
    if server.min_replicas == 0:
        what += "; a master that is cut off from them takes writes that a failover loses"
        advice = (
            "CONFIG SET min-replicas-to-write 1, where a refused write is better than a lost one."
        )
        return Finding(Level.WARN, check, where, what, advice)
    if replicas < server.min_replicas:
        what += f", {server.min_replicas} are needed: writes are refused"
        return Finding(Level.RED, check, where, what, "Start its replicas.")
    return Finding(Level.OK, check, where, f"{what}, writes need {server.min_replicas}")


def _clients(server: ServerFacts) -> Finding:
    check, where, clients, most = "clients", server.address, server.clients, server.maxclients
    if clients is None:
        return _unknown(check, where, "how many are connected is not known", "INFO")
    if most is None:
        what = f"{clients} connected; how many there may be is not known"
        return Finding(Level.OK, check, where, what)
    what = f"{clients} of at most {most} connected"
    if clients >= NEARLY_ALL_CLIENTS * most:
        advice = (
            "Raise maxclients (and the limit of open files), or look who connects: CLIENT LIST."
        )
        return Finding(Level.RED, check, where, f"{what}: soon nobody gets in", advice)
    return Finding(Level.OK, check, where, what)


def _scripts(server: ServerFacts) -> Finding:
    check, where = "scripts", server.address
    if server.scripts is None:
        return _unknown(check, where, "how many scripts it keeps is not known", "INFO")
    memory = "" if server.script_memory is None else f", {_mib(server.script_memory)}"
    what = f"{server.scripts} are kept{memory}"
    if server.scripts > MANY_SCRIPTS:
        what += ": a program builds new ones all the time, which are never forgotten"
        advice = "SCRIPT FLUSH frees them and does no harm; then find who sends EVAL with values in its text."
        return Finding(Level.WARN, check, where, what, advice)
    return Finding(Level.OK, check, where, what)


def _clock(server: ServerFacts) -> Finding:
    check, where = "clock", server.address
    if server.clock_offset is None:
        return _unknown(check, where, "its clock is not known", "TIME")
    offset, uncertain = server.clock_offset
    way = "ahead of" if offset >= 0 else "behind"
    what = f"{abs(offset):.3f} s {way} this machine's, give or take {uncertain:.3f} s"
    surely = max(abs(offset) - uncertain, 0.0)
    if surely <= CLOCK_WARN:
        return Finding(Level.OK, check, where, what)
    level = Level.RED if surely > CLOCK_RED else Level.WARN
    what += (
        ": our leases and schedules follow the server's, those of Go programs each machine's own"
    )
    return Finding(level, check, where, what, "Have both synchronised (chrony, ntpd).")


def _cluster(cluster: ClusterFacts, url: str) -> Iterator[Finding]:
    if cluster.state is None or cluster.assigned is None:
        yield _unknown("cluster", url, "the state of the cluster is not known", "CLUSTER INFO")
    elif cluster.assigned < SLOTS or (cluster.reachable is not None and cluster.reachable < SLOTS):
        served = min(cluster.assigned, SLOTS if cluster.reachable is None else cluster.reachable)
        what = f"{SLOTS - served} of {SLOTS} slots are served by nobody"
        what += {
            True: ": the whole cluster refuses everything",
            False: ": what lies there waits",
            None: "",
        }[cluster.needs_all]
        advice = "Bring the masters back, or give their slots to others: redis-cli --cluster fix."
        yield Finding(Level.RED, "cluster", url, what, advice)
    elif cluster.state != "ok":
        what = f"its state is {cluster.state!r}: it refuses commands"
        yield Finding(Level.RED, "cluster", url, what, "Look at CLUSTER NODES for who is missing.")
    else:
        what = f"ok: {cluster.masters} masters serve all {SLOTS} slots"
        yield Finding(Level.OK, "cluster", url, what)
    if cluster.bare:
        what = f"masters without a replica: {', '.join(cluster.bare)}; when one is lost, so are its keys"
        yield Finding(Level.WARN, "cluster", url, what, "Give each a replica: CLUSTER REPLICATE.")
    if cluster.needs_all and cluster.state == "ok":
        what = "one missing master stops all others, too (cluster-require-full-coverage yes)"
        advice = "CONFIG SET cluster-require-full-coverage no on every node: queues elsewhere go on then."
        yield Finding(Level.WARN, "cluster", url, what, advice)


def _sentinels(sentinels: tuple[SentinelFacts, ...]) -> Finding:
    check = "sentinels"
    answers = [one for one in sentinels if one.can_fail_over is not None]
    if not answers:
        why = "; ".join(f"{one.address}: {one.text}" for one in sentinels)
        return Finding(Level.UNKNOWN, check, "", f"none of them answers: {why}", "Start them.")
    unable = [one for one in answers if not one.can_fail_over]
    if unable:
        what = f"{unable[0].address} could not decide on a failover: {unable[0].text}"
        return Finding(Level.RED, check, "", what, "Start the missing sentinels.")
    silent = [one.address for one in sentinels if one.can_fail_over is None]
    what = f"{len(answers)} of {len(sentinels)} answer, and could decide on a failover"
    if silent:
        return Finding(
            Level.WARN, check, "", f"{what}; silent: {', '.join(silent)}", "Start them, too."
        )
    if len(sentinels) < 3:
        what += "; with fewer than three the loss of one stops failovers"
        return Finding(Level.WARN, check, "", what, "Run three or more, on machines of their own.")
    return Finding(Level.OK, check, "", what)


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:,.1f} MiB"
