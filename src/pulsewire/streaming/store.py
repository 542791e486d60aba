"""Commands and scripts of streams, typed: one state change per call. Milliseconds exist only here.

Nothing here retries, decides or waits for events; see `settle.py` for writes whose outcome is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pulsewire._redis.link import Link
from pulsewire._redis.pipeline import Argument
from pulsewire._redis.scripts import Script, ms
from pulsewire.errors import PermissionDenied, ServerError
from pulsewire.streaming.keys import StreamKeys
from pulsewire.streaming.passage import Tally
from pulsewire.streaming.wire import ConsumerInfo, GroupInfo, RawFields, StreamInfo

RawEntry = tuple[str, RawFields]
REFRESH_BATCH = 500
ACK_BATCH = 1000


def _script(name: str) -> Script:
    return Script.load("pulsewire.streaming", name)


ADD, TRIM, CLAIM, REFRESH = _script("add"), _script("trim"), _script("claim"), _script("refresh")
RELEASE, LEAVE, REBUILD, SWEEP = (
    _script("release"),
    _script("leave"),
    _script("rebuild"),
    _script("sweep"),
)


@dataclass(frozen=True, slots=True)
class AddRules:
    """What a stream's options mean for each event added. `ttl` and `sliding_ttl` in seconds, 0 for none."""

    max_len: int
    hard_limit: int
    retain: str
    ttl: float
    sliding_ttl: float

    def arguments(self) -> tuple[Argument, ...]:
        """For `add.lua`."""
        return (self.max_len, self.hard_limit, self.retain, ms(self.ttl), ms(self.sliding_ttl))


@dataclass(frozen=True, slots=True)
class Added:
    """What `add.lua` did: `outcome` is added, repeated, missing or full."""

    outcome: str
    event_id: str
    length: int
    held_by: str = ""


@dataclass(frozen=True, slots=True)
class ClaimedEntry:
    """An entry taken over from `owner`."""

    event_id: str
    deliveries: int
    owner: str
    fields: RawFields


class Suspicion(NamedTuple):
    """Events that were delivered at least `least` times, and fewer than `below`, are suspects."""

    least: int = 0
    below: int = 0

    def falls_on(self, deliveries: int) -> bool:
        """Whether an event is a suspect."""
        return self.least <= deliveries < self.below


@dataclass(frozen=True, slots=True)
class Claimed:
    """What `claim.lua` brought. `gone`: pending events that are no longer in the stream. `position`: as noted down."""

    entries: list[ClaimedEntry]
    gone: int
    position: str


