"""`pulsewire doctor`: words for people, JSON for programs, an exit code for scripts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from tests.cli.conftest import Command, Invoke

pytestmark = pytest.mark.leaves_keys("asynq:*")


@pytest.fixture
def lose_tasks(cli: Command, url: str, namespace: str) -> Callable[[], None]:
    """Enqueues a task, and deletes the list it is in."""

    def lose() -> None:
        cli("task", "enqueue", "email:welcome", "--id", "lost")
        with redis.Redis.from_url(url) as client:
            assert client.delete(f"{namespace}:asynq:{{default}}:pending") == 1

    return lose


def test_what_is_well_is_said(cli: Command) -> None:
    shown = cli("doctor")
    assert "(standalone) at " in shown.splitlines()[0]
    assert "eviction" in shown
    assert "orphans tasks: none" in shown
    assert shown.splitlines()[-1].startswith("well: 0 red, ")


def test_orphans_are_told_of_and_mended(cli: Command, lose_tasks: Callable[[], None]) -> None:
    lose_tasks()
    shown = cli("doctor", exit_code=1)
    assert "RED" in shown
    assert "queue default: 1 pending tasks are in no place: they never run" in shown
    assert "do: `pulsewire doctor --repair` mends it." in shown
    assert "such as: lost" in shown
    assert shown.splitlines()[-1].startswith("not well: 1 red, ")
    mended = cli("doctor", "--repair")
    assert "1 mended: pending tasks are in no place" in mended
    assert mended.splitlines()[-1].endswith("; 1 mended")
    assert cli("task", "inspect", "lost", "--json")[0]["state"] == "pending"


def test_json_has_everything(cli: Command, lose_tasks: Callable[[], None]) -> None:
    lose_tasks()
    said = cli("doctor", "--json", exit_code=1)
    assert (said["is_well"], said["mended"]) == (False, 0)
    first = said["findings"][0]
    assert (first["level"], first["check"], first["where"]) == ("red", "tasks", "queue default")
    assert (first["count"], first["examples"]) == (1, ["lost"])
    said = cli("doctor", "--json", "--repair")
    assert (said["is_well"], said["mended"]) == (True, 1)


def test_wrong_usage_is_told(invoke: Invoke) -> None:
    assert invoke("doctor", "--mend").exit_code == 2
    assert invoke("doctor", "--url", "http://nowhere").exit_code == 2
