"""Allowed source networks of a node (docs/tokens.md, "Binding"). No I/O."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


def within(source: str, networks: Iterable[Network]) -> bool:
    """Return whether an address, in the form of sockets or proxies, is in one of the networks."""
    try:
        address = ip_address(source.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
