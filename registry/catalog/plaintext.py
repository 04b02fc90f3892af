"""Upgrade of catalogs that contain specs as plaintext, between the migrations 0119 and 0120."""

import json
from typing import Final

import structlog
from sqlalchemy import Connection, inspect, text

from registry.catalog.engine.database import Database
from registry.catalog.specs import SpecCipher
from registry.errors import ConfigError
from registry.model.versions import with_configuration

_BEFORE_REMOVAL: Final = "0119"

# A sealed row has an empty plaintext. A row that an older server changed since then is sealed again.
_GROUPS: Final = text(
    "SELECT id, organization, CAST(spec AS TEXT) AS spec FROM groups "
    "WHERE sealed_spec IS NULL OR CAST(spec AS TEXT) <> '{}' LIMIT 100"
)
_SEAL_GROUP: Final = text(
    "UPDATE groups SET spec_key = :spec_key, sealed_spec = :sealed_spec, spec = '{}' "
    "WHERE id = :id AND CAST(spec AS TEXT) = :read"
)
_VERSIONS: Final = text(
    "SELECT group_id, versions.version, organization, CAST(configuration AS TEXT) AS configuration "
    "FROM versions JOIN groups ON groups.id = versions.group_id "
    "WHERE configuration IS NOT NULL LIMIT 100"
)
_SEAL_VERSION: Final = text(
    "UPDATE versions SET spec_key = :spec_key, sealed_spec = :sealed_spec, configuration = NULL "
    "WHERE group_id = :group_id AND version = :version"
)

_log = structlog.get_logger(__name__)


async def migrate(database: Database, specs: SpecCipher | None) -> None:
    """Upgrade the schema, and encrypt specs that an older version stored as plaintext.

    Can be interrupted at any point and repeated.

    Args:
        specs: Encrypts; None in a process without key-encryption keys.

    Raises:
        ConfigError: There is plaintext, and this process has no keys.
        KeyUnavailableError: The key provider does not answer. The remaining plaintext stays.
    """
    if await database.transact(_has_plaintext):
        if specs is None:
            raise ConfigError(
                "the catalog is of an older version, and a server with only the role token has no keys to "
                "upgrade it: start a server with the role api first"
            )
        await database.migrate(_BEFORE_REMOVAL)
        count = await _seal_groups(database, specs) + await _seal_versions(database, specs)
        await database.rewrite_files("groups", "versions")
        _log.info("catalog.specs_encrypted", rows=count)
    await database.migrate()


def _has_plaintext(connection: Connection) -> bool:
    inspector = inspect(connection)
    if not inspector.has_table("groups"):
        return False
    return any(column["name"] == "spec" for column in inspector.get_columns("groups"))


async def _seal_groups(database: Database, specs: SpecCipher) -> int:
    count = 0
    while True:
        async with database.read() as connection:
            rows = (await connection.execute(_GROUPS)).all()
        if not rows:
            return count
        for row in rows:
            sealed = await specs.seal(row.organization, row.id, json.loads(row.spec))
            async with database.write() as connection:
                await connection.execute(_SEAL_GROUP, {**sealed, "id": row.id, "read": row.spec})
        count += len(rows)


async def _seal_versions(database: Database, specs: SpecCipher) -> int:
    count = 0
    while True:
        async with database.read() as connection:
            rows = (await connection.execute(_VERSIONS)).all()
        if not rows:
            return count
        for row in rows:
            spec = with_configuration({"container": {}}, json.loads(row.configuration))
            sealed = await specs.seal(row.organization, row.group_id, spec)
            version = {"group_id": row.group_id, "version": row.version}
            async with database.write() as connection:
                await connection.execute(_SEAL_VERSION, {**sealed, **version})
        count += len(rows)
