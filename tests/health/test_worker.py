"""`pulsewire worker --health-port`: probes of a worker, and which port each of several processes has."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import pulsewire
from pulsewire.testing import SingleServer, wait_until
from tests.cli.programs import Programs
from tests.facts import PATIENCE

APP = """
from pulsewire.tasks import App
app = App()

@app.task("a")
async def run() -> None: ...
"""
PLACES = """
import sys, anyio
from functools import partial
from pulsewire.tasks import supervise
say = "import os; os.write(1, ('place ' + os.environ['PULSEWIRE_WORKER_PLACE'] + chr(10)).encode())"
hold = "import pulsewire.tasks as t, time; line = t.hold_lifeline(); line.say_ready(0.1); time.sleep(60)"
anyio.run(partial(supervise, [sys.executable, "-c", say + chr(10) + hold], processes=2))
"""


async def status(url: str) -> tuple[int, dict[str, object]]:
    """What a probe gets."""
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(f"GET /{url.rpartition('/')[2]} HTTP/1.1\r\n\r\n".encode())
        said = b""
        try:
            while True:
                said += await stream.receive()
        except anyio.EndOfStream:
            head, _, body = said.partition(b"\r\n\r\n")
            return int(head.split()[1]), json.loads(body)


@pytest.mark.leaves_keys("asynq:*")
async def test_a_worker_answers_probes_until_its_last_task_has_ended(
    single_server: SingleServer, namespace: str, tmp_path: Path
) -> None:
    """One that takes no new tasks is alive and not ready."""
    (tmp_path / "shop.py").write_text(APP)
    environment = {**os.environ, "PULSEWIRE_URL": single_server.url, "PYTHONPATH": _path(tmp_path)}
    programs = Programs(environment)
    try:
        worker = programs.pulsewire(
            "worker", "shop:app", "--health-port", "0", "--namespace", namespace
        )
        line = await anyio.to_thread.run_sync(worker.wait_line, "answers probes at")
        (url,) = re.findall(r"http://\S+", line)
        await anyio.to_thread.run_sync(worker.wait_line, "takes tasks of")
        assert (await status(f"{url}/livez"))[0] == 200
        code, said = await status(f"{url}/readyz")
        assert (code, said["problems"]) == (200, [])
        assert "taking tasks" in json.dumps(said["checks"])
        worker.send(signal.SIGTSTP)

        async def is_unready() -> bool:
            return (await status(f"{url}/readyz"))[0] == 503

        await wait_until(is_unready, timeout=PATIENCE, what="it is not ready")
        assert (await status(f"{url}/livez"))[0] == 200
        worker.send(signal.SIGTERM)
        assert await anyio.to_thread.run_sync(worker.wait_end) == 0
    finally:
        programs.close()


def test_each_process_of_a_supervisor_knows_its_place(tmp_path: Path) -> None:
    """So that each can have a port of its own."""
    program = tmp_path / "places.py"
    program.write_text(PLACES)
    programs = Programs({**os.environ, "PYTHONPATH": _path(tmp_path)})
    try:
        running = programs.script(program)
        places = {running.wait_line("place").split()[1] for _ in range(2)}
        assert places == {"0", "1"}
        running.send(signal.SIGTERM)
        running.wait_end()
    finally:
        programs.close()


def _path(folder: Path) -> str:
    return os.pathsep.join([str(folder), str(Path(pulsewire.__file__).parents[1]), *sys.path])
