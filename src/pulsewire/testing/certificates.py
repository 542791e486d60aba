"""A certificate authority that lives as long as a test, for servers that speak TLS.

Responsible for the files and the client side of TLS. Needs the package `trustme`, which only tests
need.
"""

from __future__ import annotations

import ssl as ssl_module
from dataclasses import dataclass
from pathlib import Path

from pulsewire.testing.ports import HOST

__all__ = ["Certificates", "make_certificates"]


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: an authority, and what it issued to one server (127.0.0.1, localhost) and one client."""

    authority: Path
    server_certificate: Path
    server_key: Path
    client_certificate: Path
    client_key: Path

    def client_context(self) -> ssl_module.SSLContext:
        """A context that trusts the authority alone, and shows the client certificate."""
        context = ssl_module.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(self.client_certificate, self.client_key)
        return context


def make_certificates(directory: Path) -> Certificates:
    """Write a new authority and its certificates into `directory`.

    Raises:
        ModuleNotFoundError: `trustme` is not installed.
    """
    import trustme  # noqa: PLC0415 - the kit works without it where TLS is not tested

    authority = trustme.CA()
    files = Certificates(
        authority=directory / "authority.pem",
        server_certificate=directory / "server.pem",
        server_key=directory / "server.key",
        client_certificate=directory / "client.pem",
        client_key=directory / "client.key",
    )
    authority.cert_pem.write_to_path(str(files.authority))
    for identity, certificate, key in (
        ((HOST, "localhost"), files.server_certificate, files.server_key),
        (("pulsewire@client.test",), files.client_certificate, files.client_key),
    ):
        issued = authority.issue_cert(*identity)
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
    return files
