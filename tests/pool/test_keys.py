"""What one pool leaves in Redis, by name."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire import InvalidName
from pulsewire._redis.namespace import Namespace
from pulsewire._redis.slots import key_slot
from pulsewire.pool.keys import PoolKeys
from pulsewire.pool.wire import SHUTDOWN_ENTRY
from pulsewire.rmap.keys import MapKeys

names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=" \0*?[]{}"),
    min_size=1,
    max_size=512,
)
jobs = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=512)
spaces = st.sampled_from(["", "shop"]).map(Namespace)


def everything(keys: PoolKeys, job: str = "j", worker: str = "w", node: str = "n") -> list[str]:
    """Every key of a pool, but for its workers map."""
    return [
        *(keys.meta, keys.leases, keys.epoch, keys.starting, keys.waiting, keys.tickers),
        *(keys.janitor, keys.shutdown, keys.job(job), keys.owned(worker), keys.inbox(worker)),
        *(keys.replies(node), keys.planned("p")),
    ]


def test_keys_are_those_of_the_protocol() -> None:
    """Byte for byte, since other versions and other languages will read them."""
    assert everything(PoolKeys(Namespace(), "emails"), "user:1", "W", "N") == [
        "pool:{emails}:meta",
        "pool:{emails}:leases",
        "pool:{emails}:epoch",
        "pool:{emails}:starting",
        "pool:{emails}:waiting",
        "pool:{emails}:tickers",
        "pool:{emails}:janitor",
        "pool:{emails}:shutdown",
        "pool:{emails}:job:user:1",
        "pool:{emails}:owned:W",
        "pool:{emails}:inbox:W",
        "pool:{emails}:replies:N",
        "pool:{emails}:planned:p",
    ]
    assert PoolKeys(Namespace(), "emails").workers_map == "{emails}:workers"


def test_namespace_prefixes_every_key() -> None:
    keys = PoolKeys(Namespace("shop"), "emails")
    bare = PoolKeys(Namespace(), "emails")
    assert everything(keys) == [f"shop:{key}" for key in everything(bare)]
    assert keys.workers_map == bare.workers_map  # the map has the prefix from its hub


@given(spaces, names, jobs)
def test_all_keys_of_a_pool_share_a_slot(space: Namespace, name: str, job: str) -> None:
    """So that one script may use them on a cluster, whatever the job's key has in it; the workers map too."""
    keys = PoolKeys(space, name)
    workers = MapKeys(space, keys.workers_map)
    of_the_map = [workers.content, workers.writer("01J"), workers.updates(sharded=True)]
    assert len({key_slot(key) for key in (*everything(keys, job), *of_the_map)}) == 1


@given(spaces, names, st.sets(jobs, min_size=2, max_size=2), names)
def test_no_two_things_have_the_same_key(
    space: Namespace, name: str, two: set[str], other: str
) -> None:
    """Not two jobs, not a job and something else, not the same job in two pools."""
    keys = PoolKeys(space, name)
    one, another = two
    found = [*everything(keys, one), keys.job(another)]
    if other != name:
        found += everything(PoolKeys(space, other), one)
    assert len(set(found)) == len(found)


@given(spaces, names)
def test_name_is_found_in_the_meta_key(space: Namespace, name: str) -> None:
    meta = PoolKeys(space, name).meta
    assert PoolKeys.name_of(space, meta) == name
    assert fnmatch.fnmatchcase(meta, PoolKeys.pattern(space))


def test_no_worker_is_called_as_the_entry_of_the_shutdown() -> None:
    """Ids of workers are ULIDs: letters and digits."""
    assert not SHUTDOWN_ENTRY.isalnum()


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a*", "a?", "[a]", "\0", "x" * 513, "\ud800", "{a}", "a{", "}", None, 5],
)
def test_illegal_names_are_refused(name: Any) -> None:
    """Braces too: the name is the hash tag."""
    with pytest.raises(InvalidName) as caught:
        PoolKeys(Namespace(), name)
    assert caught.value.what == "pool"


@pytest.mark.parametrize("name", ["a", "x" * 512, "line\nbreak\n", "ü", "a:b", "a=b"])
def test_legal_names_are_those_of_streams_and_maps(name: str) -> None:
    assert PoolKeys(Namespace(), name).meta == f"pool:{{{name}}}:meta"
