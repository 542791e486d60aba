"""What the tests of all acts need: the numbers of the summary, the processes of the crew, and what is left of them."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from pulsewire.cli.demo.journal import Arrived, JournalReader, Record
from pulsewire.testing.waiting import wait_until
from tests.cli.programs import Program

__all__ = [
    "Act",
    "assert_all_gone",
    "assert_is_plain",
    "crew_at_work",
    "crew_of",
    "is_running",
    "lasting_keys",
    "numbers",
    "rows",
]


@dataclass(frozen=True, kw_only=True)
class Act:
    """An act that lasts longer than any test waits: what ends it is what is tested.

    Attributes:
        options: How it is played.
        members: How many processes it has.
        journals: Which of these are at work,
        sign: when they write this.
    """

    options: tuple[str, ...]
    members: int
    journals: str
    sign: type[Record]


def numbers(output: str) -> dict[str, str]:
    """The lines of the summary, by their names."""
    lines = (re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in output.splitlines())
    return {words[0]: words[1] for words in lines if len(words) == 2}


def rows(output: str, first: str, headings: Sequence[str]) -> dict[str, dict[str, str]]:
    """The rows of the summary's table by their first cells, which match `first`; the last cell says how it ended."""
    cells = r"\s{2,}(.*?)" * (len(headings) - 1)
    found = re.findall(rf"^({first}){cells}\s{{2,}}(killed|stopped)$", output, flags=re.MULTILINE)
    return {name: dict(zip(headings, map(str.strip, row), strict=True)) for name, *row in found}


def assert_is_plain(output: str) -> None:
    """Check that there are no control codes: nobody looks at a terminal."""
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", output)


def is_running(pid: int) -> bool:
    """Whether there is such a process, other than as a zombie that waits for somebody else's parent."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def crew_of(folder: Path) -> dict[str, int]:
    """The process ids that the journals of the running demo tell."""
    return {
        journal.stem: record.pid
        for journal in folder.glob("pulsewire-demo-*/*.journal")
        for record in JournalReader(journal).read_new()
        if isinstance(record, Arrived)
    }


async def crew_at_work(demo: Program, folder: Path, act: Act) -> dict[str, int]:
    """Wait until everybody has arrived and works; return their process ids. If they do not, show what the demo said."""

    def is_at_work() -> bool:
        return len(crew_of(folder)) == act.members and any(
            isinstance(record, act.sign)
            for journal in folder.glob(f"pulsewire-demo-*/{act.journals}.journal")
            for record in JournalReader(journal).read_new()
        )

    try:
        await wait_until(is_at_work, timeout=60.0, what="the crew is at work")
    except AssertionError as not_seen:
        demo.send(signal.SIGTERM)
        demo.wait_end()
        raise AssertionError(f"{not_seen}:\n{demo.output}") from None
    return crew_of(folder)


async def assert_all_gone(crew: dict[str, int]) -> None:
    """Check that no process of the crew is left."""
    await wait_until(
        lambda: not any(is_running(pid) for pid in crew.values()),
        timeout=20.0,
        what="all processes of the demo have ended",
    )


def lasting_keys(url: str, part: str) -> list[str]:
    """Keys that would never go by themselves."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return sorted(str(key) for key in client.scan_iter(f"*{part}*") if client.ttl(key) == -1)
