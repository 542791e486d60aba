"""Makes the clone's own Python environment ready, and does nothing when it already is.

`make` calls it with the dependency group that a target needs. It creates `.venv` (or `--at`),
installs pulsewire in editable form with the extras `embedded` and `speed` and the group from
`pyproject.toml`, and leaves a stamp. The stamp holds a fingerprint of everything that decides what
is installed, so the next call returns at once, and a changed dependency is installed by itself.

Only the standard library is used here: this runs before anything is installed. The Makefile has
already checked that the Python is new enough.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("embedded", "speed")
STAMP = "pulsewire-ready.json"

# Asked of a Python that may become the base of an environment. Debian and its children build with
# profile and link-time optimisation by rules of their own and then empty PGO_PROF_USE_FLAG, so
# `--enable-optimizations` does not stand in their CONFIG_ARGS.
ABOUT_PYTHON = """
import importlib.util, json, platform, sys, sysconfig
args = sysconfig.get_config_var("CONFIG_ARGS") or ""
flag = sysconfig.get_config_var("PGO_PROF_USE_FLAG")
print(json.dumps({
    "executable": sys.executable,
    "version": platform.python_version(),
    "can_venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
    "is_new_enough": sys.version_info >= (3, 11),
    "is_optimised": "--enable-optimizations" in args or flag == "",
}))
"""


class SetupError(Exception):
    """Something the person at the terminal has to change; the message says what."""


def about(python: str) -> dict[str, Any] | None:
    """What `python` says of itself, or None when it does not run."""
    try:
        answer = subprocess.run(
            [python, "-c", ABOUT_PYTHON], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    facts: dict[str, Any] = json.loads(answer.stdout)
    return facts


def choose_optimised() -> dict[str, Any] | None:
    """The first usable Python built with optimisations: the one running this, or the system's."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        facts = about(candidate)
        if facts and facts["is_optimised"] and facts["is_new_enough"] and facts["can_venv"]:
            return facts
    return None


def requirements(groups: dict[str, list[Any]], name: str) -> list[str]:
    """The requirements of a dependency group, included groups unfolded."""
    found: list[str] = []
    for item in groups[name]:
        if isinstance(item, str):
            found.append(item)
        else:
            found += requirements(groups, item["include-group"])
    return found


def fingerprint(pyproject: dict[str, Any], wanted: list[str], base: dict[str, Any]) -> str:
    """A digest of all that decides what an environment holds and where it points."""
    facts = [
        pyproject["build-system"],
        pyproject["project"],
        wanted,
        base["executable"],
        base["version"],
        str(ROOT),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_stamp(environment: Path) -> dict[str, str]:
    """Group -> fingerprint of what is installed; empty when nothing is known."""
    try:
        stamp: dict[str, str] = json.loads((environment / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return stamp


def is_usable(environment: Path) -> bool:
    """Whether a folder holds an environment whose Python and pip run."""
    python = environment / "bin" / "python"
    if not python.exists():
        return False
    answer = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
    return answer.returncode == 0


def create(environment: Path, base: dict[str, Any]) -> None:
    """Make a fresh environment, replacing what cannot be used."""
    if not base["can_venv"]:
        short = ".".join(base["version"].split(".")[:2])
        message = (
            f"{base['executable']} cannot make virtual environments: its `venv` module is not "
            f"complete.\nOn Debian and Ubuntu: apt-get install python{short}-venv. "
            "Or choose another Python: make PYTHON=/path/to/python3 …"
        )
        raise SetupError(message)
    if environment.exists():
        shutil.rmtree(environment)
    answer = subprocess.run(
        [base["executable"], "-m", "venv", environment], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        message = f"`python -m venv` failed:\n{answer.stdout}{answer.stderr}"
        raise SetupError(message)


def install(environment: Path, wanted: list[str]) -> None:
    """Install pulsewire, its extras and `wanted` with the environment's own pip."""
    command: list[str | Path] = [environment / "bin" / "python", "-m", "pip", "install", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input"]
    command += ["--editable", f".[{','.join(EXTRAS)}]", *wanted]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        message = "pip could not install what is needed; its own words stand above."
        raise SetupError(message)


def make_ready(environment: Path, group: str, base: dict[str, Any]) -> None:
    """Bring `environment` to what `group` needs."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = requirements(pyproject["dependency-groups"], group)
    current = fingerprint(pyproject, wanted, base)
    stamp = read_stamp(environment)
    if stamp.get(group) == current:
        return
    where = environment.relative_to(ROOT) if environment.is_relative_to(ROOT) else environment
    print(
        f"Setting up {where} for `make {group}` with Python {base['version']} "
        "(once, takes up to a minute) …",
        flush=True,
    )
    is_other_base = stamp.get("base", base["executable"]) != base["executable"]
    if is_other_base or stamp.get("root", str(ROOT)) != str(ROOT) or not is_usable(environment):
        create(environment, base)
        stamp = {}
    install(environment, wanted)
    stamp |= {group: current, "base": base["executable"], "root": str(ROOT)}
    (environment / STAMP).write_text(json.dumps(stamp, indent=1) + "\n")


def main() -> int:
    """Run from the command line; the exit status is for make."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("group", help="a dependency group of pyproject.toml")
    parser.add_argument("--at", type=Path, default=Path(".venv"), help="the environment's folder")
    parser.add_argument(
        "--optimised",
        action="store_true",
        help="prefer a Python that was built with optimisations, and say which one is used",
    )
    options = parser.parse_args()

    base = about(sys.executable)
    if base is None:
        raise AssertionError("this very Python runs")
    if options.optimised:
        optimised = choose_optimised()
        base = optimised or base
        kind = "built with optimisations" if optimised else "NOT built with optimisations: slower"
        print(f"Python {base['version']}, {base['executable']}, {kind}", flush=True)

    lock = ROOT / ".cache" / "environment.lock"
    lock.parent.mkdir(exist_ok=True)
    try:
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)  # two targets may be made at once
            make_ready(ROOT / options.at, options.group, base)
    except SetupError as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
