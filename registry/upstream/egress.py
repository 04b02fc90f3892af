"""Egress guard: the addresses and URLs that an import may reach (docs/importer.md, "Egress guard").

Tenants control the registry, its realm and its redirects, so every connection is checked twice: the URL
before the request, and the address when the socket is created, after the last name resolution.
`ipaddress.is_global` is not used because it is wrong for several of these blocks.
"""

import re
import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from aiohttp import AddrInfoType
from yarl import URL

from registry.errors import EgressRefusedError
from registry.hosts import DEFAULT_PORTS, split_host

HTTPS_PORT: Final = DEFAULT_PORTS["https"]
HTTP_PORT: Final = DEFAULT_PORTS["http"]

#: IANA's special-purpose IPv4 blocks, and Azure's wire server, which has a public address.
_REFUSED_IPV4: Final = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
#: Within 2000::/3: protocol assignments (including Teredo and ORCHID), documentation, AS112.
_REFUSED_IPV6: Final = tuple(
    IPv6Network(block) for block in ("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20")
)
#: Addresses that only a rule for a host and port can allow, never a rule for a network: this machine,
#: link-local addresses and cloud metadata services.
_NEVER_BY_NETWORK: Final = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8",
        "100.100.100.200/32",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "192.0.0.192/32",
        "224.0.0.0/4",
        "255.255.255.255/32",
        "::/96",
        "fd00:ec2::/32",
        "fd20:ce::254/128",
        "fe80::/10",
        "ff00::/8",
    )
)
_EMBEDS_IPV4_LAST: Final = tuple(IPv6Network(block) for block in ("::ffff:0:0/96", "::/96", "64:ff9b::/96"))
_HOST: Final = re.compile(r"[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}")
_6TO4: Final = IPv6Network("2002::/16")
#: The middle of an ISATAP address, whose last 32 bits are an IPv4 address of any kind (RFC 5214).
_ISATAP: Final = frozenset({bytes.fromhex("00005efe"), bytes.fromhex("02005efe")})

Network = IPv4Network | IPv6Network


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is on the public internet, including addresses that embed another.

    IPv4-mapped, IPv4-compatible, NAT64 and 6to4 addresses are judged by the embedded IPv4 address. Teredo,
    ISATAP and NAT64's local-use prefix are always refused.
    """
    address = unwrapped(address)
    if isinstance(address, IPv4Address):
        return not any(address in block for block in _REFUSED_IPV4)
    if address.packed[8:12] in _ISATAP:
        return False
    return address in _GLOBAL_UNICAST and not any(address in block for block in _REFUSED_IPV6)


def unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address embedded in an IPv6 address. Return any other address unchanged."""
    if isinstance(address, IPv6Address):
        if any(address in block for block in _EMBEDS_IPV4_LAST):
            return IPv4Address(int(address) & 0xFFFF_FFFF)
        if address in _6TO4:
            return IPv4Address(int(address) >> 80 & 0xFFFF_FFFF)
    return address


class EgressGuard:
    """Decides which URLs and addresses are allowed. The operator can allow single hosts and networks."""

    def __init__(
        self,
        insecure: Collection[str] = (),
        private: Collection[str] = (),
        networks: Collection[Network] = (),
    ) -> None:
        """Configure the operator's exceptions; hosts are `host[:port]`.

        Args:
            insecure: Hosts that may use plain HTTP and private addresses; default ports 443 and 80.
            private: Hosts that may have private addresses, over TLS only; default port 443.
            networks: Networks with addresses that any registry may have, over TLS only. They never allow
                this machine, link-local addresses and cloud metadata services.

        Raises:
            ReferenceFormatError: An entry is not `host[:port]`.
        """
        self._insecure = _endpoints(insecure, (HTTPS_PORT, HTTP_PORT))
        self._private = self._insecure | _endpoints(private, (HTTPS_PORT,))
        self._networks = tuple(networks)

    def allows_plain_http(self, host: str, port: int) -> bool:
        """Return whether the operator listed this host and port as insecure."""
        return (host.lower(), port) in self._insecure

    def allows_private(self, url: URL) -> bool:
        """Return whether the operator allows a private address for this URL's host and port."""
        return (bracketed_host(url), url.port or 0) in self._private

    def vet(self, url: URL) -> None:
        """Check a URL before a request.

        Raises:
            EgressRefusedError: The URL is not allowed. The message has the host and the rule, no more.
        """
        if url.scheme not in {"http", "https"} or not url.raw_host:
            raise EgressRefusedError("only https URLs are allowed")
        host = authority(url)
        if url.user is not None or url.password is not None:
            raise EgressRefusedError(f"a URL at {host} carries credentials")
        if url.scheme == "http" and not self.allows_plain_http(bracketed_host(url), url.port or 0):
            raise EgressRefusedError(f"a URL at {host} does not use TLS")

    def permits(self, text: str) -> bool:
        """Return whether an address, as text, is public or in a network that the operator allows."""
        try:
            address = ip_address(text)
        except ValueError:
            return False
        if "%" in text:
            return False
        if is_public(address):
            return True
        address = unwrapped(address)
        allowed = any(address in network for network in self._networks)
        return allowed and not any(address in block for block in _NEVER_BY_NETWORK)

    def open_socket(self, addr_info: AddrInfoType) -> socket.socket:
        """Create a socket for a permitted address (a `socket_factory` for aiohttp's TCPConnector).

        Raises:
            EgressRefusedError: The address is neither public nor allowed by the operator.
        """
        family, kind, proto, _, address = addr_info
        if not self.permits(str(address[0])):
            raise EgressRefusedError("the address is not on the public internet")
        return socket.socket(family, kind, proto)


def parse_url(text: str, base: URL | None = None) -> URL:
    """Parse an untrusted URL: a realm, or a redirect relative to `base`.

    Raises:
        EgressRefusedError: It is not an absolute URL with a host, or has invalid characters.
    """
    try:
        url = URL(text, encoded=True)
        url = url if base is None else base.join(url)
        host, port = (url.raw_host or "").lower(), url.port
    except ValueError:
        host, port = "", None
    if not text.isascii() or not text.isprintable() or port is None or not _HOST.fullmatch(host):
        raise EgressRefusedError("the URL is not valid")
    return url.with_fragment(None)


def bracketed_host(url: URL) -> str:
    """Return a URL's host in the form of references: lower case, IPv6 in brackets."""
    host = (url.raw_host or "").lower().rstrip(".")
    return f"[{host}]" if ":" in host else host


def authority(url: URL) -> str:
    """Return a URL's `host[:port]`, without the scheme's default port."""
    host = bracketed_host(url)
    return host if url.is_default_port() else f"{host}:{url.port}"


def origin_of(url: URL) -> str:
    """Return a URL's scheme, host and port, in one form for each origin."""
    return f"{url.scheme}://{authority(url)}"


def _endpoints(listed: Collection[str], default_ports: Collection[int]) -> frozenset[tuple[str, int]]:
    pairs = [split_host(entry) for entry in listed]
    return frozenset((name, p) for name, port in pairs for p in ([port] if port else default_ports))
