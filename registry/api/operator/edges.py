"""The operator API's edge caches."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, ClassVar

from pydantic import Field

from registry.api.endpoint import Call, Endpoint
from registry.api.operator.shapes import Body, Count, Document, Instant, Name
from registry.model import edges as model
from registry.services.edges import Edges
from registry.services.prefetch import EDGES_AT_ONCE, Prefetch, Prefetched
from storage.digest import Digest

_MAX_URL_CHARS = 2048
_MAX_DIGEST_CHARS = 135
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], Field(max_length=model.MAX_NETWORKS)]


class NewEdge(Body):
    """An edge cache to be created.

    Attributes:
        url: Where nodes reach it, `https://HOST[:PORT]`.
        serves: Networks of the nodes that are sent to it; empty for nodes that name it themselves.
        networks: Networks from which it may fetch; empty allows all.
    """

    name: Name
    url: Annotated[str, Field(min_length=1, max_length=_MAX_URL_CHARS)]
    serves: Networks = ()
    networks: Annotated[tuple[IPv4Network | IPv6Network, ...], Field(max_length=32)] = ()


class Edge(Document):
    """An edge cache."""

    name: str
    url: str
    serves: list[str]
    networks: list[str]
    created_at: Instant

    @classmethod
    def of(cls, edge: model.Edge) -> "Edge":
        """Present an edge; its key is never shown again."""
        return cls(
            name=edge.name,
            url=edge.url,
            serves=[str(network) for network in edge.serves],
            networks=[str(network) for network in edge.networks],
            created_at=edge.created_at,
        )


class EdgeList(Document):
    """All edge caches, by name."""

    items: list[Edge]


class CreatedEdge(Document):
    """A new edge cache and its key, which is shown only once."""

    name: str
    url: str
    key: str


class NewPrefetch(Body):
    """An image to be fetched by edge caches.

    Attributes:
        digest: Digest of the image as it was imported, or of one of its manifests.
        edges: Names of the edges.
        start: Bytes to skip: the smallest `bytes_done` of an earlier call.
    """

    digest: Annotated[str, Field(min_length=1, max_length=_MAX_DIGEST_CHARS)]
    edges: Annotated[list[Name], Field(min_length=1, max_length=EDGES_AT_ONCE)]
    start: Count = 0


class WarmedEdge(Document):
    """What an edge cache has of the image.

    Attributes:
        bytes_done: Bytes from the beginning of the image's layers that the edge has, at least.
        bytes_fetched: Bytes that it did not have before this call.
        is_complete: Whether it has all layers.
        problem: Why it did not get further; null if it is complete, or the time of the call was over.
    """

    edge: str
    bytes_done: Count
    bytes_fetched: Count
    is_complete: bool
    problem: str | None


class PrefetchResult(Document):
    """What the edge caches have of the image.

    Attributes:
        layers: Number of encrypted layers, in all variants.
        size: Their size in bytes.
    """

    digest: str
    layers: Count
    size: Count
    edges: list[WarmedEdge]

    @classmethod
    def of(cls, digest: str, result: Prefetched) -> "PrefetchResult":
        """Present a result."""
        edges = [
            WarmedEdge(
                edge=each.edge,
                bytes_done=each.bytes_done,
                bytes_fetched=each.bytes_fetched,
                is_complete=each.bytes_done == result.size_bytes,
                problem=each.problem,
            )
            for each in result.edges
        ]
        return cls(digest=digest, layers=result.layers, size=result.size_bytes, edges=edges)


class EdgesApi:
    """Operations on edge caches."""

    tag: ClassVar[str] = "edges"

    def __init__(self, edges: Edges, prefetch: Prefetch) -> None:
        self._edges = edges
        self._prefetch = prefetch

    @Endpoint("POST", "/edges", "The edge and its key, shown only once.", status=201, errors=(409,))
    async def create_edge(self, call: Call[NewEdge]) -> CreatedEdge:
        """Create an edge cache."""
        new = call.body
        made = await self._edges.create(new.name, new.url, new.serves, new.networks, source=call.source)
        return CreatedEdge(name=made.edge.name, url=made.edge.url, key=made.key.reveal())

    @Endpoint("GET", "/edges", "All edges.")
    async def list_edges(self, call: Call[None]) -> EdgeList:  # noqa: ARG002 (no body)
        """List edge caches."""
        return EdgeList(items=[Edge.of(edge) for edge in await self._edges.list()])

    @Endpoint("DELETE", "/edges/{edge_name}", "Done.", status=204, errors=(404,))
    async def delete_edge(self, call: Call[None]) -> None:
        """Delete an edge cache. Its key is refused from now on."""
        await self._edges.delete(call.path("edge_name"), source=call.source)

    @Endpoint("POST", "/prefetch", "What the edges have of the image.", errors=(404, 409))
    async def prefetch(self, call: Call[NewPrefetch]) -> PrefetchResult:
        """Let edge caches fetch an image before its first pull.

        A call takes up to 45 seconds. If an edge is not complete and has no problem, call again with `start`.
        """
        digest = Digest.parse(call.body.digest)
        result = await self._prefetch.run(digest, call.body.edges, call.body.start, source=call.source)
        return PrefetchResult.of(str(digest), result)
