"""Where is changed: the pure rooms, each with the tests that belong to it. Pure.

A room is a module that neither awaits anything nor speaks with anybody. Its tests are those of the same name, and those
that are named here. Of these only the tests that need no server are run: the others would find most of it as well,
but what a pure room decides is to be shown where it can be shown at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["BLOCKS", "ROOMS", "Room"]

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = ("streaming", "rmap", "pool", "tasks")
"""The four that people use; the other rooms serve them."""

_NAMES: dict[str, str] = {
    "streaming": "retention positions holdings wire ordering filters demand keys",
    "rmap": "replica wire keys options",
    "pool": "ring roster jobs wire tenure keys options",
    "tasks": "retry wire keys messages option_text states",
    "tasks.serving": "order judgement deadlines crew options",
    "tasks.scheduling": "cron timetable",
    "tasks.apps": "signature",
    "tasks.inspecting": "views",
    "_core": "backoff checks ids codecs requests health vitals",
    "_redis": "slots targets namespace translate",
    "doctor": "diagnosis findings",
}
_MORE_TESTS: dict[str, tuple[str, ...]] = {
    "rmap.replica": ("rmap/test_histories.py",),
    "_core.health": ("health/test_examine.py",),
    "_core.vitals": ("health/test_vitals.py", "health/test_examine.py"),
    "doctor.findings": ("doctor/test_diagnosis.py",),
}


@dataclass(frozen=True, slots=True)
class Room:
    """A module below `pulsewire`, and where its tests are.

    Attributes:
        name: of the module, without the package.
        tests: files, from the root of the project.
    """

    name: str
    tests: tuple[str, ...]

    @property
    def module(self) -> str:
        """Its full name."""
        return f"pulsewire.{self.name}"

    @property
    def path(self) -> Path:
        """Its file."""
        return ROOT / "src" / Path(*self.module.split(".")).with_suffix(".py")

    @property
    def is_in_block(self) -> bool:
        """Whether it belongs to one of the four blocks."""
        return self.name.split(".")[0] in BLOCKS


def _room(package: str, name: str) -> Room:
    full = f"{package}.{name}"
    own = f"{'/'.join(package.split('.'))}/test_{name}.py"
    found = [f"tests/{test}" for test in (own, *_MORE_TESTS.get(full, ()))]
    return Room(full, tuple(test for test in found if (ROOT / test).exists()))


ROOMS = tuple(_room(package, name) for package, names in _NAMES.items() for name in names.split())
