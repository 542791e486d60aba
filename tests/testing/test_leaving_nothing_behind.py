"""The look for what a test left behind finds it: each kind of leftover makes an otherwise good test fail.

The tests that leave something run in a pytest of their own, under the same conftest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

LEAVERS = """
import asyncio
import os
import subprocess
import sys

import anyio
import pytest
from pulsewire.testing import RawConnection, wait_until

left = []  # keeps what was left from being collected


async def test_nothing(single_server, namespace):
    await single_server.command("SET", f"{namespace}:key", "value", "EX", 60)


def test_nothing_in_a_plain_function(single_server):
    assert single_server.is_alive


async def test_task():
    left.append(asyncio.create_task(anyio.sleep_forever()))


async def test_task_that_is_about_to_end():
    left.append(asyncio.create_task(anyio.sleep(0.05)))


async def test_connection(single_server):
    left.append(await RawConnection(*single_server.address).__aenter__())


async def test_connection_of_before_is_not_mine(single_server):
    assert await single_server.clients() == {}


async def test_connection_on_a_topology(topology):
    node = await topology.node_of("key")
    left.append(await RawConnection(*node.address).__aenter__())


async def test_process():
    left.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))


async def test_end_of_the_process():
    left[-1].communicate()


async def test_key(single_server, namespace):
    await single_server.command("SET", f"{namespace}:left:over", "value")


@pytest.mark.leaves_keys("stream:*", "pulsewire:{stream:*}:*")
async def test_declared_keys(single_server, namespace):
    await single_server.command("SET", f"{namespace}:stream:x", "value")
    await single_server.command("SET", f"{namespace}:pulsewire:{{{namespace}:stream:x}}:y", "value")


@pytest.mark.leaves_keys
async def test_any_declared_keys(single_server, namespace):
    await single_server.command("SET", f"{namespace}:stream:x", "value")


@pytest.mark.leaves_keys("stream:*")
async def test_key_beside_the_declared_ones(single_server, namespace):
    await single_server.command("SET", f"{namespace}:stream:x", "value")
    await single_server.command("SET", f"{namespace}:other", "value")


async def test_keys_of_before_are_gone(single_server):
    assert await single_server.command("DBSIZE") == 0


async def test_kill(single_server):
    await single_server.kill()


async def test_pause(single_server):
    assert await single_server.command("PING") == b"PONG"
    single_server.pause()


async def test_healed(single_server):
    assert await single_server.command("PING") == b"PONG"
"""

FAILURES = {
    "test_task": "tasks behind",
    "test_connection": "connections behind",
    "test_connection_on_a_topology[standalone]": "connections behind",
    "test_process": "processes behind",
    "test_key": "keys without a TTL behind: ['left:over']",
    "test_key_beside_the_declared_ones": "keys without a TTL behind: ['other']",
}


def test_each_leftover_is_found_and_put_down_to_its_test(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_leavers.py").write_text(LEAVERS)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nanyio_mode = auto\nfilterwarnings = error\naddopts = -p no:cacheprovider\n"
    )
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "--tb=line", str(tmp_path)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": path,
            "PULSEWIRE_TEST_TOPOLOGIES": "standalone",
            "PULSEWIRE_TEST_GRACE": "0.5",
            "PULSEWIRE_TEST_UVLOOP": "0",  # it complains of its own about what is left
            "COLUMNS": "300",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    count = LEAVERS.count("def test_")
    assert f"{count} passed, {len(FAILURES)} errors" in run.stdout, run.stdout + run.stderr
    errors = [line for line in run.stdout.splitlines() if line.startswith("ERROR ")]
    for test, words in FAILURES.items():
        assert [line for line in errors if f"::{test} " in line and words in line], run.stdout
