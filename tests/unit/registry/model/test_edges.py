"""Which edge serves a node, and which slices of an image a prefetch asks for."""

from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from registry.errors import CatalogUnavailableError, ConflictError, EdgeFailedError, NotFoundError
from registry.model.edges import SLICE_BYTES, Ciphertext, Edge, EdgeMap
from registry.pull.nearest_edge import REFRESH_S, NearestEdge
from registry.services.prefetch import Prefetch
from storage.digest import Digest

LAYERS = [
    Ciphertext(Digest.of(b"1"), "acme", Digest.of(b"a"), 2 * SLICE_BYTES + 1),
    Ciphertext(Digest.of(b"2"), "acme", Digest.of(b"b"), 5),
]
SIZE = 2 * SLICE_BYTES + 6


def edge(name: str, *serves: str) -> Edge:
    networks = tuple(map(ip_network, serves))
    return Edge(name, f"https://{name}.example.net", networks, (), datetime(2026, 1, 1, tzinfo=UTC))


EDGES = [
    edge("wide", "10.0.0.0/8", "2001:db8::/32"),
    edge("narrow", "10.1.0.0/16", "10.1.2.3/32"),
    edge("another", "10.1.0.0/16"),
    edge("everywhere", "::/0"),
    edge("nowhere"),
]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("10.2.3.4", "wide"),
        ("10.1.9.9", "another"),
        ("10.1.2.3", "narrow"),
        ("::ffff:10.2.3.4", "wide"),
        ("2001:db8::1%eth0", "wide"),
        ("2001:db9::1", "everywhere"),
        ("192.0.2.1", None),
        ("unknown", None),
        ("", None),
    ],
)
def test_the_smallest_network_decides(source: str, name: str | None) -> None:
    found = EdgeMap(EDGES).find(source)
    assert (found.name if found else None) == name


class Records:
    """Edges in memory, and a catalog that may be down."""

    def __init__(self) -> None:
        self.edges = [edge("berlin", "10.0.0.0/8")]
        self.is_down = False

    async def list(self) -> list[Edge]:
        if self.is_down:
            raise CatalogUnavailableError("down")
        return self.edges


async def test_edges_are_read_again_and_kept_without_the_catalog() -> None:
    now, records = [0.0], Records()
    nearest = NearestEdge(records, lambda: now[0])  # type: ignore[arg-type]
    assert await nearest.of("10.0.0.1") is records.edges[0]
    records.edges = []
    assert await nearest.of("10.0.0.1") is not None
    now[0] += REFRESH_S
    records.is_down = True
    assert await nearest.of("10.0.0.1") is not None
    now[0] += REFRESH_S
    records.is_down = False
    assert await nearest.of("10.0.0.1") is None


class Client:
    """An edge that records what it was asked for, and fails at an offset."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.touched: list[tuple[str, int]] = []
        self.fails_at = fails_at

    async def touch(self, url: str, offset: int) -> bool:
        self.touched.append((url, offset))
        if offset == self.fails_at:
            raise EdgeFailedError("it does not answer")
        return offset == SLICE_BYTES


class Layers:
    """Ciphertexts of one image."""

    async def of_image(self, digest: Digest) -> list[Ciphertext]:
        return LAYERS if digest == Digest.of(b"image") else []


class Trail:
    """Counts events."""

    count = 0

    async def record(self, _event: object) -> None:
        self.count += 1


def prefetch(client: Client) -> Prefetch:
    return Prefetch(Records(), Layers(), client, Trail())  # type: ignore[arg-type]


async def test_a_prefetch_asks_for_each_slice_once() -> None:
    client = Client()
    result = await prefetch(client).run(Digest.of(b"image"), ["berlin", "berlin"], 0, source="")
    (warmed,) = result.edges
    assert [offset for _, offset in client.touched] == [0, SLICE_BYTES, 2 * SLICE_BYTES, 0]
    assert {url for url, _ in client.touched} == {
        f"https://berlin.example.net/blobs/{layer.digest}" for layer in LAYERS
    }
    assert (result.size_bytes, warmed.bytes_done) == (SIZE, SIZE)
    assert warmed.bytes_fetched == SIZE - SLICE_BYTES


@pytest.mark.parametrize(
    ("start", "asked"),
    [(SLICE_BYTES - 1, 4), (SLICE_BYTES, 3), (SIZE - 5, 1), (SIZE - 1, 1), (SIZE, 0), (SIZE + 9, 0)],
)
async def test_a_prefetch_continues(start: int, asked: int) -> None:
    client = Client()
    result = await prefetch(client).run(Digest.of(b"image"), ["berlin"], start, source="")
    assert len(client.touched) == asked
    assert result.edges[0].bytes_done == SIZE


async def test_a_prefetch_says_why_an_edge_is_not_complete() -> None:
    result = await prefetch(Client(fails_at=SLICE_BYTES)).run(Digest.of(b"image"), ["berlin"], 0, source="")
    assert (result.edges[0].bytes_done, result.edges[0].problem) == (0, "it does not answer")
    with pytest.raises(NotFoundError, match="crisper edge list"):
        await prefetch(Client()).run(Digest.of(b"image"), ["paris"], 0, source="")
    with pytest.raises(ConflictError, match="ciphertext"):
        await prefetch(Client()).run(Digest.of(b"other"), ["berlin"], 0, source="")
