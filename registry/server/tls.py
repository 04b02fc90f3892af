"""The server's side of TLS: its certificate, renewed without a restart, and whom it asks for theirs.

Client certificates are optional at the socket, since operators and customers have none; nodes that are
bound by theirs are refused without it, request by request. One that is shown must be signed by a CA that
is trusted here, or the handshake fails.
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
    """One TLS context for the life of the process; new connections get the newest certificate.

    Args:
        certificate: The server's own chain, PEM.
        key: Its private key, PEM.
        client_cas: PEM files of the CAs that clients' certificates come from.

    Raises:
        ConfigError: A file cannot be read, or the key is not the certificate's.
    """

    def __init__(self, certificate: Path, key: Path, client_cas: list[Path]) -> None:
        self._certificate = certificate
        self._key = key
        self.context = _context()
        # An intermediate that is listed is trusted as it stands, without the root above it.
        self.context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self.context.verify_mode = ssl.CERT_OPTIONAL
        try:
            for path in client_cas:
                self.context.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{path} does not hold CA certificates: {error}") from None
        self._load()
        self._seen = self._stamp()

    def reload(self) -> None:
        """Take the files as they are now; keep what is in use when they do not belong together."""
        self._seen = self._stamp()
        try:
            self._load()
        except ConfigError as error:
            _log.error("tls.not_reloaded", reason=str(error))
        else:
            _log.info("tls.reloaded", certificate=str(self._certificate))

    async def watch(self) -> None:
        """Reload whenever the files have changed, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if await asyncio.to_thread(self._stamp) != self._seen:
                self.reload()

    def _load(self) -> None:
        # A context that fails to load is left with half of it, so another one tries first.
        for context in (_context(), self.context):
            try:
                context.load_cert_chain(self._certificate, self._key)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"{self._certificate} and {self._key} are no certificate with its key: {error}"
                ) from None

    def _stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in (self._certificate, self._key))


def server_tls(settings: Settings, data: DataDir) -> ServerTls | None:
    """Return the server's side of TLS; None without a certificate. Raises ConfigError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    trusted = (data.node_ca / "certificate.pem", settings.node_ca, settings.proxy_ca)
    return ServerTls(settings.tls_cert, settings.tls_key, [path for path in trusted if path is not None])


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Every suite will do, and the client knows which its processor is quick at: Go's put AES-128 first.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
