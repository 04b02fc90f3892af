"""The worker over a queue, a vault and a board in memory, with imports that are told what to do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from auth.secret import Secret
from registry.errors import PullFailedError, StoreFailedError
from registry.imports import worker as worker_module
from registry.imports.worker import MAX_ATTEMPTS, ImportWorker
from registry.model.groups import GroupKey
from registry.model.images import StoredImage
from registry.model.imports import ImportJob, Progress, Stage, UpstreamCredential
from storage.digest import Digest

pytestmark = pytest.mark.looptime  # time passes on the clock of the event loop only

IMAGE = StoredImage(Digest.of(b"i"), Digest.of(b"i"), "linux/amd64", (), 0)
LEASE_S = 0.3


def job(name: str = "a", *, sealed: bool = True) -> ImportJob:
    key = GroupKey("acme", "shop", name)
    return ImportJob(f"job-{name}", name, key, 1, "app", attempt=0, credential_key=b"k" if sealed else None)


@dataclass
class MemoryQueue:
    """Leases by the loop's clock; `broken` makes every call fail."""

    waiting: dict[str, ImportJob] = field(default_factory=dict)
    leases: dict[str, tuple[str, float]] = field(default_factory=dict)
    ended: dict[str, object] = field(default_factory=dict)
    beats: int = 0
    broken: bool = False

    def add(self, added: ImportJob) -> None:
        self.waiting[added.id] = added

    def _holds(self, job_id: str, worker_id: str) -> bool:
        if self.broken:
            raise ConnectionError("the queue is away")
        owner, until = self.leases.get(job_id, ("", 0.0))
        return job_id in self.waiting and owner == worker_id and until > asyncio.get_running_loop().time()

    async def claim(self, worker_id: str, lease_s: float) -> ImportJob | None:
        if self.broken:
            raise ConnectionError("the queue is away")
        now = asyncio.get_running_loop().time()
        for job_id, found in self.waiting.items():
            if self.leases.get(job_id, ("", 0.0))[1] <= now:
                self.leases[job_id] = (worker_id, now + lease_s)
                self.waiting[job_id] = replace(found, attempt=found.attempt + 1)
                return self.waiting[job_id]
        return None

    async def heartbeat(self, job_id: str, worker_id: str, lease_s: float) -> bool:
        self.beats += 1
        if not self._holds(job_id, worker_id):
            return False
        self.leases[job_id] = (worker_id, asyncio.get_running_loop().time() + lease_s)
        return True

    async def held(self, worker_id: str) -> set[str]:
        return {job_id for job_id in self.waiting if self._holds(job_id, worker_id)}

    async def succeed(self, done: ImportJob, worker_id: str, image: StoredImage) -> bool:
        return self._end(done, worker_id, image)

    async def fail(self, done: ImportJob, worker_id: str, reason: str, sentence: str) -> bool:
        return self._end(done, worker_id, (reason, sentence))

    def _end(self, done: ImportJob, worker_id: str, outcome: object) -> bool:
        if not self._holds(done.id, worker_id):
            return False
        del self.waiting[done.id]
        self.ended[done.id] = outcome
        return True


@dataclass
class MemoryVault:
    forgotten: list[str] = field(default_factory=list)
    lapsed: bool = False

    async def seal(self, job_id: str, credential: UpstreamCredential) -> bytes:
        return f"{job_id}{credential}".encode()

    async def open(self, _job_id: str, _credential_key: bytes) -> UpstreamCredential:
        if self.lapsed:
            raise StoreFailedError("the credentials have lapsed")
        return UpstreamCredential("robot", Secret("s3cret"))

    async def forget(self, job_id: str) -> None:
        self.forgotten.append(job_id)


@dataclass
class MemoryBoard:
    put_at: list[tuple[float, Progress]] = field(default_factory=list)

    async def put(self, _job_id: str, progress: Progress) -> None:
        self.put_at.append((asyncio.get_running_loop().time(), progress))

    async def get(self, _job_ids: Sequence[str]) -> dict[str, Progress]:
        return {}


