"""What every `registry.model.imports.JobQueue` has to keep. Subclass, and give a `jobs` fixture."""

from typing import Protocol

from registry.model.images import StoredImage
from registry.model.imports import JobQueue
from storage.digest import Digest

IMAGE = StoredImage(Digest.of(b"i"), Digest.of(b"i"), "linux/amd64", (), 1)


class Jobs(Protocol):
    """A queue, and what changes it from outside."""

    @property
    def queue(self) -> JobQueue: ...

    async def add(self, name: str) -> str:
        """Create a group with a waiting import; return the job's id."""

    async def remove(self, name: str) -> None:
        """Delete a group."""

    def pass_time(self, seconds: float) -> None:
        """Set the clock forward."""


class JobQueueContract:
    async def test_an_empty_queue_has_nothing_to_claim(self, jobs: Jobs) -> None:
        assert await jobs.queue.claim("w1", 20) is None
        assert set(await jobs.queue.held("w1")) == set()

    async def test_a_claim_leases_a_job_to_one_worker(self, jobs: Jobs) -> None:
        job_id = await jobs.add("web")
        claimed = await jobs.queue.claim("w1", 20)
        assert claimed is not None
        assert (claimed.id, claimed.attempt) == (job_id, 1)
        assert await jobs.queue.claim("w2", 20) is None
        assert set(await jobs.queue.held("w1")) == {job_id}
        assert set(await jobs.queue.held("w2")) == set()

    async def test_heartbeats_extend_a_lease(self, jobs: Jobs) -> None:
        job_id = await jobs.add("web")
        await jobs.queue.claim("w1", 20)
        jobs.pass_time(15)
        assert await jobs.queue.heartbeat(job_id, "w1", 20)
        jobs.pass_time(15)
        assert await jobs.queue.claim("w2", 20) is None

    async def test_a_lapsed_lease_is_its_workers_until_another_claims(self, jobs: Jobs) -> None:
        job_id = await jobs.add("web")
        await jobs.queue.claim("w1", 20)
        jobs.pass_time(21)
        assert set(await jobs.queue.held("w1")) == {job_id}
        assert await jobs.queue.heartbeat(job_id, "w1", 20)
        assert await jobs.queue.claim("w2", 20) is None

    async def test_a_job_taken_over_is_lost_to_the_first_worker(self, jobs: Jobs) -> None:
        job_id = await jobs.add("web")
        first = await jobs.queue.claim("w1", 20)
        jobs.pass_time(21)
        second = await jobs.queue.claim("w2", 20)
        assert first is not None
        assert second is not None
        assert second.attempt == 2
        assert not await jobs.queue.heartbeat(job_id, "w1", 20)
        assert not await jobs.queue.succeed(first, "w1", IMAGE)
        assert not await jobs.queue.fail(first, "w1", "failed to pull", "late")
        assert await jobs.queue.succeed(second, "w2", IMAGE)

    async def test_a_lease_of_no_length_releases_the_job(self, jobs: Jobs) -> None:
        job_id = await jobs.add("web")
        await jobs.queue.claim("w1", 20)
        assert await jobs.queue.heartbeat(job_id, "w1", 0)
        jobs.pass_time(0.001)
        assert await jobs.queue.claim("w2", 20) is not None

    async def test_an_ended_job_is_claimed_and_ended_only_once(self, jobs: Jobs) -> None:
        for name in ("one", "two"):
            job_id = await jobs.add(name)
            job = await jobs.queue.claim("w1", 20)
            assert job is not None
            if name == "one":
                assert await jobs.queue.succeed(job, "w1", IMAGE)
            else:
                assert await jobs.queue.fail(job, "w1", "failed to pull", "no tag")
            assert not await jobs.queue.fail(job, "w1", "failed to pull", "again")
            assert not await jobs.queue.heartbeat(job_id, "w1", 20)
            assert set(await jobs.queue.held("w1")) == set()
        jobs.pass_time(100)
        assert await jobs.queue.claim("w1", 20) is None

    async def test_a_deferred_job_waits_for_its_delay_and_lets_older_ones_go_first(self, jobs: Jobs) -> None:
        job_id = await jobs.add("web")
        job = await jobs.queue.claim("w1", 20)
        assert job is not None
        assert not job.deferred
        assert not await jobs.queue.defer(job, "w2", 60)
        assert await jobs.queue.defer(job, "w1", 60)
        assert not await jobs.queue.heartbeat(job_id, "w1", 20)
        assert not await jobs.queue.succeed(job, "w1", IMAGE)
        assert await jobs.queue.claim("w1", 20) is None
        jobs.pass_time(59)
        assert await jobs.queue.claim("w1", 20) is None
        other = await jobs.add("other")
        jobs.pass_time(2)
        claimed = [await jobs.queue.claim("w1", 20), await jobs.queue.claim("w1", 20)]
        assert [(each.id, each.deferred, each.attempt) for each in claimed if each] == [
            (other, False, 1),
            (job_id, True, 2),
        ]

    async def test_jobs_of_an_excluded_organization_wait(self, jobs: Jobs) -> None:
        job_id = await jobs.add("web")
        assert await jobs.queue.claim("w1", 20, {"acme"}) is None
        claimed = await jobs.queue.claim("w1", 20, {"rival"})
        assert claimed is not None
        assert claimed.id == job_id

    async def test_a_deleted_groups_job_is_gone(self, jobs: Jobs) -> None:
        job_id = await jobs.add("web")
        job = await jobs.queue.claim("w1", 20)
        assert job is not None
        await jobs.remove("web")
        assert set(await jobs.queue.held("w1")) == set()
        assert not await jobs.queue.heartbeat(job_id, "w1", 20)
        assert not await jobs.queue.succeed(job, "w1", IMAGE)
