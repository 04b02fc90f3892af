"""Damaged objects and the affected groups (the table `quarantine`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import RowMapping, and_, delete, insert, select
from sqlalchemy.exc import IntegrityError

from auth.ports import AuditEvent, Clock
from registry.catalog.engine.database import Database
from registry.catalog.events import append
from registry.catalog.key_records import record_of
from registry.catalog.tables import blob_keys, groups, image_contents, images, quarantine, versions
from storage.digest import Digest
from storage.records import KeyRecord


@dataclass(frozen=True, slots=True)
class DamagedImage:
    """A version of a group whose image has a damaged blob.

    Attributes:
        image: The reference as the customer wrote it.
        image_digest: Digest to which the reference resolved at import.
        platform: Platforms that were imported, separated by commas.
    """

    organization: str
    project: str
    group: str
    version: int
    image: str
    image_digest: Digest
    platform: str


class SqlQuarantine:
    """Quarantine of objects (implements `storage.upkeep.catalog.ScrubCatalog`)."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, object_name: str, reason: str, *recorded: AuditEvent) -> bool:
        """Put an object into quarantine, with the events. Returns False if it already is."""
        now = self._clock.now()
        row = {"object_name": object_name, "reason": reason[:500], "found_at": now}
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(quarantine).values(row))
                await append(connection, now, *recorded)
        except IntegrityError:
            return False
        return True

    async def is_quarantined(self, object_name: str) -> bool:
        """Return whether an object is in quarantine."""
        query = select(quarantine.c.object_name).where(quarantine.c.object_name == object_name)
        async with self._database.read() as connection:
            return (await connection.execute(query)).first() is not None

    async def lift(self, object_name: str) -> None:
        """Remove an object from quarantine."""
        async with self._database.write() as connection:
            await connection.execute(delete(quarantine).where(quarantine.c.object_name == object_name))

    async def blobs(self) -> Sequence[Mapping[str, Any]]:
        """Return the blobs in quarantine: tenant, digest, reason and time."""
        same = blob_keys.c.object_name == quarantine.c.object_name
        query = (
            select(blob_keys.c.tenant, blob_keys.c.digest, quarantine.c.reason, quarantine.c.found_at)
            .join(quarantine, same)
            .order_by(blob_keys.c.tenant, blob_keys.c.digest)
        )
        async with self._database.read() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]

    async def images(self) -> Sequence[DamagedImage]:
        """Return the versions of groups whose image has a blob in quarantine or without a key record."""
        same = and_(
            blob_keys.c.tenant == images.c.organization, blob_keys.c.digest == image_contents.c.digest
        )
        query = (
            select(
                groups.c.organization,
                groups.c.project,
                groups.c.name.label("group"),
                versions.c.version,
                versions.c.image,
                images.c.digest.label("image_digest"),
                images.c.platform,
            )
            .select_from(image_contents)
            .join(images, images.c.id == image_contents.c.image_id)
            .join(versions, versions.c.image_id == images.c.id)
            .join(groups, groups.c.id == versions.c.group_id)
            .outerjoin(blob_keys, same)
            .outerjoin(quarantine, quarantine.c.object_name == blob_keys.c.object_name)
            .where(quarantine.c.object_name.is_not(None) | blob_keys.c.digest.is_(None))
            .distinct()
            .order_by(groups.c.organization, groups.c.project, groups.c.name)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [DamagedImage(**{**row, "image_digest": Digest.parse(row["image_digest"])}) for row in rows]

    async def objects_after(self, object_name: str, limit: int) -> Sequence[Sequence[KeyRecord]]:
        """Return the records of the next objects, ordered by object name."""
        names = (
            select(blob_keys.c.object_name)
            .where(blob_keys.c.object_name > object_name)
            .distinct()
            .order_by(blob_keys.c.object_name)
            .limit(limit)
        )
        async with self._database.read() as connection:
            chosen = list((await connection.execute(names)).scalars())
            query = select(blob_keys).where(blob_keys.c.object_name.in_(chosen))
            rows: Sequence[RowMapping] = (
                (await connection.execute(query.order_by(blob_keys.c.object_name, blob_keys.c.tenant)))
                .mappings()
                .all()
            )
        return [
            [record_of(row) for row in same] for _, same in groupby(rows, key=lambda row: row["object_name"])
        ]
