"""The commands and scripts of streams against a real server, each beside a model of what it should do."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

import pulsewire
from pulsewire import ServerError
from pulsewire.streaming.store import AddRules, StreamStore, entries_of
from pulsewire.testing import FaultProxy, SingleServer, Topology
from tests.streaming.facts import MakeStream

TOPOLOGIES = ["standalone", "redis7"]

BIG = 2**64 - 1
NODE = 100  # entries in a node of the server's tree, by default; approximate trimming drops whole nodes
UNLIMITED = AddRules(max_len=0, hard_limit=0, retain="unacked", ttl=0.0, sliding_ttl=0.0)


@pytest.fixture
def stream(make_stream: MakeStream) -> pulsewire.Stream[bytes]:
    return make_stream()


@pytest.fixture
def store(stream: pulsewire.Stream[bytes]) -> StreamStore:
    return stream.store


class Server:
    """The stream's server, asked directly."""

    def __init__(self, server: SingleServer, key: str) -> None:
        self.server = server
        self.key = key

    async def fill(self, count: int, *, ids: list[str] | None = None) -> list[str]:
        """Entries in the way that other programs write them."""
        wanted = ids or ["*"] * count
        replies = await self.server.pipeline(
            *(
                ("XADD", self.key, entry_id, "n", "e", "p", str(number))
                for number, entry_id in enumerate(wanted)
            )
        )
        return [reply.decode() for reply in replies]

    async def ids(self) -> list[str]:
        entries = await self.server.command("XRANGE", self.key, "-", "+")
        return [entry_id.decode() for entry_id, _ in entries]

    async def group(self, name: str, position: str = "0") -> None:
        await self.server.command("XGROUP", "CREATE", self.key, name, position, "MKSTREAM")

    async def read(self, group: str, consumer: str, count: int) -> list[str]:
        reply = await self.server.command(
            "XREADGROUP", "GROUP", group, consumer, "COUNT", count, "STREAMS", self.key, ">"
        )
        return [] if not reply else [entry_id.decode() for entry_id, _ in reply[0][1]]

    async def ack(self, group: str, *ids: str) -> None:
        for start in range(0, len(ids), 1000):
            await self.server.command("XACK", self.key, group, *ids[start : start + 1000])

    async def pending(self, group: str) -> dict[str, tuple[str, int, int]]:
        """Id -> consumer, idle milliseconds, deliveries."""
        reply = await self.server.command("XPENDING", self.key, group, "-", "+", 100_000)
        return {
            entry_id.decode(): (who.decode(), idle, times) for entry_id, who, idle, times in reply
        }

    async def age(self, group: str, milliseconds: int, *ids: str) -> None:
        """Let pending entries look as if nobody had touched them for so long."""
        for entry_id, (who, _, times) in (await self.pending(group)).items():
            if entry_id in ids:
                await self.server.command(
                    *("XCLAIM", self.key, group, who, 0, entry_id),
                    *("IDLE", milliseconds, "RETRYCOUNT", times, "JUSTID"),
                )

    async def consumers(self, group: str) -> list[str]:
        reply = await self.server.command("XINFO", "CONSUMERS", self.key, group)
        return sorted(
            dict(zip(item[::2], item[1::2], strict=True))[b"name"].decode() for item in reply
        )


@pytest.fixture
def server(topology: SingleServer, store: StreamStore) -> Server:
    return Server(topology, store.main)


async def add(store: StreamStore, rules: AddRules = UNLIMITED, **options: Any) -> Any:
    options = {"only_if_exists": False, "once": None, "window": 60.0, **options}
    return await store.add_by_rules(rules, ["n", "e", "p", b"x"], **options)


# --- retention


async def test_trimming_without_groups_keeps_about_max_len(
    store: StreamStore, server: Server
) -> None:
    """The newest stay; whole nodes go."""
    ids = await server.fill(1000)
    removed = await store.trim(300, "unacked")
    left = await server.ids()
    assert removed == 1000 - len(left)
    assert 300 <= len(left) < 300 + NODE
    assert left == ids[-len(left) :]


