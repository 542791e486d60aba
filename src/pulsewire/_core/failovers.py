"""Whose leases may be believed after a failover. Pure.

A master that is being replaced goes on taking writes for a while that its successor never gets: after SENTINEL FAILOVER
for about a second, until the first sentinel announces the new one. Whatever was renewed there meanwhile ends earlier at
the successor than its owner believes, and the owner has no way to know before the announcement. Two rules make up for
that, one on each side; neither costs anything where there was no failover.

* An owner that hears of another server renews at it at once. Until that has succeeded, renewals of the last
  `UNREPLICATED` seconds before count for nothing, and it has `REVALIDATION` seconds at least.
* Nobody takes anything away from an owner that believes in its lease before having looked at the same server for
  `PATIENCE` seconds: whoever begins to look may have come after a failover that it knows nothing of.

So, if everybody hears of the new server within `UNREPLICATED` seconds of its promotion: who looks at it does so after
the promotion, and takes nothing before `PATIENCE` seconds are over; by then every owner has heard, and has either
renewed there or stopped.
"""

from __future__ import annotations

UNREPLICATED = 2.0
"""Seconds for which a server may take writes that its successor never gets: twice what was seen."""
REVALIDATION = 2.0
"""Seconds that an owner has for its first renewal at a new server, and for stopping, should it believe in no other."""
PATIENCE = UNREPLICATED + REVALIDATION


class Vigil:
    """How long somebody has looked at one and the same server."""

    __slots__ = ("_patience", "_server", "_since")

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._server: object = None
        self._since: float | None = None

    def is_over(self, server: object, now: float) -> bool:
        """Look at a server. Whether it has been the same one for long enough that lapsed leases may be believed.

        Args:
            server: names it; another name is another server.
            now: on the monotonic clock.
        """
        if self._since is None or server != self._server:
            self._server, self._since = server, now
        return now - self._since >= self._patience
