"""TLS of the server: its certificate, reloaded without a restart, and client certificates.

Client certificates are optional in the handshake, because operators and customers have none. Requests of
nodes that authenticate by certificate are refused without one. A certificate from an unknown CA fails the
handshake.
"""

import asyncio
import ssl
from pathlib import Path

import structlog

from registry.config import Settings
from registry.datadir import DataDir
from registry.errors import ConfigError

_LOOK_S = 5.0
_log = structlog.get_logger(__name__)


class ServerTls:
    """TLS context of the process. New connections get the newest certificate.

    Args:
        certificate: Certificate chain of the server, PEM.
        key: Private key of the certificate, PEM.
        client_cas: PEM files of the CAs for client certificates.

    Raises:
        ConfigError: A file cannot be read, or key and certificate do not match.
    """

    def __init__(self, certificate: Path, key: Path, client_cas: list[Path]) -> None:
        self._certificate = certificate
        self._key = key
        self.context = _context()
        # Trust listed intermediates directly, without their root.
        self.context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self.context.verify_mode = ssl.CERT_OPTIONAL
        try:
            for path in client_cas:
                self.context.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{path} contains no CA certificates (PEM): {error}") from None
        self._load()
        self._seen = self._stamp()

    def reload(self) -> None:
        """Reload the files. Keeps the current certificate if the new files do not match."""
        self._seen = self._stamp()
        try:
            self._load()
        except ConfigError as error:
            _log.error("tls.not_reloaded", reason=str(error))
        else:
            _log.info("tls.reloaded", certificate=str(self._certificate))

    async def watch(self) -> None:
        """Reload after each change of the files, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if await asyncio.to_thread(self._stamp) != self._seen:
                self.reload()

    def _load(self) -> None:
        # Load into a separate context first, because a failed load leaves a context half changed.
        for context in (_context(), self.context):
            try:
                context.load_cert_chain(self._certificate, self._key)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"{self._certificate} and {self._key} are not a certificate and its key: {error}"
                ) from None

    def _stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in (self._certificate, self._key))


def server_tls(settings: Settings, data: DataDir) -> ServerTls | None:
    """Return the server's TLS, or None without a certificate. Raises ConfigError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    trusted = (data.node_ca / "certificate.pem", settings.node_ca, settings.proxy_ca)
    return ServerTls(settings.tls_cert, settings.tls_key, [path for path in trusted if path is not None])


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # All suites are secure. The client knows which one is fast on its processor; Go prefers AES-128.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
