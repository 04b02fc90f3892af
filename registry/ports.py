"""What the registry's rooms ask of each other and of the outside, and the words they share.

The types are values; the protocols are kept by adapters (`registry.catalog`, `registry.transient`)
that `registry.app` chooses.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

from auth.ports import AuditEvent, Node
from auth.secret import Secret
from storage.digest import Digest

NO_FACTS: Mapping[str, object] = MappingProxyType({})

# -- container groups ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class GroupKey:
    """A container group's name within its project and organization."""

    organization: str
    project: str
    name: str

    @property
    def repository(self) -> str:
        """The repository that nodes pull the group's image from."""
        return f"{self.organization}/{self.project}/{self.name}"


class GroupStatus(StrEnum):
    """The states of SaladCloud's public API that Crisper brings about."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    DEPLOYING = "deploying"


@dataclass(frozen=True, slots=True)
class Group:
    """A container group as the catalog knows it.

    Attributes:
        image: The reference as the customer wrote it.
        spec: The request's other fields, stored and returned unchanged; never credentials.
        version: Raised by each new image, from 1.
        status_description: The sentence beside the status; names the stage or the failure.
        image_digest: Digest of the document that `image` named at creation; None until stored.
        image_size_bytes: Compressed size of the image's platform; None until stored.
        job_id: The newest import.
        started: Whether its owner wants it to run: what it does once its image is there.
        revision: Raised by each change that its owner makes.
    """

    id: str
    key: GroupKey
    image: str
    spec: Mapping[str, Any]
    version: int
    autostart: bool
    status: GroupStatus
    status_description: str
    status_since: datetime
    created_at: datetime
    updated_at: datetime
    job_id: str
    started: bool = False
    revision: int = 1
    image_digest: Digest | None = None
    image_size_bytes: int | None = None


def group_event(
    type_: str,
    group_id: str,
    key: GroupKey,
    facts: Mapping[str, object] = NO_FACTS,
    *,
    cause: str | None = None,
    source: str | None = None,
) -> AuditEvent:
    """Tell about a container group."""
    detail = {"group_id": group_id, "project": key.project, "group": key.name, **facts}
    return AuditEvent(type_, key.organization, cause=cause, source=source, detail=detail)


# -- images -------------------------------------------------------------------------------------


class ContentKind(StrEnum):
    """What a stored blob is within its image."""

    INDEX = "index"
    MANIFEST = "manifest"
    CONFIG = "config"
    LAYER = "layer"
    ATTACHMENT = "attachment"  # the manifest of a signature, an SBOM ...
    ATTACHMENT_BLOB = "attachment_blob"
    ATTACHMENTS = "attachments"  # our own record of them (registry/oci/attachments.py)


class Variant(StrEnum):
    """The encodings of one image. Nodes get one of them (docs/adr/0120-a-variant-is-an-image.md)."""

    ORIGINAL = "original"
    ZSTD = "zstd"


class WantedVariant(StrEnum):
    """Which of an image's encodings a node shall get."""

    AUTO = "auto"
    ORIGINAL = "original"
    ZSTD = "zstd"

    @property
    def choice(self) -> Variant | None:
        """What was chosen; None leaves it to what is known of the node."""
        return None if self is WantedVariant.AUTO else Variant(self.value)


@dataclass(frozen=True, slots=True)
class ImageContent:
    """One blob of an image: a document of it, the config, a layer, or of what is attached to it.

    Attributes:
        diff_id: Of a layer that was unpacked and found to be what the image's config says; else None.
    """

    digest: Digest
    kind: ContentKind
    media_type: str
    size_bytes: int
    diff_id: Digest | None = None


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that storage holds whole.

    Attributes:
        digest: Of the document that the reference named: an index or a manifest.
        manifest_digest: Of the platform's manifest; equals `digest` where there was no index.
        contents: Every stored blob, each digest once.
        size_bytes: Config and layers of the platform, compressed, each digest once.
        variant: Which encoding this is.
        zstd: The same image with layers in zstd, where they gain by it; only on the original.
    """

    digest: Digest
    manifest_digest: Digest
    platform: str
    contents: tuple[ImageContent, ...]
    size_bytes: int
    variant: Variant = Variant.ORIGINAL
    zstd: "StoredImage | None" = None

    def content(self, digest: Digest) -> ImageContent | None:
        """Return the image's blob of that digest, or None: it is not of this image."""
        return next((c for c in self.contents if c.digest == digest), None)

    def with_attached(self, added: Sequence[ImageContent]) -> "StoredImage":
        """Return the image with something attached to it, which goes along with every variant."""
        zstd = self.zstd.with_attached(added) if self.zstd else None
        return replace(self, contents=(*self.contents, *added), zstd=zstd)

    @property
    def platform_blobs(self) -> Mapping[str, int]:
        """Config and layers, digest to size: what a node has to fetch."""
        kinds = (ContentKind.CONFIG, ContentKind.LAYER)
        return {str(c.digest): c.size_bytes for c in self.contents if c.kind in kinds}


