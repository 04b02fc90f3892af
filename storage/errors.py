"""Tree of storage's errors.

StorageError
├── DigestError             an invalid digest, or an unsupported algorithm
├── DigestMismatchError     the content does not match its digest
├── BlobNotFoundError       this tenant has no such blob
├── BlobDamagedError        the container does not authenticate, or contradicts itself or its key record
│   └── BlobMissingError    a key record exists, but its object does not
├── NotDeliverableError     the blob is stored in a format that has no ciphertext for nodes
├── BlobRangeError          a range outside the blob
├── ObjectExistsError       an object with this name exists; objects are never overwritten
├── StorageFullError        no space, or no write permission
├── StorageUnavailableError the backend does not answer
├── CollectionRefusedError  the catalog lacks most stored objects, so it may be the wrong one
└── KeyUnavailableError     the key provider does not answer, or the key is unknown or destroyed
"""


class StorageError(Exception):
    """Root of all errors that this package raises."""


class DigestError(StorageError):
    """An invalid digest, or an unsupported algorithm."""


class DigestMismatchError(StorageError):
    """The content does not match its digest."""


class BlobNotFoundError(StorageError):
    """This tenant has no such blob."""


class BlobDamagedError(StorageError):
    """The container does not authenticate, or contradicts itself or its key record."""


class BlobMissingError(BlobDamagedError):
    """A key record exists, but its object does not."""


class NotDeliverableError(StorageError):
    """The blob is stored in a format that has no ciphertext for nodes."""

    def __init__(self, digest: object) -> None:
        super().__init__(f"the blob {digest} has no ciphertext for nodes: import its image again")


class BlobRangeError(StorageError):
    """A range outside the blob."""


class ObjectExistsError(StorageError):
    """An object with this name exists. Objects are never overwritten."""


class StorageFullError(StorageError):
    """No space, or no write permission."""


class StorageUnavailableError(StorageError):
    """The backend does not answer."""


class KeyUnavailableError(StorageError):
    """The key provider does not answer, or the key is unknown or destroyed."""


class CollectionRefusedError(StorageError):
    """The catalog lacks most stored objects, so it may be the wrong one for this storage."""
