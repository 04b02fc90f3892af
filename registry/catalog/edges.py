"""Edge caches, and what they may read (implements `registry.model.edges`)."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from sqlalchemy import delete, func, insert, not_, or_, select
from sqlalchemy.exc import IntegrityError

from auth.ports import AuditEvent, Clock
from registry.catalog.engine.database import Database
from registry.catalog.events import append
from registry.catalog.tables import blob_keys, edges, image_contents, images, quarantine, retired_keys
from registry.errors import ConflictError
from registry.model.edges import MAX_EDGES, Ciphertext, Edge
from registry.model.images import ContentKind
from storage.digest import Digest

_SHOWN = [column for column in edges.c if column is not edges.c.key_hash]


class SqlEdges:
    """The table `edges`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, edge: Edge, key_hash: bytes, event: AuditEvent) -> None:
        """Insert an edge with the event. Raises ConflictError: name in use, or too many edges."""
        values = {
            "name": edge.name,
            "key_hash": key_hash,
            "url": edge.url,
            "serves": [str(network) for network in edge.serves],
            "networks": [str(network) for network in edge.networks],
            "created_at": edge.created_at,
        }
        try:
            async with self._database.write() as connection:
                count = (await connection.execute(select(func.count()).select_from(edges))).scalar_one()
                if count >= MAX_EDGES:
                    raise ConflictError(f"there are {MAX_EDGES} edges, the most that there can be")
                await connection.execute(insert(edges).values(values))
                await append(connection, edge.created_at, event)
        except IntegrityError:
            raise ConflictError(
                f"there is an edge {edge.name!r}: delete it, or choose another name"
            ) from None

    async def by_key(self, key_hash: bytes) -> Edge | None:
        """Return the edge whose key has this hash, or None."""
        async with self._database.read() as connection:
            found = await connection.execute(select(*_SHOWN).where(edges.c.key_hash == key_hash))
            row = found.mappings().first()
        return _edge(dict(row)) if row is not None else None

    async def list(self) -> Sequence[Edge]:
        """Return all edges, ordered by name."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(*_SHOWN).order_by(edges.c.name))).mappings().all()
        return [_edge(dict(row)) for row in rows]

    async def remove(self, name: str, event: AuditEvent) -> bool:
        """Delete an edge and its key, with the event. Returns False if there is no such edge."""
        async with self._database.write() as connection:
            if not (await connection.execute(delete(edges).where(edges.c.name == name))).rowcount:
                return False
            await append(connection, self._clock.now(), event)
            return True


class SqlCiphertexts:
    """Ciphertexts in `blob_keys` and `retired_keys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, digest: Digest) -> Ciphertext | None:
        """Return a ciphertext that is current, or was replaced in the last day; None if there is none."""
        async with self._database.read() as connection:
            for table in (blob_keys, retired_keys):
                query = (
                    select(table.c.tenant, table.c.digest, table.c.size_bytes)
                    .where(table.c.ciphertext == str(digest), not_(_quarantined(table.c.object_name)))
                    .limit(1)
                )
                row = (await connection.execute(query)).first()
                if row is not None:
                    return Ciphertext(digest, row.tenant, Digest.parse(row.digest), row.size_bytes)
        return None

    async def of_image(self, digest: Digest) -> Sequence[Ciphertext]:
        """Return the current ciphertexts of an image's layers, in all variants, each once."""
        names = (images.c.digest, images.c.manifest_digest, images.c.zstd_digest, images.c.index_digest)
        query = (
            select(blob_keys.c.ciphertext, blob_keys.c.tenant, blob_keys.c.digest, blob_keys.c.size_bytes)
            .join(image_contents, image_contents.c.digest == blob_keys.c.digest)
            .join(images, images.c.id == image_contents.c.image_id)
            .where(
                images.c.organization == blob_keys.c.tenant,
                or_(*(name == str(digest) for name in names)),
                image_contents.c.kind == ContentKind.LAYER.value,
                blob_keys.c.ciphertext.is_not(None),
            )
            .order_by(image_contents.c.position, blob_keys.c.tenant)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        found: dict[str, Ciphertext] = {}
        for ciphertext, tenant, plaintext, size in rows:
            found.setdefault(
                ciphertext, Ciphertext(Digest.parse(ciphertext), tenant, Digest.parse(plaintext), size)
            )
        return list(found.values())


def _quarantined(object_name: Any) -> Any:  # noqa: ANN401 (a column)
    return select(quarantine.c.object_name).where(quarantine.c.object_name == object_name).exists()


def _edge(row: Mapping[str, Any]) -> Edge:
    return Edge(
        row["name"],
        row["url"],
        tuple(map(ip_network, row["serves"])),
        tuple(map(ip_network, row["networks"])),
        row["created_at"],
    )
