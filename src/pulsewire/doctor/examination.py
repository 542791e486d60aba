"""One examination: the servers first, then the keys of every block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from pulsewire.doctor.census import Census, Progress, no_progress, take_census
from pulsewire.doctor.diagnosis import FORBIDDEN, diagnose_servers
from pulsewire.doctor.facts import gather_facts
from pulsewire.doctor.findings import Diagnosis, Finding, Level, sorted_findings
from pulsewire.doctor.orphans import Search
from pulsewire.doctor.orphans_maps import search_maps
from pulsewire.doctor.orphans_pools import search_pools
from pulsewire.doctor.orphans_streams import search_streams
from pulsewire.doctor.orphans_tasks import search_tasks
from pulsewire.errors import PermissionDenied
from pulsewire.hub import Hub

SEARCHES: dict[str, Callable[[Search, Census], AsyncIterator[Finding]]] = {
    "streams": search_streams,
    "maps": search_maps,
    "pools": search_pools,
    "tasks": search_tasks,
}


async def examine(hub: Hub, *, repair: bool = False, progress: Progress = no_progress) -> Diagnosis:
    """Look at everything that belongs to a hub's namespace, and at the servers that have it.

    Args:
        hub: where, and with which rights.
        repair: mend what is safe to mend while programs run; the findings say what was.
        progress: told what is done: what it is, how much, and how much there is (0: not known).

    Raises:
        ServerUnavailable: a server cannot be reached.
    """
    link, space = hub._link, hub._space  # noqa: SLF001  # it sees what a hub sees
    progress("asking the servers", 0, 0)
    findings = diagnose_servers(await gather_facts(link))
    try:
        census = await take_census(link, space, progress)
    except PermissionDenied:
        what = f"which keys there are is not known: {FORBIDDEN}"
        do = "Run it as a user that may SCAN, and has the rights of all blocks."
        findings.append(Finding(Level.UNKNOWN, "keys", "", what, do))
        return Diagnosis(sorted_findings(findings))
    search = Search(link, space, repair, progress)
    for block, look in SEARCHES.items():
        findings += await _searched(block, look(search, census))
    return Diagnosis(sorted_findings(findings))


async def _searched(block: str, found: AsyncIterator[Finding]) -> list[Finding]:
    findings: list[Finding] = []
    try:
        async for one in found:
            findings.append(one)  # noqa: PERF401  # what was found before an error counts
    except PermissionDenied as error:
        what = f"not all could be looked at: {error}"
        findings.append(
            Finding(Level.UNKNOWN, "orphans", block, what, "Allow it, and run it again.")
        )
    else:
        if all(one.level is Level.OK and not one.mended for one in findings):
            findings.append(Finding(Level.OK, "orphans", block, "none"))
    return findings
