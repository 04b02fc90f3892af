"""Source networks that a node is held to (docs/tokens.md, "Binding"; pure)."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


def within(source: str, networks: Iterable[Network]) -> bool:
    """Tell whether an address, as sockets or proxies name it, lies in one of the networks."""
    try:
        address = ip_address(source.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
