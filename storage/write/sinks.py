"""Destinations of a blob that is being written: one for each container format."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from storage.digest import Digest
from storage.envelope.buffers import Data
from storage.envelope.key import DataKey
from storage.envelope.oeb1.frames import SAMPLE_BYTES, choose_codec
from storage.envelope.oeb1.header import Codec
from storage.envelope.oeb1.sealer import Sealer
from storage.envelope.oeb2 import sealer as oeb2_sealer
from storage.ports import BlobBackend, ObjectWriter
from storage.write.naming import ObjectNaming

BATCH_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class BegunBlob:
    """Unfinished container that can be resumed."""

    key: DataKey = field(repr=False)
    file_id: bytes
    object_name: str
    sidecar_name: str | None = None


@dataclass(frozen=True, slots=True)
class SealedBlob:
    """Complete container that is not visible yet.

    Attributes:
        sidecar_name, sidecar, ciphertext: Name and writer of the second object, and digest of the
            ciphertext, if the format is OEB2.
    """

    key: DataKey = field(repr=False)
    file_id: bytes
    sha256: bytes
    size_bytes: int
    stored_bytes: int
    object_name: str
    object: ObjectWriter
    sidecar_name: str | None = None
    sidecar: ObjectWriter | None = None
    ciphertext: Digest | None = None

    @property
    def deliverable(self) -> bool:
        """Whether the format is OEB2."""
        return self.sidecar is not None


class Sink(Protocol):
    """Destination of one blob, which it seals. Methods block.

    Attributes:
        begun: The container, as soon as it can be resumed.
        store: Stores the result of the oldest `feed` that is not stored, beside later calls of `feed`; None
            if `feed` does.
    """

    begun: BegunBlob | None

    @property
    def store(self) -> Callable[[], None] | None:
        """Return the function, or None."""

    def feed(self, data: Data) -> None:
        """Process more plaintext. For one thread at a time."""

    def finish(self, sha256: bytes) -> SealedBlob:
        """Write the container's end."""

    def close(self) -> None:
        """Discard the objects, unless they were committed."""

    def leave(self) -> None:
        """Keep the unfinished object, so that a later writer can resume it."""


class CompactSink:
    """Seals a blob into a container of the format OEB1.

    The object is created, and its codec chosen, after the first `SAMPLE_BYTES`.

    Args:
        naming: Names of the blob's objects.
        expected_bytes: Length of the plaintext, if known.
    """

    def __init__(
        self,
        backend: BlobBackend,
        segment_log2: int,
        naming: ObjectNaming,
        expected_bytes: int | None = None,
    ) -> None:
        self._backend = backend
        self._naming = naming
        self._expected_bytes = expected_bytes
        self._segment_log2 = segment_log2
        self._key = DataKey.generate()
        self._sample = bytearray()
        self._sealer: Sealer | None = None
        self._object: ObjectWriter | None = None
        self._size_bytes = 0
        self.begun: BegunBlob | None = None

    store = None

    def feed(self, data: Data) -> None:
        """Process more plaintext."""
        self._size_bytes += len(data)
        if self._sealer is not None and self._object is not None:
            self._object.write(self._sealer.feed(data))
            return
        self._sample += data
        if len(self._sample) >= SAMPLE_BYTES:
            self._begin()

    def finish(self, sha256: bytes) -> SealedBlob:
        """Write the container's end."""
        sealer, target = self._begin()
        target.write(sealer.finish(sha256))
        file_id = sealer.header.file_id
        name = self._naming.container(file_id)
        return SealedBlob(
            key=self._key,
            file_id=file_id,
            sha256=sha256,
            size_bytes=self._size_bytes,
            stored_bytes=sealer.container_bytes,
            object_name=name,
            object=target,
        )

    def close(self) -> None:
        """Discard the object, unless it was committed."""
        if self._object is not None:
            self._object.abort()

    def leave(self) -> None:
        """Keep the unfinished object, so that a later writer can resume it."""
        if self._object is not None:
            self._object.leave()

    def _begin(self) -> tuple[Sealer, ObjectWriter]:
        if self._sealer is None or self._object is None:
            codec = choose_codec(memoryview(self._sample)[:SAMPLE_BYTES])
            self._sealer = Sealer(self._key, codec=codec, segment_log2=self._segment_log2)
            file_id = self._sealer.header.file_id
            name = self._naming.container(file_id)
            self._object = self._backend.create(name, self._expected_bytes)
            self._object.write(self._sealer.head)
            for start in range(0, len(self._sample), BATCH_BYTES):
                self._object.write(self._sealer.feed(self._sample[start : start + BATCH_BYTES]))
            self._sample = bytearray()
            if codec is Codec.NONE:  # a compressed container cannot be read without its index
                self.begun = BegunBlob(self._key, file_id, name)
        return self._sealer, self._object


