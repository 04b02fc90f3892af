import pytest

from registry.catalog.engine.database import Database
from registry.catalog.key_records import SqlKeyRecords
from tests.contracts.key_records import KeyRecordsContract


class TestSqlKeyRecords(KeyRecordsContract):
    @pytest.fixture
    def key_records(self, database: Database) -> SqlKeyRecords:
        return SqlKeyRecords(database)
