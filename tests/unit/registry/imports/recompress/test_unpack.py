"""Whatever a layer is packed in comes out whole, and whatever lies about itself is refused."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import PullFailedError
from registry.imports.recompress import decode, unpack
from registry.imports.recompress.decode import Packing
from registry.imports.recompress.unpack import Allowance, Unpacker
from registry.oci.seekable import SeekTable, compress_frame
from storage.digest import Digest
from storage.read.reader import CHUNK_BYTES

MIB = 1 << 20


class Sips:
    """Gives few bytes at a time, as a stored blob gives a piece."""

    def __init__(self, data: bytes, sip: int) -> None:
        self._stream = io.BytesIO(data)
        self._sip = sip

    def read(self, _size: int = -1, /) -> bytes:
        return self._stream.read(self._sip)


def unpacker(packed: bytes, tar: bytes | None = None, *, sip: int = MIB, allowed: int = 1 << 40) -> Unpacker:
    diff_id = Digest.of(tar if tar is not None else b"")
    return Unpacker(Sips(packed, sip), Digest.of(packed), len(packed), diff_id, Allowance(allowed))


def unpacked(found: Unpacker, size: int = MIB) -> bytes:
    return b"".join(iter(lambda: found.read(size), b""))


def in_gzip(pieces: list[bytes]) -> bytes:
    return b"".join(gzip.compress(piece, 1) for piece in pieces)


def in_zstd(pieces: list[bytes]) -> bytes:
    table = SeekTable()
    frames = [compress_frame(piece, 3) for piece in pieces]
    for frame, piece in zip(frames, pieces, strict=True):
        table.add(len(frame), len(piece))
    return b"".join(frames) + table.dump()


@given(
    pieces=st.lists(st.binary(max_size=3000), min_size=1, max_size=6),
    repeated=st.integers(1, 40),
    packing=st.sampled_from(["gzip", "zstd"]),
    sip=st.integers(7, 5000),
    size=st.integers(1, 100_000),
)
def test_a_layer_comes_out_as_it_went_in(
    pieces: list[bytes], repeated: int, packing: str, sip: int, size: int
) -> None:
    parts = [piece * repeated for piece in pieces]
    packed = {"gzip": in_gzip, "zstd": in_zstd}[packing](parts)
    found = unpacker(packed, b"".join(parts), sip=sip)
    assert found.packing.value == packing
    assert unpacked(found, size) == b"".join(parts)
    found.check()
    assert (found.packed_bytes, found.unpacked_bytes) == (len(packed), len(b"".join(parts)))


@given(data=st.binary(max_size=3000), size=st.integers(1, 5000))
def test_a_plain_layer_is_passed_on_and_hashed(data: bytes, size: int) -> None:
    if Packing.of(data) is Packing.TAR:
        found = unpacker(data, data, sip=100)
        assert unpacked(found, size) == data
        found.check()


def test_reads_are_full_until_the_end() -> None:
    tar = Random(1).randbytes(3 * MIB + 5)
    found = unpacker(gzip.compress(tar, 1), tar, sip=1000)
    assert [len(found.read(MIB)) for _ in range(5)] == [MIB, MIB, MIB, 5, 0]


def test_what_runtimes_do_not_read_themselves_is_told_apart() -> None:
    assert Packing.of(bz2.compress(b"x")) is Packing.OTHER
    assert Packing.of(lzma.compress(b"x")) is Packing.OTHER
    assert Packing.of(SeekTable().dump()) is Packing.ZSTD
    assert Packing.of(b"") is Packing.TAR


def test_a_layer_that_is_not_what_the_config_says_is_refused() -> None:
    found = unpacker(gzip.compress(b"something"), b"something else")
    unpacked(found)
    with pytest.raises(PullFailedError, match="does not unpack to what the image's config says"):
        found.check()


@pytest.mark.parametrize(
    ("packed", "why"),
    [
        (gzip.compress(b"tar" * 1000)[:-9], "is truncated"),
        (gzip.compress(b"tar" * 1000)[:5], "is truncated"),
        (gzip.compress(b"tar") + b"trailing", "is not valid gzip data"),
        (gzip.compress(b"tar") + bytes(512) + gzip.compress(b"tar"), "is not valid gzip data"),
        (gzip.compress(b"tar")[:-5] + b"\xff" * 5, "is not valid gzip data"),
        (in_zstd([b"tar"]) + b"trailing", "is not valid zstd data"),
        (in_zstd([b"tar"])[:9] + bytes(20), "is not valid zstd data"),
    ],
    ids=[
        "gzip cut",
        "gzip head",
        "gzip and text",
        "gzip, zeros and gzip",
        "gzip checksum",
        "zstd and text",
        "zstd cut",
    ],
)
def test_damage_and_trailing_garbage_are_refused(packed: bytes, why: str) -> None:
    with pytest.raises(PullFailedError, match=why):
        unpacked(unpacker(packed, b"tar"))


def test_a_zstd_window_beyond_the_limit_is_refused_before_it_is_allocated() -> None:
    window_log = 28
    header = b"\x28\xb5\x2f\xfd\x00" + bytes([(window_log - 10) << 3])
    raw_block = (3 << 3 | 1).to_bytes(3, "little") + b"tar"
    with pytest.raises(PullFailedError, match="a window over 128 MiB"):
        unpacked(unpacker(header + raw_block, b"tar"))
    header = header[:-1] + bytes([(window_log - 11) << 3])
    assert unpacked(unpacker(header + raw_block, b"tar")) == b"tar"


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: in_zstd([data])], ids=["gzip", "zstd"])
def test_a_decompression_bomb_is_refused_by_its_ratio(pack: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "RATIO_FLOOR_BYTES", 8 * MIB)
    assert callable(pack)
    found = unpacker(pack(bytes(64 * MIB)))
    found.read(1)
    assert found.unpacked_bytes <= CHUNK_BYTES
    with pytest.raises(PullFailedError, match="more than 200 times its size, like a decompression"):
        unpacked(found)
    assert found.unpacked_bytes <= 14 * MIB


def test_a_layer_may_shrink_well_as_long_as_it_is_small() -> None:
    tar = bytes(64 * MIB)
    found = unpacker(gzip.compress(tar, 1), tar)
    assert len(unpacked(found, 4 * MIB)) == len(tar)
    found.check()


def test_the_layers_of_an_image_share_an_allowance() -> None:
    packed, shared = gzip.compress(bytes(3 * MIB)), Allowance(5 * MIB)
    first, second = (
        Unpacker(io.BytesIO(packed), Digest.of(packed), len(packed), Digest.of(b""), shared) for _ in range(2)
    )
    unpacked(first)
    with pytest.raises(PullFailedError, match="the image unpacks to more than is allowed"):
        unpacked(second)


def test_members_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (decode, unpack):
        monkeypatch.setattr(module, "MAX_MEMBERS", 1000)
    assert unpacked(unpacker(gzip.compress(b"") * 1000)) == b""
    with pytest.raises(PullFailedError, match="more than 1,000 gzip members"):
        unpacked(unpacker(gzip.compress(b"") * 1001))


def test_a_hash_of_another_kind_is_checked_too() -> None:
    tar = os.urandom(5000)
    diff_id = Digest("sha512", hashlib.sha512(tar).hexdigest())
    found = Unpacker(io.BytesIO(tar), Digest.of(tar), len(tar), diff_id, Allowance(1 << 30))
    assert unpacked(found) == tar
    found.check()
