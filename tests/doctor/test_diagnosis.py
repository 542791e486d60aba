"""What the facts of servers mean: one table of facts and findings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pulsewire.doctor.diagnosis import SLOTS, diagnose_servers
from pulsewire.doctor.facts import (
    ClusterFacts,
    Facts,
    SentinelFacts,
    ServerFacts,
    bare_masters,
    read_info,
    server_facts,
)
from pulsewire.doctor.findings import Diagnosis, Finding, Level, sorted_findings

GIB = 1024**3
WELL = ServerFacts(
    address="redis://a:6379",
    kind="redis",
    version="7.2.4",
    appends=True,
    fsync="everysec",
    snapshots="",
    last_save_failed=False,
    eviction="noeviction",
    maxmemory=GIB,
    used_memory=GIB // 2,
    script_memory=100_000,
    scripts=100,
    replicas=2,
    min_replicas=1,
    clients=50,
    maxclients=10_000,
    clock_offset=(0.01, 0.001),
)
NOTHING = ServerFacts(address="redis://a:6379")
CLUSTER = ClusterFacts(
    state="ok", assigned=SLOTS, reachable=SLOTS, needs_all=False, bare=(), masters=3
)
ABLE = SentinelFacts(address="s1", can_fail_over=True, text="OK 3 usable Sentinels")


def findings(server: ServerFacts, topology: str = "standalone") -> dict[str, Finding]:
    """By check."""
    facts = Facts(url="redis://a", topology=topology, servers=(server,))
    return {finding.check: finding for finding in diagnose_servers(facts)}


CASES: dict[str, tuple[ServerFacts, str, Level, str]] = {
    # facts -> check, level, words
    "synced always": (replace(WELL, fsync="always"), "persistence", Level.OK, "nothing is lost"),
    "synced every second": (WELL, "persistence", Level.OK, "about 1 s"),
    "not synced": (replace(WELL, fsync="no"), "persistence", Level.WARN, "when the system likes"),
    "synced somehow": (replace(WELL, fsync=None), "persistence", Level.OK, "append-only"),
    "snapshots": (
        replace(WELL, appends=False, snapshots="3600 1"),
        "persistence",
        Level.WARN,
        "snapshots only",
    ),
    "perhaps snapshots": (
        replace(WELL, appends=False, snapshots=None),
        "persistence",
        Level.WARN,
        "not known",
    ),
    "nothing is saved": (replace(WELL, appends=False), "persistence", Level.RED, "loses all"),
    "saving fails": (replace(WELL, last_save_failed=True), "persistence", Level.RED, "failed"),
    "evicts": (replace(WELL, eviction="allkeys-lru"), "eviction", Level.RED, "at will"),
    "evicts not": (WELL, "eviction", Level.OK, "noeviction"),
    "no limit": (replace(WELL, maxmemory=0), "memory", Level.WARN, "no limit"),
    "full": (replace(WELL, used_memory=GIB), "memory", Level.RED, "refuses writes"),
    "half full": (WELL, "memory", Level.OK, "512.0 MiB of 1,024.0 MiB"),
    "alone": (replace(WELL, replicas=0), "replicas", Level.OK, "nothing goes on"),
    "followed": (WELL, "replicas", Level.OK, "writes need 1"),
    "followed somehow": (replace(WELL, min_replicas=None), "replicas", Level.OK, "not known"),
    "writes without replicas": (
        replace(WELL, min_replicas=0),
        "replicas",
        Level.WARN,
        "a failover loses",
    ),
    "too few": (replace(WELL, min_replicas=3), "replicas", Level.RED, "writes are refused"),
    "many clients": (replace(WELL, clients=8_000), "clients", Level.RED, "soon nobody"),
    "some clients": (WELL, "clients", Level.OK, "50 of at most 10000"),
    "clients": (replace(WELL, maxclients=None), "clients", Level.OK, "50 connected"),
    "many scripts": (replace(WELL, scripts=6_000), "scripts", Level.WARN, "never forgotten"),
    "some scripts": (WELL, "scripts", Level.OK, "100 are kept"),
    "same time": (WELL, "clock", Level.OK, "ahead"),
    "late": (replace(WELL, clock_offset=(-2.0, 0.1)), "clock", Level.WARN, "2.000 s behind"),
    "far off": (replace(WELL, clock_offset=(600.0, 0.1)), "clock", Level.RED, "ahead"),
    "perhaps off": (replace(WELL, clock_offset=(2.0, 1.5)), "clock", Level.OK, "1.500"),
    "version": (WELL, "server", Level.OK, "redis 7.2.4, standalone"),
    # where one level ends and the next begins
    "not yet nearly full": (
        replace(WELL, maxmemory=1000, used_memory=899),
        *("memory", Level.OK, ""),
    ),
    "nearly full": (replace(WELL, maxmemory=1000, used_memory=900), *("memory", Level.RED, "")),
    "just enough replicas": (replace(WELL, min_replicas=2), "replicas", Level.OK, "need 2"),
    "not yet many clients": (replace(WELL, clients=7_999), "clients", Level.OK, ""),
    "not yet many scripts": (replace(WELL, scripts=5_000), "scripts", Level.OK, ""),
    "just many scripts": (replace(WELL, scripts=5_001), "scripts", Level.WARN, ""),
    "not yet late": (replace(WELL, clock_offset=(-1.5, 0.5)), "clock", Level.OK, "behind"),
    "just late": (replace(WELL, clock_offset=(-1.75, 0.5)), "clock", Level.WARN, "behind"),
    "not yet far off": (replace(WELL, clock_offset=(60.5, 0.5)), "clock", Level.WARN, "ahead"),
    "just far off": (replace(WELL, clock_offset=(60.75, 0.5)), "clock", Level.RED, "ahead"),
    "neither": (replace(WELL, clock_offset=(0.0, 0.0)), "clock", Level.OK, "0.000 s ahead of"),
    "nothing is saved, nor synced": (
        replace(WELL, appends=False, fsync="no"),
        "persistence",
        Level.RED,
        "loses all",
    ),
    "used memory unknown": (replace(WELL, used_memory=None), "memory", Level.UNKNOWN, ""),
    "limit unknown": (replace(WELL, maxmemory=None), "memory", Level.UNKNOWN, ""),
}
SAID: dict[str, tuple[ServerFacts, str]] = {
    # facts -> the whole of what is said
    "server": (WELL, "redis 7.2.4, standalone"),
    "persistence": (WELL, "append-only file, synced everysec: a crash loses at most about 1 s"),
    "memory": (replace(WELL, maxmemory=2048 * GIB), "512.0 MiB of 2,097,152.0 MiB in use"),
    "replicas": (WELL, "2 connected, writes need 1"),
    "clients": (WELL, "50 of at most 10000 connected"),
    "scripts": (WELL, "100 are kept, 0.1 MiB"),
    "clock": (WELL, "0.010 s ahead of this machine's, give or take 0.001 s"),
}


@pytest.mark.parametrize("check", SAID)
def test_finding_says_what_was_found_and_where(check: str) -> None:
    server, said = SAID[check]
    assert findings(server)[check] == Finding(Level.OK, check, "redis://a:6379", said)


def test_finding_leaves_out_what_is_not_known() -> None:
    found = findings(replace(WELL, script_memory=None, fsync=None))
    assert found["scripts"].what == "100 are kept"
    assert found["persistence"].what == "append-only file: on"


@pytest.mark.parametrize("case", CASES)
def test_finding(case: str) -> None:
    server, check, level, words = CASES[case]
    found = findings(server)[check]
    assert found.level is level, found
    assert words in found.what
    assert bool(found.do) is (level is not Level.OK)


def test_what_nobody_may_ask_is_unknown() -> None:
    """Never ok, and never red; each finding says which right would help."""
    found = findings(NOTHING)
    assert {finding.level for finding in found.values()} == {Level.UNKNOWN}
    assert len(found) == 8
    assert {check: finding.do for check, finding in found.items()} == {
        check: f"Allow {'TIME' if check == 'clock' else 'INFO'} to see it." for check in found
    }
    assert {finding.where for finding in found.values()} == {"redis://a:6379"}


def test_a_master_behind_sentinels_needs_replicas() -> None:
    assert findings(replace(WELL, replicas=0), "sentinel")["replicas"].level is Level.RED


@pytest.mark.parametrize(
    ("cluster", "levels", "words"),
    [
        (CLUSTER, [Level.OK], "3 masters serve all"),
        (replace(CLUSTER, reachable=10_000), [Level.RED], "6384 of 16384"),
        (
            replace(CLUSTER, assigned=SLOTS - 1, needs_all=True, state="fail"),
            [Level.RED],
            "refuses everything",
        ),
        (replace(CLUSTER, assigned=SLOTS - 1, needs_all=None), [Level.RED], "1 of 16384"),
        (replace(CLUSTER, state="fail"), [Level.RED], "'fail'"),
        (replace(CLUSTER, bare=("a:1",)), [Level.OK, Level.WARN], "without a replica: a:1"),
        (replace(CLUSTER, needs_all=True), [Level.OK, Level.WARN], "stops all others"),
        (replace(CLUSTER, needs_all=True, state="fail"), [Level.RED], "'fail'"),
        (replace(CLUSTER, reachable=None), [Level.OK], "serve all 16384 slots"),
        (replace(CLUSTER, assigned=16_000, reachable=None), [Level.RED], "384 of 16384"),
        (
            replace(CLUSTER, assigned=16_000, needs_all=False),
            [Level.RED],
            "nobody: what lies there",
        ),
        (replace(CLUSTER, bare=("a:1", "b:2")), [Level.OK, Level.WARN], "a:1, b:2; when"),
        (ClusterFacts(masters=3), [Level.UNKNOWN], "CLUSTER INFO"),
        (replace(CLUSTER, state=None), [Level.UNKNOWN], "CLUSTER INFO"),
        (replace(CLUSTER, assigned=None), [Level.UNKNOWN], "CLUSTER INFO"),
    ],
)
def test_clusters(cluster: ClusterFacts, levels: list[Level], words: str) -> None:
    facts = Facts(url="redis+cluster://a", topology="cluster", servers=(), cluster=cluster)
    found = diagnose_servers(facts)
    assert [finding.level for finding in found] == levels
    assert {(finding.check, finding.where) for finding in found} == {
        ("cluster", "redis+cluster://a"),
    }
    assert any(words in finding.what + finding.do for finding in found)


@pytest.mark.parametrize(
    ("sentinels", "level", "words"),
    [
        ((ABLE, ABLE, ABLE), Level.OK, "3 of 3 answer"),
        ((ABLE,), Level.WARN, "fewer than three"),
        ((ABLE, ABLE), Level.WARN, "2 of 2 answer, and could decide on a failover; with fewer"),
        (
            (ABLE, ABLE, replace(ABLE, address="s3", can_fail_over=None)),
            Level.WARN,
            "silent: s3",
        ),
        (
            (ABLE, replace(ABLE, can_fail_over=False, text="NOQUORUM 1 usable")),
            Level.RED,
            "NOQUORUM",
        ),
        ((replace(ABLE, can_fail_over=None, text="refused"),), Level.UNKNOWN, "refused"),
        (
            tuple(replace(ABLE, address=one, can_fail_over=None, text="no") for one in "ab"),
            Level.UNKNOWN,
            "none of them answers: a: no; b: no",
        ),
        (
            (*(replace(ABLE, address=one, can_fail_over=None) for one in "ab"), ABLE),
            Level.WARN,
            "1 of 3 answer, and could decide on a failover; silent: a, b",
        ),
    ],
)
def test_sentinels(sentinels: tuple[SentinelFacts, ...], level: Level, words: str) -> None:
    facts = Facts(url="redis+sentinel://a", topology="sentinel", servers=(), sentinels=sentinels)
    (found,) = diagnose_servers(facts)
    assert (found.level, found.check, found.where) == (level, "sentinels", "")
    assert words in found.what


def test_info_and_config_become_facts() -> None:
    told = read_info(
        b"# Server\r\nredis_version:7.2.4\r\nvalkey_version:9.1.2\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n"
        b"maxmemory:0\r\nused_memory:1048576\r\nconnected_clients:3\r\nrdb_last_bgsave_status:ok\r\n"
        b"aof_last_write_status:err\r\nconnected_slaves:1\r\nnumber_of_cached_scripts:4\r\n"
    )
    facts = server_facts(
        "a", "valkey", told, {"appendfsync": "always", "min-replicas-to-write": "x"}, None
    )
    assert facts == ServerFacts(
        address="a",
        kind="valkey",
        version="9.1.2",
        appends=True,
        fsync="always",
        last_save_failed=True,
        eviction="noeviction",
        maxmemory=0,
        used_memory=1048576,
        scripts=4,
        replicas=1,
        clients=3,
    )
    assert server_facts("a", "", read_info(None), {}, None) == ServerFacts(address="a")


def test_masters_without_a_replica_are_found() -> None:
    nodes = (
        "aa 10.0.0.1:1@11 myself,master - 0 0 1 connected 0-5460\n"
        "bb 10.0.0.2:1@11,host master - 0 0 2 connected 5461-10922\n"
        "cc 10.0.0.3:1@11 master - 0 0 3 connected\n"
        "dd 10.0.0.4:1@11 slave aa 0 0 1 connected\n"
        "ee 10.0.0.5:1@11 slave,fail bb 0 0 1 connected\n"
    )
    assert bare_masters(nodes) == ("10.0.0.2:1",)


def test_levels_are_the_words_that_scripts_look_for() -> None:
    assert [level.value for level in Level] == ["ok", "unknown", "warn", "red"]


def test_the_worst_comes_first() -> None:
    ok, warn, red = (Finding(level, "a", "", "") for level in (Level.OK, Level.WARN, Level.RED))
    unknown, mended = replace(ok, level=Level.UNKNOWN), replace(ok, mended=2)
    diagnosis = Diagnosis(sorted_findings([ok, unknown, mended, warn, red]))
    assert diagnosis.findings == (red, warn, unknown, mended, ok)
    assert not diagnosis.is_well
    assert diagnosis.mended == 2
    data = diagnosis.as_data()
    assert (data["is_well"], data["mended"], len(data["findings"])) == (False, 2, 5)
    assert data["findings"][0] == {
        "level": "red",
        "check": "a",
        "where": "",
        "what": "",
        "do": "",
        "count": 0,
        "examples": (),
        "mended": 0,
    }
    assert Diagnosis((warn, unknown)).is_well
