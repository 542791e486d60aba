"""One data server on its own, and what all topologies have in common.

Responsible for what a data server is told on its command line, with or without TLS. Its process is
`processes.py`, groups of servers are `sentinels.py` and `clusters.py`.
"""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import quote, urlencode

from pulsewire.testing.binaries import embedded_binary, server_version
from pulsewire.testing.certificates import Certificates
from pulsewire.testing.ports import HOST
from pulsewire.testing.processes import ServerProcess

__all__ = ["SingleServer", "Topology"]


@runtime_checkable
class Topology(Protocol):
    """What a test may ask of any arrangement of servers."""

    @property
    def kind(self) -> str:
        """Its name: "standalone", "sentinel" or "cluster"."""

    @property
    def url(self) -> str:
        """What to give to `pulsewire.connect`."""

    @property
    def servers(self) -> tuple[ServerProcess, ...]:
        """Every process of it, sentinels and replicas included."""

    async def masters(self) -> tuple[SingleServer, ...]:
        """The servers that accept writes now."""

    async def node_of(self, key: str) -> SingleServer:
        """The master that has this key now."""

    async def heal(self) -> None:
        """Bring back whatever was killed or paused, and wait until all is well."""


class SingleServer(ServerProcess):
    """A Valkey or Redis server of its own; an async context manager.

    Its data survives `kill` and `restart`: every write is in the append-only file before it is
    answered. Nothing is fsynced, since only the process dies here, not the machine.

    Args:
        binary: the server program; the one of the embedded server if none is given.
        args: more arguments, such as `("--maxmemory", "10mb")`. They win over the kit's own.
        password: what clients must say (`requirepass`).
        tls: certificates, for a server that speaks nothing but TLS. Needs a binary built with it.
        appendonly: whether data survives a restart.
    """

    def __init__(
        self,
        binary: Path | None = None,
        *,
        args: Sequence[str] = (),
        password: str | None = None,
        tls: Certificates | None = None,
        appendonly: bool = True,
        bus: bool = False,
    ) -> None:
        super().__init__(binary or embedded_binary(), password=password, bus=bus)
        self.tls = tls
        self.appendonly = appendonly
        self._args = tuple(args)

    @property
    def kind(self) -> str:
        """The name of this topology."""
        return "standalone"

    @property
    def url(self) -> str:
        """What to give to `pulsewire.connect`; with TLS the CA and a client certificate are in it."""
        user = f":{quote(self.password, safe='')}@" if self.password is not None else ""
        place = f"{user}{self.host}:{self.port}"
        if self.tls is None:
            return f"redis://{place}"
        options = {
            "ssl_ca_certs": str(self.tls.authority),
            "ssl_certfile": str(self.tls.client_certificate),
            "ssl_keyfile": str(self.tls.client_key),
        }
        return f"rediss://{place}?{urlencode(options)}"

    @property
    def servers(self) -> tuple[ServerProcess, ...]:
        """Itself."""
        return (self,)

    async def masters(self) -> tuple[SingleServer, ...]:
        """Itself."""
        return (self,)

    async def node_of(self, key: str) -> SingleServer:
        """Itself: it has every key."""
        return self

    async def heal(self) -> None:
        """Resume it if it is paused, restart it if it is down."""
        if not self.is_alive:
            await self.restart()
        self.resume()

    def ssl_context(self) -> ssl_module.SSLContext | None:
        """The client side of its TLS, with the client certificate."""
        return None if self.tls is None else self.tls.client_context()

    def arguments(self) -> list[str]:
        """The command line. The last word wins, so `args` comes last."""
        options = {
            "bind": HOST,
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if self.appendonly else "no",
            "appendfsync": "no",
            "auto-aof-rewrite-percentage": "0",
            "repl-diskless-sync-delay": "0",
        }
        if server_version(self.binary).number >= (7,):
            options["enable-debug-command"] = "yes"
        if self.password is not None:
            options |= {"requirepass": self.password, "masterauth": self.password}
        if self.tls is None:
            options["port"] = str(self.port)
        else:
            options |= {
                "port": "0",
                "tls-port": str(self.port),
                "tls-cert-file": str(self.tls.server_certificate),
                "tls-key-file": str(self.tls.server_key),
                "tls-ca-cert-file": str(self.tls.authority),
                "tls-auth-clients": "optional",
            }
        flat = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [*flat, *self._args]
