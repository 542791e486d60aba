"""Orphans of maps: what is in the place of a map and is none. Records of writers are looked at with all bookkeeping."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pulsewire.doctor.census import Census
from pulsewire.doctor.findings import Finding, Level
from pulsewire.doctor.orphans import SHOWN, Search
from pulsewire.errors import InvalidName, ServerError
from pulsewire.rmap.keys import MapKeys
from pulsewire.rmap.wire import REVISION_FIELD


async def search_maps(search: Search, census: Census) -> AsyncIterator[Finding]:
    """Look through all maps."""
    damaged: list[str] = []
    for number, name in enumerate(sorted(census.maps)):
        search.progress("looking at maps", number, len(census.maps))
        try:
            key = MapKeys(search.space, name).content
            revision = await search.link.call(key, "HGET", key, REVISION_FIELD, repeatable=True)
        except (InvalidName, ServerError):
            continue  # the key holds something else
        is_there = await search.link.call(key, "EXISTS", key, repeatable=True)
        if is_there and not (revision or b"").isdigit():
            damaged.append(name)
    if damaged:
        what = "maps have no revision: replicas take them for new, and step back"
        do = "Write to them: the first write gives them one. Then look who deletes fields of them."
        examples = tuple(damaged[:SHOWN])
        yield Finding(Level.WARN, "maps", "", what, do, len(damaged), examples)
