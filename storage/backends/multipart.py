"""Multipart upload that accepts data piece by piece."""

import threading
from collections import deque
from collections.abc import Iterator

import obstore
from obstore.store import AzureStore, GCSStore, S3Store

_WAITING_PIECES = 2
_PARTS_AT_ONCE = 2


class _UploadAbortedError(Exception):
    """Aborts the upload from within the client, which then deletes the uploaded parts."""


class MultipartUpload:
    """Uploads from a separate thread, so that the caller can encrypt while parts are sent.

    The client pulls pieces; the caller pushes them. Memory is bounded: at most `_WAITING_PIECES` pieces wait
    in between, one part is being filled, and `_PARTS_AT_ONCE` parts are being sent.
    """

    def __init__(self, bucket: S3Store | GCSStore | AzureStore, name: str, part_bytes: int) -> None:
        self._bucket = bucket
        self._name = name
        self._part_bytes = part_bytes
        self._pieces: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._complete = False
        self._given_up = False
        self._ended = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="storage-upload", daemon=True)
        self._thread.start()

    def send(self, piece: bytes) -> None:
        """Queue a piece. Blocks while the queue is full. Raises the client's error if the upload failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._pieces) < _WAITING_PIECES)
            if self._error is not None:
                raise self._error
            self._pieces.append(piece)
            self._changed.notify_all()

    def finish(self) -> None:
        """Complete the upload. Raises the client's error if the upload failed."""
        with self._changed:
            self._complete = True
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """Abort the upload unless it is complete. Can be called repeatedly."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            obstore.put(
                self._bucket,
                self._name,
                self._stream(),
                use_multipart=True,
                chunk_size=self._part_bytes,
                max_concurrency=_PARTS_AT_ONCE,
            )
        except Exception as error:  # noqa: BLE001 - it is the caller's, who gets it from the next call
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._pieces.clear()
                self._changed.notify_all()

    def _stream(self) -> Iterator[bytes]:
        while (piece := self._next()) is not None:
            yield piece

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._complete or self._given_up)
            if self._given_up:
                raise _UploadAbortedError
            piece = self._pieces.popleft() if self._pieces else None
            self._changed.notify_all()
            return piece
