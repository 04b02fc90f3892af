"""Reading of unfinished ciphertext (docs/blob-format-oeb2.md, "unfinished containers")."""

from storage.envelope.buffers import RUN_BYTES
from storage.envelope.key import DataKey
from storage.envelope.oeb2.header import Header
from storage.envelope.oeb2.keys import Keys
from storage.ports import ObjectReader


class Prefix:
    """Bytes at the start of an unfinished container. For one thread at a time. Calls block.

    **They are not authenticated**, because the tags are stored with the end. The reader must verify the
    digest of the whole blob.

    Args:
        source: Object with the ciphertext; the caller closes it.
        key: Data key of the container.
        segment_log2: Segment size of its writer.
    """

    def __init__(self, source: ObjectReader, key: DataKey, *, file_id: bytes, segment_log2: int) -> None:
        header = Header.create(key, segment_log2=segment_log2, file_id=file_id)
        self._source = source
        self._stream = Keys.derive(key, header).stream()
        self._ciphertext = memoryview(bytearray(RUN_BYTES))
        self._plain = memoryview(bytearray(RUN_BYTES))
        self._offset = 0

    def read(self) -> memoryview:
        """Return the next bytes of plaintext, valid until the next call; empty at the end."""
        count = self._source.read_into(self._offset, self._ciphertext)
        self._stream.update_into(self._ciphertext[:count], self._plain[:count])
        self._offset += count
        return self._plain[:count]
