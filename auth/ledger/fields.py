"""Encoding of a token's Redis hash `pt:{jti}` (docs/tokens.md, "The ledger")."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from auth.binding import encode_binding
from auth.records import (
    BlobProgress,
    EncryptedFor,
    ImageGrant,
    NewToken,
    SessionView,
    TokenState,
    TokenView,
    blob_key,
)

_WHOLE = b"w"


def encode_new(token: NewToken) -> list[bytes | str | int]:
    """Return the fields and values that `mint.lua` stores, as a flat list.

    Values have at most 64 bytes if possible, so that Redis uses its compact encoding for the hash.
    """
    pairs: list[bytes | str | int] = [
        *("nd", token.node_id),
        *("og", token.organization),
        *("gp", token.group_id),
        *("rp", token.repository),
        *("im", _encode_digest(token.image.digest)),
        *("sz", token.image.size_bytes),
    ]
    if token.encrypted is not None:
        pairs += ("ek", token.encrypted.key, "ed", _encode_digest(token.encrypted.digest))
    if token.binding is not None:
        for name, value in encode_binding(token.binding).items():
            pairs += (name, value)
    image = token.image
    for digest, size in image.blobs.items():
        platforms = "".join(str(n) for n, listed in enumerate(image.platforms) if digest in listed)
        pairs += (b"b" + encode_blob(digest), f"{size} {platforms}" if platforms else size)
    for n, listed in enumerate(image.platforms):
        pairs += (f"g{n}", sum(image.blobs.get(digest, 0) > 0 for digest in listed))
    return pairs


def count_parts(image: ImageGrant) -> int:
    """Return the number of non-empty blobs that complete the image; 1 for one of several platforms."""
    return 1 if image.platforms else sum(size > 0 for size in image.blobs.values())


def encode_blob(digest: str) -> bytes:
    """Return `blob_key` in the ledger's form: 12 bytes."""
    return bytes.fromhex(blob_key(digest))


def decode_view(token_id: str, reply: Sequence[bytes]) -> TokenView | None:
    """Decode the reply of `show.lua`. Returns None for an unknown token or a tombstone."""
    if not reply:
        return None
    now_ms = int(reply[0])
    fields = dict(zip(reply[1::2], reply[2::2], strict=True))
    if b"nd" not in fields:
        return None
    return TokenView(
        token_id=token_id,
        state=TokenState(fields[b"st"].decode()),
        node_id=fields[b"nd"].decode(),
        organization=fields[b"og"].decode(),
        group_id=fields[b"gp"].decode(),
        repository=fields[b"rp"].decode(),
        image_digest=_decode_digest(fields[b"im"]),
        image_size=int(fields[b"sz"]),
        minted_at=_time(fields[b"mi"]),
        expires_at=_time(fields[b"ex"]),
        read_at=_time(reply[0]),
        session=_decode_session(fields, now_ms) if b"ra" in fields else None,
        encrypted=_decode_encrypted(fields),
    )


def _decode_encrypted(fields: Mapping[bytes, bytes]) -> EncryptedFor | None:
    if b"ek" not in fields:
        return None
    return EncryptedFor(fields[b"ek"].decode(), _decode_digest(fields[b"ed"]))


def _decode_session(fields: Mapping[bytes, bytes], now_ms: int) -> SessionView:
    leases = [int(value.split()[0]) for name, value in fields.items() if name.startswith(b"r:")]
    return SessionView(
        session_id=fields[b"sid"].decode(),
        redeemed_at=_time(fields[b"ra"]),
        last_seen=_time(fields[b"ls"]),
        deadline=_time(fields[b"dl"]),
        bytes_delivered=int(fields.get(b"dt", 0)),
        blobs={
            name[1:].hex(): _decode_progress(value, fields.get(b"c" + name[1:]))
            for name, value in fields.items()
            if len(name) == _BLOB_FIELD and name.startswith(b"b")
        },
        running=sum(until > now_ms for until in leases),
        exchanges=int(fields[b"xc"]),
    )


_BLOB_FIELD = 1 + 12


def _decode_progress(value: bytes, covered: bytes | None) -> BlobProgress:
    size, platforms = int(value.partition(b" ")[0]), value.partition(b" ")[2].decode()
    if covered is None:
        return BlobProgress(size, 0, platforms=platforms)
    if covered == _WHOLE:
        return BlobProgress(size, size, requested=True, reached_end=True, platforms=platforms)
    spans = [
        (int(start), int(to)) for start, to in (span.split(b"-") for span in covered.split(b",") if span)
    ]
    delivered, reached_end = sum(to - start for start, to in spans), any(to == size for _, to in spans)
    return BlobProgress(size, delivered, requested=True, reached_end=reached_end, platforms=platforms)


def _time(milliseconds: bytes) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _encode_digest(digest: str) -> bytes:
    algorithm, _, hex_ = digest.partition(":")
    return algorithm.encode() + b":" + bytes.fromhex(hex_)


def _decode_digest(packed: bytes) -> str:
    algorithm, _, raw = packed.partition(b":")
    return f"{algorithm.decode()}:{raw.hex()}"
