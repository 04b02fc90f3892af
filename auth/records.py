"""Values that the token ledger stores and returns. No I/O."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from auth.networks import Network

MAX_TTL_S = 15 * 60
"""Maximum lifetime of an unredeemed pull token in seconds (docs/tokens.md)."""

LEDGER_EXCHANGES = 32
"""Recorded exchanges of a token in the ledger; more raise an alarm (docs/tokens.md, "Redemption")."""


class TokenState(StrEnum):
    """State of a token (docs/tokens.md, "States")."""

    MINTED = "minted"
    ACTIVE = "active"
    DONE = "done"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ImageGrant:
    """The image that a token grants.

    Attributes:
        digest: Digest of the manifest or index.
        size_bytes: Bytes that the node must fetch; the byte budget is a multiple of it.
        blobs: Sizes in bytes of the platform's config and layers, by digest.
        platforms: If the image is for several platforms: the digests of each platform's blobs. A node that
            has all blobs of one platform has the image.
    """

    digest: str
    size_bytes: int
    blobs: Mapping[str, int]
    platforms: Sequence[Collection[str]] = ()


@dataclass(frozen=True, slots=True)
class NodeBinding:
    """Binding of a token to its node at the time of the mint.

    Attributes:
        by_certificate: Whether the node presents a certificate; else it presents a secret.
        secret_hash: `auth.secret.hash_secret` of the node's secret; empty for a certificate.
        networks: Source networks from which the node may connect; empty means any.
    """

    by_certificate: bool
    secret_hash: bytes = field(default=b"", repr=False)
    networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeProof:
    """Proof of a caller that it is a token's node.

    Attributes:
        certified: Whether it presents a verified certificate of this node.
        secret_hash: `auth.secret.hash_secret` of the presented secret; empty if there is none.
        source: Its network address.
    """

    certified: bool
    secret_hash: bytes = field(default=b"", repr=False)
    source: str = ""


@dataclass(frozen=True, slots=True)
class EncryptedFor:
    """How a token's layers are encrypted for its node.

    Attributes:
        key: Thumbprint of the node's encryption key.
        digest: Digest of the manifest or index that the session's tags name.
    """

    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to be entered in the ledger.

    Attributes:
        binding: Binding that its redemption checks. A token without one can only be redeemed without a
            proof, by a caller that has checked the node itself; the realm never does so.
        encrypted: None if layers are delivered as plaintext.
    """

    token_id: str
    organization: str
    group_id: str
    repository: str
    node_id: str
    image: ImageGrant
    ttl_s: float
    binding: NodeBinding | None = None
    encrypted: EncryptedFor | None = None


@dataclass(frozen=True, slots=True)
class Redemption:
    """Result of a redemption, for the node.

    Attributes:
        session_id: Id of the session, the same for all exchanges of its token.
        opened: Whether this exchange opened the session.
        announce_s: Minimum remaining lifetime in seconds, unless it is completed or revoked.
        hard_end_s: Maximum remaining lifetime in seconds.
        exchanges: Number of exchanges of the token.
        binding: Binding of its node; None for a token without a binding.
    """

    session_id: str
    opened: bool
    announce_s: float
    hard_end_s: float
    exchanges: int
    binding: NodeBinding | None = None


@dataclass(frozen=True, slots=True)
class BlobProgress:
    """Delivery of one blob in a session.

    Attributes:
        size_bytes: Size of the blob.
        delivered_bytes: Distinct bytes that were delivered.
        requested: Whether the node requested it.
        reached_end: Whether its last byte was delivered.
        platforms: If the image is for several platforms: those with this blob, each as one digit.
    """

    size_bytes: int
    delivered_bytes: int
    requested: bool = False
    reached_end: bool = False
    platforms: str = ""

    @property
    def whole(self) -> bool:
        """Whether all bytes have been delivered."""
        return self.delivered_bytes == self.size_bytes


@dataclass(frozen=True, slots=True)
class SessionView:
    """State of a session, for operators.

    Attributes:
        bytes_delivered: All bytes sent, including repeated ranges.
        blobs: Progress of each blob, by `blob_key`.
        running: Number of running responses.
    """

    session_id: str
    redeemed_at: datetime
    last_seen: datetime
    deadline: datetime
    bytes_delivered: int
    blobs: Mapping[str, BlobProgress]
    running: int
    exchanges: int

    @property
    def platform_blobs(self) -> Sequence[BlobProgress]:
        """Blobs of the image; of several platforms, those of the platform of which most was delivered."""
        blobs = list(self.blobs.values())
        platforms = sorted({platform for blob in blobs for platform in blob.platforms})
        of_each = [[blob for blob in blobs if platform in blob.platforms] for platform in platforms]
        return max(of_each, key=_delivered_share, default=blobs)

    @property
    def blobs_total(self) -> int:
        """Number of distinct blobs in the image."""
        return len(self.platform_blobs)

    @property
    def blobs_complete(self) -> int:
        """Number of blobs that have been delivered completely."""
        return sum(blob.whole for blob in self.platform_blobs)

    @property
    def bytes_total(self) -> int:
        """Size of the image in bytes."""
        return sum(blob.size_bytes for blob in self.platform_blobs)

    @property
    def bytes_covered(self) -> int:
        """Distinct bytes of the image that have been delivered."""
        return sum(blob.delivered_bytes for blob in self.platform_blobs)


@dataclass(frozen=True, slots=True)
class TokenView:
    """State of a token, for operators.

    Attributes:
        read_at: Time of this state by the ledger's clock, which all its other times have too.
        session: None until the token is redeemed.
        encrypted: None if layers are delivered as plaintext.
    """

    token_id: str
    state: TokenState
    node_id: str
    organization: str
    group_id: str
    repository: str
    image_digest: str
    image_size: int
    minted_at: datetime
    expires_at: datetime
    read_at: datetime
    session: SessionView | None
    encrypted: EncryptedFor | None = None


def _delivered_share(blobs: Sequence[BlobProgress]) -> float:
    total = sum(blob.size_bytes for blob in blobs)
    return sum(blob.delivered_bytes for blob in blobs) / total if total else 0.0


_KEY_HEX = 24


def blob_key(digest: str) -> str:
    """Return the ledger's name for a blob: the first 96 bits of its digest, in hex.

    This distinguishes the blobs of one image. Whether a digest belongs to the image is not decided by
    this name alone (docs/adr/0008-compact-token-records.md).
    """
    return digest.partition(":")[2][:_KEY_HEX]
