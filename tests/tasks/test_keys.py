"""The name of every key (spec/asynq.md 1.1, 1.3, 8 "Keys and encoding")."""

from __future__ import annotations

from typing import Any

import pytest

from pulsewire import InvalidName
from pulsewire._redis.namespace import Namespace
from pulsewire.tasks.keys import DEFAULT_QUEUE, QueueKeys, TaskKeys, check_queue

GO = Namespace("")


@pytest.mark.parametrize("name", ["default", "custom", "ü:b c"])
def test_keys_of_a_queue_are_those_of_go(name: str) -> None:
    keys, prefix = TaskKeys(GO).queue(name), f"asynq:{{{name}}}:"
    found = {
        "t:id": keys.task("id"),
        "t:": keys.tasks,
        "pending": keys.pending,
        "active": keys.active,
        "lease": keys.lease,
        "scheduled": keys.scheduled,
        "retry": keys.retry,
        "archived": keys.archived,
        "completed": keys.completed,
        "paused": keys.paused,
        "processed": keys.processed,
        "failed": keys.failed,
        "processed:2024-02-29": keys.processed_on("2024-02-29"),
        "failed:2024-02-29": keys.failed_on("2024-02-29"),
        "groups": keys.groups,
        "g:": keys.group_prefix,
        "g:eu:mails": keys.group("eu:mails"),
        "g:eu:mails:set": keys.aggregation_set("eu:mails", "set"),
        "aggregation_sets": keys.aggregation_sets,
    }
    assert found == {suffix: prefix + suffix for suffix in found}


def test_keys_of_no_queue_are_those_of_go() -> None:
    keys = TaskKeys(GO)
    assert (keys.queues, keys.servers, keys.workers, keys.schedulers, keys.cancel) == (
        "asynq:queues",
        "asynq:servers",
        "asynq:workers",
        "asynq:schedulers",
        "asynq:cancel",
    )
    assert keys.server("h:7:id") == "asynq:servers:{h:7:id}"
    assert keys.workers_of("h:7:id") == "asynq:workers:{h:7:id}"
    assert keys.entries("h:7:id") == "asynq:schedulers:{h:7:id}"
    assert keys.history("e") == "asynq:scheduler_history:e"
    assert keys.semaphore("s") == "asynq:sema:s"


@pytest.mark.parametrize(
    ("payload", "suffix"),
    [
        (b'{"id":42}', "053d97b35951861fb2a956062b3a95dd"),
        (b"", "d41d8cd98f00b204e9800998ecf8427e"),
        (None, ""),
    ],
)
def test_lock_is_of_type_and_payload(payload: bytes | None, suffix: str) -> None:
    """No payload and an empty one are two locks."""
    assert QueueKeys(GO, "q").lock("a:b", payload) == f"asynq:{{q}}:unique:a:b:{suffix}"


def test_namespace_stands_before_everything() -> None:
    keys = QueueKeys(Namespace("shop"), "q")
    assert keys.pending == "shop:asynq:{q}:pending"
    assert keys.requests("c") == "shop:pulsewire:{q}:requests:c"
    assert keys.removed("pending") == "shop:pulsewire:{q}:removed:pending"
    assert keys.tick("e") == "shop:pulsewire:{q}:tick:e"
    assert TaskKeys(Namespace("shop")).queues == "shop:asynq:queues"


@pytest.mark.parametrize("name", ["", " \t", "a{b", "}", "q" * 513, None, 5, "\ud800"])
def test_impossible_queue_is_refused(name: Any) -> None:
    with pytest.raises(InvalidName) as caught:
        check_queue(name)
    assert caught.value.what == "queue"
    with pytest.raises(InvalidName):
        TaskKeys(GO).queue(name)


def test_long_name_is_shown_by_its_beginning() -> None:
    with pytest.raises(InvalidName) as caught:
        check_queue("q" * 513)
    assert caught.value.name == "q" * 40 + "..."


def test_queue_is_go_s_default_where_none_is_named() -> None:
    assert DEFAULT_QUEUE == "default"


@pytest.mark.parametrize("name", ["q" * 512, " q ", "a:b", "ü"])
def test_queue_may_have_any_name_that_go_allows(name: str) -> None:
    assert check_queue(name) == name


def test_semaphore_s_name_is_checked() -> None:
    with pytest.raises(InvalidName) as caught:
        TaskKeys(GO).semaphore("a b")
    assert caught.value.what == "semaphore"
