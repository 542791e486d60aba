"""The embedded server with real processes: shared, started again, killed in every way, and gone afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from pulsewire._redis import embedded, keeper, keeper_start
from pulsewire._redis.embedded import Attachment, KeeperStatus, attach, status, stop
from pulsewire._redis.home import EPHEMERAL_PREFIX, Home
from pulsewire._redis.keeper import PROTOCOL
from pulsewire._redis.server_binary import BINARY_VARIABLE, find_server_binary
from pulsewire.errors import EmbeddedServerError

pytestmark = pytest.mark.anyio

# A client in a process of its own. It starts when it reads a line, says where it is attached each time it attaches,
# and leaves when its input ends.
CLIENT = """
import json, sys, anyio, anyio.to_thread, redis
from pathlib import Path
from pulsewire._redis.embedded import attach

async def hold(attachment):
    while True:
        await attachment.wait_lost()
        await attachment.reattach()
        print(json.dumps({"url": attachment.url}), flush=True)

def count(url):
    with redis.Redis.from_url(url) as client:
        while True:
            print(json.dumps({"acknowledged": client.incr("acknowledged")}), flush=True)

async def main(home, role):
    print("{}", flush=True)
    sys.stdin.readline()
    async with await attach(home=Path(home), ephemeral=role == "ephemeral") as attachment:
        print(json.dumps({"url": attachment.url, "home": str(attachment.home)}), flush=True)
        if role == "writer":
            await anyio.to_thread.run_sync(count, attachment.url)
        async with anyio.create_task_group() as group:
            group.start_soon(hold, attachment)
            await anyio.to_thread.run_sync(sys.stdin.readline)
            group.cancel_scope.cancel()

anyio.run(main, sys.argv[1], sys.argv[2])
"""


# Twenty processes that are ready before the first of them attaches. They leave when the input ends.
SWARM = """
import os, sys, anyio
from pathlib import Path
from pulsewire._redis.embedded import attach

async def main():
    async with await attach(home=Path(sys.argv[1])) as attachment:
        os.write(1, attachment.url.encode() + b"\\n")
        os.read(leave, 1)

gate, open_gate = os.pipe()
leave, let_leave = os.pipe()
for _ in range(20):
    if not os.fork():
        os.close(open_gate)
        os.close(let_leave)
        os.read(gate, 1)
        anyio.run(main)
        os._exit(0)
os.close(open_gate)
sys.stdin.readline()
os.close(let_leave)
sys.exit(max(os.wait()[1] for _ in range(20)))
"""


class Client:
    """A client process."""

    def __init__(self, home: Path, role: str = "holder") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(home), role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.says()

    def says(self) -> dict[str, Any]:
        """The next line it writes."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the client ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def go(self) -> None:
        """Let it attach."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def leave(self) -> None:
        """Let it detach and end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait() == 0

    def kill(self) -> None:
        """End it with SIGKILL, if it still runs."""
        self.process.kill()
        with self.process:
            pass


Start = Callable[..., Client]


def is_alive(pid: int | None) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    if Path("/proc/self/stat").exists():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
        except OSError:
            return False
    else:
        ask = ["ps", "-o", "stat=", "-p", str(pid)]
        state = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
    return state.strip()[:1] not in {"", "Z"}