async def test_trimming_with_none_ignores_groups(store: StreamStore, server: Server) -> None:
    """As Go Pulse does: a sink that is behind loses events."""
    await server.fill(1000)
    await server.group("slow")
    await server.read("slow", "c", 10)
    await store.trim(100, "none")
    assert 100 <= len(await server.ids()) < 100 + NODE


async def test_undelivered_events_are_not_trimmed(store: StreamStore, server: Server) -> None:
    await server.group("slow")
    ids = await server.fill(1000)
    assert await store.trim(10, "unacked") == 0
    assert await server.ids() == ids


async def test_everything_that_all_have_acknowledged_may_go(
    store: StreamStore, server: Server
) -> None:
    ids = await server.fill(1000)
    for group in ("one", "other"):
        await server.group(group)
        await server.read(group, "c", 1000)
        await server.ack(group, *ids)
    await store.trim(10, "unacked")
    left = await server.ids()
    assert len(left) < 10 + 2 * NODE
    assert left == ids[-len(left) :]


async def test_one_pending_event_holds_everything_after_it(
    store: StreamStore, server: Server
) -> None:
    """The events before it may go."""
    ids = await server.fill(1000)
    await server.group("g")
    await server.read("g", "c", 1000)
    await server.ack("g", *ids[:437], *ids[438:])
    await store.trim(10, "unacked")
    left = await server.ids()
    assert left == ids[-len(left) :]
    assert 437 - NODE < 1000 - len(left) <= 437


async def test_slowest_group_decides(store: StreamStore, server: Server) -> None:
    ids = await server.fill(1000)
    for group, read in (("fast", 1000), ("slow", 250), ("middle", 600)):
        await server.group(group)
        await server.ack(group, *await server.read(group, "c", read))
    await store.trim(10, "unacked")
    left = await server.ids()
    assert left == ids[-len(left) :]
    assert 250 - NODE <= 1000 - len(left) <= 250


async def test_group_without_consumers_holds_as_well(store: StreamStore, server: Server) -> None:
    """Nobody is there at the moment; what it needs stays."""
    ids = await server.fill(500)
    await server.group("nobody", ids[150])
    await store.trim(10, "unacked")
    left = await server.ids()
    assert 0 < 500 - len(left) <= 150
    assert ids[151] in left


async def test_one_call_removes_a_thousand_at_most(store: StreamStore, server: Server) -> None:
    """So that no call holds the server up for long; the next ones go on."""
    await server.fill(5000)
    await server.group("g", "$")
    removed = [await store.trim(100, "unacked") for _ in range(6)]
    assert removed[0] == 1000
    assert max(removed) == 1000
    assert len(await server.ids()) < 100 + 2 * NODE


async def test_history_within_max_len_is_kept(store: StreamStore, server: Server) -> None:
    """Also when everybody has acknowledged all of it."""
    ids = await server.fill(500)
    await server.group("g", "$")
    assert await store.trim(500, "unacked") == 0
    await store.trim(450, "unacked")
    assert len(await server.ids()) >= 450
    assert ids[-1] in await server.ids()


async def test_trimming_a_stream_that_is_not_there_does_nothing(
    store: StreamStore, server: Server
) -> None:
    assert await store.trim(10, "unacked") == 0
    assert await server.server.command("EXISTS", server.key) == 0


@pytest.mark.parametrize(
    "ids",
    [
        [f"7-{number}" for number in range(9_800, 10_200)],
        [f"7-{BIG - 399 + number}" for number in range(400)],
        [f"7-{10**15 - 200 + number}" for number in range(400)],
        [f"7-{2**53 - 200 + number}" for number in range(400)],
        [f"{99_900 + number}-0" for number in range(400)],
        [
            *(f"9-{BIG - 199 + number}" for number in range(200)),
            *(f"10-{number}" for number in range(200)),
        ],
        [f"{2**53 - 200 + number}-0" for number in range(400)],
    ],
    ids=[
        "9999 to 10000",
        "the last ids",
        "16 digits",
        "beyond 2^53",
        "99999 to 100000",
        "next millisecond",
        "huge times",
    ],
)
async def test_ids_of_every_length_are_compared_as_numbers(
    ids: list[str], store: StreamStore, server: Server
) -> None:
    """Two groups, one at a third and one at two thirds: the one that is behind decides, however long its id."""
    await server.fill(0, ids=ids)
    for group, position in (("ahead", ids[270]), ("behind", ids[150]), ("ahead too", ids[271])):
        await server.group(group, position)
    await store.trim(1, "unacked")
    left = await server.ids()
    assert ids[151] in left
    assert len(left) == 300  # one whole node went, the next one holds what is needed


