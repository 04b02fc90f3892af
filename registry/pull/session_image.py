"""The image as one session sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from registry.model.images import StoredImage
from storage.digest import Digest


@dataclass(frozen=True, slots=True)
class SessionImage:
    """The image of a session.

    Attributes:
        stored: The image as it was imported, which the token and the ledger name.
        visible: What the session can read: the same image, or one with encrypted layers in their place.
        documents: Manifests and indexes that exist only in this session, by digest.
    """

    stored: StoredImage
    visible: StoredImage
    documents: Mapping[Digest, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def plain(cls, image: StoredImage) -> "SessionImage":
        """Return an image whose layers are delivered as plaintext."""
        return cls(image, image)

    @property
    def encrypted(self) -> bool:
        """Whether layers are delivered as ciphertext."""
        return bool(self.documents)

    def __len__(self) -> int:
        """Bytes of the documents."""
        return sum(map(len, self.documents.values()))