@dataclass
class ScriptedImporter:
    """Stands in for the importer: waits for `go`, then does what `outcome` says."""

    outcome: StoredImage | Exception = IMAGE
    go: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    most: int = 0
    cancelled: int = 0
    credentials: list[UpstreamCredential | None] = field(default_factory=list)

    async def run(
        self, _job: ImportJob, credential: UpstreamCredential | None, report: Callable[[Progress], None]
    ) -> StoredImage:
        self.credentials.append(credential)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            count = 0
            while not self.go.is_set():
                count += 1
                report(Progress(Stage.PULLING, 0, 1, count, 1000))
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@dataclass
class Office:
    queue: MemoryQueue = field(default_factory=MemoryQueue)
    vault: MemoryVault = field(default_factory=MemoryVault)
    board: MemoryBoard = field(default_factory=MemoryBoard)
    importer: ScriptedImporter = field(default_factory=ScriptedImporter)

    @asynccontextmanager
    async def worker(self, worker_id: str = "w1", jobs: int = 2) -> AsyncIterator[ImportWorker]:
        made = ImportWorker(
            self.queue,
            self.vault,
            self.board,
            self.importer,  # type: ignore[arg-type]
            worker_id=worker_id,
            lease_s=LEASE_S,
            jobs=jobs,
        )
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            made.stop()
            await asyncio.wait_for(running, 5)


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setattr(worker_module, "POLL_S", 0.05)
    return Office()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what nothing announces."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_job_is_imported_with_its_credential_which_is_then_forgotten(office: Office) -> None:
    office.queue.add(job())
    office.importer.go.set()
    async with office.worker():
        await until(lambda: office.vault.forgotten)
    assert office.queue.ended == {"job-a": IMAGE}
    assert office.importer.credentials == [UpstreamCredential("robot", Secret("s3cret"))]
    assert office.vault.forgotten == ["job-a"]


async def test_a_job_without_credentials_opens_none(office: Office) -> None:
    office.queue.add(job(sealed=False))
    office.importer.go.set()
    async with office.worker():
        await until(lambda: office.queue.ended)
    assert office.importer.credentials == [None]