class History:
    """A random life of a stream with groups, beside a model of what each group still needs."""

    def __init__(self, server: Server, store: StreamStore, seed: int) -> None:
        self.server = server
        self.store = store
        self.random = random.Random(seed)
        self.everything: list[str] = []
        self.delivered: dict[str, int] = {}
        self.unacked: dict[str, set[str]] = {}

    async def fill(self) -> None:
        self.everything += await self.server.fill(self.random.randint(1, 150))

    async def add_group(self) -> None:
        if len(self.delivered) == 3:
            return
        name, at = f"g{len(self.delivered)}", self.random.randint(0, len(self.everything))
        if at < len(self.everything) and self.everything[at] not in await self.server.ids():
            at = len(self.everything)  # what is gone already cannot be needed
        await self.server.group(name, self.everything[at - 1] if at else "0")
        self.delivered[name], self.unacked[name] = at, set()

    async def read(self) -> None:
        for name in self.some_group():
            count = self.random.randint(1, 200)
            got = await self.server.read(name, self.random.choice("ab"), count)
            start = self.delivered[name]
            assert got == self.everything[start : start + len(got)]
            self.delivered[name] += len(got)
            self.unacked[name].update(got)

    async def ack(self) -> None:
        for name in self.some_group():
            unacked = sorted(self.unacked[name])
            acked = self.random.sample(unacked, self.random.randint(0, len(unacked)))
            if acked:
                await self.server.ack(name, *acked)
                self.unacked[name].difference_update(acked)

    async def trim(self) -> None:
        max_len = self.random.choice([1, 50, 300])
        before = len(await self.server.ids())
        await self.store.trim(max_len, "unacked")
        left = set(await self.server.ids())
        assert len(left) >= min(before, max_len)
        for name, delivered in self.delivered.items():
            assert self.unacked[name] <= left
            assert set(self.everything[delivered:]) <= left

    def some_group(self) -> list[str]:
        return self.random.sample(sorted(self.delivered), min(1, len(self.delivered)))

    async def work_everything_off(self) -> None:
        for name in self.delivered:
            while got := await self.server.read(name, "a", 1000):
                self.unacked[name].update(got)
            await self.server.ack(name, *self.unacked[name])


@pytest.mark.parametrize("seed", range(6))
async def test_random_histories_never_lose_what_a_group_needs(
    seed: int, store: StreamStore, server: Server
) -> None:
    """Whatever is added, read, acknowledged and trimmed: nothing pending or undelivered ever goes."""
    life = History(server, store, seed)
    moves = [life.fill, life.fill, life.add_group, *[life.read] * 2, *[life.ack] * 2, life.trim]
    for _ in range(60):
        await life.random.choice(moves)()
    await life.work_everything_off()
    for _ in range(10):
        await store.trim(50, "unacked")
    assert len(await server.ids()) < 50 + 2 * NODE


# --- adding by the rules


async def test_add_says_its_id_and_the_length(store: StreamStore, server: Server) -> None:
    first, second = await add(store), await add(store)
    assert (first.outcome, first.length) == ("added", 1)
    assert (second.outcome, second.length) == ("added", 2)
    assert await server.ids() == [first.event_id, second.event_id]


async def test_add_to_a_stream_that_must_exist(store: StreamStore, server: Server) -> None:
    assert (await add(store, only_if_exists=True)).outcome == "missing"
    assert await server.server.command("EXISTS", server.key) == 0
    await server.group("g")  # an empty stream is a stream
    assert (await add(store, only_if_exists=True)).outcome == "added"


