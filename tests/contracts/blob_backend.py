"""What every `storage.ports.BlobBackend` has to keep. Subclass, and give a `backend` fixture."""

import pytest

from storage.errors import BlobNotFoundError, ObjectExistsError
from storage.ports import BlobBackend

NAME = "ab" * 32
OTHER = "cd" * 32


def put(backend: BlobBackend, name: str, data: bytes) -> None:
    writer = backend.create()
    writer.write(data)
    writer.commit(name)
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
        writer = backend.create()
        for piece in (b"one ", bytearray(b"two "), memoryview(b"three"), b""):
            writer.write(piece)
        writer.commit(NAME)
        writer.abort()
        assert get(backend, NAME) == b"one two three"

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
        writer = backend.create()
        writer.write(b"never seen")
        assert list(backend.names()) == []
        writer.abort()
        writer.abort()
        assert list(backend.names()) == []
        with pytest.raises(BlobNotFoundError):
            backend.open(NAME)

    def test_an_object_is_never_overwritten(self, backend: BlobBackend) -> None:
        put(backend, NAME, b"first")
        writer = backend.create()
        writer.write(b"second")
        with pytest.raises(ObjectExistsError):
            writer.commit(NAME)
        writer.abort()
        assert get(backend, NAME) == b"first"

    def test_the_same_bytes_under_a_taken_name_are_refused_too(self, backend: BlobBackend) -> None:
        put(backend, NAME, b"")
        with pytest.raises(ObjectExistsError):
            put(backend, NAME, b"")

    def test_names_lists_what_is_visible(self, backend: BlobBackend) -> None:
        put(backend, NAME, b"1")
        put(backend, OTHER, b"2")
        assert sorted(backend.names()) == [NAME, OTHER]

    def test_a_deleted_object_is_gone_once_and_its_open_readers_go_on(self, backend: BlobBackend) -> None:
        put(backend, NAME, b"still read")
        reader = backend.open(NAME)
        assert backend.delete(NAME) is True
        assert backend.delete(NAME) is False
        buffer = memoryview(bytearray(10))
        assert reader.read_into(0, buffer) == 10
        assert bytes(buffer) == b"still read"
        reader.close()
        with pytest.raises(BlobNotFoundError):
            backend.open(NAME)

    def test_recovery_leaves_visible_objects_alone(self, backend: BlobBackend) -> None:
        put(backend, NAME, b"kept")
        assert backend.recover() == 0
        assert get(backend, NAME) == b"kept"

    def test_probing_leaves_nothing_behind(self, backend: BlobBackend) -> None:
        backend.probe()
        assert list(backend.names()) == []
        assert backend.recover() == 0
