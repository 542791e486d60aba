"""What the doctor says: findings with a level, and what was mended."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARN = "warn"
    RED = "red"


SEVERITY = {Level.RED: 0, Level.WARN: 1, Level.UNKNOWN: 2, Level.OK: 3}
"""Which findings come first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: how bad it is; `unknown` where the server did not let us ask.
        check: what was looked at, such as `eviction`.
        where: the server, or the block and its part; empty for the whole.
        what: what was found, and what that means.
        do: what to do about it; empty where there is nothing to do.
        count: how many keys, tasks or jobs it is about; 0 where that says nothing.
        examples: a few of them.
        mended: how many of them were mended.
    """

    level: Level
    check: str
    where: str
    what: str
    do: str = ""
    count: int = 0
    examples: tuple[str, ...] = ()
    mended: int = 0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was found, the worst first."""

    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Whether nothing is red."""
        return not self.of(Level.RED)

    @property
    def mended(self) -> int:
        """How many keys, tasks and jobs were mended."""
        return sum(finding.mended for finding in self.findings)

    def of(self, level: Level) -> tuple[Finding, ...]:
        """The findings of one level."""
        return tuple(finding for finding in self.findings if finding.level is level)

    def as_data(self) -> dict[str, Any]:
        """The same as dicts and lists, for JSON."""
        findings = [dataclasses.asdict(finding) for finding in self.findings]
        return {"is_well": self.is_well, "mended": self.mended, "findings": findings}


def sorted_findings(findings: list[Finding]) -> tuple[Finding, ...]:
    """The worst first; those of a level in the order in which they were looked at, what was mended before the rest."""
    return tuple(sorted(findings, key=lambda one: (SEVERITY[one.level], not one.mended)))
