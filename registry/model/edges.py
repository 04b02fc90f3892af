"""Edge caches: servers near nodes that keep ciphertext of layers (docs/how-to/edge-cache.md)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network
from typing import Final, Protocol

from auth.networks import Network, read_address
from auth.ports import AuditEvent
from storage.digest import Digest

EDGE_HEADER: Final = "Crisper-Edge"
"""Response of `GET /v2/`: URL of the node's edge. In requests for blobs, `none` asks for no redirect."""

NO_EDGE: Final = "none"
SLICE_BYTES: Final = 4 << 20
"""Size of the parts in which edges fetch and keep layers (`slice` in deploy/edge/nginx.conf)."""

MAX_EDGES: Final = 100
MAX_NETWORKS: Final = 64
"""Networks of nodes that one edge serves."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Record of an edge. Its key is shown once; the catalog stores the key's hash.

    Attributes:
        url: `https://HOST[:PORT]`, without a path. Layers are at `/blobs/<digest of the ciphertext>`.
        serves: Networks of the nodes that are sent to it.
        networks: Networks from which it may fetch; empty allows all.
    """

    name: str
    url: str
    serves: tuple[Network, ...]
    networks: tuple[Network, ...]
    created_at: datetime

    def blob_url(self, digest: Digest) -> str:
        """Return the URL of a layer's ciphertext."""
        return f"{self.url}/blobs/{digest}"


@dataclass(frozen=True, slots=True)
class Ciphertext:
    """Ciphertext of a layer.

    Attributes:
        digest: Digest of the ciphertext.
        organization: An organization that has the layer.
        plaintext: Digest under which the layer is stored.
    """

    digest: Digest
    organization: str
    plaintext: Digest
    size_bytes: int


class EdgeMap:
    """Finds the edge of the smallest network that has an address; of several edges, the first by name."""

    def __init__(self, edges: Iterable[Edge] = ()) -> None:
        self._edges: dict[Network, Edge] = {}
        for edge in sorted(edges, key=lambda each: each.name):
            for network in edge.serves:
                self._edges.setdefault(network, edge)
        self._lengths = sorted(
            {(network.version, network.prefixlen) for network in self._edges}, reverse=True
        )

    def find(self, source: str) -> Edge | None:
        """Return the edge for an address, or None."""
        address = read_address(source)
        if address is None:
            return None
        lengths = (length for version, length in self._lengths if version == address.version)
        networks = (ip_network((address, length), strict=False) for length in lengths)
        return next((self._edges[network] for network in networks if network in self._edges), None)


class EdgeRecords(Protocol):
    """Store of edges."""

    async def add(self, edge: Edge, key_hash: bytes, event: AuditEvent) -> None:
        """Insert an edge with the event.

        Raises:
            ConflictError: The name is in use, or there are `MAX_EDGES`.
        """

    async def by_key(self, key_hash: bytes) -> Edge | None:
        """Return the edge whose key has this hash, or None."""

    async def list(self) -> Sequence[Edge]:
        """Return all edges, ordered by name."""

    async def remove(self, name: str, event: AuditEvent) -> bool:
        """Delete an edge and its key, with the event. Returns False if there is no such edge."""


class Ciphertexts(Protocol):
    """Ciphertexts of all organizations."""

    async def find(self, digest: Digest) -> Ciphertext | None:
        """Return a ciphertext that is current, or was replaced in the last day; None if there is none."""

    async def of_image(self, digest: Digest) -> Sequence[Ciphertext]:
        """Return the current ciphertexts of an image's layers, in all variants, each once.

        Args:
            digest: Digest of the image as it was imported, or of one of its manifests.
        """
