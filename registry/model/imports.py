"""Imports, and what they ask of the outside (as `registry.ports`)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from auth.secret import Secret
from registry.model.groups import GroupKey
from registry.model.images import ImageContent, StoredImage
from storage.digest import Digest


class CredentialKind(StrEnum):
    """What a credential's two halves are."""

    PASSWORD = "password"  # noqa: S105 - HTTP Basic, at the registry or at its realm
    AWS_ACCESS_KEY = "aws_access_key"
    GOOGLE_KEY = "google_key"  # for Google's registries only; sent as a password


@dataclass(frozen=True, slots=True)
class UpstreamCredential:
    """What a customer's registry asks for: a user name and password, or what is exchanged for one.

    Attributes:
        username: An access key's id, for AWS.
    """

    username: str
    password: Secret
    kind: CredentialKind = CredentialKind.PASSWORD


@dataclass(frozen=True, slots=True)
class ImportJob:
    """One import of one image version, leased to a worker.

    Attributes:
        attempt: How many times it was claimed, this one included; above 1 after a worker died.
        credential_key: The wrapped key that opens the sealed credential; None when there is none.
    """

    id: str
    group_id: str
    key: GroupKey
    version: int
    image: str
    attempt: int
    credential_key: bytes | None = field(default=None, repr=False)


class Stage(StrEnum):
    """Where an import is, as customers see it."""

    PULLING = "pulling"
    COMPRESSING = "compressing"
    STORING = "storing"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is. Bytes are compressed bytes, as they came.

    Attributes:
        bytes_done: Of the layers; what was there already counts.
        bytes_per_s: What comes over the network; 0 while nobody knows.
    """

    stage: Stage
    layers_done: int = 0
    layers_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_per_s: int = 0

    @property
    def percent(self) -> int | None:
        """How much of the layers has arrived; None before anything is known of them."""
        if not self.layers_total:
            return None
        return 100 * self.bytes_done // self.bytes_total if self.bytes_total else 0

    @property
    def eta_s(self) -> int | None:
        """Seconds until the last layer has arrived, at this rate; None while nobody knows."""
        if self.stage is not Stage.PULLING or not self.bytes_per_s:
            return None
        return -(-(self.bytes_total - self.bytes_done) // self.bytes_per_s)

    def __str__(self) -> str:
        if self.stage is Stage.COMPRESSING and self.layers_total:
            return f"compressing: {self.layers_done} of {self.layers_total} layers"
        if self.stage is not Stage.PULLING or self.percent is None:
            return self.stage.value
        text = f"pulling: {self.layers_done} of {self.layers_total} layers, {self.percent} %"
        if self.eta_s is None:
            return text
        return f"{text}, {self.bytes_per_s / 1e6:.1f} MB/s, {self.eta_s} s left"


class JobQueue(Protocol):
    """Imports waiting and running. A job is leased; a lease that lapses is taken over."""

    async def claim(self, worker_id: str, lease_s: float) -> ImportJob | None:
        """Lease the oldest job that nobody holds; None when there is none."""

    async def heartbeat(self, job_id: str, worker_id: str, lease_s: float) -> bool:
        """Extend the lease. False when it is lost or the job is gone: stop at once."""

    async def held(self, worker_id: str) -> Collection[str]:
        """Return the jobs that are this worker's; others that it runs are to be stopped."""

    async def succeed(self, job: ImportJob, worker_id: str, image: StoredImage) -> bool:
        """Make the image visible and end the job, in one transaction. False when the lease is lost."""

    async def fail(self, job: ImportJob, worker_id: str, reason: str, sentence: str) -> bool:
        """End the job and its group as failed. False when the lease is lost."""


class BlobPins(Protocol):
    """What collection must spare until an import ends."""

    async def pin(self, job_id: str, organization: str, digests: Sequence[Digest]) -> None:
        """Keep these blobs of the organization until the job ends, those included that are not there yet.

        Pin a blob before asking storage whether it is there: what is found from then on, stays.
        """


class TransferLeases(Protocol):
    """Who is bringing a blob just now; losing it costs a transfer that was not needed."""

    async def take(self, key: str, holder: str, lease_s: float) -> bool:
        """Lease a key; False while another holds it."""

    async def extend(self, key: str, holder: str, lease_s: float) -> None:
        """Extend a lease, if it is the holder's."""

    async def end(self, key: str, holder: str) -> None:
        """End a lease, if it is the holder's."""


class ImportQuota(Protocol):
    """What each organization may import."""

    async def charge(self, job: ImportJob, size_bytes: int) -> None:
        """Let an import in, for what it is about to fetch; once, however often the job starts over.

        Raises:
            PullFailedError: The organization has no room left; says when to try again.
        """


class ImportMeter(Protocol):
    """Counts transfers, by the registry that an image's reference names."""

    def transferred(self, registry: str, size_bytes: int, duration_s: float) -> None:
        """Count an image's layers: what of them came over the network, and how long that took."""


class BlobOrigins(Protocol):
    """From which registries blobs were downloaded and verified, whichever organization asked."""

    async def add(self, digest: Digest, registry: str) -> None:
        """Remember one."""

    async def has(self, digest: Digest, registry: str) -> bool:
        """Tell whether a blob came from a registry before."""


@dataclass(frozen=True, slots=True)
class KnownLayer:
    """What an earlier import of the same organization found out about a layer.

    Attributes:
        diff_id: What it unpacks to.
        encoded: The same layer in zstd; None when it does not gain by that.
    """

    diff_id: Digest
    encoded: ImageContent | None


class KnownLayers(Protocol):
    """What is known of layers, so that none is unpacked and encoded twice."""

    async def known(self, organization: str, layers: Sequence[Digest]) -> Mapping[Digest, KnownLayer]:
        """Return what is known of an organization's layers; whether blobs are there is not looked at."""


class ProgressStore(Protocol):
    """Where running imports say how far they are; losing it loses nothing that matters."""

    async def put(self, job_id: str, progress: Progress) -> None:
        """Publish; never fails an import."""

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Progress]:
        """Return what is known of these jobs."""


class CredentialVault(Protocol):
    """Keeps a customer's credential sealed from the request until its import ends."""

    async def seal(self, job_id: str, credential: UpstreamCredential) -> bytes:
        """Keep a credential; return the wrapped key that the job's row holds until the job ends."""

    async def open(self, job_id: str, credential_key: bytes) -> UpstreamCredential:
        """Return the credential. Raises StoreFailedError when it lapsed or does not open."""

    async def forget(self, job_id: str) -> None:
        """Remove the credential; called however the job ended."""
