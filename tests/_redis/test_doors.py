"""Doors: connections as the user configured them in redis-py, by URL or by a client of his own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ConstantBackoff
from redis.credentials import CredentialProvider

from pulsewire._redis.doors import doors_of_client
from pulsewire._redis.link import Link
from pulsewire.errors import InvalidTarget, PermissionDenied, ServerUnavailable
from pulsewire.testing import (
    Certificates,
    ClusterGroup,
    FaultProxy,
    SentinelGroup,
    SingleServer,
    make_certificates,
    redis7_binary,
    wait_until,
)
from tests._redis.kit import StubServer, opened_link


async def works(link: Link) -> None:
    """Many callers and a large payload, there and back."""
    replies = await asyncio.gather(*(link.call("k", "ECHO", f"{n}") for n in range(200)))
    assert replies == [b"%d" % n for n in range(200)]
    assert await link.call("k", "ECHO", bytes(1_000_000)) == bytes(1_000_000)


# --- clients of redis.asyncio

Make = Callable[[str, int], redis.asyncio.Redis]
CLIENTS: dict[str, Make] = {
    "plain": lambda host, port: redis.asyncio.Redis(host=host, port=port),
    "text replies": lambda host, port: redis.asyncio.Redis(
        host=host, port=port, decode_responses=True
    ),
    "RESP2": lambda host, port: redis.asyncio.Redis(host=host, port=port, protocol=2),
    "RESP3": lambda host, port: redis.asyncio.Redis(host=host, port=port, protocol=3),
    "RESP3, text": lambda host, port: redis.asyncio.Redis(
        host=host, port=port, protocol=3, decode_responses=True
    ),
    "one connection": lambda host, port: redis.asyncio.Redis(
        host=host, port=port, single_connection_client=True
    ),
    "health checks": lambda host, port: redis.asyncio.Redis(
        host=host, port=port, health_check_interval=1, client_name="mine"
    ),
    "from a URL": lambda host, port: redis.asyncio.from_url(f"redis://{host}:{port}"),
    "small blocking pool": lambda host, port: redis.asyncio.Redis.from_pool(
        redis.asyncio.BlockingConnectionPool(host=host, port=port, max_connections=1)
    ),
}


@pytest.mark.parametrize("kind", CLIENTS)
async def test_client_of_the_user_opens_our_connections_and_stays_his(
    single_server: SingleServer, kind: str
) -> None:
    """It works before, meanwhile and afterwards, and its pool is not used up."""
    client = CLIENTS[kind](single_server.host, single_server.port)
    try:
        assert await client.ping()
        async with opened_link(client) as link:
            await works(link)
            assert link.info.topology == "standalone"
            assert str(single_server.port) in link.shown
            assert await client.ping()
        assert await client.ping()
    finally:
        await client.aclose()


async def test_client_that_was_never_used_will_do(single_server: SingleServer) -> None:
    client = redis.asyncio.Redis(host=single_server.host, port=single_server.port)
    async with opened_link(client) as link:
        await works(link)
    await client.aclose()


async def test_client_that_is_closed_meanwhile_does_not_end_our_link(
    single_server: SingleServer,
) -> None:
    """Our connections are ours, and new ones can still be opened as it was configured."""
    async with FaultProxy(single_server) as proxy:
        client = redis.asyncio.Redis(host=proxy.host, port=proxy.port)
        await client.ping()
        async with opened_link(client) as link:
            await client.aclose()
            await works(link)
            proxy.cut()
            assert await link.call("k", "ECHO", "x", repeatable=True) == b"x"


async def test_database_and_user_of_the_client_are_ours_too(fresh_server: SingleServer) -> None:
    await fresh_server.command("ACL", "SETUSER", "anna", "on", ">pw", "~*", "+@all")
    client = redis.asyncio.Redis(
        host=fresh_server.host, port=fresh_server.port, db=3, username="anna", password="pw"
    )
    async with opened_link(client) as link:
        assert await link.call("", "ACL", "WHOAMI") == b"anna"
        await link.call("k", "SET", "k", "in three")
        assert "pw" not in link.shown
    assert await client.get("k") == b"in three"
    await client.aclose()


async def test_credentials_are_asked_for_at_every_connection(fresh_server: SingleServer) -> None:
    """So that they can be rotated while we run."""

    class Rotating(CredentialProvider):
        password = "first"

        def get_credentials(self) -> tuple[str, str]:
            return "anna", self.password

    provider = Rotating()
    await fresh_server.command("ACL", "SETUSER", "anna", "on", ">first", "~*", "+@all")
    client = redis.asyncio.Redis(
        host=fresh_server.host, port=fresh_server.port, credential_provider=provider
    )
    async with opened_link(client) as link:
        await works(link)
        await fresh_server.command("ACL", "SETUSER", "anna", "resetpass", ">second")
        provider.password = "second"
        connection = await link.connection_for("k")
        await fresh_server.command("CLIENT", "KILL", "ID", connection.client_id)
        assert await link.call("k", "ECHO", "x", repeatable=True) == b"x"
    await client.aclose()


async def test_retries_of_the_client_do_not_slow_ours(fresh_server: SingleServer) -> None:
    """redis-py would wait between its attempts; the link has pauses of its own, and hears of each failure."""
    client = redis.asyncio.Redis(
        host=fresh_server.host,
        port=fresh_server.port,
        retry=redis.asyncio.retry.Retry(ConstantBackoff(3600.0), 5),
    )
    async with opened_link(client) as link:
        await fresh_server.kill()
        async with anyio.create_task_group() as group:
            group.start_soon(works, link)
            lane: Any = link._lane("k")
            await wait_until(
                lambda: lane.connection is None and "Error" in lane.last_trouble,
                what="an attempt has failed",
            )
            await fresh_server.restart()
    await client.aclose()


async def test_cluster_client_of_the_user_opens_our_connections(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """Whether it was used before or not, whatever its replies look like."""
    for decode in (False, True):
        for is_used in (False, True):
            client: Any = redis.asyncio.RedisCluster(
                host="127.0.0.1", port=cluster_group.nodes[0].port, decode_responses=decode
            )
            if is_used:
                await client.initialize()
            async with opened_link(client) as link:
                assert link.is_cluster
                keys = [f"{namespace}:{number}" for number in range(50)]
                await asyncio.gather(*(link.call(key, "SET", key, key, "EX", 60) for key in keys))
                assert await client.get(keys[7]) == (keys[7] if decode else keys[7].encode())
            assert await client.ping()
            await client.aclose()


async def test_address_map_of_the_cluster_client_is_followed(cluster_group: ClusterGroup) -> None:
    """For clusters behind address translation."""
    hidden, other, _ = await cluster_group.masters()
    async with FaultProxy(hidden) as proxy:

        def remap(address: tuple[str, int]) -> tuple[str, int]:
            return (proxy.host, proxy.port) if address == hidden.address else address

        client = redis.asyncio.RedisCluster(host="127.0.0.1", port=other.port, address_remap=remap)
        async with opened_link(client) as link:
            for master in link.masters():
                assert await link.call_at(master, "ECHO", "x") == b"x"
            assert proxy.statistics().commands["ECHO"] == 1
        await client.aclose()


async def test_sentinel_master_of_the_user_is_followed(sentinel_group: SentinelGroup) -> None:
    """The client alone is enough: nobody has to keep the Sentinel object."""

    def made() -> Any:
        addresses = [sentinel.address for sentinel in sentinel_group.sentinels]
        untyped: Any = Sentinel
        return untyped(addresses, socket_timeout=1.0).master_for("mymaster")

    client = made()
    async with opened_link(client) as link:
        assert link.info.topology == "sentinel"
        assert "mymaster" in link.shown
        await works(link)
        old = await sentinel_group.kill_master()
        await sentinel_group.wait_new_master(old)
        assert await link.call("k", "ECHO", "x", repeatable=True) == b"x"
    assert await client.ping()
    sentinels = client.connection_pool.sentinel_manager.sentinels
    await client.aclose()
    for sentinel in sentinels:
        await sentinel.aclose()


@pytest.mark.parametrize("kind", [redis.Redis, redis.RedisCluster])
def test_blocking_client_is_refused_with_the_one_that_is_needed(kind: type) -> None:
    blocking: object = object.__new__(kind)  # a blocking cluster client connects when it is made
    with pytest.raises(InvalidTarget, match=rf"{kind.__name__}.*redis\.asyncio"):
        doors_of_client(blocking)


@pytest.mark.parametrize("target", [7, b"redis://localhost", object(), ["redis://localhost"]])
async def test_what_is_no_client_is_refused_by_its_type(target: object) -> None:
    with pytest.raises(InvalidTarget, match=type(target).__name__):
        async with opened_link(target):
            pass


# --- Unix sockets, databases, users


async def test_unix_socket_is_connected_to(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    async with SingleServer(args=("--unixsocket", str(path))):
        async with opened_link(f"unix://{path}") as link:
            await works(link)
        async with opened_link(f"unix://{path}?db=2") as link:
            await works(link)
        client = redis.asyncio.Redis(unix_socket_path=str(path))
        async with opened_link(client) as link:
            await works(link)
            assert str(path) in link.shown
        await client.aclose()


async def test_unix_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable, match="nothing.sock"):
        async with opened_link(f"unix://{tmp_path}/nothing.sock", wait_for_server=0.2):
            pass


async def test_password_with_every_awkward_character_works() -> None:
    from urllib.parse import quote

    password = "a:b@c/d?e#f%g&h=i j+ü[]{}"
    async with SingleServer(password=password) as server:
        for url in (
            server.url,
            f"redis://default:{quote(password, safe='')}@127.0.0.1:{server.port}",
        ):
            async with opened_link(url) as link:
                await works(link)
                assert password not in link.shown


async def test_database_number_selects_the_database(fresh_server: SingleServer) -> None:
    """After every reconnect, too."""
    async with FaultProxy(fresh_server) as proxy, opened_link(f"{proxy.url}/3") as link:
        await link.call("k", "SET", "k", "v")
        proxy.cut()
        assert await link.call("k", "GET", "k", repeatable=True) == b"v"
    async with fresh_server.connection() as connection:
        assert await connection.command("EXISTS", "k") == 0
        await connection.command("SELECT", 3)
        assert await connection.command("GET", "k") == b"v"


@pytest.mark.parametrize("server", ["valkey", "redis"])
async def test_user_with_a_prefix_and_no_dangerous_command_is_enough(server: str) -> None:
    """`+@all -@admin -@dangerous ~shop:*`: what a shared server gives its users."""
    binary = None if server == "valkey" else redis7_binary()
    if server == "redis" and binary is None:
        pytest.skip("this machine has no Redis 7")
    async with SingleServer(binary) as running:
        await running.command(
            *("ACL", "SETUSER", "shop", "on", ">pw", "~shop:*", "resetchannels"),
            *("+@all", "-@admin", "-@dangerous"),
        )
        async with opened_link(f"redis://shop:pw@127.0.0.1:{running.port}") as link:
            await works(link)
            await link.call("shop:k", "SET", "shop:k", "v")
            with pytest.raises(PermissionDenied):
                await link.call("other:k", "SET", "other:k", "v")


# --- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def tls_server(certificates: Certificates, *args: str) -> AsyncIterator[SingleServer]:
    """A server that speaks nothing but TLS."""
    binary = redis7_binary()
    if binary is None:
        pytest.skip("this machine has no Redis 7, and the embedded server speaks no TLS")
    async with SingleServer(binary, tls=certificates, args=args) as server:
        yield server


async def test_encrypted_connection_does_all_that_a_plain_one_does(
    certificates: Certificates,
) -> None:
    """With a client certificate; and again after the connection was cut."""
    async with tls_server(certificates) as server, FaultProxy(server) as proxy:
        async with opened_link(proxy.url) as link:
            await works(link)
            for _ in range(3):
                proxy.cut()
                assert await link.call("k", "ECHO", "x", repeatable=True) == b"x"
            assert proxy.statistics().commands == {}, "nothing readable went over the wire"
            proxy.stall()
            connection = await link.connection_for("k")
            connection.lose("pulled")
            proxy.resume()
            await works(link)


async def test_encrypted_connection_of_the_users_client_is_adopted(
    certificates: Certificates,
) -> None:
    async with tls_server(certificates) as server:
        client = redis.asyncio.Redis(
            host="localhost",
            port=server.port,
            ssl=True,
            ssl_ca_certs=str(certificates.authority),
            ssl_certfile=str(certificates.client_certificate),
            ssl_keyfile=str(certificates.client_key),
        )
        async with opened_link(client) as link:
            await works(link)
        await client.aclose()


async def test_server_of_another_authority_is_refused_with_the_reason(
    certificates: Certificates, tmp_path: Path
) -> None:
    stranger = make_certificates(tmp_path)
    async with tls_server(certificates) as server:
        url = f"rediss://127.0.0.1:{server.port}?ssl_ca_certs={stranger.authority}"
        with pytest.raises(ServerUnavailable, match="CERTIFICATE_VERIFY_FAILED|certificate verify"):
            async with opened_link(url, wait_for_server=0.3):
                pass


async def test_server_that_wants_a_certificate_is_told_apart(certificates: Certificates) -> None:
    async with tls_server(certificates, "--tls-auth-clients", "yes") as server:
        async with opened_link(server.url) as link:
            await works(link)
        url = f"rediss://127.0.0.1:{server.port}?ssl_ca_certs={certificates.authority}"
        with pytest.raises(ServerUnavailable, match="certificate required|closed|reset|[Ll]ost"):
            async with opened_link(url, wait_for_server=0.3):
                pass


async def test_authority_file_that_is_missing_is_named(certificates: Certificates) -> None:
    """At once: no server would mend it."""
    async with tls_server(certificates) as server:
        url = f"rediss://127.0.0.1:{server.port}?ssl_ca_certs=/nowhere/authority.pem"
        with pytest.raises(
            InvalidTarget, match=r"ssl_ca_certs: there is no '/nowhere/authority\.pem'"
        ):
            async with opened_link(url):
                pass


async def test_plain_connection_to_an_encrypted_port_ends_with_a_reason(
    certificates: Certificates,
) -> None:
    async with tls_server(certificates) as server:
        with pytest.raises(ServerUnavailable, match="clos|reset|lost|Protocol|read"):
            async with opened_link(f"redis://127.0.0.1:{server.port}", wait_for_server=0.3):
                pass


async def test_encrypted_connection_to_a_plain_port_ends_with_a_reason(
    single_server: SingleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server waits for the rest of a command, and we for its side of the handshake."""
    monkeypatch.setattr("pulsewire._redis.opening.CONNECT_TIMEOUT", 0.1)
    with pytest.raises(ServerUnavailable, match="handshake took too long|SSL"):
        async with opened_link(f"rediss://127.0.0.1:{single_server.port}", wait_for_server=0.5):
            pass


