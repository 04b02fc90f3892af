"""Writes the golden containers beside this file: `python -m tests.vectors.oeb1.make`.

Run it only when the format gets a new version: what lies here is what stored blobs look like.
"""

import hashlib
import json
from pathlib import Path

from storage.envelope.key import DataKey
from storage.envelope.oeb1.header import Codec
from storage.envelope.oeb1.sealer import Sealer
from tests.support.containers import CAPACITY, FIRST_CAPACITY, FRAME_LOG2, SEGMENT_LOG2, noise, text

FOLDER = Path(__file__).parent
_SEGMENT = 1 << SEGMENT_LOG2
_BLOBS = {
    "empty": (b"", Codec.NONE),
    "hello": (b"hello, edge\n", Codec.NONE),
    "one-full-segment": (noise(FIRST_CAPACITY), Codec.NONE),
    "two-segments-and-a-byte": (noise(FIRST_CAPACITY + CAPACITY + 1), Codec.NONE),
    "zstd-text": (text(150_000), Codec.ZSTD),
    "zstd-text-and-raw-noise": (text(1 << 16) + noise(1 << 16) + b"end\n", Codec.ZSTD),
}


def _seal(name: str, plaintext: bytes, codec: Codec) -> dict[str, object]:
    drawn: list[bytes] = []

    def entropy(size: int) -> bytes:
        drawn.append(hashlib.sha256(f"{name}/{len(drawn)}".encode()).digest()[:size])
        return drawn[-1]

    dek = hashlib.sha256(f"{name}/dek".encode()).digest()
    sealer = Sealer(
        DataKey(dek), codec=codec, segment_log2=SEGMENT_LOG2, frame_log2=FRAME_LOG2, entropy=entropy
    )
    sha256 = hashlib.sha256(plaintext)
    container = sealer.head + bytes(sealer.feed(plaintext)) + sealer.finish(sha256.digest())
    (FOLDER / f"{name}.oeb1").write_bytes(container)
    (FOLDER / f"{name}.plain").write_bytes(plaintext)
    file_id, salt, prefix = drawn
    return {
        "name": name,
        "dek": dek.hex(),
        "codec": int(codec),
        "segment_log2": SEGMENT_LOG2,
        "frame_log2": FRAME_LOG2 if codec else 0,
        "file_id": file_id.hex(),
        "salt": salt.hex(),
        "nonce_prefix": prefix.hex(),
        "plaintext_bytes": len(plaintext),
        "plaintext_sha256": sha256.hexdigest(),
        "container_bytes": len(container),
        "container_sha256": hashlib.sha256(container).hexdigest(),
    }


def _negatives() -> list[dict[str, object]]:
    """Describe damage as edits, so that no damaged container has to be kept."""
    one, two = 64 + _SEGMENT, 64 + 2 * _SEGMENT
    flips = {
        "magic": 0,
        "version": 8,
        "suite": 9,
        "segment size": 10,
        "codec": 11,
        "frame size": 12,
        "reserved header byte": 15,
        "file id": 16,
        "commitment": 32,
        "payload header length": 64,
        "salt": 65,
        "nonce prefix": 97,
        "first ciphertext byte": 104,
        "last byte of the first segment": one - 1,
        "first byte of the second segment": one,
        "trailer": -96,
        "trailer tag": -1,
    }
    base = "two-segments-and-a-byte"
    edits: list[dict[str, object]] = [
        {"base": base, "damage": f"flipped: {part}", "flip": [offset]} for part, offset in flips.items()
    ]
    edits += [
        {"base": base, "damage": "cut at the first segment's border", "keep": [[0, one]]},
        {"base": base, "damage": "last segment dropped", "keep": [[0, two], [-96, None]]},
        {
            "base": base,
            "damage": "middle segment dropped",
            "keep": [[0, one], [two, None]],
        },
        {"base": base, "damage": "segment repeated", "keep": [[0, two], [one, None]]},
        {
            "base": base,
            "damage": "segments swapped",
            "keep": [
                [0, 64],
                [one, two],
                [64, one],
                [two, None],
            ],
        },
        {"base": base, "damage": "trailer cut off", "keep": [[0, -96]]},
        {"base": base, "damage": "one byte appended", "keep": [[0, None], [-1, None]]},
        {"base": base, "damage": "nothing left", "keep": []},
        {"base": "empty", "damage": "flipped: tag of the empty segment", "flip": [104]},
        {"base": "zstd-text", "damage": "flipped: index", "flip": [-97]},
        {"base": "zstd-text", "damage": "index cut", "keep": [[0, -100], [-96, None]]},
        {"base": "zstd-text", "damage": "codec denied", "set": [[11, 0], [12, 0]]},
        {"base": "hello", "damage": "codec claimed", "set": [[11, 1], [12, 16]]},
    ]
    return edits


def main() -> None:
    """Write everything."""
    positives = [_seal(name, plaintext, codec) for name, (plaintext, codec) in _BLOBS.items()]
    document = {"format": "OEB1", "containers": positives, "negatives": _negatives()}
    (FOLDER / "vectors.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
