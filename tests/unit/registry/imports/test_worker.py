"""The worker over a queue, a vault and a progress store in memory, with a scripted importer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from auth.secret import Secret
from registry.errors import (
    CatalogUnavailableError,
    PullFailedError,
    StoreFailedError,
    StoreUnavailableError,
    UpstreamUnavailableError,
)
from registry.imports import worker as worker_module
from registry.imports.worker import MAX_ATTEMPTS, MAX_DELAY_S, RETRY_DELAY_S, ImportWorker
from registry.model.groups import GroupKey
from registry.model.images import StoredImage
from registry.model.imports import ImportJob, Progress, Stage, UpstreamCredential
from registry.observe import Metrics
from storage.digest import Digest
from tests.support.memory_ports import MemoryCredentialVault, MemoryJobQueue, MemoryProgressStore

pytestmark = pytest.mark.usefixtures("virtual_time")

IMAGE = StoredImage(Digest.of(b"i"), Digest.of(b"i"), "linux/amd64", (), 0)
CREDENTIAL = UpstreamCredential("robot", Secret("s3cret"))
LEASE_S = 0.3


def job(name: str = "a", *, sealed: bool = True) -> ImportJob:
    key = GroupKey("acme", "shop", name)
    return ImportJob(
        f"job-{name}",
        name,
        key,
        1,
        "app",
        attempt=0,
        credential_key=f"key of job-{name}".encode() if sealed else None,
    )


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
    queue: MemoryJobQueue = field(default_factory=MemoryJobQueue)
    vault: MemoryCredentialVault = field(default_factory=MemoryCredentialVault)
    board: MemoryProgressStore = field(default_factory=MemoryProgressStore)
    importer: ScriptedImporter = field(default_factory=ScriptedImporter)
    metrics: Metrics = field(default_factory=Metrics)

    @asynccontextmanager
    async def worker(self, worker_id: str = "w1", jobs: int = 2) -> AsyncIterator[ImportWorker]:
        made = ImportWorker(
            self.queue,
            self.vault,
            self.board,
            self.importer,  # type: ignore[arg-type]
            self.metrics,
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
async def office(monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setattr(worker_module, "POLL_S", 0.05)
    office = Office()
    for name in "abcdef":
        await office.vault.seal(f"job-{name}", CREDENTIAL)
    return office


async def until(condition: Callable[[], object], within_s: float = 5) -> None:
    """Wait for what nothing announces."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_job_is_imported_with_its_credential_which_is_then_forgotten(office: Office) -> None:
    office.queue.add(job())
    office.importer.go.set()
    async with office.worker():
        await until(lambda: office.vault.forgotten)
    assert office.queue.ended == {"job-a": IMAGE}
    assert office.importer.credentials == [CREDENTIAL]
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


@pytest.mark.parametrize(
    ("image", "result", "outcome", "provider"),
    [
        ("alpine", IMAGE, "done", "docker_hub"),
        ("ghcr.io/acme/app:1", PullFailedError("gone"), "failed to pull", "ghcr"),
        ("https://what is this", StoreFailedError("full"), "failed to store", "other"),
    ],
)
async def test_an_end_is_counted_by_family_and_outcome(
    office: Office, image: str, result: StoredImage | Exception, outcome: str, provider: str
) -> None:
    office.queue.add(replace(job(), image=image))
    office.importer.outcome = result
    office.importer.go.set()
    async with office.worker():
        await until(lambda: office.queue.ended)
    counted = f'crisper_imports_total{{outcome="{outcome}",provider="{provider}"}} 1.0'
    assert counted in office.metrics.render().decode()


DOWN = UpstreamUnavailableError("registry.example.com:5000 answers 503")
SAID = f"pulling: the registry does not answer, trying again in 5 min ({DOWN.sentence})"


async def test_an_import_whose_registry_is_down_is_tried_once_more_after_a_delay(office: Office) -> None:
    office.queue.add(job())
    office.importer.outcome = DOWN
    office.importer.go.set()
    began = asyncio.get_running_loop().time()
    async with office.worker():
        await until(lambda: office.queue.deferred)
        assert (office.queue.ended, office.vault.forgotten) == ({}, [])
        await until(lambda: str(office.board.published[-1][1]) == SAID)
    office.importer.outcome = IMAGE
    async with office.worker("w2"):  # the first one has stopped meanwhile
        await until(lambda: office.vault.forgotten, within_s=400)
    assert asyncio.get_running_loop().time() - began >= RETRY_DELAY_S
    assert office.queue.ended == {"job-a": IMAGE}
    assert office.importer.credentials == [CREDENTIAL, CREDENTIAL]


