import zlib
from array import array

import pytest
import zstandard

from storage.envelope.oeb1.frames import FrameIndex, choose_codec, decompress
from storage.envelope.oeb1.header import Codec
from storage.errors import BlobDamagedError
from tests.support.containers import noise, text


def test_text_is_compressed_and_noise_or_nothing_is_not() -> None:
    assert choose_codec(text(100_000)) is Codec.ZSTD
    assert choose_codec(noise(100_000)) is Codec.NONE
    assert choose_codec(zlib.compress(noise(1 << 20).hex().encode())) is Codec.NONE
    assert choose_codec(b"") is Codec.NONE


def test_a_frame_of_another_declared_size_is_refused_unread() -> None:
    bomb = zstandard.compress(bytes(64 << 20))
    with pytest.raises(BlobDamagedError, match="declares a size"):
        decompress(memoryview(bomb), 1 << 16)


def test_a_frame_without_a_declared_size_is_refused() -> None:
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    with pytest.raises(BlobDamagedError, match="declares a size"):
        decompress(memoryview(silent), 1000)


@pytest.mark.parametrize("tail", [b"\0", zstandard.compress(b"more")])
def test_a_frame_with_something_after_it_is_refused(tail: bytes) -> None:
    frame = zstandard.compress(text(1000))
    assert decompress(memoryview(frame), 1000) == text(1000)
    with pytest.raises(BlobDamagedError, match="does not decompress"):
        decompress(memoryview(frame + tail), 1000)


@pytest.mark.parametrize("bad", [b"", b"not zstd at all", zstandard.compress(text(1000))[:-5]])
def test_what_is_not_a_whole_frame_is_refused(bad: bytes) -> None:
    with pytest.raises(BlobDamagedError):
        decompress(memoryview(bad), 1000)


@pytest.mark.parametrize(
    "length",
    [0, 1 << 16, (1 << 16) + 1, (1 << 31) | ((1 << 16) - 1), 1 << 31],
    ids=["nothing", "not shorter", "longer", "raw but shorter", "raw but nothing"],
)
def test_a_frame_length_that_no_writer_gives_is_refused(length: int) -> None:
    index = FrameIndex(array("I", [length]), 1 << 16, 1 << 16)
    with pytest.raises(BlobDamagedError, match="invalid length"):
        index.frame(0)


@pytest.mark.parametrize(
    ("plaintext_bytes", "payload_bytes"), [(1 << 16, 100), (1 << 17, 99), (1 << 18, 100)]
)
def test_an_index_that_does_not_add_up_is_refused(plaintext_bytes: int, payload_bytes: int) -> None:
    data = (60).to_bytes(4, "big") + (40).to_bytes(4, "big")
    with pytest.raises(BlobDamagedError, match="add up"):
        FrameIndex.parse(
            data, frame_bytes=1 << 16, plaintext_bytes=plaintext_bytes, payload_bytes=payload_bytes
        )
