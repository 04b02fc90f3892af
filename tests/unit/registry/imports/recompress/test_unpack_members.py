"""Layers of many gzip members or zstd frames, cut anywhere, against the standard library's zlib."""

import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zstandard
from hypothesis import assume, example, given
from hypothesis import strategies as st

from registry.errors import PullFailedError
from registry.imports.recompress import decode
from registry.imports.recompress.decode import Packing
from registry.imports.recompress.unpack import Allowance, Unpacker
from storage.digest import Digest
from storage.read.reader import CHUNK_BYTES

ESTARGZ_FOOTER = bytes.fromhex("1f8b08040000000000ff1a005347160030303030303030303030303030303030")
ESTARGZ_FOOTER += b"STARGZ" + bytes.fromhex("010000ffff0000000000000000")


class Pieces:
    """Gives a layer in pieces of the drawn sizes, over and over."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._stream = io.BytesIO(data)
        self._sizes = sizes
        self._reads = 0

    def read(self, _size: int = -1, /) -> bytes:
        self._reads += 1
        return self._stream.read(self._sizes[self._reads % len(self._sizes)])


@contextmanager
def borders(chunk: int, feed: int) -> Iterator[None]:
    """Give out at most `chunk` bytes and take in at most `feed`, so that short layers have many borders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "CHUNK_BYTES", chunk)
        patch.setattr(decode, "_LEAST_FEED", feed)
        patch.setattr(decode, "_MOST_FEED", 3 * feed)
        yield


def unpacked(
    packed: bytes, tar: bytes, sizes: list[int], chunk: int = CHUNK_BYTES, feed: int = 4096
) -> bytes:
    with borders(chunk, feed):
        found = Unpacker(
            Pieces(packed, sizes), Digest.of(packed), len(packed), Digest.of(tar), Allowance(1 << 40)
        )
        result = b"".join(iter(lambda: found.read(10_000), b""))
        found.check()
    assert (found.packed_bytes, found.unpacked_bytes) == (len(packed), len(tar))
    return result


def member(data: bytes, level: int, extra: bytes, name: bytes) -> bytes:
    """Write a gzip member with the header fields that writers of layers use (RFC 1952, section 2.3)."""
    deflate = zlib.compressobj(level, wbits=-15)
    flags = (4 if extra else 0) | (8 if name else 0)
    head = struct.pack("<3sBIBB", b"\x1f\x8b\x08", flags, 0, 0, 255)
    head += struct.pack("<H", len(extra)) + extra if extra else b""
    head += name + b"\0" if name else b""
    return head + deflate.compress(data) + deflate.flush() + struct.pack("<II", zlib.crc32(data), len(data))


def by_zlib(packed: bytes) -> bytes | None:
    """Decompress with the standard library, zeros at the end apart; None for what is to be refused."""
    tar = b""
    rest = packed
    while rest and (rest is packed or rest.strip(b"\0")):
        inflate = zlib.decompressobj(wbits=31)
        try:
            tar += inflate.decompress(rest)
        except zlib.error:
            return None
        if not inflate.eof:
            return None
        rest = inflate.unused_data
    return tar


contents = st.one_of(
    st.just(b""),
    st.binary(max_size=300),
    st.builds(lambda text, n: text * n, st.binary(min_size=1, max_size=40), st.integers(1, 200)),
)
extras = st.sampled_from([b"", b"SG\x16\x00" + b"0" * 16 + b"STARGZ"])
members = st.builds(member, contents, st.integers(0, 9), extras, st.sampled_from([b"", b"layer.tar"]))
tails = st.one_of(
    st.just(b""),
    st.integers(1, 2000).map(bytes),
    st.binary(max_size=20),
    st.builds(lambda zeros, rest: bytes(zeros) + rest, st.integers(0, 600), members | st.binary(max_size=3)),
)
piece_sizes = st.lists(st.integers(1, 2000), min_size=1, max_size=4)
limits = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@given(st.lists(members, min_size=1, max_size=8), piece_sizes, limits)
@example([member(b"a" * 900, 9, b"", b""), member(b"b", 9, b"", b"")], [2000], (100, 2000))
def test_members_come_out_as_from_gzip(
    packed_members: list[bytes], sizes: list[int], limit: tuple[int, int]
) -> None:
    packed = b"".join(packed_members)
    tar = gzip.decompress(packed)
    assert unpacked(packed, tar, sizes, *limit) == tar


@given(st.lists(members, min_size=1, max_size=4), tails, st.integers(0, 60), piece_sizes, limits)
def test_padding_is_taken_and_cuts_and_garbage_are_refused_as_by_zlib(
    packed_members: list[bytes], tail: bytes, cut: int, sizes: list[int], limit: tuple[int, int]
) -> None:
    whole = b"".join(packed_members) + tail
    packed = whole[: len(whole) - cut]
    assume(Packing.of(packed) is Packing.GZIP)
    tar = by_zlib(packed)
    if tar is None:
        with pytest.raises(PullFailedError, match=r"is not valid gzip data|is truncated"):
            unpacked(packed, b"", sizes, *limit)
    else:
        assert unpacked(packed, tar, sizes, *limit) == tar


@pytest.mark.parametrize("beyond", [-1, 0, 1, 5000])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_members_about_as_large_as_a_chunk_come_out(beyond: int, level: int) -> None:
    parts = [b"x" * (CHUNK_BYTES + beyond), b"", b"y" * (2 * CHUNK_BYTES + beyond), b"z"]
    packed = b"".join(gzip.compress(part, level) for part in parts)
    assert unpacked(packed, b"".join(parts), [CHUNK_BYTES]) == b"".join(parts)


def test_a_layer_as_estargz_writes_it_comes_out() -> None:
    parts = [b"header" * 2000, b"a" * (3 << 20), b"", b"toc" * 100_000]
    packed = b"".join(gzip.compress(part, 9) for part in parts) + ESTARGZ_FOOTER
    assert gzip.decompress(ESTARGZ_FOOTER) == b""
    assert unpacked(packed, b"".join(parts), [CHUNK_BYTES]) == b"".join(parts)


frames = contents.map(lambda data: (zstandard.ZstdCompressor(level=3).compress(data), data))
skippable = st.builds(
    lambda kind, data: (bytes([0x50 | kind]) + b"\x2a\x4d\x18" + struct.pack("<I", len(data)) + data, b""),
    st.integers(0, 15),
    st.binary(max_size=300),
)


@given(st.lists(frames | skippable, min_size=1, max_size=8), piece_sizes, limits)
def test_zstd_frames_and_skippable_frames_come_out(
    parts: list[tuple[bytes, bytes]], sizes: list[int], limit: tuple[int, int]
) -> None:
    packed, tar = b"".join(frame for frame, _ in parts), b"".join(data for _, data in parts)
    assert unpacked(packed, tar, sizes, *limit) == tar
