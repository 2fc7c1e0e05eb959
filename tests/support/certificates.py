"""Certificates for servers and clients, from authorities of the test's own."""

from __future__ import annotations

from pathlib import Path

import trustme

from eventstore.serve.tls import TlsFiles


def written(folder: Path, authority: trustme.CA, *, client_ca: bool = False) -> TlsFiles:
    """Write a certificate of the authority's, its key, and the authority's own."""
    made = authority.issue_cert("127.0.0.1", "localhost")
    files = TlsFiles(folder / "cert.pem", folder / "key.pem", folder / "ca.pem" if client_ca else None)
    made.private_key_pem.write_to_path(files.key)
    files.certificate.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return files


def credentials_of(own: trustme.LeafCert | None) -> tuple[bytes | None, bytes | None]:
    if own is None:
        return None, None
    return own.private_key_pem.bytes(), b"".join(part.bytes() for part in own.cert_chain_pems)
