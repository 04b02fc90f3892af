import hashlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.digest import Digest
from storage.envelope.oeb1.header import Codec
from storage.envelope.oeb1.payload import SegmentLayout
from storage.errors import BlobRangeError
from tests.support.containers import CAPACITY, FIRST_CAPACITY, noise, open_container, read, seal, text, unseal

_BORDERS = [0, FIRST_CAPACITY, FIRST_CAPACITY + CAPACITY, 1 << 16, 2 << 16, 3 << 16]
_MIXED = text(100_000) + noise(70_000) + text(50_000) + noise(3)
_NOISE = noise(3 * CAPACITY + 1)
_CONTAINERS = {
    Codec.NONE: (_NOISE, open_container(seal(_NOISE), Digest.of(_NOISE))),
    Codec.ZSTD: (_MIXED, open_container(seal(_MIXED, codec=Codec.ZSTD), Digest.of(_MIXED))),
}


def near_borders(limit: int) -> st.SearchStrategy[int]:
    near = st.builds(
        lambda border, step: min(max(border + step, 0), limit),
        st.sampled_from([*_BORDERS, limit]),
        st.integers(-2, 2),
    )
    return near | st.integers(0, limit)


@pytest.mark.parametrize("codec", Codec)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_range_equals_the_slice_of_the_plaintext(codec: Codec, data: st.DataObject) -> None:
    plaintext, container = _CONTAINERS[codec]
    start = data.draw(near_borders(len(plaintext)))
    end = max(start, data.draw(near_borders(len(plaintext))))
    assert read(container, start, end - start) == plaintext[start:end]


@pytest.mark.parametrize("codec", Codec)
def test_two_thousand_ranges_around_borders_equal_their_slices(codec: Codec) -> None:
    plaintext, container = _CONTAINERS[codec]
    borders, chance = [*_BORDERS, len(plaintext)], Random(2000)

    def near() -> int:
        return min(max(chance.choice(borders) + chance.randint(-40, 40), 0), len(plaintext))

    for _ in range(2000):
        start, end = sorted((near(), near()))
        assert read(container, start, end - start) == plaintext[start:end]


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("border", [0, FIRST_CAPACITY, FIRST_CAPACITY + CAPACITY, 1 << 16, 2 << 16])
@pytest.mark.parametrize("step", [-1, 0, 1])
def test_sizes_around_every_border_come_back_whole(codec: Codec, border: int, step: int) -> None:
    for plaintext in (noise(max(0, border + step)), text(max(0, border + step))):
        assert unseal(seal(plaintext, codec=codec), Digest.of(plaintext)) == plaintext


@pytest.mark.parametrize("codec", Codec)
@settings(max_examples=30, deadline=None)
@given(piece=st.integers(1000, 200_000))
def test_how_plaintext_is_cut_into_feeds_does_not_change_the_container(codec: Codec, piece: int) -> None:
    assert seal(_MIXED, codec=codec, piece=piece) == seal(_MIXED, codec=codec)


def test_compressible_plaintext_shrinks_and_noise_is_stored_raw() -> None:
    assert len(seal(text(300_000), codec=Codec.ZSTD)) < 100_000
    overhead = len(seal(_NOISE, codec=Codec.ZSTD)) - len(seal(_NOISE))
    assert overhead == 3 * 4 + 16


@pytest.mark.parametrize("codec", Codec)
def test_pieces_tile_the_blob_on_borders_and_are_never_empty(codec: Codec) -> None:
    plaintext, container = _CONTAINERS[codec]
    offset, parts = 1000, []
    while offset < len(plaintext):
        end = container.piece_end(offset, 1 << 17)
        assert offset < end <= offset + (1 << 17)
        parts.append(read(container, offset, end - offset))
        offset = end
    assert b"".join(parts) == plaintext[1000:]


def test_offsets_outside_the_blob_are_refused() -> None:
    plaintext, container = _CONTAINERS[Codec.NONE]
    for offset in (-1, len(plaintext) + 1):
        with pytest.raises(BlobRangeError, match=str(offset)):
            container.read_into(offset, memoryview(bytearray(1)))
    assert container.read_into(len(plaintext), memoryview(bytearray(1))) == 0


@given(size=st.integers(0, 1 << 45), log2=st.integers(16, 22))
def test_segments_tile_plaintext_and_ciphertext_of_any_size(size: int, log2: int) -> None:
    layout = SegmentLayout(1 << log2, size)
    last = layout.segments - 1
    assert layout.plaintext_start(0) == 0
    assert layout.plaintext_end(last) == size
    assert layout.ciphertext_end(last) == layout.ciphertext_bytes
    for index in {0, min(1, last), last // 2, last}:
        sealed = layout.ciphertext_end(index) - layout.ciphertext_start(index)
        assert sealed == layout.plaintext_end(index) - layout.plaintext_start(index) + 16
    if size:
        assert layout.segment_at(size - 1) == last


def test_a_sha512_digest_opens_by_its_key_record() -> None:
    plaintext = b"a manifest"
    digest = Digest("sha512", hashlib.sha512(plaintext).hexdigest())
    assert unseal(seal(plaintext), digest) == plaintext
