"""Names of keys taken apart: they are what `keys.py` of each block puts together, in every namespace."""

from __future__ import annotations

import pytest

from pulsewire._redis.namespace import Namespace
from pulsewire.doctor.census import Census
from pulsewire.doctor.orphans import LIST_WORK, PAGE, pace_for, paged
from pulsewire.pool.keys import PoolKeys
from pulsewire.rmap.keys import MapKeys
from pulsewire.streaming.keys import StreamKeys
from pulsewire.tasks.keys import TaskKeys


@pytest.fixture(params=["", "shop"])
def space(request: pytest.FixtureRequest) -> Namespace:
    return Namespace(request.param)


def census_of(space: Namespace, *keys: str) -> Census:
    census = Census()
    for key in keys:
        census.add(space, key)
    return census


def test_keys_of_queues(space: Namespace) -> None:
    tasks = TaskKeys(space)
    queue = tasks.queue("mail:fast")
    census = census_of(
        space,
        queue.task("id:1"),
        queue.pending,
        queue.lease,
        queue.group("g:x"),
        queue.aggregation_set("g", "1"),
        queue.lock("a", b"x"),
        tasks.queues,
        tasks.server("host:1:x"),
        tasks.history("entry"),
    )
    assert set(census.queues) == {"mail:fast"}
    found = census.queues["mail:fast"]
    assert found.tasks == ["id:1"]
    assert found.groups == ["g:x", "g:1"]
    assert [queue.prefix + lock for lock in found.locks] == [queue.lock("a", b"x")]
    assert found.others == {"pending", "lease"}
    assert census.registries == {"queues", "servers:{host:1:x}", "scheduler_history:entry"}


def test_keys_of_pools(space: Namespace) -> None:
    keys = PoolKeys(space, "jobs:fast")
    census = census_of(
        space,
        keys.meta,
        keys.leases,
        keys.job("user:1"),
        keys.owned("w1"),
        keys.inbox("w2"),
        keys.replies("n"),
        MapKeys(space, keys.workers_map).content,
    )
    assert set(census.pools) == {"jobs:fast"}
    found = census.pools["jobs:fast"]
    assert (found.jobs, found.owners) == (["user:1"], ["w1"])
    assert (found.inboxes, found.replies) == (["w2"], ["n"])
    assert found.others == {"meta", "leases"}
    assert census.maps == {keys.workers_map}


def test_keys_of_streams_and_maps_and_what_lies_beside(space: Namespace) -> None:
    stream, flags = StreamKeys(space, "orders:eu"), MapKeys(space, "flags")
    queue = TaskKeys(space).queue("mail")
    beside = [stream.positions, stream.once("k"), flags.writer("x"), queue.requests("c")]
    census = census_of(space, stream.main, flags.content, *beside, queue.removed("pending"))
    assert census.streams == {"orders:eu"}
    assert census.maps == {"flags"}
    assert census.beside == beside, "what a removed queue had is about to be deleted"
    assert not census.queues


def test_keys_of_others_belong_nowhere() -> None:
    census = census_of(
        Namespace("shop"),
        "asynq:{q}:t:1",
        "shopping",
        "shop",
        "other:asynq:{q}:t:1",
        "pool:{p}:meta",
    )
    assert census == Census()
    census = census_of(Namespace(""), "asynq:{q:t:1", "asynq:{}:t:1", "pool:{}:meta", "session:1")
    assert census == Census()


def test_a_script_looks_at_fewer_entries_of_a_longer_list() -> None:
    assert pace_for(0) == PAGE
    assert pace_for(LIST_WORK // 10) == 10
    assert pace_for(10 * LIST_WORK) == 1
    assert paged(["a", "b", "c"], 2) == [["a", "b"], ["c"]]
    assert paged([], 2) == []
