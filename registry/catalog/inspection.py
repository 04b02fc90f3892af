"""Catalog queries of `crisper doctor`."""

from collections.abc import Mapping, Sequence
from importlib.resources import files

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import func, select, text

from registry.catalog.engine.database import Database
from registry.catalog.key_records import record_of
from registry.catalog.tables import blob_keys, jobs
from storage.records import KeyRecord


class SqlInspection:
    """Read-only queries for diagnosis."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revisions(self) -> tuple[str, str]:
        """Return the catalog's schema revision, and the revision that this version needs."""
        config = Config()
        config.set_main_option("script_location", str(files("registry.catalog") / "migrations"))
        needed = ScriptDirectory.from_config(config).get_current_head() or ""
        async with self._database.read() as connection:
            row = (await connection.execute(text("SELECT version_num FROM alembic_version"))).first()
        return (str(row[0]) if row else ""), needed

    async def record_of_each_key(self) -> Sequence[KeyRecord]:
        """Return one record for every key-encryption key in use."""
        first = select(func.min(blob_keys.c.object_name)).group_by(blob_keys.c.kek_id)
        query = select(blob_keys).where(blob_keys.c.object_name.in_(first))
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return list({row["kek_id"]: record_of(row) for row in rows}.values())

    async def jobs(self) -> Mapping[str, int]:
        """Count imports by state."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        async with self._database.read() as connection:
            return {row[0]: int(row[1]) for row in await connection.execute(query)}
