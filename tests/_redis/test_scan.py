"""Walking through the keyspace: every key, however many pages there are. On a cluster: `test_cluster.py`."""

from __future__ import annotations

import asyncio

import pytest

from pulsewire._redis.link import Link
from pulsewire._redis.scan import PAGE, Scan, all_keys
from pulsewire.errors import PermissionDenied
from pulsewire.testing import SingleServer
from tests._redis.kit import opened_link


async def write(link: Link, *keys: str) -> None:
    """Strings that end soon."""
    await asyncio.gather(*(link.call(key, "SET", key, "x", "EX", 60) for key in keys))


async def test_every_key_that_matches_is_found_over_several_pages(
    single_server: SingleServer, namespace: str
) -> None:
    keys = {f"{namespace}:{number}" for number in range(2 * PAGE + 100)}
    async with opened_link(single_server.url) as link:
        await write(link, *keys, f"{namespace}other")
        (master,) = link.masters()
        pages = [page async for page in Scan(link, master, f"{namespace}:*")]
        assert len(pages) > 2
        assert {key for page in pages for key in page} == keys
        assert await all_keys(link, f"{namespace}:*") == keys


async def test_keys_of_one_type_are_found(single_server: SingleServer, namespace: str) -> None:
    word, table = f"{namespace}:word", f"{namespace}:table"
    async with opened_link(single_server.url) as link:
        await write(link, word)
        await link.call(table, "HSET", table, "a", "b")
        await link.call(table, "EXPIRE", table, 60)
        assert await all_keys(link, f"{namespace}:*", "hash") == {table}
        assert await all_keys(link, f"{namespace}:*", "string") == {word}
        assert await all_keys(link, f"{namespace}:*") == {word, table}


async def test_where_nothing_matches_nothing_is_found(
    single_server: SingleServer, namespace: str
) -> None:
    async with opened_link(single_server.url) as link:
        assert await all_keys(link, f"{namespace}:*") == set()
        (master,) = link.masters()
        scan = Scan(link, master, f"{namespace}:*")
        assert [key async for page in scan for key in page] == []
        assert [page async for page in scan] == [], "it does not begin anew"


async def test_key_that_is_no_text_is_found(single_server: SingleServer, namespace: str) -> None:
    """Others may have written it; nobody here needs its exact name."""
    async with opened_link(single_server.url) as link:
        key = f"{namespace}:".encode() + b"\xff"
        await link.call("", "SET", key, "x", "EX", 60)
        assert await all_keys(link, f"{namespace}:*") == {f"{namespace}:\ufffd"}


async def test_user_who_may_not_scan_is_told(single_server: SingleServer, namespace: str) -> None:
    user = namespace.replace(":", "-")
    rules = ("on", ">pw", "~*", "+@all", "-scan")
    await single_server.command("ACL", "SETUSER", user, *rules)
    try:
        async with opened_link(single_server.url.replace("://", f"://{user}:pw@")) as link:
            with pytest.raises(PermissionDenied, match="SCAN"):
                await all_keys(link, "*")
    finally:
        await single_server.command("ACL", "DELUSER", user)
