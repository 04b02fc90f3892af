"""Writes the golden containers beside this file: `python -m tests.vectors.oeb2.make`.

Run it only when the format gets a new version: what lies here is what stored blobs look like.
"""

import hashlib
import json
from pathlib import Path

from storage.digest import Digest
from storage.envelope.key import DataKey
from storage.envelope.oeb2 import HEADER_BYTES, Unlocked
from tests.support.containers import SEGMENT_LOG2, noise
from tests.support.deliverable import SEGMENT, open_container, seal

FOLDER = Path(__file__).parent
_BLOBS = {
    "empty": b"",
    "hello": b"hello, edge\n",
    "one-full-segment": noise(SEGMENT),
    "two-segments-and-a-byte": noise(2 * SEGMENT + 1),
    "counter-carries-over-32-bits": noise(SEGMENT + 4099, seed=1),
}
# The nonce is derived. With this file id, found by trial, its low 32 bits overflow in the first segment.
_ATTEMPTS = {"counter-carries-over-32-bits": 914894}


def _seal(name: str, plaintext: bytes) -> dict[str, object]:
    dek = hashlib.sha256(f"{name}/dek".encode()).digest()
    file_id = hashlib.sha256(f"{name}/{_ATTEMPTS.get(name, 0)}".encode()).digest()[:16]
    sealed = seal(plaintext, key=DataKey(dek), entropy=lambda _size: file_id)
    (FOLDER / f"{name}.ciphertext").write_bytes(sealed.ciphertext)
    (FOLDER / f"{name}.sidecar").write_bytes(sealed.sidecar)
    (FOLDER / f"{name}.plain").write_bytes(plaintext)
    key = open_container(sealed, Digest.of(plaintext), DataKey(dek)).delivery_key()
    unlocked = Unlocked.unlock(DataKey(dek), sealed.sidecar[:HEADER_BYTES])
    return {
        "name": name,
        "dek": dek.hex(),
        "segment_log2": SEGMENT_LOG2,
        "file_id": file_id.hex(),
        "commitment": unlocked.header.commitment.hex(),
        "symkey": key.symkey.hex(),
        "nonce": key.nonce.hex(),
        "derived_example": key.derive(b"example").hex(),
        "size_bytes": len(plaintext),
        "plaintext_sha256": hashlib.sha256(plaintext).hexdigest(),
        "ciphertext_sha256": key.ciphertext.hex,
        "hmac": key.hmac.hex(),
        "head_sha256": key.head.hex(),
        "sidecar_sha256": hashlib.sha256(sealed.sidecar).hexdigest(),
    }


def _negatives() -> list[dict[str, object]]:
    """Describe damage as edits of one of the objects, so that no damaged container has to be kept."""
    base, one, two = "two-segments-and-a-byte", SEGMENT, 2 * SEGMENT
    header_fields = {
        "magic": 0,
        "version": 8,
        "suite": 9,
        "segment size": 10,
        "reserved header byte": 15,
        "file id": 16,
        "commitment": 32,
        "first tag": 64,
        "second tag": 80,
        "last tag": -177,
        "trailer": -176,
        "trailer tag": -1,
    }
    edits: list[dict[str, object]] = [
        {"base": base, "damage": f"flipped: {part}", "object": "sidecar", "flip": [offset]}
        for part, offset in header_fields.items()
    ]
    cuts: dict[str, tuple[str, list[list[int | None]]]] = {
        "tags swapped": ("sidecar", [[0, 64], [80, 96], [64, 80], [96, None]]),
        "tag dropped": ("sidecar", [[0, 64], [80, None]]),
        "tag repeated": ("sidecar", [[0, 80], [64, None]]),
        "trailer cut off": ("sidecar", [[0, -176]]),
        "sidecar with one byte more": ("sidecar", [[0, None], [-1, None]]),
        "sidecar empty": ("sidecar", []),
        "ciphertext cut at a segment": ("ciphertext", [[0, two]]),
        "ciphertext with one byte more": ("ciphertext", [[0, None], [0, 1]]),
        "segments swapped": ("ciphertext", [[one, two], [0, one], [two, None]]),
        "ciphertext empty": ("ciphertext", []),
    }
    edits += [
        {"base": base, "damage": damage, "object": part, "keep": keep}
        for damage, (part, keep) in cuts.items()
    ]
    edits += [
        {"base": base, "damage": f"flipped: ciphertext byte {at}", "object": "ciphertext", "flip": [at]}
        for at in (0, one - 1, one, two)
    ]
    edits.append({"base": base, "damage": "segment size 2^17", "object": "sidecar", "set": [[10, 17]]})
    edits.append({"base": base, "damage": "version of OEB1", "object": "sidecar", "set": [[8, 1], [9, 1]]})
    return edits


def main() -> None:
    """Write everything."""
    positives = [_seal(name, plaintext) for name, plaintext in _BLOBS.items()]
    document = {"format": "OEB2", "containers": positives, "negatives": _negatives()}
    (FOLDER / "vectors.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
