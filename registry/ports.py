"""What the registry's rooms ask of each other and of the outside, and the words they share.

The types are values; the protocols are kept by adapters (`registry.catalog`, `registry.transient`)
that `registry.app` chooses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

from auth.ports import AuditEvent, Node
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
    """The encodings of one image. Nodes get one of them (docs/adr/0034-zstd-variant-as-separate-image.md)."""

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
