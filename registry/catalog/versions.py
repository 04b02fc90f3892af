"""Versions of groups whose images are stored (the table `versions`)."""

from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, exists, func, insert, select

from registry.catalog.engine.database import CatalogConnection
from registry.catalog.specs import SEALED, SpecCipher
from registry.catalog.tables import data_keys, groups, images, versions
from registry.model.groups import Group
from registry.model.versions import StoredVersion, configuration_of
from storage.digest import Digest

MAX_VERSIONS_OF_IMAGE: Final = 20
"""Maximum number of versions of a group that are kept although a newer one has the same image."""


async def store_version(connection: CatalogConnection, group: Group, image_id: str, now: datetime) -> None:
    """Store a group's version with its image. The number of versions with the same image is limited.

    The group's sealed spec is copied as it is stored, so the group must be stored first.
    """
    sealed = {
        column.name: select(column).where(groups.c.id == group.id).scalar_subquery()
        for column in (groups.c.spec_key, groups.c.sealed_spec)
    }
    values = {
        "group_id": group.id,
        "version": group.version,
        "repository": group.key.repository,
        "image_id": image_id,
        "image": group.image,
        "created_at": now,
        **sealed,
    }
    await connection.execute(insert(versions).values(values))
    newer = versions.alias("newer")
    repeated = exists().where(
        newer.c.group_id == versions.c.group_id,
        newer.c.version > versions.c.version,
        newer.c.image_id == versions.c.image_id,
    )
    old = and_(versions.c.group_id == group.id, versions.c.version <= group.version - MAX_VERSIONS_OF_IMAGE)
    await connection.execute(delete(versions).where(old, repeated))


async def image_of_version(connection: CatalogConnection, group_id: str, version: int) -> str | None:
    """Return the id of the image of a stored version."""
    query = select(versions.c.image_id).where(_is(group_id, version))
    image_id: str | None = (await connection.execute(query)).scalar()
    return image_id


async def load_version(
    connection: CatalogConnection, specs: SpecCipher, group_id: str, version: int
) -> StoredVersion | None:
    """Return a stored version, or None."""
    query = (
        select(versions, images.c.digest, images.c.size_bytes, *SEALED)
        .join(images, images.c.id == versions.c.image_id)
        .outerjoin(data_keys, data_keys.c.id == versions.c.spec_key)
        .where(_is(group_id, version))
    )
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        return None
    spec = await specs.open(group_id, row)
    configuration = configuration_of(spec) if spec is not None else None
    digest = Digest.parse(row["digest"])
    return StoredVersion(row["version"], row["image"], configuration, digest, row["size_bytes"])


def newest_version() -> ColumnElement[int]:
    """Return the newest stored version of a group, as a subquery of a query of groups."""
    stored = versions.alias("stored")
    newest = select(func.max(stored.c.version)).where(stored.c.group_id == groups.c.id)
    return newest.correlate(groups).scalar_subquery()


def _is(group_id: str, version: int) -> ColumnElement[bool]:
    return and_(versions.c.group_id == group_id, versions.c.version == version)
