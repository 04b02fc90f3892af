"""Access to the proxy: callers on this machine that know its secret. No I/O, except for the secret's file."""

import secrets
import stat
from base64 import b64decode
from collections.abc import Collection
from ipaddress import ip_address
from pathlib import Path

from auth.secret import Secret, split_password
from registry.datadir import write_atomically
from registry.errors import ConfigError, ProxyAccessError

_MAX_SECRET_BYTES = 1024
_MIN_SECRET_CHARS = 32


def load_or_create_secret(path: Path) -> Secret:
    """Return the proxy's secret; create its file, readable by its owner only, if there is none.

    Raises:
        ConfigError: The file cannot be read or written, everyone may read it, or it contains no secret.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, f"{secrets.token_urlsafe(32)}\n".encode())
        if stat.S_IMODE(path.stat().st_mode) & 0o007:
            raise ConfigError(f"every user can read {path}: run `chmod 0600 {path}`")
        with path.open("rb") as file:
            text = file.read(_MAX_SECRET_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read or written: {error.strerror}") from None
    if len(text) < _MIN_SECRET_CHARS or not text.isprintable() or "~" in text:
        raise ConfigError(f"{path} contains no secret: remove it, and start the proxy again")
    return Secret(text)


class LocalAccess:
    """Checks who calls the proxy.

    Args:
        secret: The proxy's secret.
        hosts: Values of `Host` under which the proxy is reached. Others come from a browser that was misled
            by DNS (DNS rebinding).
    """

    def __init__(self, secret: Secret, hosts: Collection[str]) -> None:
        self._secret = secret
        self._hosts = frozenset(hosts)

    def check_caller(self, peer: str | None, host: str) -> None:
        """Raise ProxyAccessError if a request comes from another machine or names another host."""
        try:
            is_local = ip_address(peer or "").is_loopback
        except ValueError:
            is_local = False
        if not is_local:
            raise ProxyAccessError("This proxy serves its own machine only.")
        if host.lower() not in self._hosts:
            raise ProxyAccessError(
                "The request names another host than this proxy. Pull from the address in --listen."
            )

    def pull_token(self, authorization: str) -> Secret:
        """Return the pull token of a request; it may be empty, as for `docker login` with the secret only.

        The password is `<pull token>~<secret of the proxy>`. The node's secret may be between them, as in a
        password for the registry itself; the proxy has its own.

        Raises:
            ProxyAccessError: The secret is missing or wrong.
        """
        scheme, _, encoded = authorization.partition(" ")
        try:
            text = b64decode(encoded.strip(), validate=True).decode() if scheme.lower() == "basic" else ""
        except ValueError:
            text = ""
        token, secret = split_password(Secret(text.partition(":")[2]))
        if secret is None or secret != self._secret:
            raise ProxyAccessError(
                "The password must be the pull token, a tilde and this proxy's secret. "
                "Check the secret in the proxy's --secret file."
            )
        return Secret(token.reveal().partition("~")[0])
