"""How the ledger stores and compares a node's binding (docs/tokens.md, "The ledger"; pure)."""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network

from auth.networks import Network, read_address
from auth.records import NodeBinding, NodeProof

_BY_CERTIFICATE, _BY_SECRET = b"c", b"s"
_IPV4, _IPV6 = b"n4", b"n6"
_ADDRESS_BYTES = {_IPV4: 4, _IPV6: 16}


def encode_binding(binding: NodeBinding) -> Mapping[bytes, bytes]:
    """Return the fields of a token's record.

    A network is one byte, the length of its prefix, and its address.
    """
    fields = {b"bd": _BY_CERTIFICATE if binding.by_certificate else _BY_SECRET + binding.secret_hash}
    for network in binding.networks:
        name = _IPV4 if isinstance(network, IPv4Network) else _IPV6
        packed = bytes([network.prefixlen]) + network.network_address.packed
        fields[name] = fields.get(name, b"") + packed
    return fields


def decode_binding(bound: bytes, ipv4: bytes, ipv6: bytes) -> NodeBinding | None:
    """Read the fields `bd`, `n4` and `n6`; None if there is no binding."""
    if not bound:
        return None
    networks = (*_decode_networks(_IPV4, ipv4), *_decode_networks(_IPV6, ipv6))
    return NodeBinding(bound == _BY_CERTIFICATE, bound[1:], networks)


def encode_proof(proof: NodeProof) -> tuple[bytes, bytes, bytes]:
    """Return what `redeem.lua` compares: `c` for a certificate, the secret's hash, the packed address."""
    address = read_address(proof.source)
    certified = _BY_CERTIFICATE if proof.certified else b"-"
    return certified, proof.secret_hash, address.packed if address is not None else b""


def _decode_networks(name: bytes, packed: bytes) -> Iterator[Network]:
    kind = IPv4Network if name == _IPV4 else IPv6Network
    step = 1 + _ADDRESS_BYTES[name]
    for at in range(0, len(packed), step):
        yield kind((packed[at + 1 : at + step], packed[at]))