def is_free(home: Path) -> bool:
    """Whether neither a keeper nor a server of this home is alive: the lock lives as long as either."""
    try:
        with (home / "keeper.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


async def wait_until(fact: Callable[[], bool]) -> None:
    """Return when a fact holds; fail when it does not come true."""
    with anyio.fail_after(20):
        while not fact():
            await anyio.sleep(0.01)


async def wait_free(home: Path) -> None:
    """Return when nothing of this home runs any more."""
    await wait_until(partial(is_free, home))


def running(home: Path) -> KeeperStatus:
    """The status of a server that must run."""
    found = status(home)
    assert found is not None
    return found


def kill(pid: int | None) -> None:
    """End a process with SIGKILL."""
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def connect(attachment: Attachment) -> redis.Redis:
    """A plain client that, as ours do, tries again while the server is started."""
    retry = Retry(ConstantBackoff(0.05), retries=200)
    return redis.Redis.from_url(attachment.url, decode_responses=True, retry=retry)


def wrapped_server(folder: Path, prelude: str) -> Path:
    """A program that runs some shell in the data folder, then becomes the real server."""
    program = folder / "wrapped-server"
    real = find_server_binary().path
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] || {{ {prelude}; }}\nexec "{real}" "$@"\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of its own. Nothing may run there when the test ends."""
    monkeypatch.setenv("PULSEWIRE_LINGER", "0")
    monkeypatch.delenv(BINARY_VARIABLE, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / "home"
    yield folder
    stop(folder)
    anyio.run(wait_free, folder)


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Starts client processes, and ends those that the test leaves."""
    clients: list[Client] = []

    def start_client(role: str = "holder") -> Client:
        clients.append(Client(home, role))
        return clients[-1]

    yield start_client
    for client in clients:
        client.kill()


