"""What all tests share: servers in every topology, a hub on each, and the look for what a test left behind.

The shared servers are started when the first test asks for them, once per run. Tests do not meet
on them, since each has a namespace of its own. A test may kill, pause or fail over shared servers:
they are healed after it. A test that changes a server's configuration takes `fresh_server`.

Environment:
    PULSEWIRE_TEST_UVLOOP=1: run everything on uvloop.
    PULSEWIRE_TEST_TOPOLOGIES=standalone,cluster: the only ones that `topology` goes through.
    PULSEWIRE_TEST_GRACE=5: seconds that what a test began may take to end after it.
"""

from __future__ import annotations

import asyncio
import fnmatch
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

import pulsewire
from pulsewire.testing import (
    ClusterGroup,
    FaultProxy,
    SentinelGroup,
    ServerProcess,
    SingleServer,
    Topology,
    redis7_binary,
    wait_until,
)
from tests.facts import Facts, Raw

# Name of a topology -> the fixture that has it.
SHARED = {
    "standalone": "single_server",
    "sentinel": "sentinel_group",
    "cluster": "cluster_group",
    "redis7": "redis7_server",
}
CHOSEN = os.environ.get("PULSEWIRE_TEST_TOPOLOGIES", ",".join(SHARED)).split(",")
GRACE = float(os.environ.get("PULSEWIRE_TEST_GRACE", "5"))
SomeTopology = TypeVar("SomeTopology", SingleServer, SentinelGroup, ClusterGroup)
_NAMESPACE = pytest.StashKey[str]()

# A connection to a server process; ids start anew when it does.
Connection = tuple[int, int]


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker that the look for keys understands."""
    # what a shell has started in the background ignores SIGINT, and so would the programs that tests end with it
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers",
        "leaves_keys(*patterns): the test may leave keys without a TTL: those whose names, without the "
        "namespace, match one of the patterns; any if none is given. They are deleted after it.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module's `TOPOLOGIES` are the ones its tests go through: for what is the same everywhere, two will do."""
    chosen = getattr(metafunc.module, "TOPOLOGIES", None)
    marked = any(
        "topology" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")
    )
    if chosen is not None and "topology" in metafunc.fixturenames and not marked:
        mark = pytest.mark.parametrize("topology", chosen, indirect=True)
        metafunc.definition.add_marker(mark)


LONGEST = ("tests/weather/", "tests/cli/demo/", "tests/conformance/", "tests/test_examples.py", "")
"""Parts of paths; the last one is in every path."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, since whoever takes the last file is waited for."""
    items.sort(key=lambda item: next(i for i, part in enumerate(LONGEST) if part in item.nodeid))


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One asyncio loop for the whole run."""
    return "asyncio", {"use_uvloop": os.environ.get("PULSEWIRE_TEST_UVLOOP") == "1"}


# --- servers


class SharedTopologies:
    """The topologies that were started so far, by the name of their fixture."""

    def __init__(self) -> None:
        self._running: dict[str, Topology] = {}

    @asynccontextmanager
    async def running(self, fixture: str, topology: SomeTopology) -> AsyncIterator[SomeTopology]:
        """Run a topology, and have it in the register meanwhile."""
        async with topology:
            self._running[fixture] = topology
            yield topology
            del self._running[fixture]

    def used_by(self, request: pytest.FixtureRequest) -> list[Topology]:
        """Those a test uses, as far as they run."""
        names = {*request.fixturenames, SHARED.get(_topology_parameter(request), "")}
        return [topology for name, topology in self._running.items() if name in names]

    def pids(self) -> set[int]:
        """Their processes."""
        return {server.pid for topology in self._running.values() for server in topology.servers}


def _topology_parameter(request: pytest.FixtureRequest) -> str:
    callspec = getattr(request.node, "callspec", None)
    return str(callspec.params.get("topology", "")) if callspec is not None else ""


@pytest.fixture(scope="session")
def shared_topologies() -> SharedTopologies:
    """The register of shared servers."""
    return SharedTopologies()


@pytest.fixture(scope="session")
async def single_server(
    anyio_backend: object, shared_topologies: SharedTopologies
) -> AsyncIterator[SingleServer]:
    """The embedded server's own program, alone."""
    async with shared_topologies.running("single_server", SingleServer()) as server:
        yield server


