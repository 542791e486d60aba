"""The servers of the test kit do what they say, under every blow they can be given."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pulsewire.testing import (
    ClusterGroup,
    ReplyError,
    SentinelGroup,
    ServerDied,
    SingleServer,
    Topology,
    embedded_binary,
    make_certificates,
    redis7_binary,
    server_version,
    slot_of,
    wait_until,
)
from pulsewire.testing import ports as ports_module
from pulsewire.testing import processes as processes_module
from pulsewire.testing.ports import HOST, PortReservation, reserve_port


def exists(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# --- programs and ports


def test_embedded_binary_is_a_valkey() -> None:
    version = server_version(embedded_binary())
    assert version.kind in ("valkey", "redis")
    assert version.number >= (6, 2)


def test_redis7_binary_is_a_redis_of_version_7(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a Valkey that is called redis-server nor an older Redis will do."""
    for said, expected in (
        ("Redis server v=7.4.1 sha=0", True),
        ("Redis server v=8.0.0 sha=0", True),
        ("Redis server v=6.2.9 sha=0", False),
        ("Valkey server v=9.1.2 sha=0", False),
        ("what?", False),
    ):
        folder = tmp_path / said[:20].replace(" ", "-").replace("?", "")
        folder.mkdir()
        program = folder / "redis-server"
        program.write_text(f"#!/bin/sh\necho '{said}'\n")
        program.chmod(0o755)
        monkeypatch.setattr("pulsewire.testing.binaries.DEBIAN_REDIS", tmp_path / "nowhere")
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        assert (redis7_binary() == program) is expected, said


