"""Versions of groups whose images are stored (the table `versions`)."""

from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, exists, func, insert, or_, select

from registry.catalog.engine.database import CatalogConnection
from registry.catalog.specs import SEALED, SpecCipher
from registry.catalog.tables import data_keys, groups, image_platforms, images, versions
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
        "missing_platforms": list(group.missing_platforms) or None,
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


def has_version() -> ColumnElement[bool]:
    """Return the SQL condition that a version has the image, or an image of which it is one platform."""
    of_platforms = image_platforms.join(versions, versions.c.image_id == image_platforms.c.image_id)
    part = select(1).select_from(of_platforms).where(image_platforms.c.platform_image_id == images.c.id)
    return or_(exists().where(versions.c.image_id == images.c.id), exists(part.correlate(images)))


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
        select(versions, images.c.digest, images.c.size_bytes, images.c.platform, *SEALED)
        .join(images, images.c.id == versions.c.image_id)
        .outerjoin(data_keys, data_keys.c.id == versions.c.spec_key)
        .where(_is(group_id, version))
    )
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        return None
    spec = await specs.open(group_id, row)
    return StoredVersion(
        row["version"],
        row["image"],
        configuration_of(spec) if spec is not None else None,
        Digest.parse(row["digest"]),
        row["size_bytes"],
        row["platform"],
        tuple(row["missing_platforms"] or ()),
    )


def newest_version() -> ColumnElement[int]:
    """Return the newest stored version of a group, as a subquery of a query of groups."""
    stored = versions.alias("stored")
    newest = select(func.max(stored.c.version)).where(stored.c.group_id == groups.c.id)
    return newest.correlate(groups).scalar_subquery()


def _is(group_id: str, version: int) -> ColumnElement[bool]:
    return and_(versions.c.group_id == group_id, versions.c.version == version)