@pytest.fixture(scope="session")
async def redis7_server(
    anyio_backend: object, shared_topologies: SharedTopologies
) -> AsyncIterator[SingleServer]:
    """Redis 7 or newer, alone. Tests that need it are skipped where there is none."""
    binary = redis7_binary()
    if binary is None:
        pytest.skip("this machine has no redis-server of version 7 or newer")
    async with shared_topologies.running("redis7_server", SingleServer(binary)) as server:
        yield server


@pytest.fixture(scope="session")
async def sentinel_group(
    anyio_backend: object, shared_topologies: SharedTopologies
) -> AsyncIterator[SentinelGroup]:
    """One master, two replicas, three sentinels."""
    async with shared_topologies.running("sentinel_group", SentinelGroup()) as group:
        yield group


@pytest.fixture(scope="session")
async def cluster_group(
    anyio_backend: object, shared_topologies: SharedTopologies
) -> AsyncIterator[ClusterGroup]:
    """Three masters, three replicas."""
    async with shared_topologies.running("cluster_group", ClusterGroup()) as group:
        yield group


@pytest.fixture
async def fresh_server(anyio_backend: object) -> AsyncIterator[SingleServer]:
    """A server for this test alone."""
    async with SingleServer() as server:
        yield server


@pytest.fixture(params=[name for name in SHARED if name in CHOSEN])
def topology(request: pytest.FixtureRequest) -> Topology:
    """Every topology in turn; `parametrize("topology", ["cluster"], indirect=True)` picks some."""
    shared: Topology = request.getfixturevalue(SHARED[request.param])
    return shared


# --- the product


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A namespace that nobody else has. What is left in it is looked at, and deleted, after the test."""
    name = f"test-{secrets.token_hex(5)}"
    request.node.stash[_NAMESPACE] = name
    return name


@pytest.fixture
async def hub(topology: Topology, namespace: str) -> AsyncIterator[pulsewire.Hub]:
    """A hub on every topology in turn, in a namespace of its own."""
    async with pulsewire.connect(topology.url, namespace=namespace) as connected:
        yield connected


@pytest.fixture
def raw(topology: Topology) -> Raw:
    """Send a bare command to whoever has a key."""

    async def send(key: str, *command: Any) -> Any:
        return await (await topology.node_of(key)).command(*command)

    return send


@pytest.fixture
def facts() -> Facts:
    """Hooks that remember what they were told."""
    return Facts()


@pytest.fixture
async def watched(topology: Topology, namespace: str, facts: Facts) -> AsyncIterator[pulsewire.Hub]:
    """A hub beside `hub`, in the same namespace, that tells `facts`."""
    async with pulsewire.connect(topology.url, namespace=namespace, hooks=facts) as hub:
        yield hub


@pytest.fixture
async def proxy(single_server: SingleServer) -> AsyncIterator[FaultProxy]:
    """Bad weather in front of the single server."""
    async with FaultProxy(single_server) as proxy:
        yield proxy


@pytest.fixture
async def weathered(
    proxy: FaultProxy, namespace: str, facts: Facts
) -> AsyncIterator[pulsewire.Hub]:
    """A hub behind the proxy. It takes a silent connection for dead after 0.6 s already."""
    url = f"{proxy.url}?socket_timeout=0.6"
    async with pulsewire.connect(url, namespace=namespace, hooks=facts) as hub:
        yield hub


# --- nothing is left behind


@pytest.fixture(autouse=True)
def leaves_nothing_behind(
    request: pytest.FixtureRequest, shared_topologies: SharedTopologies
) -> Iterator[None]:
    """Each test ends without a child process, a task, a connection or an ownerless key of its own."""
    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("leaves_loop_and_servers_clean")
    before = _children()
    yield
    deadline = time.monotonic() + GRACE
    while left := _children() - before - shared_topologies.pids():
        if time.monotonic() > deadline:
            commands = [_command_line(pid) for pid in left]
            pytest.fail(f"the test left processes behind: {commands}", pytrace=False)
        time.sleep(0.01)


@pytest.fixture
async def leaves_loop_and_servers_clean(
    request: pytest.FixtureRequest, anyio_backend: object, shared_topologies: SharedTopologies
) -> AsyncIterator[None]:
    """The part of `leaves_nothing_behind` that needs the event loop. It also heals the shared servers."""
    tasks = asyncio.all_tasks()
    connections = await _connections(shared_topologies.used_by(request))
    yield
    problems = [await _tasks_left(tasks)]
    for topology in shared_topologies.used_by(request):
        await topology.heal()
        problems.append(await _connections_left(topology, set(connections)))
        if _NAMESPACE in request.node.stash:
            problems.append(await _keys_left(topology, request.node))
    if any(problems):
        pytest.fail("\n".join(problem for problem in problems if problem), pytrace=False)


async def _tasks_left(before: set[asyncio.Task[object]]) -> str:
    def new_tasks() -> set[asyncio.Task[object]]:
        return {task for task in asyncio.all_tasks() - before if not _belongs_to_runner(task)}

    try:
        await wait_until(lambda: not new_tasks(), timeout=GRACE, what="the test's tasks ended")
    except AssertionError:
        left = new_tasks()
        for task in left:
            task.cancel()
        return f"the test left tasks behind: {left}"
    return ""


def _belongs_to_runner(task: asyncio.Task[object]) -> bool:
    """Whether it is the task in which anyio's plugin waits for a fixture or a test to run."""
    return getattr(task.get_coro(), "__qualname__", "") == "TestRunner._call_in_runner_task"


