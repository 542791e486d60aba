"""Ports for servers that cannot bind port 0 and say which one they got.

Responsible for handing out ports on 127.0.0.1 that no other user of this kit takes, in this or
another process. It cannot know of strangers: whoever starts a server on such a port still tries
the next one when the address is already in use.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import threading
from pathlib import Path

__all__ = ["HOST", "PortReservation", "reserve_port"]

HOST = "127.0.0.1"

# A reservation is a socket bound to the same port of another loopback address: the kernel gives it
# to one process only, and takes it back when that process dies, however it dies.
RESERVATION_HOST = "127.0.0.77"

LOWEST_PORT = 20_000
HIGHEST_PORT = 32_767
FEWEST_PORTS = 2_000
TRIES = 1_000
_CLIENT_PORTS_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class PortReservation:
    """A port that belongs to this process until `release`."""

    def __init__(self, port: int, claim: socket.socket | None) -> None:
        self.port = port
        self._claim = claim

    def release(self) -> None:
        """Give the port back. May be called twice."""
        _reserved.discard(self.port)
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    def __repr__(self) -> str:
        return f"<PortReservation {self.port}>"


_reserved: set[int] = set()
_lock = threading.Lock()
_random = random.Random(os.urandom(8))


def reserve_port() -> PortReservation:
    """A free port of 127.0.0.1, outside the range from which the kernel gives ports to clients.

    Outside, because a client that connects to anything would otherwise get the port of a server
    that is down for the moment, and keep it from coming back.

    Raises:
        OSError: no free port was found.
    """
    lowest, highest = _port_range()
    with _lock:
        for _ in range(TRIES):
            reservation = _try_to_reserve(_random.randint(lowest, highest))
            if reservation is not None:
                _reserved.add(reservation.port)
                return reservation
    raise OSError(errno.EADDRINUSE, f"found no free port of {HOST} from {lowest} to {highest}")


def _port_range() -> tuple[int, int]:
    if not _CLIENT_PORTS_FILE.exists():
        return LOWEST_PORT, HIGHEST_PORT
    first, last = (int(word) for word in _CLIENT_PORTS_FILE.read_text().split())
    beside = [(LOWEST_PORT, min(HIGHEST_PORT, first - 1)), (last + 1, 65_000), (10_000, first - 1)]
    for lowest, highest in beside:
        if highest - lowest >= FEWEST_PORTS:
            return lowest, highest
    return LOWEST_PORT, HIGHEST_PORT  # clients get every port here; the next best is to share


def _try_to_reserve(port: int) -> PortReservation | None:
    if port in _reserved or not _can_bind(port):
        return None
    claim = socket.socket()
    try:
        claim.bind((RESERVATION_HOST, port))
    except OSError as error:
        claim.close()
        if error.errno == errno.EADDRNOTAVAIL:  # a system with one loopback address
            return PortReservation(port, None)
        return None
    return PortReservation(port, claim)


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
