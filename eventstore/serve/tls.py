"""TLS for a server: its certificate, read again when the file changes, and whose certificates its clients need."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from eventstore.errors import InvalidRequest

log = structlog.get_logger("eventstore.serve")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where certificate and key lie, in PEM, and the authorities that clients' certificates have to come from."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    """None: clients need no certificate."""

    def stamp(self) -> tuple[int, ...]:
        """Return what changes when one of the files does."""
        return tuple(path.stat().st_mtime_ns for path in (self.certificate, self.key, self.client_ca) if path)

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Read the files.

        Raises:
            OSError: One of them cannot be read.
            ssl.SSLError: They do not fit together, or are no certificates.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        authorities = None
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
            authorities = self.client_ca.read_bytes()
        pair = self.key.read_bytes(), self.certificate.read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=authorities)


def credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return what a server is given to use the files, which are looked at again at each handshake.

    Files that do not fit together, as while they are being replaced, are left alone until they do.

    Raises:
        InvalidRequest: They cannot be used now.
    """
    try:
        seen, first = files.stamp(), files.configuration()
    except (OSError, ssl.SSLError) as exc:
        raise InvalidRequest(
            f"the certificate cannot be used: {exc}; --tls-cert, --tls-key and --client-ca name PEM files"
        ) from exc

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal seen
        try:
            stamp = files.stamp()
            if stamp == seen:
                return None
            renewal = files.configuration()
        except (OSError, ssl.SSLError) as exc:
            log.warning("certificate not renewed", why=str(exc))
            return None
        seen = stamp
        log.info("certificate renewed")
        return renewal

    # The stubs know nothing of the None that stands for no renewal.
    return grpc.dynamic_ssl_server_credentials(
        first,
        renewed,  # type: ignore[arg-type]
        require_client_authentication=files.client_ca is not None,
    )