class DeliverableSink:
    """Seals a blob into a container of the format OEB2: ciphertext for nodes, and a sidecar.

    Encryption and digest of the ciphertext are in `feed`, its HMAC and storage in `store`, because each
    occupies a thread.
    """

    def __init__(
        self,
        backend: BlobBackend,
        segment_log2: int,
        naming: ObjectNaming,
        expected_bytes: int | None = None,
    ) -> None:
        self._backend = backend
        self._naming = naming
        self._expected_bytes = expected_bytes
        self._key = DataKey.generate()
        self._sealer = oeb2_sealer.Sealer(self._key, segment_log2=segment_log2)
        self._object: ObjectWriter | None = None
        self._sidecar: ObjectWriter | None = None
        self._sealed: deque[memoryview] = deque()
        self._spare: deque[memoryview] = deque()
        file_id = self._sealer.header.file_id
        self._begun = BegunBlob(self._key, file_id, naming.container(file_id), naming.sidecar(file_id))
        self.begun: BegunBlob | None = None

    def feed(self, data: Data) -> None:
        """Encrypt more plaintext."""
        buffer = self._spare.popleft() if self._spare else memoryview(bytearray(BATCH_BYTES))
        if len(buffer) < len(data):
            buffer = memoryview(bytearray(len(data)))
        ciphertext = buffer[: len(data)]
        self._sealer.encrypt(data, ciphertext)
        self._sealed.append(ciphertext)

    def store(self) -> None:
        """Store the ciphertext of the oldest `feed`."""
        ciphertext = self._sealed.popleft()
        self._sealer.authenticate(ciphertext)
        self._begin().write(ciphertext)
        if len(ciphertext) == BATCH_BYTES:
            self._spare.append(ciphertext)

    def finish(self, sha256: bytes) -> SealedBlob:
        """Write the sidecar."""
        target, names = self._begin(), self._begun
        sidecar, trailer = self._sealer.finish(sha256)
        self._sidecar = self._backend.create(self._naming.sidecar(names.file_id), len(sidecar))
        self._sidecar.write(sidecar)
        return SealedBlob(
            key=self._key,
            file_id=names.file_id,
            sha256=sha256,
            size_bytes=trailer.size_bytes,
            stored_bytes=trailer.size_bytes + len(sidecar),
            object_name=names.object_name,
            object=target,
            sidecar_name=names.sidecar_name,
            sidecar=self._sidecar,
            ciphertext=trailer.ciphertext,
        )

    def close(self) -> None:
        """Discard the objects, unless they were committed."""
        for target in (self._object, self._sidecar):
            if target is not None:
                target.abort()

    def leave(self) -> None:
        """Keep the unfinished ciphertext, so that a later writer can resume it."""
        if self._object is not None:
            self._object.leave()
        if self._sidecar is not None:
            self._sidecar.abort()

    def _begin(self) -> ObjectWriter:
        if self._object is None:
            self._object = self._backend.create(self._begun.object_name, self._expected_bytes)
            self.begun = self._begun
        return self._object