# -- imports ------------------------------------------------------------------------------------


class CredentialKind(StrEnum):
    """What a credential's two halves are."""

    PASSWORD = "password"  # noqa: S105 - HTTP Basic, at the registry or at its realm
    AWS_ACCESS_KEY = "aws_access_key"


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


class FlightLeases(Protocol):
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


class LayerMemory(Protocol):
    """What is known of layers, so that none is unpacked and encoded twice."""

    async def known(self, organization: str, layers: Sequence[Digest]) -> Mapping[Digest, KnownLayer]:
        """Return what is known of an organization's layers; whether blobs are there is not looked at."""


class ProgressBoard(Protocol):
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


# -- catalog ------------------------------------------------------------------------------------


class GroupCatalog(Protocol):
    """Container groups and the images of their versions."""

    async def create(self, group: Group, credential_key: bytes | None) -> None:
        """Insert a group and its import job in one transaction. Raises ConflictError: the name is taken."""

    async def get(self, key: GroupKey) -> Group | None:
        """Return a group by name."""

    async def change(self, before: Group, after: Group, credential_key: bytes | None) -> bool:
        """Write a group's change, and queue the import that `after.job_id` names if it is a new one.

        An import that still runs for the group ends with it. False when the group is no longer as it was
        `before`: nothing was written.
        """

    async def newest_version(self, group_id: str) -> int | None:
        """Return the newest version whose image is stored."""

    async def list(
        self,
        organization: str,
        project: str | None = None,
        *,
        after: tuple[datetime, str] | None = None,
        limit: int | None = None,
    ) -> Sequence[Group]:
        """Return an organization's groups, oldest first, from behind the one created `(at, with this id)`."""

    async def delete(self, key: GroupKey) -> Group | None:
        """Remove a group with its job and versions; return what was removed."""

    async def image(self, group_id: str, version: int) -> StoredImage | None:
        """Return the image of a version once it is stored."""

    async def image_by_digest(self, repository: str, digest: str) -> StoredImage | None:
        """Return a repository's image, or the variant of one, by the digest that its tokens name."""

    async def version_digests(self, repository: str, version: int) -> Sequence[Digest]:
        """Return the digests of a stored version's image and of its variant; none when there is no such."""

    async def tags(self, repository: str) -> Sequence[str]:
        """Return `latest` and `v<version>` of every stored version, sorted as bytes."""


class ImageDirectory(Protocol):
    """The images that are stored."""

    async def list(self, organization: str | None, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return the newest images as rows, of an organization or of all, with their variants' sizes."""


@dataclass(frozen=True, slots=True)
class Organization:
    """A customer."""

    name: str
    created_at: datetime


class OrganizationDirectory(Protocol):
    """Who the customers are."""

    async def add(self, organization: Organization) -> None:
        """Insert. Raises ConflictError: the name is taken."""

    async def get(self, name: str) -> Organization | None:
        """Return an organization."""

    async def list(self) -> Sequence[Organization]:
        """Return all organizations by name."""


class NodeRegistry(Protocol):
    """Nodes, with the means to change them (`auth.ports.NodeDirectory` only reads)."""

    async def get(self, node_id: str) -> Node | None:
        """Return a node, struck off or not."""

    async def add(self, node: Node) -> None:
        """Insert. Raises ConflictError: the id was used before."""

    async def revoke(self, node_id: str) -> bool:
        """Strike a node off; its id is never given out again. False when there is none."""

    async def list(self) -> Sequence[Node]:
        """Return all nodes by id."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An audit event with its place in the trail."""

    cursor: int
    at: datetime
    event: AuditEvent


class EventLog(Protocol):
    """The audit trail."""

    async def record(self, event: AuditEvent) -> None:
        """Append one event durably."""

    async def page(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        type_: str | None = None,
        organization: str | None = None,
        token_id: str | None = None,
    ) -> Sequence[StoredEvent]:
        """Return events behind a cursor, oldest first; none can appear later between those returned."""

    async def latest(self) -> int:
        """Return the newest event's cursor; 0 when there is none."""