async def test_cluster_is_encrypted_too(certificates: Certificates) -> None:
    """One node is enough to see that every connection is made as the URL says."""
    binary = redis7_binary()
    if binary is None:
        pytest.skip("this machine has no Redis 7, and the embedded server speaks no TLS")

    class Node(SingleServer):
        def arguments(self) -> list[str]:
            return [
                *super().arguments(),
                *("--cluster-enabled", "yes", "--tls-cluster", "yes"),
                *("--cluster-port", str(self.bus_port)),
            ]

    async with Node(binary, tls=certificates, bus=True) as node:
        await node.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)

        async def is_ok() -> bool:
            return b"cluster_state:ok" in await node.command("CLUSTER", "INFO")

        await wait_until(is_ok, what="the cluster serves")
        async with opened_link(node.url.replace("rediss://", "rediss+cluster://")) as link:
            await works(link)
            assert link.is_cluster


# --- handshakes


async def test_handshake_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py bounds the connection, and we the greeting; then the next attempt is made."""
    monkeypatch.setattr("pulsewire._redis.opening.CONNECT_TIMEOUT", 0.1)
    async with StubServer(lambda words, _: b"") as stub:
        with pytest.raises(ServerUnavailable, match="handshake"):
            async with opened_link(stub.url, wait_for_server=0.5):
                pass
        assert len(stub.conversations) > 1