async def test_add_at_the_hard_limit_names_who_holds(store: StreamStore, server: Server) -> None:
    """Nothing is written; what a group has acknowledged makes room again."""
    rules = replace(UNLIMITED, max_len=10, hard_limit=50)
    for group in ("quick", "slow"):
        await server.group(group)
    ids = await server.fill(50)
    await server.ack("quick", *await server.read("quick", "c", 50))
    await server.ack("slow", *await server.read("slow", "c", 20))
    refused = await add(store, replace(rules, hard_limit=30))
    assert (refused.outcome, refused.held_by, refused.event_id) == ("full", "slow", "")
    assert len(await server.ids()) == refused.length
    assert set(ids[20:]) <= set(await server.ids())
    await server.ack("slow", *await server.read("slow", "c", 30))
    assert (await add(store, rules)).outcome == "added"


@pytest.mark.parametrize(
    ("max_len", "hard_limit"), [(1, 2), (10, 10), (100, 130), (1000, 1000), (150, 250)]
)
async def test_hard_limit_holds_back_nobody_who_has_room_to_make(
    max_len: int, hard_limit: int, store: StreamStore, server: Server
) -> None:
    """However near the limits are: without a sink that needs them, old events make room, and history stays."""
    rules = replace(UNLIMITED, max_len=max_len, hard_limit=hard_limit)
    for number in range(2):
        if number:
            await server.group("g", "$")
        for _ in range(2 * hard_limit if hard_limit < 500 else hard_limit + 5):
            added = await add(store, rules)
            assert added.outcome == "added"
            await server.ack("g", *await server.read("g", "c", 1)) if number else None
            assert added.length <= hard_limit
    assert len(await server.ids()) >= min(max_len, hard_limit - 1)


async def test_limit_near_max_len_still_protects_what_is_needed(
    store: StreamStore, server: Server
) -> None:
    rules = replace(UNLIMITED, max_len=10, hard_limit=10)
    await server.group("g")
    ids = [(await add(store, rules)).event_id for _ in range(10)]
    refused = await add(store, rules)
    assert (refused.outcome, refused.held_by) == ("full", "g")
    await server.ack("g", *await server.read("g", "c", 3))
    assert (await add(store, rules)).outcome == "added"
    assert set(ids[3:]) <= set(await server.ids())


async def test_limit_without_trimming_is_a_plain_limit(store: StreamStore, server: Server) -> None:
    """max_len 0 never trims, so only removing makes room."""
    rules = replace(UNLIMITED, hard_limit=3)
    ids = [(await add(store, rules)).event_id for _ in range(3)]
    assert (await add(store, rules)).outcome == "full"
    await store.remove(ids[:1])
    assert (await add(store, rules)).outcome == "added"


async def test_key_is_added_once(store: StreamStore, server: Server) -> None:
    first = await add(store, once="order-7")
    again = await add(store, once="order-7")
    other = await add(store, once="order-8")
    assert (again.outcome, again.event_id, again.length) == ("repeated", first.event_id, 1)
    assert other.outcome == "added"
    remembered = await server.server.command("PTTL", store.keys.once("order-7"))
    assert 59_000 < remembered <= 60_000


async def test_refused_add_leaves_its_key_free(store: StreamStore, server: Server) -> None:
    rules = replace(UNLIMITED, hard_limit=1)
    await add(store, rules)
    assert (await add(store, rules, once="k")).outcome == "full"
    assert (await add(store, rules, once="k", only_if_exists=True)).outcome == "full"
    assert await server.server.command("EXISTS", store.keys.once("k")) == 0


async def test_ttl_counts_from_the_creation(store: StreamStore, server: Server) -> None:
    rules = replace(UNLIMITED, ttl=100.0)
    await add(store, rules)
    await server.server.command("PEXPIRE", server.key, 50_000)
    await add(store, rules)
    assert await server.server.command("PTTL", server.key) <= 50_000


async def test_sliding_ttl_counts_from_the_last_add(store: StreamStore, server: Server) -> None:
    rules = replace(UNLIMITED, sliding_ttl=100.0)
    await add(store, rules)
    await server.server.command("PEXPIRE", server.key, 50_000)
    await add(store, rules)
    assert 99_000 < await server.server.command("PTTL", server.key) <= 100_000


# --- claiming


