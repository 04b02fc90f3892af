"""Imports: jobs, progress and credentials, and the ports that imports use."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from auth.secret import Secret
from registry.model.groups import GroupKey
from registry.model.images import ImageContent, StoredImage
from registry.oci.platform import Platform
from storage.digest import Digest


class CredentialKind(StrEnum):
    """Kind of a registry credential; decides how it is exchanged for a user name and password."""

    PASSWORD = "password"  # noqa: S105 - HTTP Basic, at the registry or at its realm
    AWS_ACCESS_KEY = "aws_access_key"
    GOOGLE_KEY = "google_key"  # for Google's registries only; sent as a password


@dataclass(frozen=True, slots=True)
class UpstreamCredential:
    """Credential for a customer's registry: a user name and password, or a key that is exchanged for them.

    Attributes:
        username: User name; for AWS the access key id.
    """

    username: str
    password: Secret
    kind: CredentialKind = CredentialKind.PASSWORD


@dataclass(frozen=True, slots=True)
class ImportJob:
    """Import of one image version, leased to a worker.

    Attributes:
        attempt: Number of claims, including this one; above 1 after a worker died.
        credential_key: Wrapped key of the sealed credential; None if the import needs no credential.
        deferred: This is a delayed retry. There is only one after the registry did not answer.
        platforms: Platforms to import; empty for the server's setting.
    """

    id: str
    group_id: str
    key: GroupKey
    version: int
    image: str
    attempt: int
    credential_key: bytes | None = field(default=None, repr=False)
    deferred: bool = False
    platforms: tuple[Platform, ...] = ()


class Stage(StrEnum):
    """Stage of an import, as the public API shows it."""

    PULLING = "pulling"
    COMPRESSING = "compressing"
    STORING = "storing"


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of an import. Bytes are compressed bytes.

    Attributes:
        bytes_done: Bytes of layers that are present, including those that were present before the import.
        bytes_per_s: Download rate; 0 if it is not known yet.
        retry: Why the import waits before it tries again; empty if it does not wait.
    """

    stage: Stage
    layers_done: int = 0
    layers_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_per_s: int = 0
    retry: str = ""

    @property
    def percent(self) -> int | None:
        """Percentage of the layers' bytes that are present; None before the manifest is read."""
        if not self.layers_total:
            return None
        return 100 * self.bytes_done // self.bytes_total if self.bytes_total else 0

    @property
    def eta_s(self) -> int | None:
        """Estimated seconds until all layers are downloaded; None if unknown."""
        if self.stage is not Stage.PULLING or not self.bytes_per_s:
            return None
        return -(-(self.bytes_total - self.bytes_done) // self.bytes_per_s)

    def waiting(self, sentence: str, delay: str = "") -> "Progress":
        """Return this progress with the note that the import tries again, and why."""
        when = f" {delay}" if delay else ""
        note = f"the registry does not answer, trying again{when} ({sentence})"
        return replace(self, bytes_per_s=0, retry=note)

    def suspended(self, sentence: str) -> "Progress":
        """Return this progress with the note that a part of Crisper does not answer, and which."""
        return replace(self, bytes_per_s=0, retry=f"trying again soon ({sentence})")

    def __str__(self) -> str:
        if self.retry:
            return f"{self.stage.value}: {self.retry}"
        if self.stage is Stage.COMPRESSING and self.layers_total:
            return f"compressing: {self.layers_done} of {self.layers_total} layers"
        if self.stage is not Stage.PULLING or self.percent is None:
            return self.stage.value
        text = f"pulling: {self.layers_done} of {self.layers_total} layers, {self.percent} %"
        if self.eta_s is None:
            return text
        return f"{text}, {self.bytes_per_s / 1e6:.1f} MB/s, {self.eta_s} s left"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What the last attempt of an import did, for the audit trail.

    Attributes:
        stages_s: Seconds that each stage took, in order.
        layers: Layers of the image; 0 if its manifest was not read.
        size_bytes: Compressed size of the layers.
        retries: How often it waited because the registry did not answer.
        last_retry: Why it waited last; empty if it never waited.
        attempt: 1, or more after an outage of the registry or of a worker.
    """

    stages_s: Mapping[Stage, float]
    layers: int = 0
    size_bytes: int = 0
    retries: int = 0
    last_retry: str = ""
    attempt: int = 1

    @property
    def facts(self) -> Mapping[str, object]:
        """Facts for an event's detail. Counts that are 0 are omitted."""
        stages = {f"{stage.value}_s": round(seconds, 1) for stage, seconds in self.stages_s.items()}
        counted: dict[str, object] = {
            "layers": self.layers,
            "size_bytes": self.size_bytes,
            "retries": self.retries,
            "last_retry": self.last_retry,
            "attempt": self.attempt if self.attempt > 1 else 0,
        }
        total_s = round(sum(self.stages_s.values()), 1)
        return {"duration_s": total_s, **stages, **{name: fact for name, fact in counted.items() if fact}}


class JobQueue(Protocol):
    """Queue of import jobs. Workers lease jobs; another worker takes over a job whose lease expires."""

    async def claim(self, worker_id: str, lease_s: float, excluded: Collection[str] = ()) -> ImportJob | None:
        """Lease a job that has no lease, of the organization with the fewest running imports.

        Args:
            excluded: Organizations whose jobs must wait.

        Returns:
            The oldest such job; a deferred job is as old as the end of its delay. None if there is none.
        """

    async def heartbeat(self, job_id: str, worker_id: str, lease_s: float) -> bool:
        """Extend the lease. Returns False if it is lost or the job is gone: stop the import at once."""

    async def held(self, worker_id: str) -> Collection[str]:
        """Return the ids of the jobs that this worker leases. It must stop all others that it runs."""

    async def defer(self, job: ImportJob, worker_id: str, delay_s: float) -> bool:
        """Return a job to the queue, to be claimed after a delay. Returns False if the lease is lost."""

    async def succeed(
        self, job: ImportJob, worker_id: str, image: StoredImage, report: ImportReport | None = None
    ) -> bool:
        """Publish the image and end the job in one transaction. Returns False if the lease is lost."""

    async def fail(
        self,
        job: ImportJob,
        worker_id: str,
        reason: str,
        sentence: str,
        report: ImportReport | None = None,
    ) -> bool:
        """Mark the job and its group as failed. Returns False if the lease is lost."""


class BlobPins(Protocol):
    """Blobs that garbage collection must keep until an import ends."""

    async def pin(self, job_id: str, organization: str, digests: Sequence[Digest]) -> None:
        """Pin blobs of the organization until the job ends, including blobs that are not stored yet.

        Pin a blob before looking it up in storage: a blob that is found after that is not collected.
        """


class BlobOrigins(Protocol):
    """Record of the registries from which blobs were downloaded and verified, over all organizations."""

    async def add(self, digest: Digest, registry: str) -> None:
        """Record that a blob was downloaded from a registry."""

    async def has(self, digest: Digest, registry: str) -> bool:
        """Return whether a blob was downloaded from a registry before."""


@dataclass(frozen=True, slots=True)
class KnownLayer:
    """Result of an earlier import of a layer by the same organization.

    Attributes:
        diff_id: Digest of the unpacked layer.
        encoded: The layer in zstd; None if zstd is not smaller.
    """

    diff_id: Digest
    encoded: ImageContent | None


class KnownLayers(Protocol):
    """Results of earlier imports, so that no layer is unpacked and compressed twice."""

    async def known(self, organization: str, layers: Sequence[Digest]) -> Mapping[Digest, KnownLayer]:
        """Return the known layers of an organization. Does not check that their blobs are stored."""


class ProgressStore(Protocol):
    """Store of the progress of running imports. Its loss is harmless."""

    async def put(self, job_id: str, progress: Progress) -> None:
        """Publish progress. Errors are logged, not raised."""

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Progress]:
        """Return the known progress of these jobs."""


class CredentialVault(Protocol):
    """Encrypted store of customers' registry credentials, from the request until the import ends."""

    async def seal(self, job_id: str, credential: UpstreamCredential) -> bytes:
        """Seal and store a credential. Returns its wrapped key, which the job's row holds until the end."""

    async def open(self, job_id: str, credential_key: bytes) -> UpstreamCredential:
        """Return the credential. Raises StoreFailedError: it has expired, or does not decrypt."""

    async def forget(self, job_id: str) -> None:
        """Remove the credential. Call it after success and after failure."""