class StreamStore:
    """One stream in Redis."""

    __slots__ = ("keys", "link", "main")

    def __init__(self, link: Link, keys: StreamKeys) -> None:
        self.link = link
        self.keys = keys
        self.main = keys.main

    # --- writing

    async def add_by_rules(
        self,
        rules: AddRules,
        fields: Sequence[Any],
        *,
        only_if_exists: bool,
        once: str | None,
        window: float,
    ) -> Added:
        """Make room, check the limit, add, set the TTL, all in one step. Repeated safely when `once` is given."""
        keys = [self.main] if once is None else [self.main, self.keys.once(once)]
        arguments = (*rules.arguments(), "1" if only_if_exists else "", ms(window), *fields)
        outcome, text, length = await self.link.run(
            ADD, keys, arguments, repeatable=once is not None
        )
        word = outcome.decode()
        if word == "full":
            return Added(word, "", length, text.decode(errors="replace"))
        return Added(word, text.decode(), length)

    async def trim(self, max_len: int, retain: str) -> int:
        """Trim now; the number of events removed."""
        _, removed, _length = await self.link.run(
            TRIM, [self.main], (max_len, retain), repeatable=True
        )
        return int(removed)

    async def remove(self, ids: Sequence[str]) -> int:
        """Delete entries; how many there were."""
        return int(await self.link.call(self.main, "XDEL", self.main, *ids, repeatable=True))

    async def destroy(self) -> bool:
        """Delete the stream and what belongs to it."""
        await self.link.call(self.main, "UNLINK", self.keys.positions, repeatable=True)
        return bool(await self.link.call(self.main, "UNLINK", self.main, repeatable=True))

    # --- looking

    async def length(self) -> int:
        """Number of events."""
        return int(await self.link.call(self.main, "XLEN", self.main, repeatable=True))

    async def last_id(self) -> str:
        """The id of the newest entry, `0-0` where there is none."""
        reply = await self.link.call(
            self.main, "XREVRANGE", self.main, "+", "-", "COUNT", 1, repeatable=True
        )
        return str(reply[0][0].decode()) if reply else "0-0"

    async def tally(self) -> Tally | None:
        """How many entries there were and are; None where the server does not say, or must not."""
        try:
            facts = await self.link.call(self.main, "XINFO", "STREAM", self.main, repeatable=True)
        except ServerError as error:
            if "no such key" in error.reply:
                return Tally(0, 0, "0-0")
            raise
        except PermissionDenied:
            return None
        if b"entries-added" not in facts:  # before Redis 7.0
            return None
        added, length = facts[b"entries-added"], facts[b"length"]
        return Tally(added, length, facts[b"last-generated-id"].decode())

    async def range(self, start: str, end: str, count: int) -> list[RawEntry]:
        """Entries between two ids of XRANGE."""
        reply = await self.link.call(
            self.main, "XRANGE", self.main, start, end, "COUNT", count, repeatable=True
        )
        return [(entry_id.decode(), fields) for entry_id, fields in reply]

    async def info(self) -> StreamInfo:
        """Everything the server says of the stream and its groups. What vanishes meanwhile is not there."""
        try:
            return await self._info()
        except ServerError as error:
            if "no such key" in error.reply:
                return StreamInfo(self.keys.name, self.main, exists=False)
            raise

    async def _info(self) -> StreamInfo:
        name, call = self.keys.name, self.link.call
        stream = await call(self.main, "XINFO", "STREAM", self.main, repeatable=True)
        groups = await call(self.main, "XINFO", "GROUPS", self.main, repeatable=True)
        first, last = stream.get(b"first-entry"), stream.get(b"last-entry")
        return StreamInfo(
            name,
            self.main,
            exists=True,
            length=stream[b"length"],
            first_id=first[0].decode() if first else "",
            last_id=last[0].decode() if last else "",
            last_generated_id=stream[b"last-generated-id"].decode(),
            memory_bytes=await self._memory(),
            groups=tuple([i for group in groups if (i := await self._group_info(group))]),
        )

    async def _memory(self) -> int | None:
        try:
            used = await self.link.call(self.main, "MEMORY", "USAGE", self.main, repeatable=True)
        except (ServerError, PermissionDenied):
            return None
        return None if used is None else int(used)

    async def _group_info(self, group: dict[bytes, Any]) -> GroupInfo | None:
        name = group[b"name"]
        try:
            consumers = await self.link.call(
                self.main, "XINFO", "CONSUMERS", self.main, name, repeatable=True
            )
        except ServerError as error:
            if error.code == "NOGROUP":
                return None
            raise
        return GroupInfo(
            name.decode(errors="replace"),
            tuple(
                ConsumerInfo(
                    item[b"name"].decode(errors="replace"), item[b"pending"], item[b"idle"] / 1000
                )
                for item in consumers
            ),
            group[b"pending"],
            group[b"last-delivered-id"].decode(),
            group.get(b"lag"),
        )

    # --- groups

    async def ensure_group(self, group: str, position: str) -> bool:
        """Create the group, and the stream, unless they are there. True when the group is new."""
        try:
            await self.link.call(
                self.main,
                "XGROUP",
                "CREATE",
                self.main,
                group,
                position,
                "MKSTREAM",
                repeatable=True,
            )
        except ServerError as error:
            if error.code != "BUSYGROUP":
                raise
            return False
        return True

    async def expire(self, rules: AddRules) -> None:
        """Apply the TTL of the options to a stream that a sink created."""
        if rules.sliding_ttl:
            await self.link.call(
                self.main, "PEXPIRE", self.main, ms(rules.sliding_ttl), repeatable=True
            )
        elif (
            rules.ttl and await self.link.call(self.main, "PTTL", self.main, repeatable=True) == -1
        ):
            await self.link.call(self.main, "PEXPIRE", self.main, ms(rules.ttl), repeatable=True)

    async def add_consumer(self, group: str, consumer: str) -> None:
        """Make a consumer visible before it reads for the first time."""
        await self.link.call(
            self.main, "XGROUP", "CREATECONSUMER", self.main, group, consumer, repeatable=True
        )

    async def rebuild_group(self, group: str) -> str | None:
        """Create a vanished group again; its position, or None when it was there already."""
        outcome, position = await self.link.run(
            REBUILD, [self.main, self.keys.positions], (group,), repeatable=True
        )
        return position.decode() if outcome == b"rebuilt" else None

    async def ack(self, group: str, ids: Sequence[str]) -> int:
        """Acknowledge at most `ACK_BATCH` events; how many were pending."""
        return int(await self.link.call(self.main, "XACK", self.main, group, *ids, repeatable=True))

    async def claim(
        self,
        group: str,
        consumer: str,
        *,
        min_idle: float,
        count: int,
        noted: str,
        suspicion: Suspicion | None = None,
        suspects: int = 0,
    ) -> Claimed:
        """Take over events idle for `min_idle` seconds, at most `count`, and note down how far the group has come.

        Of those that are suspects, at most `suspects`. Claiming twice does no harm:
        what a lost reply brought is claimed again once it is idle.
        """
        rules = (*(suspicion or Suspicion()), suspects)
        arguments = (group, consumer, ms(min_idle), count, noted, *rules)
        _, entries, gone, position = await self.link.run(
            CLAIM, [self.main, self.keys.positions], arguments, repeatable=True
        )
        claimed = [
            ClaimedEntry(event_id.decode(), deliveries, owner.decode(errors="replace"), fields)
            for event_id, deliveries, owner, fields in entries
        ]
        return Claimed(claimed, int(gone), position.decode())

    async def refresh(self, group: str, consumer: str, ids: Sequence[str]) -> list[str]:
        """Reset the idle time of at most `REFRESH_BATCH` events; returns those that belong to others now."""
        _, lost = await self.link.run(
            REFRESH, [self.main], (group, consumer, *ids), repeatable=True
        )
        return [event_id.decode() for event_id in lost]

    async def release(self, group: str, consumer: str, ids: Sequence[str], *, idle: float) -> int:
        """Give at most `REFRESH_BATCH` events that were not begun to the others at once; how many were given."""
        arguments: tuple[Argument, ...] = (group, consumer, ms(idle), *ids)
        _, released = await self.link.run(RELEASE, [self.main], arguments, repeatable=True)
        return int(released)

    async def leave(self, group: str, consumer: str) -> bool:
        """Delete the consumer if nothing is pending; True when it is deleted."""
        outcome, _ = await self.link.run(LEAVE, [self.main], (group, consumer), repeatable=True)
        return bool(outcome == b"left")

    async def sweep(self, group: str, consumer: str, *, min_idle: float) -> int:
        """Delete silent consumers that have nothing pending; how many."""
        arguments = (group, consumer, ms(min_idle))
        _, swept = await self.link.run(SWEEP, [self.main], arguments, repeatable=True)
        return int(swept)


def entries_of(reply: Any) -> list[tuple[str, list[tuple[bytes, RawFields]]]]:  # noqa: ANN401  # a reply as it came
    """The entries of an XREAD or XREADGROUP reply, by key. Deleted entries have no fields (None)."""
    return [] if not reply else [(key.decode(), entries) for key, entries in reply.items()]