async def test_claim_takes_what_has_been_idle_and_counts_it(
    store: StreamStore, server: Server
) -> None:
    """The oldest first, at most so many, with their owner before and the number of deliveries."""
    ids = await server.fill(5)
    await server.group("g")
    await server.read("g", "dead", 4)
    await server.age("g", 10_000, *ids[:3])
    claimed = await store.claim("g", "me", min_idle=5.0, count=2, noted="")
    assert [(entry.event_id, entry.owner, entry.deliveries) for entry in claimed.entries] == [
        (ids[0], "dead", 2),
        (ids[1], "dead", 2),
    ]
    assert claimed.entries[1].fields == [b"n", b"e", b"p", b"1"]
    assert claimed.gone == 0
    pending = await server.pending("g")
    assert [who for who, _, _ in pending.values()] == ["me", "me", "dead", "dead"]
    assert pending[ids[0]][1] < 5000
    again = await store.claim("g", "other", min_idle=5.0, count=10, noted="")
    assert [entry.event_id for entry in again.entries] == [ids[2]]


async def test_claim_of_nothing_changes_nothing(store: StreamStore, server: Server) -> None:
    ids = await server.fill(2)
    await server.group("g")
    await server.read("g", "busy", 2)
    await server.age("g", 100_000, *ids)
    claimed = await store.claim("g", "me", min_idle=5.0, count=0, noted="")
    assert claimed.entries == []
    assert [who for who, _, _ in (await server.pending("g")).values()] == ["busy", "busy"]


async def test_pending_events_that_are_gone_are_acknowledged_and_counted(
    store: StreamStore, server: Server
) -> None:
    """Nobody can ever get them."""
    ids = await server.fill(4)
    await server.group("g")
    await server.read("g", "dead", 4)
    await server.age("g", 10_000, *ids)
    await store.remove(ids[1:3])
    claimed = await store.claim("g", "me", min_idle=5.0, count=10, noted="")
    assert [entry.event_id for entry in claimed.entries] == [ids[0], ids[3]]
    assert claimed.gone == 2
    assert list(await server.pending("g")) == [ids[0], ids[3]]


async def position(store: StreamStore, server: Server, group: str) -> Any:
    reply = await server.server.command("HGET", store.keys.positions, group)
    return None if reply is None else reply.decode()


async def test_claim_notes_the_last_delivered_event_when_nothing_is_pending(
    store: StreamStore, server: Server
) -> None:
    ids = await server.fill(5)
    await server.group("g")
    await server.ack("g", *await server.read("g", "c", 3))
    claimed = await store.claim("g", "me", min_idle=5.0, count=10, noted="")
    assert claimed.position == ids[2]
    assert await position(store, server, "g") == ids[2]
    assert 6 * 86400 < await server.server.command("TTL", store.keys.positions) <= 7 * 86400


@pytest.mark.parametrize(
    "ids",
    [
        ["5-0", "5-1", "6-0"],
        ["5-7", "5-8", "6-0"],
        ["5-10", "5-100", "6-0"],
        [f"5-{2**53}", f"5-{2**53 + 1}", f"5-{2**53 + 2}"],
        [f"5-{BIG - 2}", f"5-{BIG - 1}", f"5-{BIG}"],
        [f"0-{10**16}", f"0-{10**16 + 1}", f"0-{10**16 + 2}"],
        ["0-1", "0-2", "0-3"],
    ],
    ids=lambda ids: ids[0],
)
async def test_noted_position_is_before_the_oldest_pending_event(
    ids: list[str], store: StreamStore, server: Server
) -> None:
    """A group that is created there gets that event and everything after it, whatever its id."""
    for number, entry_id in enumerate(ids):
        await server.fill(0, ids=[entry_id])
        if number == 0:
            await server.group("g")
    await server.read("g", "c", 3)
    await server.ack("g", ids[0]) if ids[0] == "5-7" else None
    oldest = ids[1] if ids[0] == "5-7" else ids[0]
    claimed = await store.claim("g", "me", min_idle=5.0, count=10, noted="")
    assert await position(store, server, "g") == claimed.position
    await server.group("rebuilt", claimed.position)
    assert oldest in await server.read("rebuilt", "c", 10)


