"""Ports of imports and of the portal in memory; each passes its port's contract suite (tests/contracts)."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from auth.secret import Secret
from registry.errors import StoreFailedError
from registry.model.images import StoredImage
from registry.model.imports import ImportJob, ImportReport, Progress, UpstreamCredential


def loop_time() -> float:
    return asyncio.get_running_loop().time()


class MemoryJobQueue:
    """Keeps `registry.model.imports.JobQueue`.

    Attributes:
        ended: The image of each job that succeeded; reason and sentence of each that failed.
        beats: How many heartbeats there were.
        broken: Makes every call fail.
    """

    def __init__(self, now: Callable[[], float] = loop_time) -> None:
        self.waiting: dict[str, ImportJob] = {}
        self.leases: dict[str, tuple[str, float]] = {}
        self.ended: dict[str, StoredImage | tuple[str, str]] = {}
        self.deferred: dict[str, float] = {}
        self.reports: dict[str, ImportReport | None] = {}
        self.beats = 0
        self.broken = False
        self._now = now

    def add(self, added: ImportJob) -> None:
        self.waiting[added.id] = added

    def remove(self, job_id: str) -> None:
        """Remove a job, as the deletion of its group does."""
        del self.waiting[job_id]

    def _check(self) -> None:
        if self.broken:
            raise ConnectionError("the queue is away")

    def _holds(self, job_id: str, worker_id: str) -> bool:
        self._check()
        return job_id in self.waiting and job_id in self.leases and self.leases[job_id][0] == worker_id

    async def claim(self, worker_id: str, lease_s: float, excluded: Collection[str] = ()) -> ImportJob | None:
        self._check()
        now = self._now()
        leased = {job_id for job_id, (_, until) in self.leases.items() if until >= now}
        running = Counter(found.key.organization for found in self.waiting.values() if found.id in leased)
        free = [
            found
            for found in self.waiting.values()
            if found.id not in leased
            and self.deferred.get(found.id, now) <= now
            and found.key.organization not in excluded
        ]
        if not free:
            return None
        free.sort(key=lambda found: (running[found.key.organization], self.deferred.get(found.id, 0)))
        found = replace(free[0], attempt=free[0].attempt + 1, deferred=free[0].id in self.deferred)
        self.leases[found.id] = worker_id, now + lease_s
        self.waiting[found.id] = found
        return found

    async def defer(self, job: ImportJob, worker_id: str, delay_s: float) -> bool:
        if not self._holds(job.id, worker_id):
            return False
        del self.leases[job.id]
        self.deferred[job.id] = self._now() + delay_s
        return True

    async def heartbeat(self, job_id: str, worker_id: str, lease_s: float) -> bool:
        self.beats += 1
        if not self._holds(job_id, worker_id):
            return False
        self.leases[job_id] = worker_id, self._now() + lease_s
        return True

    async def held(self, worker_id: str) -> set[str]:
        self._check()
        return {job_id for job_id in self.waiting if self._holds(job_id, worker_id)}

    async def succeed(
        self, job: ImportJob, worker_id: str, image: StoredImage, report: ImportReport | None = None
    ) -> bool:
        self.reports[job.id] = report
        return self._end(job, worker_id, image)

    async def fail(
        self,
        job: ImportJob,
        worker_id: str,
        reason: str,
        sentence: str,
        report: ImportReport | None = None,
    ) -> bool:
        self.reports[job.id] = report
        return self._end(job, worker_id, (reason, sentence))

    def _end(self, job: ImportJob, worker_id: str, outcome: StoredImage | tuple[str, str]) -> bool:
        if not self._holds(job.id, worker_id):
            return False
        del self.waiting[job.id]
        self.ended[job.id] = outcome
        return True


class MemoryCredentialVault:
    """Keeps `registry.model.imports.CredentialVault`; `forgotten` lists the jobs in order."""

    def __init__(self) -> None:
        self.held: dict[str, UpstreamCredential] = {}
        self.forgotten: list[str] = []

    async def seal(self, job_id: str, credential: UpstreamCredential) -> bytes:
        self.held[job_id] = credential
        return f"key of {job_id}".encode()

    async def open(self, job_id: str, credential_key: bytes) -> UpstreamCredential:
        if job_id not in self.held or credential_key != f"key of {job_id}".encode():
            raise StoreFailedError("The credentials lapsed before the import ran. Create the group again.")
        return self.held[job_id]

    async def forget(self, job_id: str) -> None:
        self.forgotten.append(job_id)
        self.held.pop(job_id, None)


class MemoryProgressStore:
    """Keeps `registry.model.imports.ProgressStore`; `published` has every value with its time."""

    def __init__(self) -> None:
        self.published: list[tuple[float, Progress]] = []
        self._latest: dict[str, Progress] = {}

    async def put(self, job_id: str, progress: Progress) -> None:
        self.published.append((loop_time(), progress))
        self._latest[job_id] = progress

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Progress]:
        return {job_id: self._latest[job_id] for job_id in job_ids if job_id in self._latest}


class MemoryPortalSessions:
    """Keeps `registry.portal.session_store.SessionStore`."""

    ttl_s = 3600

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.forms: dict[tuple[str, str], str] = {}
        self.lifetimes: list[int] = []
        self._ends: dict[str, float] = {}
        self.secrets: dict[tuple[str, str], bytes] = {}

    async def open(self, holder: bytes, ttl_s: int | None = None) -> Secret:
        session_id = f"session-{len(self.lifetimes)}"
        self.lifetimes.append(ttl_s or self.ttl_s)
        self._ends[session_id] = time.monotonic() + self.lifetimes[-1]
        self.kept[session_id] = holder
        return Secret(session_id)

    async def find(self, session_id: str) -> bytes | None:
        has_ended = self._ends.get(session_id, 0.0) <= time.monotonic()
        return None if has_ended else self.kept.get(session_id)

    async def replace(self, session_id: str, holder: bytes) -> None:
        if await self.find(session_id) is not None:
            self.kept[session_id] = holder

    async def close(self, session_id: str) -> None:
        self.kept.pop(session_id, None)

    async def begin_form(self, session_id: str, form_id: str) -> str | None:
        if (session_id, form_id) in self.forms:
            return self.forms[session_id, form_id]
        self.forms[session_id, form_id] = ""
        return None

    async def end_form(self, session_id: str, form_id: str, page: str) -> None:
        self.forms[session_id, form_id] = page

    async def put_secret(self, session_id: str, page: str, sealed: bytes) -> None:
        self.secrets[session_id, page] = sealed

    async def take_secret(self, session_id: str, page: str) -> bytes | None:
        return self.secrets.pop((session_id, page), None)