class TestSharing:
    async def test_processes_of_one_home_share_one_server(self, home: Path, start: Start) -> None:
        async with await attach(home=home) as attachment:
            others = [start() for _ in range(3)]
            for other in others:
                other.go()

            assert {other.says()["url"] for other in others} == {attachment.url}
            assert running(home).clients == 4
            for other in others:
                other.leave()

    async def test_twenty_simultaneous_starters_get_one_keeper(self, home: Path) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", SWARM, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as swarm:
            assert swarm.stdout is not None
            assert swarm.stdin is not None
            urls = [swarm.stdout.readline() for _ in range(20)]
            clients = running(home).clients
            swarm.stdin.close()

        assert swarm.returncode == 0
        assert urls == [f"{Home.at(home).url}\n"] * 20
        assert clients == 20
        log = (home / "data" / "server.log").read_text()
        assert log.count("the keeper starts") == 1
        await wait_free(home)

    async def test_two_homes_have_two_servers(self, home: Path) -> None:
        async with await attach(home=home) as one, await attach(home=home.parent / "other") as two:
            with connect(one) as client_of_one, connect(two) as client_of_two:
                client_of_one.set("whose", "one")
                assert client_of_two.get("whose") is None
        await wait_free(home.parent / "other")

    async def test_one_home_by_two_names_is_one_home(self, home: Path) -> None:
        home.mkdir()
        link = home.parent / "link"
        link.symlink_to(home)
        async with await attach(home=home) as one, await attach(home=link) as two:
            assert one.url == two.url

    async def test_the_server_stays_while_one_client_is_left(
        self, home: Path, start: Start
    ) -> None:
        """With no lingering at all, the keeper would end in the very pass in which it counts the leaver out."""
        async with await attach(home=home) as attachment:
            other = start()
            other.go()
            other.says()
            other.leave()
            await wait_until(lambda: running(home).clients == 1)
            with connect(attachment) as client:
                assert client.ping()

    async def test_asking_for_the_status_does_not_keep_it(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PULSEWIRE_LINGER", "0.3")
        async with await attach(home=home):
            pass
        await wait_until(lambda: status(home) is None)
        await wait_free(home)

    async def test_who_waits_for_a_slow_start_hears_that_it_goes_on(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server with much data loads for long; only silence is a failure."""
        program = wrapped_server(home.parent, "while [ ! -e go ]; do sleep 0.01; done")
        monkeypatch.setenv(BINARY_VARIABLE, str(program))
        place = Home.at(home)
        assert await anyio.to_thread.run_sync(
            partial(keeper_start.start_keeper, place, ephemeral=False)
        )
        async with await anyio.connect_unix(place.control_socket) as line:
            await line.send(keeper.encode_message({"request": "attach"}))
            assert json.loads(await line.receive())["reply"] == "starting"
            (place.data_dir / "go").touch()
            while (reply := json.loads(await line.receive())["reply"]) == "starting":
                pass
            assert reply == "attached"

    async def test_coming_back_while_it_lingers_finds_the_same_server(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PULSEWIRE_LINGER", "60")
        async with await attach(home=home):
            before = running(home)
        await wait_until(lambda: running(home).clients == 0)
        async with await attach(home=home):
            assert running(home).server_pid == before.server_pid


class TestData:
    async def test_data_survives_a_stop_and_a_new_start(self, home: Path) -> None:
        async with await attach(home=home) as attachment:
            with connect(attachment) as client:
                client.xadd("events", {"n": "user.created"})
            first = running(home)
        await wait_free(home)

        async with await attach(home=home) as attachment:
            with connect(attachment) as client:
                assert client.xlen("events") == 1
            assert running(home).server_pid != first.server_pid

    async def test_settings_of_a_persistent_server(self, home: Path) -> None:
        async with await attach(home=home) as attachment:
            with connect(attachment) as client:
                settings = client.config_get("*")
        expected = {
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "port": "0",
            "maxmemory-policy": "noeviction",
            "databases": "16",
            "aof-load-truncated": "yes",
        }
        assert expected.items() <= settings.items()

    async def test_others_cannot_enter(self, home: Path) -> None:
        async with await attach(home=home) as attachment:
            folder = Home.at(home).socket_dir
            assert folder.stat().st_mode & 0o777 == 0o700
            assert attachment.data_dir.stat().st_mode & 0o777 == 0o700

    async def test_an_append_only_file_cut_by_a_kill_loads(self, home: Path) -> None:
        async with await attach(home=home) as attachment:
            with connect(attachment) as client:
                client.set("kept", "yes")
                client.set("cut", "x" * 100)
        await wait_free(home)
        (changes,) = attachment.data_dir.glob("appendonlydir/*.incr.aof")
        with changes.open("r+b") as file:
            file.truncate(changes.stat().st_size - 20)

        async with await attach(home=home) as attachment:
            with connect(attachment) as client:
                assert client.keys() == ["kept"]

    async def test_a_long_log_is_put_aside_at_the_next_start(self, home: Path) -> None:
        place = Home.at(home)
        place.make()
        place.log_file.write_bytes(b"x" * (keeper_start.LOG_LIMIT + 1))

        async with await attach(home=home):
            pass

        assert place.log_file.with_name("server.log.1").stat().st_size == keeper_start.LOG_LIMIT + 1
        assert place.log_file.stat().st_size < keeper_start.LOG_LIMIT


class TestEphemeral:
    async def test_it_leaves_nothing(self, home: Path, tmp_path: Path) -> None:
        async with await attach(ephemeral=True) as attachment:
            assert attachment.home.parent == tmp_path
            server = running(attachment.home)
            assert not server.persistent
            with connect(attachment) as client:
                client.set("a", "b")
                assert client.config_get("appendonly") == {"appendonly": "no"}

        assert not is_alive(server.server_pid)
        assert list(tmp_path.iterdir()) == []
        await wait_until(lambda: not is_alive(server.pid))

    async def test_each_has_its_own(self, home: Path) -> None:
        async with await attach(ephemeral=True) as one, await attach(ephemeral=True) as two:
            assert one.url != two.url

    async def test_it_goes_with_a_killed_client(self, home: Path, start: Start) -> None:
        client = start("ephemeral")
        client.go()
        folder = Path(client.says()["home"])
        server = running(folder)

        client.kill()

        await wait_until(lambda: not folder.exists())
        await wait_until(lambda: not is_alive(server.pid) and not is_alive(server.server_pid))

    async def test_its_folder_goes_even_if_the_keeper_was_killed(self, home: Path) -> None:
        async with await attach(ephemeral=True) as attachment:
            server = running(attachment.home)
            kill(server.pid)
            await attachment.wait_lost()
        assert not attachment.home.exists()
        await wait_until(lambda: not is_alive(server.server_pid))

    async def test_it_comes_back_empty_at_the_same_address(self, home: Path) -> None:
        async with await attach(ephemeral=True) as attachment:
            with connect(attachment) as client:
                client.set("a", "b")
                url = attachment.url
                kill(running(attachment.home).pid)
                await attachment.wait_lost()
                await attachment.reattach()
                assert attachment.url == url
                assert client.keys() == []

    async def test_the_next_one_clears_away_what_killed_processes_left(
        self, home: Path, tmp_path: Path
    ) -> None:
        """Old folders that nobody has locked; a folder in use stays, however old it is."""
        async with await attach(ephemeral=True) as in_use:
            abandoned = tmp_path / f"{EPHEMERAL_PREFIX}{os.geteuid()}-dead"
            (abandoned / "data").mkdir(parents=True)
            for folder in (abandoned, in_use.home):
                os.utime(folder, (0, 0))

            async with await attach(ephemeral=True):
                assert not abandoned.exists()
                with connect(in_use) as client:
                    assert client.ping()

    async def test_a_cancelled_start_leaves_nothing(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with anyio.CancelScope() as scope:

            async def cancelled(line: object) -> None:
                scope.cancel()
                await anyio.sleep_forever()

            monkeypatch.setattr(embedded._ControlLine, "attach", cancelled)
            await attach(ephemeral=True)

        assert scope.cancelled_caught
        assert list(tmp_path.iterdir()) == []


class TestKilled:
    async def test_a_killed_client_is_counted_out(self, home: Path, start: Start) -> None:
        client = start()
        client.go()
        client.says()
        server = running(home)

        client.kill()

        await wait_free(home)
        assert not is_alive(server.server_pid)

    async def test_the_server_dies_with_its_keeper_and_a_client_brings_it_back(
        self, home: Path
    ) -> None:
        async with await attach(home=home) as attachment:
            with connect(attachment) as client:
                client.set("a", "b")
                first, url = running(home), attachment.url

                kill(first.pid)

                await attachment.wait_lost()
                assert attachment.is_lost
                assert not attachment.was_stopped
                await wait_until(lambda: not is_alive(first.server_pid))
                await attachment.reattach()
                assert attachment.url == url
                assert client.get("a") == "b"
                assert running(home).pid != first.pid

    async def test_all_living_clients_get_the_same_new_keeper(
        self, home: Path, start: Start
    ) -> None:
        clients = [start() for _ in range(5)]
        for client in clients:
            client.go()
        url = clients[0].says()["url"]
        for client in clients[1:]:
            client.says()

        kill(running(home).pid)

        assert {client.says()["url"] for client in clients} == {url}
        assert running(home).clients == 5

    async def test_the_keeper_starts_a_killed_server_again(
        self, home: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        async with await attach(home=home) as attachment:
            with connect(attachment) as client:
                client.set("a", "b")
                first = running(home)

                kill(first.server_pid)

                assert client.get("a") == "b"
                await wait_until(lambda: running(home).server_pid not in {None, first.server_pid})
                await wait_until(lambda: len(caplog.records) == 1)
                assert running(home).pid == first.pid
                assert not attachment.is_lost
        assert caplog.records[0].message == "the embedded server died and is started again"

    async def test_a_server_told_to_shut_down_by_hand_is_started_again(self, home: Path) -> None:
        async with await attach(home=home) as attachment:
            with connect(attachment) as client:
                client.set("a", "b")
            with redis.Redis.from_url(attachment.url) as hand:
                hand.shutdown()
            with connect(attachment) as client:
                assert client.get("a") == "b"

    async def test_a_server_that_keeps_dying_is_given_up(
        self, home: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The clients are told, and one that attaches again may try anew."""
        async with await attach(home=home) as attachment:
            with connect(attachment) as client, contextlib.suppress(redis.ConnectionError):
                for _ in range(len(keeper.RESTART_PAUSES) + 1):
                    kill(client.info("server")["process_id"])  # an error: it was given up already
            await attachment.wait_lost()
            assert "the embedded server cannot be kept running" in caplog.text

            await attachment.reattach()
            with connect(attachment) as client:
                assert client.ping()

    async def test_nothing_is_left_when_all_are_killed_at_once(
        self, home: Path, start: Start
    ) -> None:
        """And nothing that was acknowledged is lost."""
        writer = start("writer")
        writer.go()
        writer.says()
        holder = start()
        holder.go()
        holder.says()
        acknowledged = 0
        while acknowledged < 100:
            acknowledged = writer.says()["acknowledged"]
        server = running(home)

        for pid in (server.pid, server.server_pid, writer.process.pid, holder.process.pid):
            kill(pid)

        await wait_free(home)
        assert not is_alive(server.pid)
        assert not is_alive(server.server_pid)
        assert writer.process.stdout is not None
        complete = [line for line in writer.process.stdout if line.endswith("\n")]
        if complete:
            acknowledged = json.loads(complete[-1])["acknowledged"]
        async with await attach(home=home) as attachment:
            with connect(attachment) as client:
                stored = client.get("acknowledged")
                assert isinstance(stored, str)
                assert int(stored) >= acknowledged

    async def test_a_server_killed_while_it_starts_is_started_again(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It did not decide to end, so it may do better next time."""
        program = wrapped_server(home.parent, "[ -e mark ] || { touch mark; kill -9 $$; }")
        monkeypatch.setenv(BINARY_VARIABLE, str(program))
        async with await attach(home=home) as attachment:
            with connect(attachment) as client:
                assert client.ping()
            assert (attachment.data_dir / "mark").exists()

    async def test_a_keeper_whose_starter_was_killed_ends(self, home: Path) -> None:
        assert keeper_start.start_keeper(Home.at(home), ephemeral=False)
        server = running(home)
        await wait_free(home)
        assert not is_alive(server.pid)

    async def test_a_keeper_told_to_end_saves_and_says_so(self, home: Path) -> None:
        async with await attach(home=home) as attachment:
            with connect(attachment) as client:
                client.set("a", "b")
            os.kill(running(home).pid, signal.SIGTERM)
            await attachment.wait_lost()
            assert attachment.was_stopped
            await wait_free(home)
            await attachment.reattach()
            with connect(attachment) as client:
                assert client.get("a") == "b"

    async def test_a_server_without_a_keeper_is_ended_by_the_next_starter(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So it is on systems without a death signal, when a keeper was killed. Here the test plays the keeper."""
        monkeypatch.setattr(embedded, "STRAY_AGE", 0.0)
        place = Home.at(home)
        place.make()
        place.socket_dir.mkdir(mode=0o700)
        command = find_server_binary().command(
            socket=place.server_socket, data_dir=place.data_dir, durable=True
        )
        with place.lock_file.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stray = subprocess.Popen(command, pass_fds=(lock.fileno(),), stdout=subprocess.DEVNULL)
        await wait_until(
            lambda: keeper.ask_server(str(place.server_socket), "PING").startswith("+PONG")
        )
        assert keeper.ask_server(str(place.server_socket), "SET a b") == "+OK\r\n"

        async with await attach(home=home) as attachment:
            assert stray.wait() == 0
            with connect(attachment) as client:
                assert client.get("a") == "b"

    async def test_another_server_behind_our_socket_is_left_alone(self, home: Path) -> None:
        async with await attach(home=home) as attachment:
            impostor = Home.at(home.parent / "other")
            impostor.socket_dir.mkdir(parents=True)
            impostor.server_socket.symlink_to(Home.at(home).server_socket)

            assert not keeper_start.end_stray_server(impostor, logging.getLogger("test"))
            with connect(attachment) as client:
                assert client.ping()


class TestStatusAndStop:
    async def test_nothing_runs(self, home: Path) -> None:
        assert status(home) is None
        assert stop(home) is False
        assert not home.exists()

    async def test_status_tells_all(self, home: Path) -> None:
        async with await attach(home=home) as attachment:
            found = running(home)

        assert found.url == attachment.url
        assert found.data_dir == attachment.data_dir == home / "data"
        assert found.persistent
        assert found.clients == 1
        assert found.uptime >= 0
        assert found.version == str(find_server_binary())
        assert found.pid != found.server_pid

    async def test_stop_ends_it_under_its_clients(self, home: Path) -> None:
        async with await attach(home=home) as attachment:
            server = running(home)

            assert stop(home) is True

            assert not is_alive(server.server_pid)
            assert status(home) is None
            assert stop(home) is False
            await attachment.wait_lost()
            assert attachment.was_stopped

    async def test_reattaching_while_attached_changes_nothing(self, home: Path) -> None:
        async with await attach(home=home) as attachment:
            before = running(home)
            await attachment.reattach()
            assert running(home).pid == before.pid
            assert running(home).clients == 1

    async def test_a_closed_attachment_stays_closed(self, home: Path) -> None:
        attachment = await attach(home=home)
        await attachment.aclose()
        await attachment.aclose()
        await attachment.reattach()
        await attachment.wait_lost()
        assert "closed" in repr(attachment)
        await wait_free(home)


class TestRefused:
    async def test_a_home_that_cannot_be_made(self, home: Path) -> None:
        home.write_text("a file in the way")
        with pytest.raises(EmbeddedServerError, match=r"cannot be its home.*PULSEWIRE_HOME"):
            await attach(home=home / "below")
        home.unlink()

    @pytest.mark.skipif(sys.platform != "linux", reason="names a folder that Linux alone has")
    async def test_a_home_that_cannot_be_written(self, home: Path) -> None:
        """Not even by root."""
        with pytest.raises(EmbeddedServerError, match="cannot be its home"):
            await attach(home=Path("/proc/pulsewire"))

    async def test_a_data_folder_of_somebody_else(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(EmbeddedServerError, match=r"no permission to write in .*data"):
            await attach(home=home)

    async def test_a_program_that_does_not_start(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = home.parent / "broken"
        broken.write_text(
            "#!/bin/sh\n"
            '[ "$1" = --version ] && echo "Valkey server v=9.1.2 sha=0" && exit\n'
            "echo 'no such luck: No space left on device'; exit 3\n"
        )
        broken.chmod(0o755)
        monkeypatch.setenv(BINARY_VARIABLE, str(broken))

        with pytest.raises(EmbeddedServerError) as caught:
            await attach(home=home)

        assert "ended with code 3 while it was starting" in caught.value.reason
        assert "no such luck" in caught.value.reason
        assert "free some space" in caught.value.reason

    async def test_a_program_that_is_gone(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It was there for the version, and cannot be run any more when the keeper starts it."""
        found = find_server_binary()
        missing = type(found)(home.parent / "missing", found.kind, found.version)
        monkeypatch.setattr(keeper_start, "find_server_binary", lambda: missing)
        with pytest.raises(EmbeddedServerError, match="missing cannot be started"):
            await attach(home=home)

    async def test_no_program_at_all(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(BINARY_VARIABLE, str(home.parent / "missing"))
        with pytest.raises(EmbeddedServerError, match="unusable program"):
            await attach(home=home)

    async def test_a_damaged_append_only_file(self, home: Path) -> None:
        """Every starter hears of it, also those that came while another one tried."""
        async with await attach(home=home) as attachment:
            with connect(attachment) as client:
                client.set("a", "b")
        await wait_free(home)
        (changes,) = attachment.data_dir.glob("appendonlydir/*.incr.aof")
        changes.write_bytes(b"this is no command\n" * 10)
        errors = []

        async def fail() -> None:
            with pytest.raises(EmbeddedServerError) as caught:
                await attach(home=home)
            errors.append(caught.value.reason)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(fail)

        assert len(errors) == 3
        for reason in errors:
            assert "check-aof --fix" in reason
            assert "Bad file format" in reason
            assert str(attachment.data_dir) in reason

    async def test_a_keeper_that_breaks_at_once(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = home.parent / "keeper.py"
        broken.write_text("raise SystemExit('out of order')")
        monkeypatch.setattr(keeper, "__file__", str(broken))
        with pytest.raises(EmbeddedServerError, match=r"ended with code 1(.|\n)*out of order"):
            await attach(home=home)

    async def test_a_keeper_that_breaks_after_detaching(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = home.parent / "keeper.py"
        broken.write_text("import os; os.fork() and os._exit(0); raise SystemExit('out of order')")
        monkeypatch.setattr(keeper, "__file__", str(broken))
        with pytest.raises(EmbeddedServerError, match=r"as soon as it has(.|\n)*out of order"):
            await attach(home=home)

    @pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
    async def test_an_impossible_linger(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv("PULSEWIRE_LINGER", value)
        with pytest.raises(EmbeddedServerError, match=f"PULSEWIRE_LINGER is '{value}'"):
            await attach(home=home)

    async def test_a_keeper_refuses_another_protocol(self, home: Path) -> None:
        async with await attach(home=home):
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(str(Home.at(home).control_socket))
                line.sendall(b'{"protocol": 99, "request": "attach"}\n')
                answer = json.loads(line.recv(65536))
            assert answer["reply"] == "refused"
            assert f"speaks protocol {PROTOCOL}, we speak 99" in answer["reason"]
            assert running(home).clients == 1

    @pytest.mark.parametrize(
        "reply",
        [
            {"protocol": 99, "reply": "refused", "reason": "keeper speaks protocol 99, we speak 1"},
            {"protocol": 99, "reply": "attached"},
        ],
    )
    async def test_a_client_refuses_a_keeper_of_another_protocol(
        self, home: Path, reply: dict[str, object]
    ) -> None:
        place = Home.at(home)
        place.make()
        with (
            place.lock_file.open("ab") as lock,
            keeper_start._listening(place.control_socket) as number,
            socket.socket(fileno=os.dup(number)) as listener,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            listener.setblocking(False)

            async def answer() -> None:
                await anyio.wait_readable(listener)
                connection, _ = listener.accept()
                with connection:
                    await anyio.wait_readable(connection)
                    connection.sendall(json.dumps(reply).encode() + b"\n")

            async with anyio.create_task_group() as group:
                group.start_soon(answer)
                with pytest.raises(
                    EmbeddedServerError, match=r"speaks protocol 99, we speak 1; end"
                ):
                    await attach(home=home)
            lock.truncate(0)
        place.control_socket.unlink()

    @pytest.mark.parametrize(
        "junk", [b"\n", b"[]\n", b'{"protocol": 1}\n', b"\xff\n", b"x" * 70000]
    )
    async def test_junk_does_not_disturb_a_keeper(self, home: Path, junk: bytes) -> None:
        async with await attach(home=home):
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(str(Home.at(home).control_socket))
                line.sendall(junk)
                answer = line.recv(65536)
            assert not answer or json.loads(answer)["reply"] == "refused"
            assert running(home).clients == 1


class TestLeftovers:
    async def test_stale_files_do_not_prevent_a_start(self, home: Path) -> None:
        """An address of nobody, a plain file and a dead socket where the sockets belong."""
        place = Home.at(home)
        place.make()
        place.socket_dir.mkdir(mode=0o755)
        place.lock_file.write_text('{"control": "/nowhere", "pid": 1}')
        place.control_socket.write_text("not a socket")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(place.server_socket))

        async with await attach(home=home) as attachment:
            with connect(attachment) as client:
                assert client.ping()
            assert place.socket_dir.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("address", ["", "{", "[]", "{}", '{"control": 1, "pid": "x"}', "\0"])
    async def test_an_unreadable_address_does_not_prevent_a_start(
        self, home: Path, address: str
    ) -> None:
        place = Home.at(home)
        place.make()
        place.lock_file.write_text(address)
        async with await attach(home=home):
            assert running(home).clients == 1

    async def test_a_clean_end_leaves_the_data_alone(self, home: Path) -> None:
        async with await attach(home=home):
            pass
        await wait_free(home)
        assert {path.name for path in home.iterdir()} == {"data", "keeper.lock"}

    async def test_a_long_path_has_its_sockets_elsewhere(self, home: Path, start: Start) -> None:
        deep = home / ("x" * 90) / ("y" * 90)
        async with await attach(home=deep) as attachment:
            folder = Home.at(deep).socket_dir
            assert folder.parent == Path("/tmp").resolve()
            assert folder.stat().st_mode & 0o777 == 0o700
            with connect(attachment) as client:
                assert client.ping()
        await wait_free(deep)
        assert not folder.exists()

    async def test_a_socket_folder_that_is_not_ours_is_refused(self, home: Path) -> None:
        """Somebody else may have made it in /tmp first."""
        deep = home / ("x" * 90) / ("y" * 90)
        folder = Home.at(deep).socket_dir
        folder.symlink_to(home)
        try:
            with pytest.raises(EmbeddedServerError, match="is not a folder of this user"):
                await attach(home=deep)
        finally:
            folder.unlink()

    async def test_a_deleted_home_gets_a_new_server_and_the_old_one_goes(self, home: Path) -> None:
        """The old keeper takes nothing with it that now belongs to the new one."""
        async with await attach(home=home) as old:
            first = running(home)
            Home.at(home).remove()

            async with await attach(home=home) as new:
                second = running(home)
                assert second.pid != first.pid
                await old.aclose()
                await wait_until(lambda: not is_alive(first.pid))
                assert not is_alive(first.server_pid)
                assert running(home).pid == second.pid
                assert running(home).clients == 1
                with connect(new) as client:
                    assert client.ping()


class TestWhereItLives:
    def test_the_variable_decides(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PULSEWIRE_HOME", str(tmp_path / "chosen"))
        assert Home.at(None).root == tmp_path / "chosen"
        assert Home.at(tmp_path / "given").root == tmp_path / "given"

    @pytest.mark.parametrize(
        ("platform", "data_home", "expected"),
        [
            ("linux", "", ".local/share/pulsewire"),
            ("linux", "relative", ".local/share/pulsewire"),
            ("linux", "/srv/data", "/srv/data/pulsewire"),
            ("darwin", "/srv/data", "Library/Application Support/pulsewire"),
        ],
    )
    def test_otherwise_the_data_folder_of_the_user(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        platform: str,
        data_home: str,
        expected: str,
    ) -> None:
        monkeypatch.delenv("PULSEWIRE_HOME", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("XDG_DATA_HOME", data_home)
        monkeypatch.setattr(sys, "platform", platform)
        assert Home.at(None).root == tmp_path / expected

    def test_an_unknown_user_is_an_error(self) -> None:
        with pytest.raises(EmbeddedServerError, match="no usable home"):
            Home.at(Path("~nobody-of-this-name/x"))

    def test_the_url_can_carry_any_path(self, tmp_path: Path) -> None:
        place = Home.at(tmp_path / "Application Support ?#%")
        with redis.Redis.from_url(place.url) as client:
            assert client.connection_pool.connection_kwargs["path"] == str(place.server_socket)
