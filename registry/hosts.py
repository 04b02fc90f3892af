"""Registry hosts in the form of image references: `host[:port]`. Imports the standard library only.

Clients look up credentials, certificates and mirrors by the exact text of this host. Therefore minted
references, the portal, the realm, the command line, node configuration and credential helpers all use this
module.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from types import MappingProxyType
from typing import Final, Self
from urllib.parse import urlsplit

from registry.errors import ReferenceFormatError

MAX_HOST_LENGTH: Final = 253
MAX_PORT: Final = 65535
DEFAULT_PORTS: Final = MappingProxyType({"http": 80, "https": 443})

_HOST_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = rf"{_HOST_LABEL}(?:\.{_HOST_LABEL})*"
_HOST = re.compile(rf"(?P<name>{_HOST_NAME}|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_ROOT_DOT = re.compile(r"(?<=[A-Za-z0-9])\.(?=(?::[0-9]*)?\Z)")


def split_host(host: str) -> tuple[str, int | None]:
    """Split `host[:port]`. An IPv6 literal keeps its brackets.

    Raises:
        ReferenceFormatError: The host or the port is invalid.
    """
    match = _HOST.fullmatch(host.lower())
    if match is None or len(match["name"]) > MAX_HOST_LENGTH:
        raise ReferenceFormatError(
            "a registry must be a host name or an address, IPv6 in brackets, with an optional port"
        )
    name, port = match["name"], match["port"]
    if name.startswith("["):
        name = f"[{_parse_ipv6(name[1:-1])}]"
    if port is None:
        return name, None
    if not 0 < int(port) <= MAX_PORT:
        raise ReferenceFormatError("a registry's port must be between 1 and 65535")
    return name, int(port)


def reference_host(host: str, scheme: str = "https") -> str:
    """Return `host[:port]` in the canonical form of image references.

    The form is lower case, with IPv6 shortened and in brackets (RFC 5952), without a final dot, and without
    the scheme's default port.

    Raises:
        ReferenceFormatError: The host is invalid in a reference.
    """
    if not host.isascii():
        raise ReferenceFormatError("write an internationalized host name in its ASCII form: xn--...")
    name, port = split_host(_ROOT_DOT.sub("", host))
    return name if port in {None, DEFAULT_PORTS[scheme]} else f"{name}:{port}"


def asked_host(server: str) -> str:
    """Return the canonical host for which a container client requests credentials.

    Docker and Podman send the host as in the reference, Docker's older configurations `https://host/v1/`,
    and nerdctl `host:443`.

    Raises:
        ReferenceFormatError: The value contains no valid host.
    """
    scheme, separator, rest = server.partition("://")
    if separator and scheme.lower() not in DEFAULT_PORTS:
        raise ReferenceFormatError("a registry's URL must start with https:// or http://")
    host = (rest if separator else server).partition("/")[0]
    return reference_host(host, scheme.lower() if separator else "https")


@dataclass(frozen=True, slots=True)
class RegistryAddress:
    """URL of a registry.

    Attributes:
        scheme: `https` or `http`.
        host: In the form of `reference_host`.
    """

    scheme: str
    host: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse `https://HOST[:PORT]`, with or without a final slash.

        Raises:
            ReferenceFormatError: Says what to change. Omits the URL, which may contain a password.
        """
        if not url.isprintable() or " " in url:
            raise ReferenceFormatError("remove the spaces and control characters")
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ReferenceFormatError("write the host as a name or an address, IPv6 in brackets") from None
        if parts.scheme not in DEFAULT_PORTS or not url.lower().startswith(f"{parts.scheme}://"):
            raise ReferenceFormatError("start it with its scheme, https:// or http://")
        if "@" in parts.netloc:
            raise ReferenceFormatError("remove the user name and password")
        if parts.path not in {"", "/"}:
            raise ReferenceFormatError("remove the path: clients look for /v2/ at the root of a host")
        if "?" in url or "#" in url:
            raise ReferenceFormatError("remove the query and the fragment")
        if not parts.netloc:
            raise ReferenceFormatError("name the host: https://registry.example.com")
        return cls(parts.scheme, reference_host(parts.netloc, parts.scheme))

    @property
    def url(self) -> str:
        """Scheme and host, without a final slash."""
        return f"{self.scheme}://{self.host}"

    def require_referable(self) -> Self:
        """Return this address if image references can begin with its host.

        Clients treat `registry/image` as an image of Docker Hub, and would send the credentials there
        (github.com/distribution/reference, `splitDockerDomain`).

        Raises:
            ReferenceFormatError: The host is a single word without a port.
        """
        if self.host != "localhost" and not re.search(r"[.:]", self.host):
            raise ReferenceFormatError(
                f"clients read {self.host}/image as an image of Docker Hub: use a host name with a dot"
            )
        return self


def _parse_ipv6(text: str) -> IPv6Address:
    try:
        return IPv6Address(text)
    except AddressValueError:
        raise ReferenceFormatError("the text in [] is not an IPv6 address") from None


def listener_address(text: str) -> tuple[str, int]:
    """Split `HOST:PORT` or `[IPV6]:PORT` of a listener. Raises ValueError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit() and int(port) <= 65535):  # noqa: PLR2004 (TCP)
        raise ValueError("an address is HOST:PORT, for example 127.0.0.1:5001 or [::1]:5001")
    return host, int(port)


def shares_domain(host: str, own: str) -> bool:
    """Return whether one host is the other, or a subdomain of it.

    HTTP clients written in Go send the `Authorization` of a request to such hosts, if redirected there.
    """
    return host == own or host.endswith(f".{own}") or own.endswith(f".{host}")


def is_loopback(host: str) -> bool:
    """Return whether a listener's host is reachable from this machine only."""
    return host in {"127.0.0.1", "::1", "localhost"}
