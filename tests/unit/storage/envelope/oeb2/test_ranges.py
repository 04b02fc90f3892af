import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.digest import Digest
from storage.envelope.key import DataKey
from storage.envelope.oeb2.header import Header
from storage.envelope.oeb2.keys import Keys
from storage.envelope.oeb2.sealer import Sealer
from storage.errors import BlobDamagedError, BlobRangeError
from tests.support.containers import KEY, noise
from tests.support.deliverable import SEGMENT, open_container, read, seal, unseal

PLAIN = noise(20 * SEGMENT + 5)  # more than one run of 1 MiB
CONTAINER = open_container(seal(PLAIN), Digest.of(PLAIN))
BORDERS = [0, 16, SEGMENT, 2 * SEGMENT, 16 * SEGMENT, len(PLAIN)]


def near_borders() -> st.SearchStrategy[int]:
    near = st.builds(
        lambda border, step: min(max(border + step, 0), len(PLAIN)),
        st.sampled_from(BORDERS),
        st.integers(-17, 17),
    )
    return near | st.integers(0, len(PLAIN))


@settings(max_examples=300, deadline=None)
@given(ends=st.tuples(near_borders(), near_borders()))
def test_any_range_equals_the_slice_of_the_plaintext(ends: tuple[int, int]) -> None:
    start, end = sorted(ends)
    assert read(CONTAINER, start, end - start) == PLAIN[start:end]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT])
def test_sizes_around_every_border_come_back_whole(size: int) -> None:
    assert unseal(seal(PLAIN[:size]), Digest.of(PLAIN[:size])) == PLAIN[:size]


@settings(max_examples=30, deadline=None)
@given(piece=st.integers(1000, 200_000))
def test_how_plaintext_is_cut_into_feeds_does_not_change_the_container(piece: int) -> None:
    plaintext = PLAIN[: 3 * SEGMENT + 5]
    assert seal(plaintext, piece=piece) == seal(plaintext)


def test_pieces_tile_the_blob_on_borders_and_are_never_empty() -> None:
    offset, parts = 1000, []
    while offset < len(PLAIN):
        end = CONTAINER.piece_end(offset, 1 << 17)
        assert offset < end <= offset + (1 << 17)
        parts.append(read(CONTAINER, offset, end - offset))
        offset = end
    assert b"".join(parts) == PLAIN[1000:]


def test_offsets_outside_the_blob_are_refused() -> None:
    for offset in (-1, len(PLAIN) + 1):
        with pytest.raises(BlobRangeError, match=str(offset)):
            CONTAINER.read_into(offset, memoryview(bytearray(1)))
    assert CONTAINER.read_into(len(PLAIN), memoryview(bytearray(1))) == 0


def test_a_sha512_digest_opens_by_its_key_record() -> None:
    digest = Digest("sha512", hashlib.sha512(PLAIN).hexdigest())
    assert unseal(seal(PLAIN), digest) == PLAIN


@pytest.mark.parametrize("segment_log2", [15, 23])
def test_a_header_outside_the_bounds_is_neither_made_nor_read(segment_log2: int) -> None:
    with pytest.raises(ValueError, match="outside the format"):
        Header.create(KEY, segment_log2=segment_log2, file_id=bytes(16))
    with pytest.raises(BlobDamagedError, match="outside the format"):
        Header.parse(Header(segment_log2, bytes(16), bytes(32)).encode())


def test_a_header_reads_back_and_is_committed_to_one_key_only() -> None:
    header = Header.create(KEY, segment_log2=18, file_id=bytes(range(16)))
    assert Header.parse(header.encode()) == header
    header.check(KEY)
    with pytest.raises(BlobDamagedError, match="committed"):
        header.check(DataKey(bytes(32)))


def test_a_finished_sealer_takes_nothing_more() -> None:
    sealer = Sealer(KEY)
    sealer.finish(bytes(32))
    with pytest.raises(RuntimeError):
        sealer.encrypt(b"more", memoryview(bytearray(4)))
    with pytest.raises(RuntimeError):
        sealer.finish(bytes(32))


def test_a_sealer_never_uses_a_nonce_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    genuine = Keys.tag

    def watched(self: Keys, index: int, segment: memoryview) -> bytes:
        seen.append(index)
        return genuine(self, index, segment)

    monkeypatch.setattr(Keys, "tag", watched)
    seal(bytes(1 << 19), piece=12_345)
    assert seen == list(range(8))


def test_all_keys_of_a_container_differ_and_no_other_containers_are_the_same() -> None:
    headers = [
        Header.create(key, segment_log2=log2, file_id=file_id)
        for key, log2, file_id in ((KEY, 16, bytes(16)), (KEY, 17, bytes(16)), (KEY, 16, b"\1" * 16))
    ]
    keys = [Keys.derive(KEY, header) for header in headers]
    secrets = {secret for one in keys for secret in (one.symkey, one.delivery_root)}
    tags = {one.tag(0, b"") for one in keys}
    assert (len(secrets), len(tags), len({one.nonce for one in keys})) == (6, 3, 3)


def test_the_counter_wraps_like_128_bits() -> None:
    keys = Keys(
        symkey=bytes(32),
        nonce=b"\xff" * 16,
        tag_key=bytes(32),
        trailer_key=bytes(32),
        delivery_root=bytes(32),
    )
    whole = keys.stream().update(bytes(100))
    for offset in (0, 1, 15, 16, 17, 33):
        assert keys.stream(offset).update(bytes(100 - offset)) == whole[offset:]
