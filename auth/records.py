"""What goes into the token ledger and what comes out of it (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from auth.networks import Network

MAX_TTL_S = 15 * 60
"""The longest that a pull token may wait for its redemption (docs/tokens.md)."""

LEDGER_EXCHANGES = 32
"""How many exchanges of a token the ledger records; more are an alarm (docs/tokens.md, "Redemption")."""


class TokenState(StrEnum):
    """Where a token is in its life (docs/tokens.md, "States")."""

    MINTED = "minted"
    ACTIVE = "active"
    DONE = "done"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ImageGrant:
    """The one image that a token is good for.

    Attributes:
        digest: The manifest or index that the tag resolves to.
        size_bytes: What the node has to fetch; the byte budget is counted in multiples of it.
        blobs: The distinct config and layer digests of the platform, with their sizes in bytes.
    """

    digest: str
    size_bytes: int
    blobs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class NodeBinding:
    """How a token's node proves its identity, as it was when the token was minted.

    Attributes:
        by_certificate: Whether the node presents a certificate; else it presents a secret.
        secret_hash: `auth.secret.hash_secret` of the node's secret; empty for a certificate.
        networks: Source networks that the node may come from; empty means any.
    """

    by_certificate: bool
    secret_hash: bytes = field(default=b"", repr=False)
    networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeProof:
    """What a caller presents to prove that it is a token's node.

    Attributes:
        certified: Whether it presents a verified certificate of this node.
        secret_hash: `auth.secret.hash_secret` of the secret that it presents; empty if it presents none.
        source: The network address that it comes from.
    """

    certified: bool
    secret_hash: bytes = field(default=b"", repr=False)
    source: str = ""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to be entered in the ledger.

    Attributes:
        binding: What its redemption checks. A token without one can be redeemed only without a proof, by a
            caller that has checked the node itself; the realm never does.
    """

    token_id: str
    organization: str
    group_id: str
    repository: str
    node_id: str
    image: ImageGrant
    ttl_s: float
    binding: NodeBinding | None = None


@dataclass(frozen=True, slots=True)
class Redemption:
    """A session, as told to the node that opened it.

    Attributes:
        session_id: The session, the same for every exchange of its token.
        opened: Whether the exchange that asks is the one that opened it.
        announce_s: For how long it surely lives, unless it is completed or revoked.
        hard_end_s: For how long it can live at most.
        exchanges: How many times it has been asked for.
        binding: How its node proved its identity; None for a token without a binding.
    """

    session_id: str
    opened: bool
    announce_s: float
    hard_end_s: float
    exchanges: int
    binding: NodeBinding | None = None


@dataclass(frozen=True, slots=True)
class BlobProgress:
    """What a session has delivered of one blob.

    Attributes:
        size_bytes: The whole blob.
        delivered_bytes: The distinct bytes of it that were delivered.
    """

    size_bytes: int
    delivered_bytes: int

    @property
    def whole(self) -> bool:
        """Whether every byte has been delivered."""
        return self.delivered_bytes == self.size_bytes


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session, as told to its operator.

    Attributes:
        bytes_delivered: Everything sent, ranges sent again included.
        blobs: Progress by `blob_key` of each digest.
        running: Responses that are being sent now.
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
    def blobs_total(self) -> int:
        """How many distinct blobs the image has."""
        return len(self.blobs)

    @property
    def blobs_complete(self) -> int:
        """How many of them have been wholly delivered."""
        return sum(blob.whole for blob in self.blobs.values())

    @property
    def bytes_covered(self) -> int:
        """How much of the image has been delivered, every byte counted once."""
        return sum(blob.delivered_bytes for blob in self.blobs.values())


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token, as told to its operator; `session` is None until it is redeemed."""

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
    session: SessionView | None


_KEY_HEX = 24


def blob_key(digest: str) -> str:
    """Return how the ledger names a blob: the first 96 bits of its digest, in hex.

    Enough to tell the blobs of one image apart; whether a digest belongs to the image is not decided by
    it alone (docs/adr/0008-compact-token-records.md).
    """
    return digest.partition(":")[2][:_KEY_HEX]
