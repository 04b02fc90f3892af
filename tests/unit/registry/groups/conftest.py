from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from registry.catalog.database import Database
from registry.ports import Organization
from tests.unit.registry.groups.fakes import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/catalog.db")
    await database.migrate()
    world = World(database)
    for name in ("acme-corp", "other-corp"):
        await world.organizations.add(Organization(name, name.encode(), datetime.now(UTC)))
    yield world
    await database.close()
