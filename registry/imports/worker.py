"""The import worker: claims jobs from the queue, extends their leases, and records their outcomes."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import structlog

from registry import tracing
from registry.errors import (
    CatalogUnavailableError,
    ImportFailedError,
    ReferenceFormatError,
    StoreFailedError,
    StoreUnavailableError,
    UpstreamUnavailableError,
)
from registry.imports.import_log import ImportLog
from registry.imports.importer import Importer
from registry.imports.slots import ImportSlots, Slot
from registry.imports.stage_spans import Stages
from registry.model.images import StoredImage
from registry.model.imports import (
    CredentialVault,
    ImportJob,
    JobQueue,
    Progress,
    ProgressStore,
    Stage,
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
RETRY_DELAY_S: Final = 300.0
MAX_DELAY_S: Final = 3600.0  # a registry that asks for more fails the import
OUTAGE_DELAYS_S: Final = (5.0, 60.0)  # after an outage of Crisper's own parts: first delay, longest delay

_log = structlog.get_logger(__name__)


class _LeaseLostError(Exception):
    """Another worker has claimed the job, or the job was deleted."""


class ImportWorker:
    """Runs imports concurrently, for as many organizations as possible (`registry.imports.slots`).

    One task calls `run`; any task may call `nudge` and `stop`.
    """

    def __init__(
        self,
        queue: JobQueue,
        vault: CredentialVault,
        progress_store: ProgressStore,
        importer: Importer,
        metrics: Metrics,
        *,
        worker_id: str,
        lease_s: float,
        jobs: int,
        retry_delay_s: float = RETRY_DELAY_S,
    ) -> None:
        """Configure the worker.

        Args:
            worker_id: Unique among workers and not reused after a restart.
            lease_s: Duration of a job's lease; the worker extends it three times as often.
            jobs: Number of concurrent imports at full speed.
            retry_delay_s: Delay before the last retry of an import whose registry is down.
        """
        self._queue = queue
        self._vault = vault
        self._progress_store = progress_store
        self._importer = importer
        self._metrics = metrics
        self._worker_id = worker_id
        self._lease_s = lease_s
        self._retry_delay_s = retry_delay_s
        self._slots = ImportSlots(jobs, lambda: asyncio.get_running_loop().time())
        self._wake = asyncio.Event()
        self._stopping = False
        self._lost: dict[str, asyncio.Event] = {}

    def nudge(self) -> None:
        """Look for jobs now instead of at the next poll."""
        self._wake.set()

    def stop(self) -> None:
        """Make `run` return soon. Running imports are cancelled and become available to other workers."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Run imports until `stop` is called. Cancellation has the same effect as `stop`."""
        running: set[asyncio.Task[None]] = set()
        checked_at = 0.0
        try:
            while not self._stopping:
                self._wake.clear()
                while (job := await self._claim()) is not None:
                    running.add(self._start(job))
                running = await self._wait(running)
                checked_at = await self._stop_lost_imports(checked_at)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _start(self, job: ImportJob) -> asyncio.Task[None]:
        slot = self._slots.enter(job.key.organization)
        task = asyncio.create_task(self._work(job, slot), name=f"import {job.id}")
        task.add_done_callback(lambda _: self._slots.leave(slot))
        return task

    async def _claim(self) -> ImportJob | None:
        excluded = None if self._stopping else self._slots.excluded()
        if excluded is None:
            return None
        try:
            return await self._queue.claim(self._worker_id, self._lease_s, excluded)
        except Exception as error:  # noqa: BLE001 - the worker survives every failure of the queue
            _log.warning("import.queue_unavailable", error=type(error).__name__)
            return None

    async def _stop_lost_imports(self, checked_at: float) -> float:
        """Stop imports whose group was deleted or whose lease was lost. Returns the time of the last check.

        Heartbeats would detect this too, but up to a third of a lease later.
        """
        now = asyncio.get_running_loop().time()
        if not self._lost or now - checked_at < POLL_S / 2:
            return checked_at
        with suppress(Exception):  # if the queue does not answer, the jobs are kept
            async with asyncio.timeout(self._lease_s / 3):
                held = await self._queue.held(self._worker_id)
                for job_id in self._lost.keys() - set(held):
                    self._lost[job_id].set()
        return now

    async def _wait(self, running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        """Wait for a nudge, the end of an import or the next poll. Returns the tasks that still run."""
        waking = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({waking, *running}, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
        return {task for task in running if not task.done()}

    async def _work(self, job: ImportJob, slot: Slot) -> None:
        """Process one job. Erases its credential unless another worker will need it."""
        try:
            ended = await self._end(job, slot)
        except _LeaseLostError:
            _log.info("import.lease_lost", job_id=job.id)
            return
        except asyncio.CancelledError:
            with suppress(Exception):  # a lease of zero seconds releases the job
                async with asyncio.timeout(self._lease_s / 3):
                    await self._queue.heartbeat(job.id, self._worker_id, 0)
            raise
        if ended:
            with suppress(Exception):  # the credential expires by itself
                async with asyncio.timeout(VAULT_S):
                    await self._vault.forget(job.id)

    async def _end(self, job: ImportJob, slot: Slot) -> bool:
        """Import the image and record the outcome. Returns False if the job goes on."""
        log = ImportLog(job.attempt, asyncio.get_running_loop().time)
        try:
            image = await self._import(job, slot, log)
        except ImportFailedError as error:
            if (delay_s := self._delay_s(job, error)) is not None:
                await self._defer(job, error, delay_s, _waiting(error, delay_s))
                return False
            _log.info("import.failed", job_id=job.id, reason=error.reason, sentence=error.sentence)
            fail = partial(self._queue.fail, job, self._worker_id, error.reason, error.sentence, log.report())
            return await self._record(job, error.reason, fail)
        _log.info("import.done", job_id=job.id, digest=str(image.digest), size_bytes=image.size_bytes)
        succeed = partial(self._queue.succeed, job, self._worker_id, image, log.report())
        return await self._record(job, "done", succeed)

    def _delay_s(self, job: ImportJob, error: ImportFailedError) -> float | None:
        """Return the delay before another attempt after an outage; None if the import failed."""
        if isinstance(error, StoreUnavailableError):
            first_s, longest_s = OUTAGE_DELAYS_S
            return min(first_s * job.attempt, longest_s)
        if job.deferred or not isinstance(error, UpstreamUnavailableError) or not error.outage:
            return None
        delay_s = max(self._retry_delay_s, error.retry_after_s or 0)
        return delay_s if delay_s <= max(MAX_DELAY_S, self._retry_delay_s) else None

    async def _defer(
        self, job: ImportJob, error: ImportFailedError, delay_s: float, progress: Progress
    ) -> None:
        """Return the job to the queue for its delayed retry, with its credential."""
        _log.info("import.deferred", job_id=job.id, sentence=error.sentence, delay_s=delay_s)
        with suppress(Exception):
            async with asyncio.timeout(REPORT_S):
                await self._progress_store.put(job.id, progress)
        await self._write(job, partial(self._queue.defer, job, self._worker_id, delay_s))

    async def _import(self, job: ImportJob, slot: Slot, log: ImportLog) -> StoredImage:
        if job.attempt > MAX_ATTEMPTS:
            raise StoreFailedError("the import was interrupted too often: try again")
        try:
            return await self._import_while_leased(job, _Latest(slot, log))
        except (ImportFailedError, _LeaseLostError):
            raise
        except CatalogUnavailableError:
            raise StoreUnavailableError("Crisper's database does not answer: try again later") from None
        except Exception as error:
            # Log neither the message nor the local variables: they may contain credentials.
            where = "".join(traceback.format_tb(error.__traceback__))
            _log.error("import.broke", job_id=job.id, error=type(error).__name__, where=where)
            raise StoreFailedError("something went wrong inside the import: try again") from error

    async def _import_while_leased(self, job: ImportJob, latest: "_Latest") -> StoredImage:
        importing = asyncio.create_task(self._open_and_import(job, latest))
        extending = asyncio.create_task(self._extend_lease(job))
        reporting = asyncio.create_task(self._report(job, latest))
        event = self._lost[job.id] = asyncio.Event()
        lost = asyncio.create_task(event.wait())
        try:
            await asyncio.wait({importing, extending, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not importing.done():
                raise _LeaseLostError
            return importing.result()
        finally:
            if self._lost.get(job.id) is event:  # after an outage, this worker may have claimed the job again
                del self._lost[job.id]
            await _cancel(importing, extending, reporting, lost)

    async def _open_and_import(self, job: ImportJob, latest: "_Latest") -> StoredImage:
        credential: UpstreamCredential | None = None
        if job.credential_key is not None:
            credential = await self._open(job.id, job.credential_key)
        with tracing.span("import") as span:
            span.set_attribute("crisper.job_id", job.id)
            with Stages(span, latest.set) as report:
                return await self._importer.run(job, credential, report)

    async def _open(self, job_id: str, credential_key: bytes) -> UpstreamCredential:
        try:
            async with asyncio.timeout(VAULT_S):
                return await self._vault.open(job_id, credential_key)
        except TimeoutError:
            raise StoreUnavailableError(
                "The stored credentials could not be read in time. Try again in a minute."
            ) from None

    async def _extend_lease(self, job: ImportJob) -> None:
        """Extend the lease until it is lost, or until it expires because the queue does not answer."""
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
                    await self._progress_store.put(job.id, progress)
            await asyncio.sleep(REPORT_S)

    async def _record(self, job: ImportJob, outcome: str, write: Callable[[], Awaitable[bool]]) -> bool:
        """Record and count the outcome. If that keeps failing, the lease expires for another worker."""
        recorded = await self._write(job, write)
        if recorded:
            self._metrics.imports.labels(_provider(job.image), outcome).inc()
        return recorded

    async def _write(self, job: ImportJob, write: Callable[[], Awaitable[bool]]) -> bool:
        for attempt in range(ENDING_TRIES):
            try:
                return await write()
            except Exception as error:  # noqa: BLE001 - transient failure of any adapter
                _log.warning("import.outcome_unrecorded", job_id=job.id, error=type(error).__name__)
                await asyncio.sleep(min(self._lease_s / 10, 2**attempt / 10))
        return False


class _Latest:
    """Holds the latest progress report; unread older ones are dropped."""

    def __init__(self, slot: Slot, log: ImportLog) -> None:
        self._slot = slot
        self._log = log
        self._progress: Progress | None = None
        self._changed = asyncio.Event()

    def set(self, progress: Progress) -> None:
        if progress != self._progress:
            self._slot.follow(progress)
            self._log.follow(progress)
            self._progress = progress
            self._changed.set()

    async def next(self) -> Progress:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._progress is not None:
                return self._progress


def _waiting(error: ImportFailedError, delay_s: float) -> Progress:
    progress = Progress(Stage.PULLING)
    if isinstance(error, StoreUnavailableError):
        return progress.suspended(error.sentence)
    return progress.waiting(error.sentence, f"in {max(1, round(delay_s / 60))} min")


def _provider(image: str) -> Provider:
    try:
        return detect(Reference.parse(image).registry)
    except ReferenceFormatError:
        return Provider.OTHER


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel repeatedly until all tasks end: a client library may mistake a cancellation for its timeout."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=POLL_S)
    await asyncio.gather(*tasks, return_exceptions=True)
