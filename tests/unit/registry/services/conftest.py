from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from registry.model.organizations import Organization
from tests.support.catalogs import sqlite_catalog
from tests.unit.registry.services.fakes import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = await sqlite_catalog(tmp_path)
    world = World(database)
    for name in ("acme-corp", "other-corp"):
        await world.organizations.add(Organization(name, datetime.now(UTC)))
    yield world
    await database.close()
