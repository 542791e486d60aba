"""Whom a key belongs to: the vectors of the specification, fair shares, and as few moves as can be."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulsewire.pool.ring import ROUTINGS, Member, Ring, Routing, crc64, jump

BUCKETS = (1, 2, 3, 5, 8, 16, 100, 1000)
# spec/pulse.md 3.4, confirmed with Go there: key, CRC-64, its bucket among each of BUCKETS.
VECTORS: list[tuple[str, int, tuple[int, ...]]] = [
    ("", 0x0000000000000000, (0, 0, 0, 0, 0, 0, 0, 0)),
    ("a", 0x330284772E652B05, (0, 0, 0, 0, 0, 11, 36, 820)),
    ("abc", 0x2CD8094A1A277627, (0, 0, 0, 0, 6, 15, 28, 28)),
    ("123456789", 0x995DC9BBDF1939FA, (0, 0, 0, 4, 4, 4, 62, 703)),
    ("job1", 0xD943590FF3DF37BD, (0, 0, 2, 2, 2, 2, 2, 692)),
    ("job2", 0x9EE923E65838C889, (0, 0, 0, 3, 5, 9, 69, 157)),
    ("user:123", 0xC90E27E38EAE290A, (0, 1, 2, 4, 5, 13, 81, 603)),
    ("email:123", 0xF713141FE432F348, (0, 1, 1, 4, 4, 14, 30, 100)),
    ("tenant-42", 0x618FF3A0F9F5DA87, (0, 1, 1, 1, 1, 11, 24, 995)),
    ("test-key", 0xCDBBB4AA13B11BC7, (0, 0, 2, 2, 2, 9, 9, 864)),
    ("hello world", 0x53037ECDEF2352DA, (0, 0, 0, 0, 6, 14, 14, 877)),
    ("こんにちは", 0x98106CFCE7E4F638, (0, 1, 1, 1, 7, 7, 87, 128)),
    ("工单", 0x38820D17CBADC6C9, (0, 1, 1, 1, 1, 10, 72, 928)),
    ("ñandú", 0xC0043815C2309E68, (0, 0, 2, 2, 2, 15, 15, 508)),
    (
        "The quick brown fox jumps over the lazy dog",
        0x5B5EB8C2E54AA1C4,
        (0, 1, 1, 3, 3, 3, 23, 645),
    ),
    ("01HZXW9Q7J8K5M2N3P4R5S6T7V", 0x1B9ECB37E315FAAD, (0, 0, 0, 0, 0, 12, 12, 298)),
]
KEYS = [f"job-{number}" for number in range(10_000)]

numbers = st.integers(0, 2**64 - 1)
members = st.lists(
    st.builds(
        Member,
        st.text("ABC0", min_size=1, max_size=4),
        st.floats(1e-3, 1e3),
        st.integers(0, 3).map(float),
    ),
    max_size=6,
    unique_by=lambda member: member.worker,
)
job_keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
routings = st.sampled_from(ROUTINGS)


def named(*weights: float) -> list[Member]:
    """Workers w0, w1, ... in the order of their start."""
    return [Member(f"w{n}", weight, float(n)) for n, weight in enumerate(weights)]


def owners(workers: Sequence[Member], routing: Routing = "rendezvous") -> list[str | None]:
    """Of all KEYS."""
    ring = Ring(workers, routing)
    return [ring.owner(key) for key in KEYS]


# --- jump hashing, as in Go


@pytest.mark.parametrize(("key", "checksum", "buckets"), VECTORS, ids=[v[0] for v in VECTORS])
def test_vectors_of_the_specification(key: str, checksum: int, buckets: tuple[int, ...]) -> None:
    assert crc64(key.encode()) == checksum
    assert tuple(jump(checksum, count) for count in BUCKETS) == buckets


@pytest.mark.parametrize(("key", "_checksum", "buckets"), VECTORS, ids=[v[0] for v in VECTORS])
def test_jump_routing_takes_the_bucket_in_the_order_of_creation(
    key: str, _checksum: int, buckets: tuple[int, ...]
) -> None:
    """Whatever the order in which the workers are known, and whatever their ids."""
    for count, bucket in zip(BUCKETS, buckets, strict=True):
        workers = [Member(f"{count - n:04}", 1.0, float(n)) for n in range(count)]
        assert Ring(workers[::-1], "jump").owner(key) == workers[bucket].worker


def test_jump_without_buckets_gives_none() -> None:
    assert jump(5, 0) == -1


def test_jump_is_exact_to_the_last_bit() -> None:
    """As many buckets as it can tell apart show a step that was rounded otherwise."""
    numbers = [n * 0x9E3779B97F4A7C15 & (2**64 - 1) for n in range(4)]
    assert [jump(number, 2**31) for number in numbers] == [
        *(0, 1680513372, 1487504934, 1307811085),
    ]


def test_routings_are_called_as_the_pool_writes_them() -> None:
    assert ROUTINGS == ("rendezvous", "jump")


def test_member_counts_once_unless_told_otherwise() -> None:
    assert Member("w") == Member("w", weight=1.0, started=0.0)


@given(numbers, st.integers(1, 300))
def test_jump_moves_a_key_to_the_new_bucket_or_not_at_all(number: int, count: int) -> None:
    """What the paper promises."""
    before, after = jump(number, count), jump(number, count + 1)
    assert 0 <= before < count
    assert after in (before, count)


def test_workers_that_started_together_are_ordered_by_id() -> None:
    """Go leaves them unordered, and so may send jobs back and forth."""
    together = [Member(worker, 1.0, 5.0) for worker in "dacb"]
    alike = [Member(worker, 1.0, 5.0) for worker in "abcd"]
    assert owners(together, "jump") == owners(alike, "jump")
    spaced = [Member(worker, 1.0, float(n)) for n, worker in enumerate("abcd")]
    assert owners(together, "jump") == owners(spaced, "jump")


def test_jump_routing_knows_no_weights() -> None:
    assert owners(named(1, 1, 1), "jump") == owners(named(9, 1, 0.1), "jump")


# --- rendezvous hashing


GOLDEN_KEYS = ["", "a", "foobar", "job-1", "job-2", "job-3", "ü", "x" * 512]
GOLDEN: dict[int, str] = {1: "00000000", 2: "11100100", 3: "11200200", 5: "11203303", 8: "11505303"}


@pytest.mark.parametrize("count", GOLDEN)
def test_rendezvous_owners_are_the_same_in_every_process(count: int) -> None:
    """Golden values: two versions or machines that differ would hand jobs back and forth for ever."""
    ring = Ring(named(*[1.0] * count), "rendezvous")
    assert [ring.owner(key) for key in GOLDEN_KEYS] == [f"w{digit}" for digit in GOLDEN[count]]


def test_weighted_owners_are_the_same_in_every_process() -> None:
    ring = Ring(named(1.0, 2.5, 0.25), "rendezvous")
    assert [ring.owner(f"job-{n}") for n in range(16)] == [f"w{d}" for d in "0111111100100210"]


def bound(share: float) -> float:
    """Five standard deviations of a binomial: KEYS and hash are fixed, so this is no gamble."""
    return 5 * math.sqrt(len(KEYS) * share * (1 - share))


@pytest.mark.parametrize("count", [2, 3, 7, 16, 50])
def test_equal_workers_get_equal_shares(count: int) -> None:
    shares = Counter(owners(named(*[1.0] * count)))
    assert len(shares) == count
    expected = len(KEYS) / count
    assert max(abs(got - expected) for got in shares.values()) <= bound(1 / count)


@pytest.mark.parametrize("weights", [(1, 2), (1, 1, 8), (0.1, 0.2, 0.3, 0.4), (5, 5, 5, 0.5)])
def test_shares_are_as_the_weights(weights: tuple[float, ...]) -> None:
    shares = Counter(owners(named(*weights)))
    for n, weight in enumerate(weights):
        share = weight / sum(weights)
        assert abs(shares[f"w{n}"] - share * len(KEYS)) <= bound(share)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 20])
def test_joining_worker_takes_its_share_and_nothing_else_moves(count: int) -> None:
    """At most 1.3/N of the keys move (F25), all of them to the new one."""
    before, after = owners(named(*[1.0] * count)), owners(named(*[1.0] * (count + 1)))
    moved = {new for old, new in zip(before, after, strict=True) if old != new}
    assert moved == {f"w{count}"}
    assert after.count(f"w{count}") <= 1.3 * len(KEYS) / (count + 1)


@pytest.mark.parametrize("count", [2, 3, 5, 10, 20])
def test_leaving_worker_gives_up_its_share_and_nothing_else_moves(count: int) -> None:
    """At most 1.3/N of the keys move, wherever it stood; and what it had is spread over all that are left."""
    workers = named(*[1.0] * count)
    before = owners(workers)
    for gone in {0, count // 2, count - 1}:
        after = owners([worker for worker in workers if worker.worker != f"w{gone}"])
        moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        assert {old for old, _ in moved} == {f"w{gone}"}
        assert {new for _, new in moved} == {w.worker for w in workers} - {f"w{gone}"}
        assert len(moved) <= 1.3 * len(KEYS) / count


def test_larger_weight_only_draws_keys() -> None:
    """Keys move to the worker whose weight grows; none between the others."""
    steps = [owners(named(1, 1, weight, 1)) for weight in (0.5, 1, 2, 4)]
    for before, after in pairwise(steps):
        moved = {new for old, new in zip(before, after, strict=True) if old != new}
        assert moved == {"w2"}


# --- both


@given(members, routings, job_keys)
def test_some_member_owns_a_key_if_there_is_one(
    workers: list[Member], routing: Routing, key: str
) -> None:
    ring = Ring(workers, routing)
    assert len(ring) == len(workers)
    owner = ring.owner(key)
    assert (owner is None) == (not workers)
    assert owner is None or owner in {worker.worker for worker in workers}


@given(st.floats(0, exclude_min=True, allow_infinity=False), job_keys)
def test_lone_worker_owns_everything_whatever_its_weight(weight: float, key: str) -> None:
    assert Ring([Member("w", weight)], "rendezvous").owner(key) == "w"


@given(members, routings, job_keys, st.randoms(use_true_random=False))
def test_order_in_which_workers_are_known_does_not_matter(
    workers: list[Member], routing: Routing, key: str, dice: st.DataObject
) -> None:
    shuffled = sorted(workers, key=lambda _: dice.random())  # type: ignore[attr-defined]  # it is a Random
    one, other = Ring(workers, routing), Ring(shuffled, routing)
    assert one.owner(key) == other.owner(key)
    assert one.is_like(other)


@given(members, routings, job_keys, st.data())
@settings(max_examples=200)
def test_owner_but_for_a_worker_is_the_owner_without_it(
    workers: list[Member], routing: Routing, key: str, data: st.DataObject
) -> None:
    """So that a worker that leaves gives its jobs to whom they will belong."""
    but = data.draw(st.sampled_from([worker.worker for worker in workers] or ["w"]))
    left = [worker for worker in workers if worker.worker != but]
    assert Ring(workers, routing).owner(key, but) == Ring(left, routing).owner(key)


@pytest.mark.parametrize("routing", ROUTINGS)
def test_rings_are_alike_when_keys_belong_to_the_same_workers(routing: Routing) -> None:
    ring = Ring(named(1, 2), routing)
    assert ring.is_like(Ring(named(1, 2)[::-1], routing))
    assert not ring.is_like(Ring(named(1, 2, 1), routing))
    assert not ring.is_like(Ring(named(1, 3), routing))
    other: Routing = "jump" if routing == "rendezvous" else "rendezvous"
    assert not ring.is_like(Ring(named(1, 2), other))
