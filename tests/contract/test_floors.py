"""The floor plan holds: imports go down, and the check that says so can say no.

The contracts stand in `pyproject.toml` under `tool.importlinter`; `make check` runs the same program.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A module to plant, what it says, and the words by which the check must name the culprit.
PLANTS = [
    ("_core/planted.py", "import pulsewire._redis", "pulsewire._core.planted -> pulsewire._redis"),
    ("_core/front.py", "import pulsewire", "pulsewire._core.front -> pulsewire"),
    ("_core/client.py", "from redis.asyncio import Redis", "pulsewire._core.client -> redis"),
    (
        "_redis/planted.py",
        "from pulsewire import streaming",
        "pulsewire._redis.planted -> pulsewire.streaming",
    ),
    (
        "streaming/parser.py",
        "def f():\n    import hiredis",
        "pulsewire.streaming.parser -> hiredis",
    ),
    (
        "streaming/kit.py",
        "import pulsewire.testing",
        "pulsewire.streaming.kit -> pulsewire.testing",
    ),
    (
        "rmap/planted.py",
        "import pulsewire.streaming",
        "pulsewire.rmap.planted -> pulsewire.streaming",
    ),
    ("cli/planted.py", "import pulsewire._core", "pulsewire.cli.planted -> pulsewire._core"),
    (
        "cli/store.py",
        "from pulsewire.streaming import planted_store",
        "pulsewire.cli.store -> pulsewire.streaming.planted_store",
    ),
    (
        "cli/dash.py",
        "import pulsewire.dashboard.page",
        "pulsewire.cli.dash -> pulsewire.dashboard.page",
    ),
    ("cli/weather.py", "import pulsewire.testing", "pulsewire.cli.weather -> pulsewire.testing"),
    ("attic/__init__.py", "", "attic"),
]

# Files that must be there for a planted import to resolve.
COMPANIONS = [
    "cli/__init__.py",
    "dashboard/__init__.py",
    "dashboard/page.py",
    "rmap/__init__.py",
    "streaming/__init__.py",
    "streaming/planted_store.py",
    "testing/__init__.py",
]


def lint_imports(source: Path) -> subprocess.CompletedProcess[str]:
    """Run the import check of `pyproject.toml` on the package under `source`."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            *("--no-cache", "--no-logo", "--config", str(ROOT / "pyproject.toml")),
        ],
        env=os.environ | {"PYTHONPATH": str(source), "COLUMNS": "200", "NO_COLOR": "1"},
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_follow_the_floor_plan() -> None:
    """Every import in `src` goes down, and only `_redis` knows the client."""
    answer = lint_imports(ROOT / "src")
    assert answer.returncode == 0, f"\n{answer.stdout}{answer.stderr}"


@pytest.fixture(scope="module")
def planted_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the check says of a copy of `src` into which every violation of `PLANTS` was put."""
    source = tmp_path_factory.mktemp("planted")
    package = source / "pulsewire"
    shutil.copytree(
        ROOT / "src" / "pulsewire", package, ignore=shutil.ignore_patterns("__pycache__")
    )
    for companion in COMPANIONS:
        path = package / companion
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name, text, _culprit in PLANTS:
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    answer = lint_imports(source)
    assert answer.returncode == 1, f"\n{answer.stdout}{answer.stderr}"
    return " ".join(answer.stdout.split())


@pytest.mark.parametrize("culprit", [culprit for _name, _text, culprit in PLANTS])
def test_planted_violation_is_named(planted_report: str, culprit: str) -> None:
    """An import against the floor plan is refused, and the report names who imports whom."""
    assert culprit in planted_report
