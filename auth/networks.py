"""Allowed source networks of a node (docs/tokens.md, "Binding"). No I/O."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


def within(source: str, networks: Iterable[Network]) -> bool:
    """Return whether a textual address, as from a socket or proxy, is in one of the networks."""
    address = read_address(source)
    return address is not None and any(address in network for network in networks)


def read_address(source: str) -> IPv4Address | IPv6Address | None:
    """Parse an address; an IPv4-mapped one becomes IPv4. Returns None if it is invalid."""
    try:
        address = ip_address(source.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