async def test_other_jobs_run_during_the_delay(office: Office) -> None:
    office.importer.outcome = DOWN
    office.importer.go.set()
    office.queue.add(job())
    async with office.worker(jobs=1):
        await until(lambda: office.queue.deferred)
        office.importer.outcome = IMAGE
        office.queue.add(job("b"))
        await until(lambda: office.queue.ended)
    assert office.queue.ended == {"job-b": IMAGE}


async def test_the_delayed_retry_is_the_last_one(office: Office) -> None:
    office.importer.outcome = DOWN
    office.importer.go.set()
    office.queue.add(job())
    async with office.worker():
        await until(lambda: office.queue.ended, within_s=400)
    assert office.queue.ended == {"job-a": ("failed to pull", DOWN.sentence)}
    assert len(office.importer.credentials) == 2


@pytest.mark.parametrize(
    "error", [StoreUnavailableError("storage does not answer"), CatalogUnavailableError("no connection")]
)
async def test_an_import_waits_until_crispers_own_parts_answer_again(
    office: Office, error: Exception
) -> None:
    office.queue.add(job())
    office.importer.outcome = error
    office.importer.go.set()
    began = asyncio.get_running_loop().time()
    async with office.worker():
        await until(lambda: len(office.importer.credentials) == 3, within_s=60)
        office.importer.outcome = IMAGE
        await until(lambda: office.vault.forgotten, within_s=60)
    assert asyncio.get_running_loop().time() - began >= 5 + 10 + 15
    assert office.queue.ended == {"job-a": IMAGE}
    assert any("trying again soon" in str(progress) for _, progress in office.board.published)


async def test_a_worker_that_claims_its_own_job_again_after_an_outage_imports_it(office: Office) -> None:
    office.queue.add(job())
    async with office.worker():
        await until(lambda: office.importer.running == 1)
        office.queue.leases.clear()  # as if the lease had expired while the queue did not answer
        await until(lambda: len(office.importer.credentials) == 2)
        office.importer.go.set()
        await until(lambda: office.queue.ended)
    assert office.queue.ended == {"job-a": IMAGE}


async def test_an_outage_that_does_not_end_fails_the_import(office: Office) -> None:
    office.queue.add(replace(job(), attempt=MAX_ATTEMPTS - 1))
    office.importer.outcome = StoreUnavailableError("storage does not answer")
    office.importer.go.set()
    async with office.worker():
        await until(lambda: office.queue.ended, within_s=100)
    assert len(office.importer.credentials) == 1
    assert office.queue.ended == {
        "job-a": ("failed to store", "the import was interrupted too often: try again")
    }


@pytest.mark.parametrize(
    ("error", "deferred"),
    [
        (UpstreamUnavailableError("x answers 500", outage=False), False),
        (UpstreamUnavailableError("x", retry_after_s=MAX_DELAY_S + 1), False),
        (UpstreamUnavailableError("x", retry_after_s=MAX_DELAY_S - 1), True),
        (PullFailedError("no such tag"), False),
        (StoreFailedError("full"), False),
    ],
)
async def test_only_an_outage_that_ends_soon_is_worth_a_delayed_retry(
    office: Office, error: Exception, *, deferred: bool
) -> None:
    office.importer.outcome = error
    office.importer.go.set()
    office.queue.add(job())
    async with office.worker():
        await until(lambda: office.queue.ended or office.queue.deferred)
    assert bool(office.queue.deferred) is deferred
    if deferred:
        assert office.queue.deferred["job-a"] >= MAX_DELAY_S - 1


async def test_an_end_that_another_worker_records_is_not_counted(office: Office) -> None:
    refused = asyncio.Event()

    class TakenOver(MemoryJobQueue):
        def _end(self, job: ImportJob, worker_id: str, outcome: object) -> bool:  # noqa: ARG002 (its shape)
            refused.set()
            return False

    office.queue = TakenOver()
    office.queue.add(job())
    office.importer.go.set()
    async with office.worker(), asyncio.timeout(5):
        await refused.wait()
    assert "crisper_imports_total{" not in office.metrics.render().decode()


async def test_a_credential_that_lapsed_fails_the_job(office: Office) -> None:
    office.queue.add(job())
    office.vault.held.clear()
    async with office.worker():
        await until(lambda: office.queue.ended)
    assert office.queue.ended == {
        "job-a": ("failed to store", "The credentials lapsed before the import ran. Create the group again.")
    }


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
        office.queue.remove("job-a")
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
        office.queue.remove("job-a")
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
    times = [at for at, _ in office.board.published]
    assert 2 <= len(times) <= 3
    assert all(later - earlier >= 0.49 for earlier, later in pairwise(times))
    done = [progress.bytes_done for _, progress in office.board.published]
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
    ended = office.queue.ended["job-a"]
    assert isinstance(ended, tuple)
    assert ended[0] == "failed to store"
