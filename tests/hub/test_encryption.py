"""TLS with certificates on both sides, for every block, as a limited user; on one server and on a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from typer.testing import CliRunner

import pulsewire
from pulsewire.cli.app import app
from pulsewire.testing import (
    Certificates,
    SingleServer,
    make_certificates,
    redis7_binary,
    wait_until,
)
from tests.hub.rights import CLUSTER_RIGHTS, as_user, limited, rights_of
from tests.hub.uses import USES


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def redis7() -> Path:
    binary = redis7_binary()
    if binary is None:
        pytest.skip("this machine has no Redis 7, and the embedded server speaks no TLS")
    return binary


class ClusterOfOne(SingleServer):
    """All slots on one node: enough to see that every connection is made as the URL says."""

    def arguments(self) -> list[str]:
        return [
            *super().arguments(),
            *("--cluster-enabled", "yes", "--tls-cluster", "yes"),
            *("--cluster-port", str(self.bus_port)),
        ]


MUTUAL = ("--tls-auth-clients", "yes")


@pytest.fixture(scope="module")
async def mutual_server(
    anyio_backend: object, certificates: Certificates
) -> AsyncIterator[SingleServer]:
    """A server that takes nobody without a certificate."""
    async with SingleServer(redis7(), tls=certificates, args=MUTUAL) as server:
        yield server


@pytest.fixture(scope="module")
async def mutual_cluster(
    anyio_backend: object, certificates: Certificates
) -> AsyncIterator[SingleServer]:
    """The same as a cluster."""
    async with ClusterOfOne(redis7(), tls=certificates, args=MUTUAL, bus=True) as node:
        await node.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)

        async def is_ok() -> bool:
            return b"cluster_state:ok" in await node.command("CLUSTER", "INFO")

        await wait_until(is_ok, what="the cluster serves")
        yield node


def test_url_names_a_certificate_and_its_key(mutual_server: SingleServer) -> None:
    """What the other tests of this file connect with."""
    options = [
        option.partition("=")[0] for option in mutual_server.url.partition("?")[2].split("&")
    ]
    assert options == ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"]


@pytest.mark.parametrize("what", USES)
async def test_every_block_is_used_over_tls(mutual_server: SingleServer, what: str) -> None:
    user = f"shop-{what}"
    async with limited([mutual_server], user, rights_of(user)):
        await USES[what](as_user(mutual_server.url, user))


@pytest.mark.parametrize("what", USES)
async def test_every_block_is_used_over_tls_on_a_cluster(
    mutual_cluster: SingleServer, what: str
) -> None:
    """Also the connections to nodes that the slot map names, and those of leases and subscriptions."""
    user = f"shop-{what}"
    url = as_user(mutual_cluster.url, user).replace("rediss://", "rediss+cluster://")
    async with limited([mutual_cluster], user, [*rights_of(user), *CLUSTER_RIGHTS]):
        await USES[what](url)


async def test_client_of_ones_own_brings_its_certificate(
    mutual_server: SingleServer, certificates: Certificates
) -> None:
    """For every connection that is opened beside it."""
    client = redis.asyncio.Redis(
        host="127.0.0.1",
        port=mutual_server.port,
        ssl=True,
        ssl_ca_certs=str(certificates.authority),
        ssl_certfile=str(certificates.client_certificate),
        ssl_keyfile=str(certificates.client_key),
    )
    async with pulsewire.connect(client, namespace="own") as hub, hub.map("flags") as flags:
        await flags.set_and_wait("beta", "on")
        await flags.destroy()
        assert await flags.forget() is False  # this replica listens
    await client.aclose()


async def test_nobody_comes_in_without_a_certificate(
    mutual_server: SingleServer, certificates: Certificates
) -> None:
    url = f"rediss://127.0.0.1:{mutual_server.port}?ssl_ca_certs={certificates.authority}"
    with pytest.raises(
        pulsewire.ServerUnavailable, match="certificate required|closed|reset|[Ll]ost"
    ):
        async with pulsewire.connect(url, wait_for_server=0.3):
            pass


def test_command_line_takes_the_same_url(mutual_server: SingleServer) -> None:
    result = CliRunner().invoke(app, ["ping", "--url", mutual_server.url])
    assert result.exit_code == 0, result.output
    assert "rediss://" in result.output


async def test_certificates_are_read_anew_for_each_connection(
    mutual_server: SingleServer, certificates: Certificates, tmp_path: Path
) -> None:
    """So that renewed ones are used without a restart: seen with wrong ones, and the right ones again."""
    shown = {name: tmp_path / name for name in ("client.pem", "client.key")}
    right = certificates.client_certificate, certificates.client_key
    stranger = make_certificates(tmp_path)
    wrong = stranger.client_certificate.read_bytes(), stranger.client_key.read_bytes()
    url = (
        f"rediss://127.0.0.1:{mutual_server.port}?ssl_ca_certs={certificates.authority}"
        f"&ssl_certfile={shown['client.pem']}&ssl_keyfile={shown['client.key']}"
    )

    async def show(contents: tuple[bytes, bytes]) -> None:
        for path, content in zip(shown.values(), contents, strict=True):
            path.write_bytes(content)
        await mutual_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    await show((right[0].read_bytes(), right[1].read_bytes()))
    async with pulsewire.connect(url, wait_for_server=3.0) as hub:
        await hub.ping()
        await show(wrong)
        with pytest.raises(pulsewire.ServerUnavailable, match="(?i)unknown.ca|clos|reset|lost"):
            await hub.ping()
        await show((right[0].read_bytes(), right[1].read_bytes()))
        await hub.ping()
