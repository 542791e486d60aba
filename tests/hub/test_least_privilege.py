"""The rights that the production page names are enough for streams, on one server and on a cluster."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pulsewire
from pulsewire.testing import ClusterGroup, SingleServer

PAGE = Path(__file__).parents[2] / "docs" / "production.md"


def recipe() -> list[str]:
    """The rules of the page, as it prints them."""
    text = PAGE.read_text(encoding="utf-8")
    streams = re.search(r"for streams: `([^`]*)`", text)
    cluster = re.search(r"On a cluster, `([^`]*)`", text)
    assert streams is not None
    assert cluster is not None
    return [*streams[1].split(), *cluster[1].split()]


async def use_streams(url: str) -> None:
    """Everything that a publisher and a consumer do."""
    async with pulsewire.connect(url, namespace="shop") as hub:
        assert await hub.ping() > 0
        orders, brief = hub.stream("orders", max_len=10), hub.stream("brief", ttl=60)
        await brief.add("seen", b"")
        ids = await orders.add_many([("paid", b"1")] * 30)
        once = await orders.add("paid", b"2", idempotency_key="2")
        assert await orders.add("paid", b"2", idempotency_key="2") == once
        sink = orders.sink("mailer", start="oldest", ack_grace=0.2, max_deliveries=1)
        async with sink as mailer, orders.reader(start="oldest") as reader:
            assert [event.id for event in await reader.read(max=31)] == [*ids, once][:31]
            taken = 0
            async for event in mailer:
                taken += 1
                if taken < 31:
                    await event.ack()  # the last one comes again and becomes a dead letter
                if taken == 31:
                    break
        assert (await orders.info()).memory_bytes is None
        assert await orders.trim() >= 0
        assert await orders.remove(once) == 1
        with pytest.raises(pulsewire.PermissionDenied, match="SCAN"):
            await hub.streams()
        assert await orders.destroy()
        assert await brief.destroy()


async def test_rights_of_the_page_suffice_on_one_server(fresh_server: SingleServer) -> None:
    """A user limited to its prefix, without administration, INFO, KEYS or CONFIG."""
    await fresh_server.command("ACL", "SETUSER", "shop", "on", ">pw", "~shop:*", *recipe())
    await use_streams(fresh_server.url.replace("://", "://shop:pw@"))


async def test_rights_of_the_page_suffice_on_a_cluster(cluster_group: ClusterGroup) -> None:
    """The same with slots."""
    nodes = list(await cluster_group.masters())
    for node in nodes:
        await node.command("ACL", "SETUSER", "shop", "on", ">pw", "~shop:*", *recipe())
    try:
        await use_streams(cluster_group.url.replace("://", "://shop:pw@"))
    finally:
        for node in nodes:
            await node.command("ACL", "DELUSER", "shop")
