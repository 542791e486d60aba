"""Orphans of streams: consumers that are gone, sinks that nobody runs, bookkeeping that would stay for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pulsewire.doctor.census import Census
from pulsewire.doctor.findings import Finding, Level
from pulsewire.doctor.orphans import REPAIR, SHOWN, Search, finding
from pulsewire.errors import InvalidName, ServerError
from pulsewire.streaming.keys import StreamKeys
from pulsewire.streaming.store import StreamStore
from pulsewire.streaming.wire import GroupInfo

SILENT = 3600.0
"""Seconds after which a consumer is gone: a living one asks every few seconds."""
BOOKKEEPING_LIVES = 7 * 86400.0


async def search_streams(search: Search, census: Census) -> AsyncIterator[Finding]:
    """Look through all streams, and through what lies beside streams and maps."""
    for number, name in enumerate(sorted(census.streams)):
        search.progress("looking at streams", number, len(census.streams))
        try:
            store = StreamStore(search.link, StreamKeys(search.space, name))
            info = await store.info()
        except (InvalidName, ServerError):
            continue  # the key holds something else
        for group in info.groups:
            async for one in _search_group(search, store, f"stream {name}", group):
                yield one
    lasting = await search.without_ttl(census.beside, BOOKKEEPING_LIVES)
    if lasting:
        what = "bookkeeping beside streams, maps and queues has no time to live: it stays for ever"
        do = f"{REPAIR} It goes after seven days in which nobody uses it."
        yield finding(search, "bookkeeping", "", lasting, what, do=do, red=False)


async def _search_group(
    search: Search, store: StreamStore, where: str, group: GroupInfo
) -> AsyncIterator[Finding]:
    where = f"{where}, sink {group.name}"
    silent = [consumer for consumer in group.consumers if consumer.idle > SILENT]
    if idle := [consumer.name for consumer in silent if not consumer.pending]:
        if search.repair:
            await store.sweep(group.name, "", min_idle=SILENT)
        what = "consumers are gone, and hold nothing"
        yield finding(search, "consumers", where, idle, what, red=False)
    holding = [consumer for consumer in silent if consumer.pending]
    if holding and len(silent) < len(group.consumers):
        pending = sum(consumer.pending for consumer in holding)
        what = f"consumers are gone and hold {pending} events that the others have not taken over"
        do = "The others do, once they have room: look at their logs. A sink of a Go program needs its own."
        names = tuple(consumer.name for consumer in holding)
        yield Finding(Level.WARN, "consumers", where, what, do, len(names), names[:SHOWN])
    elif len(silent) == len(group.consumers) and (group.pending or group.lag):
        lag = "an unknown number" if group.lag is None else str(group.lag)
        what = (
            f"nobody runs it: {group.pending} events are pending and {lag} not delivered; the stream keeps "
            "all of them, until `add` raises StreamFull"
        )
        do = "Run the sink, or remove its group: redis-cli XGROUP DESTROY KEY GROUP."
        yield Finding(Level.WARN, "sinks", where, what, do, group.pending)
