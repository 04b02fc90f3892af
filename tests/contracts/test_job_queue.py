import pytest

from registry.model.groups import GroupKey
from registry.model.imports import ImportJob
from tests.contracts.job_queue import JobQueueContract
from tests.support.memory_ports import MemoryJobQueue


class MemoryJobs:
    def __init__(self) -> None:
        self._time = 0.0
        self.queue = MemoryJobQueue(lambda: self._time)

    async def add(self, name: str) -> str:
        self.queue.add(ImportJob(name, name, GroupKey("acme", "shop", name), 1, "app", attempt=0))
        return name

    async def remove(self, name: str) -> None:
        self.queue.remove(name)

    def pass_time(self, seconds: float) -> None:
        self._time += seconds


class TestMemoryJobQueue(JobQueueContract):
    @pytest.fixture
    def jobs(self) -> MemoryJobs:
        return MemoryJobs()
