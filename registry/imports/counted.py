"""Counts imports that ended, by the registry's family and by outcome."""

from collections.abc import Collection

from registry.errors import ReferenceFormatError
from registry.model.images import StoredImage
from registry.model.imports import ImportJob, JobQueue
from registry.observe import Metrics
from registry.oci.reference import Reference
from registry.upstream.providers import Provider, detect

_DONE = "done"


class CountingJobQueue:
    """A queue that counts what it records. Both labels are from short lists: nobody's text becomes one."""

    def __init__(self, queue: JobQueue, metrics: Metrics) -> None:
        self._queue = queue
        self._metrics = metrics

    async def claim(self, worker_id: str, lease_s: float) -> ImportJob | None:
        """Lease the oldest job that nobody holds; None when there is none."""
        return await self._queue.claim(worker_id, lease_s)

    async def heartbeat(self, job_id: str, worker_id: str, lease_s: float) -> bool:
        """Extend the lease. False when it is lost or the job is gone: stop at once."""
        return await self._queue.heartbeat(job_id, worker_id, lease_s)

    async def held(self, worker_id: str) -> Collection[str]:
        """Return the jobs that are this worker's; others that it runs are to be stopped."""
        return await self._queue.held(worker_id)

    async def succeed(self, job: ImportJob, worker_id: str, image: StoredImage) -> bool:
        """Make the image visible and end the job, in one transaction. False when the lease is lost."""
        return self._count(job, _DONE, recorded=await self._queue.succeed(job, worker_id, image))

    async def fail(self, job: ImportJob, worker_id: str, reason: str, sentence: str) -> bool:
        """End the job and its group as failed. False when the lease is lost."""
        return self._count(job, reason, recorded=await self._queue.fail(job, worker_id, reason, sentence))

    def _count(self, job: ImportJob, outcome: str, *, recorded: bool) -> bool:
        if recorded:
            self._metrics.imports.labels(_provider(job.image), outcome).inc()
        return recorded


def _provider(image: str) -> Provider:
    try:
        return detect(Reference.parse(image).registry)
    except ReferenceFormatError:
        return Provider.OTHER
