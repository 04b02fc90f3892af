"""What every `storage.ports.BlobBackend` has to keep. Subclass, and give a `backend` fixture."""

import random

import pytest

from storage.errors import BlobNotFoundError, ObjectExistsError
from storage.ports import BlobBackend

NAME = "ab" * 32
OTHER = "cd" * 32


def put(backend: BlobBackend, name: str, data: bytes) -> None:
    writer = backend.create(name)
    writer.write(data)
    writer.commit()
    writer.abort()


def get(backend: BlobBackend, name: str) -> bytes:
    reader = backend.open(name)
    try:
        buffer = bytearray(reader.size_bytes)
        assert reader.read_into(0, memoryview(buffer)) == reader.size_bytes
        return bytes(buffer)
    finally:
        reader.close()


class BlobBackendContract:
    def test_what_was_written_in_pieces_is_read_back_whole(self, backend: BlobBackend) -> None:
        writer = backend.create(NAME)
        for piece in (b"one ", bytearray(b"two "), memoryview(b"three"), b""):
            writer.write(piece)
        writer.commit()
        writer.abort()
        assert get(backend, NAME) == b"one two three"

    def test_an_empty_object_is_an_object(self, backend: BlobBackend) -> None:
        writer = backend.create(NAME)
        writer.commit()
        reader = backend.open(NAME)
        assert reader.size_bytes == 0
        assert reader.read_into(0, memoryview(bytearray(1))) == 0
        reader.close()
        assert backend.delete(NAME)

    def test_ranges_are_filled_up_to_the_end_and_no_further(self, backend: BlobBackend) -> None:
        put(backend, NAME, bytes(range(100)))
        reader = backend.open(NAME)
        buffer = memoryview(bytearray(b"\xff" * 10))
        assert reader.size_bytes == 100
        assert reader.read_into(95, buffer) == 5
        assert bytes(buffer) == bytes(range(95, 100)) + b"\xff" * 5
        assert reader.read_into(100, buffer) == 0
        assert reader.read_into(10, buffer) == 10
        assert bytes(buffer) == bytes(range(10, 20))
        reader.close()

    def test_an_object_is_invisible_before_its_commit_and_after_an_abort(self, backend: BlobBackend) -> None:
        writer = backend.create(NAME)
        writer.write(b"never seen")
        assert list(backend.names()) == []
        writer.abort()
        writer.abort()
        assert list(backend.names()) == []
        with pytest.raises(BlobNotFoundError):
            backend.open(NAME)

    def test_an_object_is_never_overwritten(self, backend: BlobBackend) -> None:
        put(backend, NAME, b"first")
        writer = backend.create(NAME)
        writer.write(b"second")
        with pytest.raises(ObjectExistsError):
            writer.commit()
        writer.abort()
        assert get(backend, NAME) == b"first"

    def test_the_same_bytes_under_a_taken_name_are_refused_too(self, backend: BlobBackend) -> None:
        put(backend, NAME, b"")
        with pytest.raises(ObjectExistsError):
            put(backend, NAME, b"")

    def test_a_large_object_comes_back_whole_and_by_ranges(self, backend: BlobBackend) -> None:
        data = random.Random(7).randbytes((20 << 20) + 12345)
        writer = backend.create(NAME, len(data))
        for start in range(0, len(data), 1 << 20):
            writer.write(data[start : start + (1 << 20)])
        assert list(backend.names()) == []
        writer.commit()
        assert get(backend, NAME) == data
        reader = backend.open(NAME)
        for start, size in [(0, 1), (65_535, 2), (65_536, 1), ((8 << 20) - 1, 3 << 20), (len(data) - 1, 1)]:
            buffer = memoryview(bytearray(size))
            assert reader.read_into(start, buffer) == size
            assert bytes(buffer) == data[start : start + size]
        reader.close()
        rival = backend.create(NAME, len(data))
        rival.write(data[: 18 << 20])
        with pytest.raises(ObjectExistsError):
            rival.commit()
        rival.abort()
        assert get(backend, NAME) == data

    def test_a_large_object_that_is_aborted_leaves_nothing(self, backend: BlobBackend) -> None:
        writer = backend.create(NAME)
        for _ in range(18):
            writer.write(bytes(1 << 20))
        writer.abort()
        writer.abort()
        assert list(backend.names()) == []
        assert backend.recover() == 0

    def test_names_lists_what_is_visible(self, backend: BlobBackend) -> None:
        put(backend, NAME, b"1")
        put(backend, OTHER, b"2")
        assert sorted(backend.names()) == [NAME, OTHER]

    def test_a_deleted_object_is_gone_once_and_its_readers_go_on_or_are_told(
        self, backend: BlobBackend
    ) -> None:
        data = bytes(range(256)) * 1024
        put(backend, NAME, data)
        reader = backend.open(NAME)
        assert backend.delete(NAME) is True
        assert backend.delete(NAME) is False
        buffer = memoryview(bytearray(len(data)))
        try:
            assert reader.read_into(0, buffer) == len(data)
        except BlobNotFoundError:
            pass
        else:
            assert bytes(buffer) == data
        reader.close()
        with pytest.raises(BlobNotFoundError):
            backend.open(NAME)

    def test_recovery_leaves_visible_objects_alone(self, backend: BlobBackend) -> None:
        put(backend, NAME, b"kept")
        assert backend.recover() == 0
        assert get(backend, NAME) == b"kept"

    def test_what_a_writer_left_is_read_back_and_removed(self, backend: BlobBackend) -> None:
        data = random.Random(8).randbytes(20 << 20)
        writer = backend.create(NAME, 40 << 20)
        for start in range(0, len(data), 1 << 20):
            writer.write(data[start : start + (1 << 20)])
        writer.leave()
        writer.abort()
        assert backend.recover({NAME}) == 0
        reader = backend.salvage(NAME)
        assert reader is not None
        assert reader.size_bytes == len(data)
        buffer = memoryview(bytearray(1 << 20))
        assert reader.read_into(19 << 20, buffer) == 1 << 20
        assert bytes(buffer) == data[19 << 20 :]
        backend.discard(NAME)
        reader.close()
        assert backend.salvage(NAME) is None
        assert list(backend.names()) == []
        assert backend.recover() == 0

    def test_there_is_nothing_to_salvage_where_nothing_was_written(self, backend: BlobBackend) -> None:
        assert backend.salvage(NAME) is None
        backend.discard(NAME)

    def test_probing_leaves_nothing_behind(self, backend: BlobBackend) -> None:
        backend.probe()
        backend.probe_writing()
        assert list(backend.names()) == []
        assert backend.recover() == 0