async def test_position_is_written_only_when_it_has_moved(
    store: StreamStore, server: Server
) -> None:
    """An idle sink writes nothing."""
    await server.fill(1)
    await server.group("g", "$")
    noted = (await store.claim("g", "me", min_idle=5.0, count=1, noted="")).position
    await server.server.command("DEL", store.keys.positions)
    assert (await store.claim("g", "me", min_idle=5.0, count=1, noted=noted)).position == noted
    assert await server.server.command("EXISTS", store.keys.positions) == 0


# --- keeping and giving back


async def test_refresh_keeps_events_ours(store: StreamStore, server: Server) -> None:
    """Their idle time starts again; that is no delivery."""
    ids = await server.fill(3)
    await server.group("g")
    await server.read("g", "me", 3)
    await server.age("g", 10_000, *ids)
    assert await store.refresh("g", "me", ids[:2]) == []
    pending = await server.pending("g")
    assert [idle < 5000 for _, idle, _ in pending.values()] == [True, True, False]
    assert [times for _, _, times in pending.values()] == [1, 1, 1]


async def test_refresh_never_takes_what_is_another_s(store: StreamStore, server: Server) -> None:
    """What others have claimed, and what is acknowledged, comes back as lost."""
    ids = await server.fill(3)
    await server.group("g")
    await server.read("g", "me", 3)
    await server.age("g", 10_000, ids[0])
    await store.claim("g", "other", min_idle=5.0, count=1, noted="")
    await server.ack("g", ids[1])
    assert await store.refresh("g", "me", ids) == ids[:2]
    assert (await server.pending("g"))[ids[0]][0] == "other"


async def test_refresh_reaches_entries_that_were_deleted(
    store: StreamStore, server: Server
) -> None:
    """An event removed while it is worked on is no error."""
    ids = await server.fill(2)
    await server.group("g")
    await server.read("g", "me", 2)
    await store.remove(ids[:1])
    assert set(await store.refresh("g", "me", ids)) <= {ids[0]}
    assert ids[1] in await server.pending("g")


async def test_release_makes_events_claimable_at_once(store: StreamStore, server: Server) -> None:
    """Their delivery does not count, since nobody began them."""
    ids = await server.fill(2)
    await server.group("g")
    await server.read("g", "me", 2)
    assert await store.release("g", "me", ids, idle=20.0) == 2
    assert [times for _, _, times in (await server.pending("g")).values()] == [0, 0]
    claimed = await store.claim("g", "other", min_idle=20.0, count=10, noted="")
    assert [(entry.event_id, entry.deliveries) for entry in claimed.entries] == [
        (ids[0], 1),
        (ids[1], 1),
    ]


async def test_release_of_a_claimed_event_takes_back_one_delivery(
    store: StreamStore, server: Server
) -> None:
    ids = await server.fill(1)
    await server.group("g")
    await server.read("g", "dead", 1)
    await server.age("g", 10_000, *ids)
    await store.claim("g", "me", min_idle=5.0, count=1, noted="")
    await store.release("g", "me", ids, idle=20.0)
    assert (await server.pending("g"))[ids[0]][2] == 1


async def test_release_that_is_sent_again_takes_back_one_delivery(
    store: StreamStore, server: Server
) -> None:
    """Its reply was lost. Each further one would allow a poisonous event one more attempt."""
    ids = await server.fill(1)
    await server.group("g")
    await server.read("g", "dead", 1)
    await server.age("g", 10_000, *ids)
    await store.claim("g", "me", min_idle=5.0, count=1, noted="")
    for _ in range(3):
        await store.release("g", "me", ids, idle=20.0)
    assert (await server.pending("g"))[ids[0]][2] == 1


async def test_release_leaves_alone_what_is_not_ours(store: StreamStore, server: Server) -> None:
    ids = await server.fill(3)
    await server.group("g")
    await server.read("g", "other", 1)
    await server.read("g", "me", 1)
    await server.ack("g", ids[1])
    assert await store.release("g", "me", ids, idle=20.0) == 0
    owner, _, deliveries = (await server.pending("g"))[ids[0]]
    assert (owner, deliveries) == ("other", 1)


# --- leaving and tidying