@pytest.mark.parametrize(
    ("outcome", "recorded"),
    [
        (PullFailedError("no such tag"), ("failed to pull", "no such tag")),
        (ValueError("s3cret"), ("failed to store", "something went wrong inside the import: try again")),
    ],
)
async def test_a_failure_is_recorded_and_its_credential_forgotten(
    office: Office, outcome: Exception, recorded: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    office.queue.add(job())
    office.importer.outcome = outcome
    office.importer.go.set()
    async with office.worker():
        await until(lambda: office.vault.forgotten)
    assert office.queue.ended == {"job-a": recorded}
    assert "s3cret" not in capsys.readouterr().out


async def test_a_credential_that_lapsed_fails_the_job(office: Office) -> None:
    office.queue.add(job())
    office.vault.lapsed = True
    async with office.worker():
        await until(lambda: office.queue.ended)
    assert office.queue.ended == {"job-a": ("failed to store", "the credentials have lapsed")}


async def test_a_lease_is_kept_for_as_long_as_the_import_takes(office: Office) -> None:
    office.queue.add(job())
    async with office.worker():
        await asyncio.sleep(LEASE_S * 3)
        assert office.importer.running == 1
        office.importer.go.set()
        await until(lambda: office.queue.ended)
    assert office.queue.beats >= 3
    assert office.importer.most == 1


async def test_an_import_whose_group_was_deleted_is_stopped_and_nothing_recorded(office: Office) -> None:
    office.queue.add(job())
    async with office.worker():
        await until(lambda: office.importer.running)
        del office.queue.waiting["job-a"]
        await until(lambda: office.importer.cancelled)
    assert office.queue.ended == {}
    assert office.vault.forgotten == []


async def test_a_deletion_is_noticed_long_before_the_next_heartbeat(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.LEASE_S", 60.0)
    office.queue.add(job())
    async with office.worker():
        await until(lambda: office.importer.running)
        del office.queue.waiting["job-a"]
        await until(lambda: office.importer.cancelled)
    assert office.queue.beats == 0
    assert office.queue.ended == {}


async def test_a_lease_lost_to_another_worker_leaves_the_credential_to_it(office: Office) -> None:
    office.queue.add(job())
    async with office.worker():
        await until(lambda: office.importer.running)
        office.queue.leases["job-a"] = ("w2", asyncio.get_running_loop().time() + 60)
        await until(lambda: office.importer.cancelled)
    assert (office.queue.ended, office.vault.forgotten) == ({}, [])


async def test_a_queue_that_is_away_stops_the_import_when_its_lease_would_lapse(office: Office) -> None:
    office.queue.add(job())
    async with office.worker():
        await until(lambda: office.importer.running)
        office.queue.broken = True
        await until(lambda: office.importer.cancelled)
        office.queue.broken = False
        office.importer.go.set()
        await until(lambda: office.queue.ended)
    assert office.queue.ended == {"job-a": IMAGE}


async def test_a_queue_that_is_briefly_away_at_the_end_is_told_when_it_is_back(office: Office) -> None:
    office.queue.add(job())
    async with office.worker():
        await until(lambda: office.importer.running)
        office.queue.broken = True
        office.importer.go.set()
        await asyncio.sleep(0.02)
        office.queue.broken = False
        await until(lambda: office.queue.ended)
    assert office.queue.ended == {"job-a": IMAGE}


async def test_stopping_releases_the_job_and_its_credential_at_once(office: Office) -> None:
    office.queue.add(job())
    async with office.worker("w1"):
        await until(lambda: office.importer.running)
    assert (office.queue.ended, office.vault.forgotten) == ({}, [])
    office.importer.go.set()
    started = asyncio.get_running_loop().time()
    async with office.worker("w2"):
        await until(lambda: office.queue.ended)
    assert asyncio.get_running_loop().time() - started < LEASE_S
    assert office.vault.forgotten == ["job-a"]


async def test_no_more_imports_run_than_allowed_and_all_of_them_end(office: Office) -> None:
    for name in "abcdef":
        office.queue.add(job(name))
    async with office.worker(jobs=2):
        await until(lambda: office.importer.running == 2)
        await asyncio.sleep(0.1)
        office.importer.go.set()
        await until(lambda: len(office.queue.ended) == 6)
    assert office.importer.most == 2
    assert sorted(office.vault.forgotten) == [f"job-{name}" for name in "abcdef"]


async def test_progress_is_published_at_most_twice_a_second(office: Office) -> None:
    office.queue.add(job())
    async with office.worker():
        await asyncio.sleep(1.2)
    times = [at for at, _ in office.board.put_at]
    assert 2 <= len(times) <= 3
    assert all(later - earlier >= 0.49 for earlier, later in pairwise(times))
    done = [progress.bytes_done for _, progress in office.board.put_at]
    assert done == sorted(set(done))


async def test_a_nudge_is_quicker_than_the_poll(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "POLL_S", 30)
    office.importer.go.set()
    async with office.worker() as worker:
        await asyncio.sleep(0.05)
        office.queue.add(job())
        worker.nudge()
        await until(lambda: office.queue.ended)
    assert office.queue.ended == {"job-a": IMAGE}


async def test_a_job_that_kills_its_workers_is_given_up(office: Office) -> None:
    office.queue.add(replace(job(), attempt=MAX_ATTEMPTS))
    async with office.worker():
        await until(lambda: office.queue.ended)
    assert office.importer.credentials == []
    assert office.queue.ended["job-a"][0] == "failed to store"  # type: ignore[index]
