"""Everything that can go wrong in storage, drawn.

StorageError
├── DigestError             a digest that is malformed, or of an algorithm we do not serve
├── DigestMismatchError     the bytes are not those that the digest names
├── BlobNotFoundError       this tenant has no such blob
├── BlobDamagedError        ciphertext that does not authenticate, or does not match its header
│   └── BlobMissingError    a key record without its object
├── BlobRangeError          a range outside the blob
├── ObjectExistsError       an object name that is taken: nothing is ever overwritten
├── StorageFullError        no room, or no right to write: clear it and try again
├── StorageUnavailableError the backend does not answer
├── CollectionRefusedError  the catalog knows too little of what storage holds to judge it
└── KeyUnavailableError     the key provider does not answer, or the key is destroyed
"""


class StorageError(Exception):
    """Root of every error that this package raises on purpose."""


class DigestError(StorageError):
    """A digest that is malformed, or of an algorithm we do not serve."""


class DigestMismatchError(StorageError):
    """The bytes are not those that the digest names."""


class BlobNotFoundError(StorageError):
    """This tenant has no such blob."""


class BlobDamagedError(StorageError):
    """Ciphertext that does not authenticate, or does not match its header."""


class BlobMissingError(BlobDamagedError):
    """A key record without its object."""


class BlobRangeError(StorageError):
    """A range outside the blob."""


class ObjectExistsError(StorageError):
    """An object name that is taken: nothing is ever overwritten."""


class StorageFullError(StorageError):
    """No room, or no right to write."""


class StorageUnavailableError(StorageError):
    """The backend does not answer."""


class KeyUnavailableError(StorageError):
    """The key provider does not answer, or the key is destroyed."""


class CollectionRefusedError(StorageError):
    """The catalog knows too little of what storage holds to judge it."""
