import pickle

import pytest

from storage.envelope.key import DataKey, wrap_aad
from storage.envelope.oeb1.header import Codec, Header
from storage.envelope.oeb1.payload import SegmentCipher
from storage.envelope.oeb1.sealer import Sealer
from storage.errors import BlobDamagedError, BlobRangeError
from tests.support.containers import KEY, seal


@pytest.mark.parametrize(
    ("segment_log2", "codec", "frame_log2"),
    [
        (15, Codec.NONE, 0),
        (23, Codec.NONE, 0),
        (18, Codec.NONE, 20),
        (18, Codec.ZSTD, 0),
        (18, Codec.ZSTD, 23),
    ],
)
def test_a_header_outside_the_bounds_is_neither_made_nor_read(
    segment_log2: int, codec: Codec, frame_log2: int
) -> None:
    with pytest.raises(ValueError, match="outside the format"):
        Header.create(KEY, segment_log2=segment_log2, codec=codec, frame_log2=frame_log2, file_id=bytes(16))
    encoded = Header(segment_log2, codec, frame_log2, bytes(16), bytes(32)).encode()
    with pytest.raises(BlobDamagedError, match="outside the format"):
        Header.parse(encoded)


def test_a_header_reads_back_and_is_committed_to_one_key_only() -> None:
    header = Header.create(KEY, segment_log2=18, codec=Codec.ZSTD, frame_log2=20, file_id=bytes(range(16)))
    assert Header.parse(header.encode()) == header
    header.check(KEY)
    with pytest.raises(BlobDamagedError, match="committed"):
        header.check(DataKey(bytes(32)))


def test_a_data_key_is_not_shown_by_repr_or_pickled() -> None:
    assert repr(KEY) == "DataKey(...)"
    with pytest.raises(TypeError):
        pickle.dumps(KEY)
    with pytest.raises(ValueError, match="32 bytes"):
        DataKey(b"short")


def test_no_two_sets_of_fields_give_the_same_wrap_aad() -> None:
    fields = [("a", "bc", "d"), ("ab", "c", "d"), ("a", "b", "cd"), ("", "abc", "d"), ("a", "bcd", "")]
    assert len({wrap_aad(bytes(16), *texts) for texts in fields}) == len(fields)


def test_a_finished_sealer_takes_nothing_more() -> None:
    sealer = Sealer(KEY)
    sealer.finish(bytes(32))
    with pytest.raises(RuntimeError):
        sealer.feed(b"more")
    with pytest.raises(RuntimeError):
        sealer.finish(bytes(32))


def test_no_segment_is_sealed_beyond_the_counter() -> None:
    cipher = SegmentCipher.derive(KEY, Header.parse(seal(b"")[:64]), bytes([40]) + bytes(39))
    with pytest.raises(BlobRangeError):
        cipher.seal(1 << 32, b"", memoryview(bytearray(16)), last=True)


def test_a_sealer_never_uses_a_nonce_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, bool]] = []
    genuine = SegmentCipher.seal

    def watched(
        self: SegmentCipher, index: int, plaintext: memoryview, out: memoryview, *, last: bool
    ) -> int:
        seen.append((index, last))
        return genuine(self, index, plaintext, out, last=last)

    monkeypatch.setattr(SegmentCipher, "seal", watched)
    seal(bytes(1 << 19), piece=12_345)
    assert [index for index, _ in seen] == list(range(len(seen)))
    assert [last for _, last in seen] == [False] * (len(seen) - 1) + [True]
