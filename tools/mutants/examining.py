"""How it is tried: the tests of one room, run against each of its mutants in a process of its own.

Starting Python, pytest and all that the tests import takes a second; so it is done once for a room. After that a
mutant costs a fork: in it the changed module, the tests, and whatever stands between them are imported anew, and
pytest runs them, those first that take least, until one fails. Hypothesis draws the same for each mutant and does not
shrink what it finds.

A mutant with which a test takes far longer than without it has timed out. What counts is the time of the processor, so
that a busy machine changes nothing; a limit on real time is there for those that wait forever.
"""

from __future__ import annotations

import ast
import gc
import importlib
import importlib.machinery
import importlib.util
import math
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal

import pytest
from _pytest.config import _prepareconfig
from hypothesis import HealthCheck, Phase, settings

from tools.mutants.operators import Mutant, mutants_of
from tools.mutants.rooms import ROOT, Room

__all__ = ["Brokenness", "Trial", "Verdict", "examine"]

Verdict = Literal["killed", "timed out", "survived"]

PYTEST = (
    "--quiet",
    "--exitfirst",
    "--tb=no",
    "--capture=no",
    "--noconftest",  # it imports all of pulsewire; what needs its fixtures needs a server
    "--hypothesis-profile=mutants",
    "--override-ini=cache_dir=.cache/mutants/pytest",
    "--override-ini=timeout=0",
    "-pno:xdist",
    "-mnot slow",
    # plugins were imported before pytest could have rewritten them
    "-Wignore::pytest.PytestAssertRewriteWarning",
)
LONGEST = 300.0
"""Seconds after which a mutant that does nothing has timed out. It is in nobody's way meanwhile."""
SEEDS = ("PULSEWIRE_SEED", "PULSEWIRE_TEST_SEED", "PULSEWIRE_HISTORY_SEED")
"""What tests take their seeds from: each mutant is to meet the same."""
PATIENCE = 1.0
"""Seconds of the processor's time that a test may take besides five times what it takes without a mutant."""
MOST_MEMORY = 3 << 30
"""Bytes that a mutant may ask for: one that fills a list forever fails of it."""
NO_TEST = 5
"""pytest's exit code when nothing was run."""


class Brokenness(Exception):
    """The tests of a room cannot say anything: they fail, or there are none."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one mutant.

    Attributes:
        line: where it is.
        operator: what kind.
        before: code.
        after: code.
        verdict: whether a test has noticed.
        killer: the test that failed; "import" where the module could not even be imported.
        seconds: it took, of the processor's time.
    """

    line: int
    operator: str
    before: str
    after: str
    verdict: Verdict
    killer: str
    seconds: float


class _Watcher:
    """pytest's plugin: picks the tests, puts them in order, and says which one failed."""

    def __init__(self) -> None:
        self.took: dict[str, float] = {}
        self.tells: int | None = None  # a pipe's end
        self.passed = 0

    @pytest.fixture(scope="session")
    def anyio_backend(self) -> str:
        """As in the project's conftest, which is not loaded."""
        return "asyncio"

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self, name: str, obj: object) -> list[pytest.Item] | None:
        """Nothing for tests that choose their servers: pytest does not like the choice without the fixture."""
        marks = [mark for mark in getattr(obj, "pytestmark", []) if mark.kwargs.get("indirect")]
        return [] if any("topology" in mark.args[0] for mark in marks) else None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Only tests whose fixtures are there, the quickest first."""
        items[:] = [item for item in items if _can_run(item)]
        items.sort(key=lambda item: self.took.get(item.nodeid, 0.0))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """One is run: how long it takes, and where that is known, how long it may."""
        began = time.process_time()
        if item.nodeid in self.took:
            _limit(began + PATIENCE + 5 * self.took[item.nodeid])
        result = yield
        self.took[item.nodeid] = time.process_time() - began
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One has passed or failed."""
        self.passed += report.when == "call" and report.passed
        if report.failed:
            self._tell(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file of tests could be imported, or not."""
        if report.failed:
            self._tell("import")

    def _tell(self, what: str) -> None:
        if self.tells is not None:
            os.write(self.tells, what.encode() + b"\n")


def _can_run(item: pytest.Item) -> bool:
    """Whether all its fixtures are known without the project's conftest files."""
    names: Iterable[str] = getattr(item, "fixturenames", ())
    info: Any = getattr(item, "_fixtureinfo", None)
    known = getattr(info, "name2fixturedefs", {})
    return all(name == "request" or name in known for name in names)


# --- a room


def examine(room: Room, known: Sequence[Trial] = ()) -> Iterator[Trial]:
    """Try all mutants of a room, or only those that survived the last time.

    It leaves traces: call it in a process for this room alone.

    Args:
        room: which.
        known: the trials of the last time, of the same mutants.

    Raises:
        Brokenness: the tests fail without any mutant.
    """
    settings.register_profile(
        "mutants",
        phases=[Phase.explicit, Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    os.chdir(ROOT)
    for name in SEEDS:
        os.environ.setdefault(name, "1")
    watcher = _Watcher()
    arguments = [*PYTEST, *room.tests]
    if not room.tests or pytest.main(arguments, plugins=[watcher]) or not watcher.passed:
        raise Brokenness(f"the tests of {room.name} have to pass: pytest {' '.join(room.tests)}")
    old = _forget(_to_import_anew(room.module))
    source = room.path.read_text(encoding="utf-8")
    config = _prepareconfig(arguments, [watcher])
    gc.collect()
    gc.freeze()  # so that a fork need not copy what the collector would touch

    tree = ast.parse(source, str(room.path))
    mutants = mutants_of(tree)

    def attempt(mutant: Mutant | None) -> tuple[Verdict, str, float]:
        def run() -> int:
            if mutant is not None:
                mutant.apply()  # in the child's copy of the tree
            sys.meta_path.insert(0, _Changed(room.module, tree, room.path))
            _import_anew(old)
            return int(config.hook.pytest_cmdline_main(config=config))

        return _in_a_fork(run, watcher)

    verdict, killer, _ = attempt(None)
    if verdict != "survived":
        raise Brokenness(f"the tests of {room.name} fail when they are run again: {killer}")
    for number, mutant in enumerate(mutants):
        if known and known[number].verdict != "survived":
            yield known[number]
        else:
            where = (mutant.line, mutant.operator, mutant.before, mutant.after)
            yield Trial(*where, *attempt(mutant))


def _in_a_fork(run: Callable[[], int], watcher: _Watcher) -> tuple[Verdict, str, float]:
    """Let a child run the tests, and judge by how it ends."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        _become_quiet()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":  # macOS refuses
            resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        _limit(10.0)  # to import it
        watcher.tells = writes
        try:
            code = run()
        except BaseException as error:  # noqa: BLE001  # whatever it is, a mutant has caused it
            os.write(writes, f"{type(error).__name__}\n".encode())
            code = 1
        os._exit(code)
    os.close(writes)
    said, is_late = _listen(reads, time.monotonic() + LONGEST)
    os.close(reads)
    if is_late:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    spent = round(usage.ru_utime + usage.ru_stime, 3)
    if is_late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return "timed out", "", spent
    if os.WIFSIGNALED(status):
        return "killed", f"signal {os.WTERMSIG(status)}", spent
    if os.WEXITSTATUS(status) == NO_TEST:
        raise Brokenness("no test was run")
    return ("killed" if status else "survived"), said.partition("\n")[0], spent


def _listen(reads: int, deadline: float) -> tuple[str, bool]:
    """What the child says until it ends, and whether it did not."""
    said = b""
    while (left := deadline - time.monotonic()) > 0:
        if select.select([reads], [], [], left)[0]:
            if not (data := os.read(reads, 4096)):
                return said.decode(errors="replace"), False
            said += data
    return said.decode(errors="replace"), True


def _become_quiet() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)


def _limit(seconds: float) -> None:
    """End this process when it has used so much of the processor's time, of which the system counts whole seconds."""
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), resource.RLIM_INFINITY))


