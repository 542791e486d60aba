"""Users that are limited as the production page says: its own lines are sent to the servers.

A line of the page is long, so it is broken with a backslash; user `shop-streams` is for streams, and so on.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from pulsewire.testing import ServerProcess

__all__ = ["CLUSTER_RIGHTS", "PASSWORD", "as_user", "limited", "rights_of"]

PAGE = Path(__file__).parents[2] / "docs" / "production.md"
PASSWORD = "password"


def rights_of(user: str) -> list[str]:
    """What stands behind `ACL SETUSER <user>` on the page, word by word."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", "")
    line = re.search(rf"^ACL SETUSER {user} (.*)$", text, re.MULTILINE)
    assert line is not None, f"the page makes no user {user}"
    return line[1].split()


def _cluster_rights() -> list[str]:
    found = re.search(r"On a cluster, add `([^`]*)`", PAGE.read_text(encoding="utf-8"))
    assert found is not None
    return found[1].split()


CLUSTER_RIGHTS = _cluster_rights()
"""What each user needs on a cluster besides."""


@asynccontextmanager
async def limited(
    servers: Iterable[ServerProcess], user: str, rules: Iterable[str]
) -> AsyncIterator[None]:
    """Have a user on these servers meanwhile."""
    servers, rules = list(servers), list(rules)
    for server in servers:
        await server.command("ACL", "SETUSER", user, "reset", *rules)
    try:
        yield
    finally:
        for server in servers:
            await server.command("ACL", "DELUSER", user)


def as_user(url: str, user: str, password: str = PASSWORD) -> str:
    """The URL with a user in it."""
    return url.replace("://", f"://{user}:{password}@", 1)