async def _connections(topologies: list[Topology]) -> dict[Connection, str]:
    """Who is connected to these servers."""
    return {
        (server.pid, number): line
        for topology in topologies
        for server in topology.servers
        if server.is_alive
        for number, line in (await server.clients()).items()
    }


async def _connections_left(topology: Topology, before: set[Connection]) -> str:
    left: dict[Connection, str] = {}

    async def all_are_gone() -> bool:
        nonlocal left
        now = await _connections([topology])
        left = {connection: now[connection] for connection in now.keys() - before}
        return not left

    try:
        await wait_until(all_are_gone, timeout=GRACE, what="the test's connections ended")
    except AssertionError:
        by_pid = {server.pid: server for server in topology.servers}
        for pid, number in left:  # so that the next test does not answer for them
            await by_pid[pid].command("CLIENT", "KILL", "ID", number)
        return "the test left connections behind:\n" + "\n".join(left.values())
    return ""


async def _keys_left(topology: Topology, item: pytest.Item) -> str:
    """Keys without a TTL that nobody declared; all keys of the namespace are deleted."""
    namespace = item.stash[_NAMESPACE]
    markers = list(item.iter_markers("leaves_keys"))
    patterns = [pattern for marker in markers for pattern in marker.args or ("*",)]
    ownerless: list[str] = []
    for master in await topology.masters():
        keys = await _scan(master, f"*{namespace}*")
        for key, left in zip(
            keys, await master.pipeline(*(("TTL", key) for key in keys)), strict=True
        ):
            name = key.decode(errors="replace").replace(f"{namespace}:", "")
            if left == -1 and not any(fnmatch.fnmatchcase(name, p) for p in patterns):
                ownerless.append(name)
        await master.pipeline(*(("UNLINK", key) for key in keys))
    if not ownerless:
        return ""
    return (
        f"the test left keys without a TTL behind: {sorted(ownerless)}; let their owner delete them, "
        "or declare them with @pytest.mark.leaves_keys"
    )


async def _scan(server: ServerProcess, pattern: str) -> list[bytes]:
    found: set[bytes] = set()
    cursor = b"0"
    while True:
        cursor, keys = await server.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        found.update(keys)
        if cursor == b"0":
            return sorted(found)


def _children() -> set[int]:
    """The children of this process. Empty where the system has no /proc to tell."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        return set()
    found: set[int] = set()
    for task in tasks.iterdir():
        try:
            children = (task / "children").read_text()
        except OSError:  # a thread that has just ended
            continue
        found.update(map(int, children.split()))
    return {pid for pid in found if "multiprocessing.resource_tracker" not in _command_line(pid)}


def _command_line(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"{pid} (gone)"
    return f"{pid} {b' '.join(words).decode(errors='replace')}"