def test_reserved_port_is_refused_to_another_process() -> None:
    """Two test runs on one machine do not get the same port."""
    if sys.platform != "linux":
        pytest.skip("one loopback address only: reservations hold inside a process")
    program = (
        "import sys; from pulsewire.testing import ports;"
        "print(ports._try_to_reserve(int(sys.argv[1])) is None)"
    )
    reservation = reserve_port()

    def is_refused() -> str:
        return subprocess.run(
            [sys.executable, "-c", program, str(reservation.port)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        assert is_refused() == "True"
    finally:
        reservation.release()
    assert is_refused() == "False"


def test_ports_are_outside_the_range_of_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection anywhere on the machine can take the port of a server that is down for a moment."""
    file = tmp_path / "ip_local_port_range"
    monkeypatch.setattr(ports_module, "_CLIENT_PORTS_FILE", file)
    for text, expected in (
        ("32768\t60999\n", (20_000, 32_767)),
        ("49152 65535", (20_000, 32_767)),
        ("15000 61000", (61_001, 65_000)),
        ("18000 65535", (10_000, 17_999)),
        ("1024 65535", (20_000, 32_767)),
    ):
        file.write_text(text)
        assert ports_module._port_range() == expected


# --- one server


async def test_server_answers_and_leaves_nothing_behind() -> None:
    async with SingleServer() as server:
        pid, directory = server.pid, server.directory
        assert await server.command("SET", "key", "value") == b"OK"
        assert await server.command("GET", "key") == b"value"
        assert server.url == f"redis://127.0.0.1:{server.port}"
    assert not exists(pid)
    assert not directory.exists()


async def test_killed_server_comes_back_on_its_port_with_its_data(
    fresh_server: SingleServer,
) -> None:
    """What was answered before SIGKILL is there after the restart."""
    port, pid = fresh_server.port, fresh_server.pid
    for number in range(100):
        await fresh_server.command("RPUSH", "list", number)
    await fresh_server.kill()
    assert not exists(pid)
    with pytest.raises(ConnectionRefusedError):
        await fresh_server.command("PING")
    await fresh_server.restart()
    assert fresh_server.port == port
    assert fresh_server.pid != pid
    assert await fresh_server.command("LLEN", "list") == 100


async def test_server_without_appendonly_comes_back_empty() -> None:
    async with SingleServer(appendonly=False) as server:
        await server.command("SET", "key", "value")
        await server.kill()
        await server.restart()
        assert await server.command("DBSIZE") == 0


async def test_paused_server_is_silent_until_resumed(fresh_server: SingleServer) -> None:
    fresh_server.pause()
    with pytest.raises(TimeoutError):
        async with fresh_server.connection(timeout=0.1) as connection:
            await connection.command("INCR", "counter")
    fresh_server.resume()
    assert await fresh_server.command("PING") == b"PONG"


async def test_paused_server_ends_with_its_block() -> None:
    """A server that a failed test forgot to resume is killed all the same."""
    async with SingleServer() as server:
        pid = server.pid
        server.pause()
    assert not exists(pid)


async def test_password_is_asked_for() -> None:
    async with SingleServer(password="p@ss/word") as server:
        assert await server.command("PING") == b"PONG"
        assert server.url == f"redis://:p%40ss%2Fword@127.0.0.1:{server.port}"
        server.password = None
        with pytest.raises(ReplyError, match="NOAUTH"):
            await server.command("PING")


async def test_arguments_win_over_the_kit_s_own() -> None:
    async with SingleServer(args=("--maxmemory", "3mb", "--appendfsync", "always")) as server:
        assert await server.command("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"3145728"]
        assert (await server.command("CONFIG", "GET", "appendfsync"))[1] == b"always"


async def test_server_that_cannot_start_says_why() -> None:
    server = SingleServer(args=("--no-such-option", "1"))
    with pytest.raises(ServerDied, match="no-such-option"):
        await server.start()
    assert not server.directory.exists()


async def test_taken_port_is_left_to_whoever_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger on the chosen port: the server goes to the next one."""
    with socket.create_server((HOST, 0)) as stranger:
        taken = PortReservation(stranger.getsockname()[1], None)
        offers = iter([taken, reserve_port()])
        monkeypatch.setattr(processes_module, "reserve_port", lambda: next(offers))
        async with SingleServer() as server:
            assert server.port != taken.port
            assert await server.command("PING") == b"PONG"


async def test_another_server_on_the_port_is_not_mistaken_for_ours(
    fresh_server: SingleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers PING, but it is not the process that was started."""
    offers = iter([PortReservation(fresh_server.port, None), reserve_port()])
    monkeypatch.setattr(processes_module, "reserve_port", lambda: next(offers))
    async with SingleServer() as server:
        assert server.port != fresh_server.port


async def test_clients_are_all_but_the_one_who_asks(fresh_server: SingleServer) -> None:
    assert await fresh_server.clients() == {}
    async with fresh_server.connection() as connection:
        number = await connection.command("CLIENT", "ID")
        assert list(await fresh_server.clients()) == [number]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a server with its parent")
async def test_servers_die_with_a_killed_test_run(tmp_path: Path) -> None:
    """SIGKILL of the process that started servers leaves none of them."""
    program = """
import anyio
from pulsewire.testing import SingleServer
async def main():
    async with SingleServer() as one, SingleServer() as two:
        two.pause()
        print(one.pid, two.pid, flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # nobody is left to remove their folders
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment
    ) as run:
        assert run.stdout is not None
        pids = [int(word) for word in run.stdout.readline().split()]
        assert [exists(pid) for pid in pids] == [True, True]
        run.kill()
        run.wait()
        await wait_until(lambda: not any(map(exists, pids)), what="the servers died too")


async def test_tls_server_wants_tls_and_shows_a_certificate_of_the_authority(
    tmp_path: Path,
) -> None:
    binary = redis7_binary()
    if binary is None:
        pytest.skip("the embedded server's program has no TLS, and there is no other one")
    certificates = make_certificates(tmp_path)
    async with SingleServer(binary, tls=certificates) as server:
        assert server.url.startswith(f"rediss://127.0.0.1:{server.port}?ssl_ca_certs=")
        async with server.connection() as connection:
            assert await connection.command("PING") == b"PONG"
        server.tls = None
        with pytest.raises((ConnectionError, TimeoutError)):
            await server.command("PING")
        server.tls = certificates
        await server.kill()
        await server.restart()
        assert await server.command("PING") == b"PONG"


async def test_redis_7_runs_in_the_kit_as_valkey_does(redis7_server: SingleServer) -> None:
    info = await redis7_server.info("server")
    assert info["redis_version"].startswith(("7.", "8."))
    assert await redis7_server.command("DEBUG", "SLEEP", 0) == b"OK"


# --- all of them


async def test_topology_has_masters_that_hold_what_is_written(
    topology: Topology, namespace: str
) -> None:
    """The common face is enough to write a key and to find it again."""
    keys = [f"{namespace}:{number}" for number in range(20)]
    for key in keys:
        node = await topology.node_of(key)
        assert await node.command("SET", key, "value", "EX", 60) == b"OK"
    masters = await topology.masters()
    moved = ["MOVED"] * 2 if topology.kind == "cluster" else []
    assert len(masters) == 1 + len(moved)
    found = [await master.pipeline(*(("EXISTS", key) for key in keys)) for master in masters]
    for answers in zip(*found, strict=True):
        assert sorted(str(answer).split()[0] for answer in answers) == ["1", *moved]


def test_shared_server_can_be_used_without_a_loop(single_server: SingleServer) -> None:
    """A test that is no coroutine gets it too."""
    with socket.create_connection(single_server.address) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"


@pytest.fixture
def url_from_a_plain_fixture(cluster_group: ClusterGroup) -> str:
    return cluster_group.url


def test_shared_group_can_be_used_by_a_plain_fixture(url_from_a_plain_fixture: str) -> None:
    assert url_from_a_plain_fixture.startswith("redis+cluster://127.0.0.1:")


# --- sentinels


async def test_sentinel_group_has_one_master_and_two_replicas(
    sentinel_group: SentinelGroup,
) -> None:
    roles = [(await server.info("replication"))["role"] for server in sentinel_group.data_servers]
    assert sorted(roles) == ["master", "slave", "slave"]
    assert sentinel_group.url.startswith("redis+sentinel://127.0.0.1:")
    assert sentinel_group.url.endswith("/mymaster")
    assert sentinel_group.url.count(",") == 2


async def test_killed_master_is_replaced_and_comes_back_as_a_replica(
    sentinel_group: SentinelGroup, namespace: str
) -> None:
    """What a replica had acknowledged is there on the new master, and again on the old one."""
    key = f"{namespace}:key"
    async with (await sentinel_group.master()).connection() as connection:
        await connection.command("SET", key, "value", "EX", 60)
        assert await connection.command("WAIT", 2, 5000) == 2
    old = await sentinel_group.kill_master()
    new = await sentinel_group.wait_new_master(old)
    assert new is not old
    assert await new.command("GET", key) == b"value"
    await sentinel_group.restart(old)
    await sentinel_group.wait_healthy()
    info = await old.info("replication")
    assert (info["role"], info["master_port"]) == ("slave", str(new.port))
    assert await old.command("GET", key) == b"value"


async def test_orderly_failover_changes_the_master(sentinel_group: SentinelGroup) -> None:
    old = await sentinel_group.master()
    new = await sentinel_group.failover()
    assert new is not old
    await sentinel_group.wait_healthy()
    assert await sentinel_group.master() is new


async def test_orderly_failover_that_is_given_up_is_begun_again(
    sentinel_group: SentinelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sentinels do when it takes them too long. Here the first order goes astray."""
    leader, orders = sentinel_group.sentinels[0], list[object]()
    obey = leader.command

    async def forget_the_first(*words: Any) -> Any:
        if words[1] == "FAILOVER":
            orders.append(words)
            if len(orders) == 1:
                return b"OK"
        return await obey(*words)

    monkeypatch.setattr(leader, "command", forget_the_first)
    monkeypatch.setattr(sentinel_group, "failover_timeout", 0.0)
    old = await sentinel_group.master()
    assert await sentinel_group.failover() is not old
    assert len(orders) > 1


async def test_frozen_master_is_replaced(sentinel_group: SentinelGroup) -> None:
    """A master that is silent counts as dead, and follows the new one when it wakes up."""
    old = await sentinel_group.master()
    old.pause()
    new = await sentinel_group.wait_new_master(old)
    old.resume()
    await sentinel_group.wait_healthy()
    assert (await old.info("replication"))["master_port"] == str(new.port)


async def test_group_without_a_replica_says_what_is_wrong(sentinel_group: SentinelGroup) -> None:
    master = await sentinel_group.master()
    victim = next(server for server in sentinel_group.data_servers if server is not master)
    await victim.kill()
    with pytest.raises(AssertionError, match="has not 2 replicas online"):
        await sentinel_group.wait_healthy(timeout=0.3)
    await sentinel_group.heal()
    assert victim.is_alive


# --- cluster


@pytest.mark.parametrize("key", ["a", "{a}b", "a{b}c{d}", "a{}b", "{", "}{", "{{a}}", "ä{ö}", ""])
async def test_slot_is_the_one_the_server_computes(single_server: SingleServer, key: str) -> None:
    """Any server computes slots, cluster or not."""
    async with single_server.connection() as connection:
        try:
            expected = await connection.command("CLUSTER", "KEYSLOT", key)
        except ReplyError:
            pytest.skip("this server computes slots only in a cluster")
    assert slot_of(key) == expected


async def test_cluster_has_three_masters_with_a_replica_each(cluster_group: ClusterGroup) -> None:
    masters = await cluster_group.masters()
    assert len(masters) == 3
    for master in masters:
        assert len(await cluster_group.replicas_of(master)) == 1
    assert cluster_group.url.startswith("redis+cluster://")
    assert cluster_group.url.count(",") == 2


async def test_replica_takes_over_from_a_killed_node(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """It has what was replicated; the node that was killed comes back as its replica."""
    key = f"{namespace}:key"
    async with (await cluster_group.node_of(key)).connection() as connection:
        await connection.command("SET", key, "value", "EX", 60)
        assert await connection.command("WAIT", 1, 5000) == 1
    old = await cluster_group.kill_master_of(key)
    new = await cluster_group.wait_new_owner(slot_of(key), old)
    assert new is not old
    assert await new.command("GET", key) == b"value"
    await cluster_group.restart(old)
    await cluster_group.wait_healthy()
    assert await cluster_group.replicas_of(new) == (old,)


async def test_orderly_failover_of_a_node(cluster_group: ClusterGroup) -> None:
    old = await cluster_group.node_of("key")
    (replica,) = await cluster_group.replicas_of(old)
    new = await cluster_group.failover(old)
    assert new is replica
    assert await cluster_group.node_of("key") is new
    await cluster_group.wait_healthy()
    assert await cluster_group.replicas_of(new) == (old,)


async def test_slot_on_its_way_answers_ask_and_tryagain_then_moved(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """A raw client sees each redirection at the step that causes it."""
    here, gone, new = (f"{{{namespace}}}:{name}" for name in ("here", "gone", "new"))
    slot = slot_of(here)
    source = await cluster_group.owner_of(slot)
    target = next(node for node in await cluster_group.masters() if node is not source)
    for key in (here, gone):
        await source.command("SET", key, "old", "EX", 60)
    move = await cluster_group.slot_move(slot, target)
    assert repr(move) == f"<SlotMove of slot {slot} from {source!r} to {target!r}>"
    await move.open()
    await move.migrate(gone)

    assert await source.command("GET", here) == b"old"
    for key in (gone, new):
        with pytest.raises(ReplyError, match=rf"^ASK {slot} 127\.0\.0\.1:{target.port}$"):
            await source.command("GET", key)
    with pytest.raises(ReplyError, match=r"^TRYAGAIN"):
        await source.command("MGET", here, gone)
    with pytest.raises(ReplyError, match=rf"^MOVED {slot} 127\.0\.0\.1:{source.port}$"):
        await target.command("GET", gone)
    assert await target.pipeline(("ASKING",), ("SET", new, "new", "EX", 60)) == [b"OK", b"OK"]

    with pytest.raises(RuntimeError, match="still has 1 keys"):
        await move.close()
    assert await move.migrate_all() == 1
    await move.close()
    with pytest.raises(ReplyError, match=rf"^MOVED {slot} 127\.0\.0\.1:{target.port}$"):
        await source.command("GET", here)
    assert await target.command("MGET", here, gone, new) == [b"old", b"old", b"new"]
    await cluster_group.wait_healthy()

    assert await cluster_group.move_slot(slot, source) == 3
    assert await cluster_group.owner_of(slot) is source
    assert await source.command("MGET", here, gone, new) == [b"old", b"old", b"new"]


async def test_cancelled_move_leaves_all_keys_where_they_were(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    keys = [f"{{{namespace}}}:{number}" for number in range(5)]
    slot = slot_of(keys[0])
    source = await cluster_group.owner_of(slot)
    target = next(node for node in await cluster_group.masters() if node is not source)
    for key in keys:
        await source.command("SET", key, "value", "EX", 60)
    move = await cluster_group.slot_move(slot, target)
    await move.open()
    await move.migrate(*keys[:3])
    await move.cancel()
    assert await source.command("EXISTS", *keys) == 5
    assert await target.command("CLUSTER", "COUNTKEYSINSLOT", slot) == 0
    await cluster_group.wait_healthy()


async def test_cluster_without_a_node_says_what_is_wrong(cluster_group: ClusterGroup) -> None:
    (victim,) = await cluster_group.replicas_of(await cluster_group.node_of("key"))
    await victim.kill()
    with pytest.raises(AssertionError, match=str(victim.port)):
        await cluster_group.wait_healthy(timeout=0.3)
    await cluster_group.heal()
    assert victim.is_alive
