"""Rows of container groups: reading, locking and writing them."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    and_,
    exists,
    or_,
    select,
    update,
)

from registry.catalog.engine.database import CatalogConnection
from registry.catalog.specs import SEALED
from registry.catalog.tables import (
    blob_keys,
    data_keys,
    groups,
    image_contents,
    images,
    instances,
    quarantine,
    versions,
)
from registry.catalog.versions import newest_version
from registry.model.groups import UNREAD, Group, GroupKey, GroupStatus
from registry.model.instances import UNSETTLED
from storage.digest import Digest

_SPEC = frozenset({"spec_key", "sealed_spec", *(column.name for column in SEALED)})
_HAS_DAMAGE = exists(
    select(1)
    .select_from(image_contents)
    .join(blob_keys, blob_keys.c.digest == image_contents.c.digest)
    .join(quarantine, quarantine.c.object_name == blob_keys.c.object_name)
    .where(image_contents.c.image_id == images.c.id, blob_keys.c.tenant == groups.c.organization)
    .correlate(images, groups)
)
_HAS_OUTDATED_INSTANCES = exists().where(
    instances.c.group_id == groups.c.id,
    or_(instances.c.version != groups.c.version, instances.c.state.in_(UNSETTLED)),
)
_COUNTED: Final = ("replicas", "spec_bytes", "image_caching")
_APART: Final = ("spec_key", "sealed_spec", *_COUNTED)
GROUP = (
    select(
        *(column for column in groups.columns if column.name not in _APART),
        versions.c.version.label("served_version"),
        images.c.digest.label("image_digest"),
        images.c.size_bytes.label("image_size_bytes"),
        images.c.platform.label("image_platform"),
        versions.c.missing_platforms,
        _HAS_DAMAGE.label("is_damaged"),
        _HAS_OUTDATED_INSTANCES.label("has_outdated_instances"),
    )
    .select_from(groups)
    .outerjoin(versions, and_(versions.c.group_id == groups.c.id, versions.c.version == newest_version()))
    .outerjoin(images, images.c.id == versions.c.image_id)
)
GROUP_WITH_SPEC = GROUP.add_columns(groups.c.spec_key, groups.c.sealed_spec, *SEALED).outerjoin(
    data_keys, data_keys.c.id == groups.c.spec_key
)


async def lock_group(connection: CatalogConnection, condition: ColumnElement[bool]) -> Group | None:
    """Return a group without its spec, locked against other changes until this transaction ends.

    To prevent deadlocks, all transactions lock a group's row before rows of its job and its instances.
    """
    query = GROUP.where(condition).with_for_update(of=groups)
    row = (await connection.execute(query)).mappings().first()
    return group_of(row) if row else None


async def store_group(connection: CatalogConnection, group: Group) -> None:
    """Store a group from `lock_group` after its transition."""
    await connection.execute(update(groups).where(groups.c.id == group.id).values(group_values(group)))


def named(key: GroupKey) -> ColumnElement[bool]:
    """Select the group with a name."""
    return and_(
        groups.c.organization == key.organization, groups.c.project == key.project, groups.c.name == key.name
    )


def group_values(group: Group) -> dict[str, object]:
    """Return the columns of a group, except those of its spec."""
    return {
        "id": group.id,
        "organization": group.key.organization,
        "project": group.key.project,
        "name": group.key.name,
        "image": group.image,
        "version": group.version,
        "autostart": group.autostart,
        "status": group.status.value,
        "status_description": group.status_description,
        "status_since": group.status_since,
        "created_at": group.created_at,
        "updated_at": group.updated_at,
        "job_id": group.job_id,
        "started": group.started,
        "revision": group.revision,
        "resume_status": group.resume_status.value if group.resume_status else None,
    }


def counted_values(group: Group) -> dict[str, object]:
    """Return what quotas, lists and collection need of a spec."""
    return {name: getattr(group, name) for name in _COUNTED}


def group_of(row: RowMapping, spec: Mapping[str, Any] = UNREAD) -> Group:
    """Return the group from a row of `GROUP` or `GROUP_WITH_SPEC`."""
    facts = {name: value for name, value in row.items() if name not in _SPEC}
    key = GroupKey(facts.pop("organization"), facts.pop("project"), facts.pop("name"))
    status = GroupStatus(facts.pop("status"))
    resumed, digest = facts.pop("resume_status"), facts.pop("image_digest")
    for flag in ("is_damaged", "has_outdated_instances"):
        facts[flag] = bool(facts[flag])  # SQLite returns a number
    facts["missing_platforms"] = tuple(facts["missing_platforms"] or ())
    del facts["platforms"]  # a setting of its imports
    return Group(
        key=key,
        spec=spec,
        status=status,
        resume_status=GroupStatus(resumed) if resumed else None,
        image_digest=Digest.parse(digest) if digest else None,
        **facts,
    )
