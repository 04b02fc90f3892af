"""The import role: takes jobs from the queue, keeps their leases, and ends each one way or another."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import structlog

from registry import tracing
from registry.errors import ImportFailedError, ReferenceFormatError, StoreFailedError
from registry.imports.importer import Importer
from registry.imports.stage_spans import Stages
from registry.model.images import StoredImage
from registry.model.imports import (
    CredentialVault,
    ImportJob,
    JobQueue,
    Progress,
    ProgressStore,
    UpstreamCredential,
)
from registry.observe import Metrics
from registry.oci.reference import Reference
from registry.upstream.providers import Provider, detect

POLL_S: Final = 1.0
REPORT_S: Final = 0.5
VAULT_S: Final = 10.0
MAX_ATTEMPTS: Final = 50
ENDING_TRIES: Final = 5

_log = structlog.get_logger(__name__)


class _LeaseLostError(Exception):
    """Somebody else has the job now, or it is gone."""


class ImportWorker:
    """Runs up to `jobs` imports at a time. One task calls `run`; any may call `nudge` and `stop`."""

    def __init__(
        self,
        queue: JobQueue,
        vault: CredentialVault,
        board: ProgressStore,
        importer: Importer,
        metrics: Metrics,
        *,
        worker_id: str,
        lease_s: float,
        jobs: int,
    ) -> None:
        """Take the adapters.

        Args:
            worker_id: Unique among workers, and never used again after a restart.
            lease_s: How long a job stays this worker's without a heartbeat; it beats three times as often.
            jobs: How many imports run at a time.
        """
        self._queue = queue
        self._vault = vault
        self._board = board
        self._importer = importer
        self._metrics = metrics
        self._worker_id = worker_id
        self._lease_s = lease_s
        self._jobs = jobs
        self._wake = asyncio.Event()
        self._stopping = False
        self._gone: dict[str, asyncio.Event] = {}

    def nudge(self) -> None:
        """Look for work now rather than at the next poll."""
        self._wake.set()

    def stop(self) -> None:
        """Let `run` return soon: running imports are left for another worker, at once."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop`. Cancelling it does the same as `stop`."""
        running: set[asyncio.Task[None]] = set()
        looked = 0.0
        try:
            while not self._stopping:
                self._wake.clear()
                while len(running) < self._jobs and (job := await self._claim()) is not None:
                    running.add(asyncio.create_task(self._work(job), name=f"import {job.id}"))
                running = await self._wait(running)
                looked = await self._stop_strays(looked)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _claim(self) -> ImportJob | None:
        if self._stopping:
            return None
        try:
            return await self._queue.claim(self._worker_id, self._lease_s)
        except Exception as error:  # noqa: BLE001 - whatever ails the queue, the worker outlives it
            _log.warning("import.queue_silent", error=type(error).__name__)
            return None

    async def _stop_strays(self, looked: float) -> float:
        """Stop imports whose group was deleted, or whose lease is another's; return when that was looked at.

        Heartbeats would notice too, up to a third of a lease later.
        """
        now = asyncio.get_running_loop().time()
        if not self._gone or now - looked < POLL_S / 2:
            return looked
        with suppress(Exception):  # a queue that is silent takes no job away
            async with asyncio.timeout(self._lease_s / 3):
                held = await self._queue.held(self._worker_id)
                for job_id in self._gone.keys() - set(held):
                    self._gone[job_id].set()
        return now

    async def _wait(self, running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        """Wait for a nudge, the end of an import or the next poll; return what still runs."""
        waking = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({waking, *running}, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
        return {task for task in running if not task.done()}

    async def _work(self, job: ImportJob) -> None:
        """See one job to its end. The credential is forgotten unless another worker will need it."""
        try:
            ended = await self._end(job)
        except _LeaseLostError:
            _log.info("import.lease_lost", job_id=job.id)
            return
        except asyncio.CancelledError:
            with suppress(Exception):  # a lease of no length lapses at once, for another worker
                async with asyncio.timeout(self._lease_s / 3):
                    await self._queue.heartbeat(job.id, self._worker_id, 0)
            raise
        if ended:
            with suppress(Exception):  # the seal lapses by itself
                async with asyncio.timeout(VAULT_S):
                    await self._vault.forget(job.id)

    async def _end(self, job: ImportJob) -> bool:
        """Import, and record the outcome; False when it could not be recorded."""
        try:
            image = await self._import(job)
        except ImportFailedError as error:
            _log.info("import.failed", job_id=job.id, reason=error.reason, sentence=error.sentence)
            fail = partial(self._queue.fail, job, self._worker_id, error.reason, error.sentence)
            return await self._record(job, error.reason, fail)
        _log.info("import.done", job_id=job.id, digest=str(image.digest), size_bytes=image.size_bytes)
        return await self._record(job, "done", partial(self._queue.succeed, job, self._worker_id, image))

    async def _import(self, job: ImportJob) -> StoredImage:
        if job.attempt > MAX_ATTEMPTS:
            raise StoreFailedError("the import was interrupted too often: try again")
        try:
            return await self._import_while_leased(job)
        except (ImportFailedError, _LeaseLostError):
            raise
        except Exception as error:
            # Neither the message nor the locals: they may hold what the upstream was sent.
            where = "".join(traceback.format_tb(error.__traceback__))
            _log.error("import.broke", job_id=job.id, error=type(error).__name__, where=where)
            raise StoreFailedError("something went wrong inside the import: try again") from error

    async def _import_while_leased(self, job: ImportJob) -> StoredImage:
        latest = _Latest()
        importing = asyncio.create_task(self._open_and_import(job, latest))
        beating = asyncio.create_task(self._beat(job))
        reporting = asyncio.create_task(self._report(job, latest))
        self._gone[job.id] = asyncio.Event()
        gone = asyncio.create_task(self._gone[job.id].wait())
        try:
            await asyncio.wait({importing, beating, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not importing.done():
                raise _LeaseLostError
            return importing.result()
        finally:
            del self._gone[job.id]
            await _cancel(importing, beating, reporting, gone)

    async def _open_and_import(self, job: ImportJob, latest: "_Latest") -> StoredImage:
        credential: UpstreamCredential | None = None
        if job.credential_key is not None:
            async with asyncio.timeout(VAULT_S):
                credential = await self._vault.open(job.id, job.credential_key)
        with tracing.span("import") as span:
            span.set_attribute("crisper.job_id", job.id)
            with Stages(span, latest.set) as report:
                return await self._importer.run(job, credential, report)

    async def _beat(self, job: ImportJob) -> None:
        """Extend the lease until it is lost; a queue that does not answer loses it when it would lapse."""
        loop = asyncio.get_running_loop()
        held_until = loop.time() + self._lease_s
        while loop.time() < held_until:
            await asyncio.sleep(self._lease_s / 3)
            asked = loop.time()
            with suppress(Exception):
                async with asyncio.timeout(self._lease_s / 3):
                    if not await self._queue.heartbeat(job.id, self._worker_id, self._lease_s):
                        return
                    held_until = asked + self._lease_s

    async def _report(self, job: ImportJob, latest: "_Latest") -> None:
        while True:
            progress = await latest.next()
            with suppress(Exception):
                async with asyncio.timeout(REPORT_S):
                    await self._board.put(job.id, progress)
            await asyncio.sleep(REPORT_S)

    async def _record(self, job: ImportJob, outcome: str, write: Callable[[], Awaitable[bool]]) -> bool:
        """Write and count the outcome; when the queue never takes it, the lapsing lease hands the job on."""
        for attempt in range(ENDING_TRIES):
            try:
                recorded = await write()
            except Exception as error:  # noqa: BLE001 - any adapter's passing trouble
                _log.warning("import.outcome_unrecorded", job_id=job.id, error=type(error).__name__)
                await asyncio.sleep(min(self._lease_s / 10, 2**attempt / 10))
                continue
            if recorded:
                self._metrics.imports.labels(_provider(job.image), outcome).inc()
            return recorded
        return False


class _Latest:
    """The newest progress; older ones that nobody took are dropped."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._changed = asyncio.Event()

    def set(self, progress: Progress) -> None:
        if progress != self._progress:
            self._progress = progress
            self._changed.set()

    async def next(self) -> Progress:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._progress is not None:
                return self._progress


def _provider(image: str) -> Provider:
    try:
        return detect(Reference.parse(image).registry)
    except ReferenceFormatError:
        return Provider.OTHER


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel until all are gone: a client library may take one cancellation for a time-out of its own."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=POLL_S)
    await asyncio.gather(*tasks, return_exceptions=True)
