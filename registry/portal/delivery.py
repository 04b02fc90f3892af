"""Progress of a pull, for display: rate, time left, and the state of each layer. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from auth.records import BlobProgress, SessionView, blob_key
from registry.model.images import ContentKind, ImageContent, StoredImage

_NAMED: Final = (ContentKind.CONFIG, ContentKind.LAYER)
_MIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Rate of a pull since its token was redeemed.

    Attributes:
        bytes_per_s: Average rate; 0 if nothing was delivered yet.
        left_s: Seconds left at this rate; None without a rate.
        idle_s: Seconds since the node's last request.
    """

    bytes_per_s: int
    left_s: int | None
    idle_s: int


@dataclass(frozen=True, slots=True)
class DeliveredBlob:
    """A blob of an image, and what of it was delivered.

    Attributes:
        name: `Config`, or `Layer` with its number; the base layer is 1.
        delivered_bytes: Distinct bytes that were delivered; 0 before the token is redeemed.
    """

    name: str
    digest: str
    size_bytes: int
    delivered_bytes: int
    requested: bool

    @property
    def state(self) -> str:
        """What the node has of it, in a word."""
        if self.delivered_bytes >= self.size_bytes:
            return "complete"
        return "pulling" if self.requested or self.delivered_bytes else "not requested"


def pace_of(session: SessionView, now: datetime) -> Pace:
    """Return the rate of a session's pull. `now` is by the ledger's clock."""
    passed_s = (session.last_seen - session.redeemed_at).total_seconds()
    rate = round(session.bytes_covered / max(passed_s, _MIN_S))
    missing = session.bytes_total - session.bytes_covered
    idle_s = max(0, round((now - session.last_seen).total_seconds()))
    return Pace(rate, -(-missing // rate) if rate else None, idle_s)


def blobs_of(image: StoredImage | None, session: SessionView | None) -> Sequence[DeliveredBlob]:
    """Return the blobs that a node fetches, the config first; none if the image is not stored any more.

    Of an image for several platforms, these are the blobs of all platforms, unless the session shows that the
    node pulls one of them.
    """
    if image is None:
        return ()
    known = session.blobs if session is not None else {}
    chosen = {id(blob) for blob in session.platform_blobs} if session is not None else set()
    rows, layers = [], 0
    for content in sorted((each for each in image.contents if each.kind in _NAMED), key=_is_layer):
        found = _found(known, content)
        if session is not None and (found is None or id(found) not in chosen):
            continue
        layers += content.kind is ContentKind.LAYER
        name = f"Layer {layers}" if content.kind is ContentKind.LAYER else "Config"
        rows.append(_row(name, content, found))
    return rows


def _is_layer(content: ImageContent) -> bool:
    return content.kind is ContentKind.LAYER


def _found(known: Mapping[str, BlobProgress], content: ImageContent) -> BlobProgress | None:
    return known.get(blob_key(str(content.stored_digest)))


def _row(name: str, content: ImageContent, found: BlobProgress | None) -> DeliveredBlob:
    delivered = found.delivered_bytes if found is not None else 0
    requested = found is not None and found.requested
    return DeliveredBlob(name, str(content.digest), content.size_bytes, delivered, requested)
