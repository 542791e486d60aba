"""What the searches for orphans share: how they ask, and how what they find becomes a finding."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from pulsewire._redis.link import Link
from pulsewire._redis.namespace import Namespace
from pulsewire._redis.pipeline import Argument
from pulsewire._redis.scripts import Script, text
from pulsewire.doctor.census import Progress
from pulsewire.doctor.findings import Finding, Level
from pulsewire.errors import ServerError

PAGE = 200
"""Entries that one script looks at."""
LIST_WORK = 100_000
"""Elements of lists that one script may walk over while it looks for its entries: a few milliseconds."""
TOGETHER = 200
"""Questions that are on their way at a time."""
SHOWN = 5
REPAIR = "`pulsewire doctor --repair` mends it."
ENTRIES = Script.load("pulsewire.doctor", "entries")
TTL = Script.load("pulsewire.doctor", "ttl")


@dataclass(frozen=True, slots=True)
class Search:
    """How to look, and whether to mend.

    Attributes:
        repair: mend what is safe, each thing in the script that finds again that it is wrong.
    """

    link: Link
    space: Namespace
    repair: bool
    progress: Progress

    @property
    def mode(self) -> str:
        """What scripts are told."""
        return "mend" if self.repair else "look"

    def key(self, *parts: str) -> str:
        """A key of the namespace."""
        return self.space.key(*parts)

    async def entries_without(self, place: str, kind: str, prefix: str, names: str) -> list[str]:
        """Entries of a list or zset that name a hash which is not there; `names` is a field that each hash has."""
        found: list[str] = []
        start = 0
        while True:
            args: list[Argument] = [self.mode, kind, prefix, names, start, PAGE]
            looked_at, *lost = await self.link.run(ENTRIES, [place], args, repeatable=True)
            found += map(text, lost)
            if looked_at < PAGE:
                return found
            start += PAGE - (len(lost) if self.repair else 0)

    async def page(self, place: str, kind: str, start: int) -> list[str]:
        """Some entries of a list or zset."""
        command = "LRANGE" if kind == "list" else "ZRANGE"
        reply = await self.link.call(
            place, command, place, start, start + PAGE - 1, repeatable=True
        )
        return [text(entry) for entry in reply]

    async def without_ttl(self, keys: Sequence[str], seconds: float) -> list[str]:
        """Those of the keys that have no time to live; they are given one."""
        args: list[Argument] = [self.mode, int(seconds * 1000)]

        async def lasts(key: str) -> bool:
            return bool(await self.link.run(TTL, [key], args, repeatable=True))

        return await self.those(keys, lasts)

    @staticmethod
    async def those(names: Sequence[str], ask: Callable[[str], Awaitable[bool]]) -> list[str]:
        """Those for which the answer is yes. Some are asked about together."""
        found: list[str] = []
        for some in paged(names, TOGETHER):
            answers = await asyncio.gather(*map(ask, some))
            found += [name for name, answer in zip(some, answers, strict=True) if answer]
        return found


def finding(
    search: Search,
    check: str,
    where: str,
    found: Sequence[str],
    what: str,
    *,
    red: bool,
    do: str = REPAIR,
) -> Finding:
    """The finding about some orphans of one kind."""
    level = Level.RED if red else Level.WARN
    examples = tuple(islice(found, SHOWN))
    if search.repair:
        return Finding(
            Level.OK, check, where, f"mended: {what}", "", len(found), examples, len(found)
        )
    return Finding(level, check, where, what, do, len(found), examples)


def foreign(where: str, error: ServerError) -> Finding:
    """A key holds what it should not."""
    what = f"could not be looked at: {error}"
    do = "A key of it holds something else: find out who wrote that, and rename or delete it."
    return Finding(Level.WARN, "keys", where, what, do)


def pace_for(size: int) -> int:
    """How many entries to look for at a time in a list of so many."""
    return max(1, min(PAGE, LIST_WORK // max(size, 1)))


def paged(entries: Sequence[str], size: int) -> list[Sequence[str]]:
    """Pages of so many."""
    return [entries[start : start + size] for start in range(0, len(entries), size)]
