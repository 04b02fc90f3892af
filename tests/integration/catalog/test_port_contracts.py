"""The catalog's adapters keep the contracts that their in-memory counterparts keep."""

from datetime import timedelta

import pytest

from registry.catalog.engine.database import Database
from registry.catalog.jobs import SqlJobQueue
from registry.catalog.partials import SqlPartials
from registry.model.groups import GroupKey
from tests.contracts.job_queue import JobQueueContract
from tests.contracts.partials import PartialsContract
from tests.integration.catalog.test_catalog import SettableClock, a_group
from tests.support.catalogs import group_catalog
from tests.support.groups import created


class SqlJobs:
    def __init__(self, database: Database) -> None:
        self._clock, self._groups = SettableClock(), group_catalog(database)
        self.queue = SqlJobQueue(database, self._clock)

    async def add(self, name: str) -> str:
        group = a_group(name)
        await self._groups.create(created(group), None)
        assert group.job_id is not None
        return group.job_id

    async def remove(self, name: str) -> None:
        await self._groups.delete(GroupKey("acme", "shop", name))

    def pass_time(self, seconds: float) -> None:
        self._clock.time += timedelta(seconds=seconds)


class TestSqlJobQueue(JobQueueContract):
    @pytest.fixture
    def jobs(self, database: Database) -> SqlJobs:
        return SqlJobs(database)


class TestSqlPartials(PartialsContract):
    @pytest.fixture
    def partials(self, database: Database) -> SqlPartials:
        return SqlPartials(database, SettableClock())