# --- modules


class _Changed(importlib.machinery.SourceFileLoader):
    """Finds one module, and loads it from a tree."""

    def __init__(self, module: str, tree: ast.Module, path: Path) -> None:
        super().__init__(module, str(path))
        self._tree = tree

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """As a finder: this module alone."""
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def get_code(self, fullname: str) -> CodeType:
        """As a loader: of the changed tree."""
        return compile(self._tree, str(self.path), "exec", dont_inherit=True)


def _to_import_anew(module: str) -> set[str]:
    """The module, the tests, and what lies between: what imports the one and is imported by the others.

    Packages are not looked through: their names are put right instead (`_import_anew`). Otherwise a test that takes a
    name from the front door would have everything imported anew, which takes four times as long as the test.
    """
    ours = _ours()
    tests = {name for name in ours if name.startswith("tests")}
    imports = {name: _imported(path, ours) for name, path in ours.items()}
    imports |= {name: set() for name in ours if hasattr(sys.modules[name], "__path__")}
    importers: dict[str, set[str]] = {name: set() for name in ours}
    for name, found in imports.items():
        for one in found:
            importers[one].add(name)
    return {module} | tests | (_reached(module, by=importers) & _reached(*tests, by=imports))


def _ours() -> dict[str, Path]:
    """Modules that are loaded, and their files."""
    return {
        name: Path(file)
        for name, found in list(sys.modules.items())
        if name.split(".")[0] in ("pulsewire", "tests")
        and (file := getattr(found, "__file__", None))
    }


def _imported(path: Path, ours: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{one.name}" for one in node.names}
            found |= (members & set(ours)) or {node.module}
    return found & set(ours)


def _reached(*starts: str, by: dict[str, set[str]]) -> set[str]:
    reached, left = set(starts), list(starts)
    while left:
        new = by[left.pop()] - reached
        reached |= new
        left += new
    return reached


def _forget(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Drop modules, so that they are imported anew. What was in those that are no tests, by their names."""
    contents: dict[str, dict[str, Any]] = {}
    for name in names:
        module = sys.modules.pop(name)
        if not name.startswith("tests"):
            contents[name] = dict(vars(module))
        package, _, last = name.rpartition(".")
        if package in sys.modules and hasattr(sys.modules[package], last):
            delattr(sys.modules[package], last)
    return contents


def _import_anew(old: dict[str, dict[str, Any]]) -> None:
    """Import what was forgotten, and put what was made anew wherever the old one of the same name had been imported."""
    others = [vars(sys.modules[name]) for name in _ours()]
    for name, content in old.items():
        new = vars(importlib.import_module(name))
        for key, value in content.items():
            if not key.startswith("__") and key in new and new[key] is not value:
                for other in others:
                    if other.get(key, other) is value:
                        other[key] = new[key]
