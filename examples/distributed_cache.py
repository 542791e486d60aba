"""A distributed cache: what one service has loaded from the slow database, all services have in memory.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

from functools import partial

import anyio

import pulsewire


class Database:
    """Stands for something slow."""

    def __init__(self) -> None:
        self.names = {"user:7": "Ada"}
        self.queries = 0

    async def find(self, key: str) -> str:
        """Query it, and count the queries."""
        self.queries += 1
        await anyio.sleep(0.05)
        return self.names[key]


async def main() -> None:
    """Two services share a cache; usually they are processes of their own."""
    database = Database()
    async with (
        pulsewire.connect() as here,
        pulsewire.connect() as there,
        here.map("users-cache", sliding_ttl=3600) as cache,  # an hour without a change empties it
        there.map("users-cache", sliding_ttl=3600) as other_cache,
    ):
        load = partial(database.find, "user:7")
        seen_there = other_cache.changes()

        # A hundred requests at once are one query: the others wait for it.
        async with anyio.create_task_group() as requests:
            for _ in range(100):
                requests.start_soon(cache.get_or_load, "user:7", load)
        print(f"100 requests here: {database.queries} query")

        await anext(seen_there)  # a moment later the value is there, too
        name = await other_cache.get_or_load("user:7", load)
        print(f"{name} there: still {database.queries} query")

        # Invalidating is deleting, after the database has changed. A load that began before may still store what it
        # has read; the time to live bounds how long that is believed.
        database.names["user:7"] = "Ada Lovelace"
        await cache.delete("user:7")
        await anext(seen_there)
        name = await other_cache.get_or_load("user:7", load)
        print(f"{name} there: {database.queries} queries")
        await anext(seen_there)  # stored behind the answer, for everyone


if __name__ == "__main__":
    anyio.run(main)