async def test_consumer_with_pending_events_stays(store: StreamStore, server: Server) -> None:
    """Deleting it would discard them (S2)."""
    await server.fill(1)
    await server.group("g")
    ids = await server.read("g", "me", 1)
    assert not await store.leave("g", "me")
    assert list(await server.pending("g")) == ids
    await server.ack("g", *ids)
    assert await store.leave("g", "me")
    assert await server.consumers("g") == []
    assert await store.leave("g", "me")


async def test_sweep_deletes_silent_consumers_without_pending_events(
    store: StreamStore, server: Server
) -> None:
    await server.fill(1)
    await server.group("g")
    await server.read("g", "holder", 1)
    await store.add_consumer("g", "idler")
    await store.add_consumer("g", "me")
    assert await store.sweep("g", "me", min_idle=60.0) == 0
    await wait_for_idle(server, "idler")
    assert await store.sweep("g", "me", min_idle=0.001) == 1
    assert await server.consumers("g") == ["holder", "me"]


async def wait_for_idle(server: Server, consumer: str) -> None:
    """Until the server has counted some milliseconds of silence."""
    idle = 0
    while idle < 3:
        for item in await server.server.command("XINFO", "CONSUMERS", server.key, "g"):
            facts = dict(zip(item[::2], item[1::2], strict=True))
            if facts[b"name"] == consumer.encode():
                idle = facts[b"idle"]


@pytest.mark.parametrize("what", ["claim", "refresh", "release", "leave", "sweep"])
@pytest.mark.parametrize("there", ["no stream", "no group"])
async def test_missing_group_is_said_as_such(
    what: str, there: str, store: StreamStore, server: Server
) -> None:
    """So that it can be created again."""
    if there == "no group":
        await server.fill(1)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "claim": lambda: store.claim("g", "me", min_idle=1.0, count=1, noted=""),
        "refresh": lambda: store.refresh("g", "me", ["1-0"]),
        "release": lambda: store.release("g", "me", ["1-0"], idle=1.0),
        "leave": lambda: store.leave("g", "me"),
        "sweep": lambda: store.sweep("g", "me", min_idle=1.0),
    }
    with pytest.raises(ServerError) as caught:
        await calls[what]()
    assert caught.value.code == "NOGROUP"


# --- rebuilding


async def test_group_is_rebuilt_where_it_had_come_to(store: StreamStore, server: Server) -> None:
    ids = await server.fill(5)
    await server.group("g")
    await server.ack("g", *await server.read("g", "c", 3))
    await store.claim("g", "c", min_idle=5.0, count=1, noted="")
    await server.server.command("XGROUP", "DESTROY", server.key, "g")
    assert await store.rebuild_group("g") == ids[2]
    assert await server.read("g", "c", 10) == ids[3:]


async def test_group_that_is_there_is_left_alone(store: StreamStore, server: Server) -> None:
    """Several consumers notice at once; one of them rebuilds."""
    await server.group("g")
    assert await store.rebuild_group("g") is None


async def test_group_without_a_known_position_begins_at_the_beginning(
    store: StreamStore, server: Server
) -> None:
    """Better twice than never."""
    ids = await server.fill(3)
    assert await store.rebuild_group("g") == "0"
    assert await server.read("g", "c", 10) == ids


@pytest.mark.parametrize("how", ["FLUSHALL", "DEL"])
async def test_group_of_a_stream_that_vanished_reads_the_new_one_from_its_beginning(
    how: str, fresh_server: SingleServer, topology: Topology
) -> None:
    """Whatever the old one's position was."""
    async with pulsewire.connect(fresh_server.url) as hub:
        store = hub.stream("s").store
        server = Server(fresh_server, store.main)
        await server.fill(3)
        await server.group("g", "$")
        await store.claim("g", "c", min_idle=5.0, count=1, noted="")
        await fresh_server.command(how, *([server.key] if how == "DEL" else []))
        ids = await server.fill(2)
        await store.rebuild_group("g")
        assert await server.read("g", "c", 10) == ids


async def test_group_of_a_stream_that_is_not_there_is_made_with_it(
    store: StreamStore, server: Server
) -> None:
    assert await store.rebuild_group("g") == "0"
    ids = await server.fill(1)
    assert await server.read("g", "c", 10) == ids


