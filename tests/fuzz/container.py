"""Fuzzes what reads a container: header, trailer, index, frames, sidecar; also what a key holder forged.

`make fuzz` runs it for a while, from good inputs on.
"""

import struct
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

with atheris.instrument_imports(include=["storage.envelope", "storage.digest"]):
    from storage.backends.memory import MemoryObjectReader
    from storage.digest import Digest
    from storage.envelope.buffers import Scratch
    from storage.envelope.key import DataKey
    from storage.envelope.oeb1.header import Codec, Header
    from storage.envelope.oeb1.opener import HEAD_BYTES, Container, Unlocked
    from storage.envelope.oeb1.trailer import MetaCipher, Trailer
    from storage.envelope.oeb2 import header as oeb2_header
    from storage.envelope.oeb2.keys import Keys
    from storage.envelope.oeb2.sidecar import Sidecar
    from storage.errors import BlobDamagedError

from tests.support.containers import seal, text

KEY = DataKey(bytes(range(32)))
SCRATCH = Scratch()
MOST_READ = 1 << 17


def a_header(data: bytes) -> None:
    """Whatever is accepted as a header is exactly what a writer would have written."""
    header = Header.parse(data)
    if header.encode() != data:
        raise AssertionError("a header has two forms")


def a_container(data: bytes) -> None:
    """Bytes that were not sealed with the key."""
    read(data)


def a_forged_container(data: bytes) -> None:
    """Parts of any content, each sealed under the right key."""
    codec = Codec(data[0] & 1)
    frame_log2 = 16 if codec is Codec.ZSTD else 0
    header = Header.create(KEY, segment_log2=16, codec=codec, frame_log2=frame_log2, file_id=bytes(16))
    meta = MetaCipher.derive(KEY, header)
    frames = data[1] % 8
    index = data[2 : 2 + 4 * frames].ljust(4 * frames, b"\1")
    rest = data[2 + 4 * frames :]
    sizes = struct.unpack(">IIB", rest[:9].ljust(9, b"\0"))
    payload = b"\x28" + rest[9:].ljust(39 + 16, b"\0")
    sealed_index = meta.seal_index(index) if codec is Codec.ZSTD else b""
    lengths_fit = sizes[2] & 1
    payload_bytes = len(payload) - 56 if lengths_fit else sizes[1]
    trailer = Trailer(
        plaintext_bytes=payload_bytes if codec is Codec.NONE and lengths_fit else sizes[0],
        payload_plaintext_bytes=payload_bytes,
        payload_ciphertext_bytes=len(payload),
        frames=frames if codec is Codec.ZSTD else 0,
        index_bytes=len(sealed_index),
        sha256=bytes.fromhex(Digest.of(b"").hex),
    )
    read(header.encode() + payload + sealed_index + meta.seal_trailer(trailer))


def a_sidecar(data: bytes) -> None:
    """Bytes that are not a sidecar of OEB2, or tags and a trailer of any content under the right keys."""
    header = oeb2_header.Header.create(KEY, segment_log2=16, file_id=bytes(16))
    keys = Keys.derive(KEY, header)
    if data[0] & 1:
        before = header.encode() + data[161:]
        sealed = before + keys.seal_trailer(data[1:161].ljust(160, b"\0"), before)
    else:
        sealed = data
        oeb2_header.Header.parse(data[:64])
    Sidecar.open(sealed, header, keys)


def read(container: bytes) -> None:
    """Open and read a little at both ends."""
    unlocked = Unlocked.unlock(KEY, container[:HEAD_BYTES])
    opened = Container(MemoryObjectReader(container), unlocked, Digest.of(b""), SCRATCH)
    length = min(opened.size_bytes, MOST_READ)
    for offset in (0, opened.size_bytes - length):
        opened.read_into(offset, memoryview(bytearray(length)))


TARGETS = (a_header, a_container, a_forged_container, a_sidecar)


def one_input(data: bytes) -> None:
    """Let one target have the bytes; only damage may be said of them."""
    if len(data) < 4:
        return
    try:
        TARGETS[data[0] % len(TARGETS)](data[1:])
    except BlobDamagedError:
        return


def seeds(folder: Path) -> None:
    """Write one good input or two for every target."""
    (folder / "sidecar").write_bytes(b"\3\1" + bytes(160) + bytes(16))
    for codec in Codec:
        container = seal(text(70_000)[:3000], key=KEY, codec=codec)
        (folder / f"header-{codec}").write_bytes(b"\0" + container[:64])
        (folder / f"container-{codec}").write_bytes(b"\1" + container)
        (folder / f"forged-{codec}").write_bytes(bytes([2, codec, 1]) + b"\0\0\0\5" * 8 + bytes(100))


if __name__ == "__main__":
    with TemporaryDirectory() as corpus:
        seeds(Path(corpus))
        atheris.Setup([*sys.argv, corpus], one_input)
        atheris.Fuzz()
