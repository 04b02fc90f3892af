"""A PostgreSQL that ends a statement with an internal error counts as one that does not answer."""

import pytest
from sqlalchemy import text

from registry.catalog.engine.database import Database
from registry.errors import CatalogUnavailableError

INTERNAL = "DO $$ BEGIN RAISE EXCEPTION 'recovering' USING ERRCODE = 'XX000'; END $$"


async def test_an_internal_error_is_an_outage(migrated_url: str) -> None:
    database = Database(migrated_url)
    try:
        with pytest.raises(CatalogUnavailableError, match="InternalError"):
            async with database.write() as connection:
                await connection.execute(text(INTERNAL))
    finally:
        await database.close()