async def test_position_beyond_the_stream_means_nothing_in_it(
    store: StreamStore, server: Server
) -> None:
    """A restored backup, or a stream with ids of its own: it is read from its beginning."""
    await server.server.command("HSET", store.keys.positions, "g", "9999999999999-5")
    ids = await server.fill(0, ids=["5-1", "5-2"])
    assert await store.rebuild_group("g") == "0"
    assert await server.read("g", "c", 10) == ids


async def test_key_that_is_no_stream_is_an_error_with_a_code(
    store: StreamStore, server: Server
) -> None:
    await server.server.command("SET", server.key, "text", "EX", 60)
    for call in (
        store.rebuild_group("g"),
        store.ensure_group("g", "0"),
        store.length(),
        store.info(),
        store.trim(10, "unacked"),
        add(store),
    ):
        with pytest.raises(ServerError) as caught:
            await call
        assert caught.value.code == "WRONGTYPE"
    assert await server.server.command("GET", server.key) == b"text"


# --- looking


async def test_group_is_created_once(store: StreamStore, server: Server) -> None:
    assert await store.ensure_group("g", "$")
    assert not await store.ensure_group("g", "0")


async def test_ids_of_an_empty_stream(store: StreamStore, server: Server) -> None:
    assert await store.last_id() == "0-0"
    ids = await server.fill(2)
    assert await store.last_id() == ids[1]


async def test_stream_tells_how_many_entries_there_were_and_are(
    store: StreamStore, server: Server
) -> None:
    """Those that were removed are the difference."""
    assert await store.tally() == (0, 0, "0-0")
    ids = await server.fill(5)
    assert await store.tally() == (5, 5, ids[4])
    await server.server.command("XTRIM", server.key, "MAXLEN", 2)
    assert await store.tally() == (5, 2, ids[4])


async def test_info_tells_groups_consumers_and_lag(store: StreamStore, server: Server) -> None:
    ids = await server.fill(5)
    await server.group("g")
    await server.read("g", "c1", 2)
    await store.add_consumer("g", "c2")
    info = await store.info()
    assert (info.exists, info.length, info.first_id, info.last_id) == (True, 5, ids[0], ids[4])
    assert info.last_generated_id == ids[4]
    assert info.memory_bytes is not None
    assert info.memory_bytes > 0
    (group,) = info.groups
    assert (group.name, group.pending, group.last_delivered_id, group.lag) == ("g", 2, ids[1], 3)
    assert [(consumer.name, consumer.pending) for consumer in group.consumers] == [
        ("c1", 2),
        ("c2", 0),
    ]
    assert all(consumer.idle >= 0 for consumer in group.consumers)


async def test_info_of_an_empty_and_of_a_missing_stream(store: StreamStore, server: Server) -> None:
    missing = await store.info()
    assert (missing.exists, missing.length, missing.groups) == (False, 0, ())
    await server.group("g")
    empty = await store.info()
    assert (empty.exists, empty.length, empty.first_id, empty.last_id) == (True, 0, "", "")


async def test_info_of_what_vanishes_while_it_is_asked_for(
    weathered: pulsewire.Hub, proxy: FaultProxy
) -> None:
    """An expired stream, or a destroyed group, is one that is not there; no error."""
    stream = weathered.stream("events", ttl=60.0)
    await stream.add("e", b"")
    await stream.store.ensure_group("g", "0")
    proxy.inject_error(b"NOGROUP No such consumer group 'g' for key name 'k'", "XINFO CONSUMERS")
    assert (await stream.info()).groups == ()
    assert len((await stream.info()).groups) == 1
    for command in ("XINFO GROUPS", "XINFO CONSUMERS"):
        proxy.inject_error(b"ERR no such key", command)
        assert not (await stream.info()).exists
    proxy.inject_error(b"WRONGTYPE Operation against a key", "XINFO GROUPS")
    with pytest.raises(ServerError):
        await stream.info()


def test_reply_of_a_read_that_brought_nothing(topology: Topology) -> None:
    assert entries_of(None) == []
    assert entries_of({}) == []
    assert entries_of({b"k": [(b"1-0", [b"a", b"b"])]}) == [("k", [(b"1-0", [b"a", b"b"])])]
