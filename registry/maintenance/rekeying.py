"""New keys for the layers of an image, as `crisper image rekey` draws them."""

from collections.abc import Callable
from dataclasses import dataclass

from auth.ports import AuditEvent, AuditTrail
from registry.audit.types import RegistryEventType
from registry.catalog.images import SqlImages
from registry.errors import NotFoundError
from registry.oci.encrypted_manifest import encrypted_media_type
from storage.blobs import BlobStore
from storage.digest import Digest


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """Result of a run, and its progress.

    Attributes:
        layers: Layers with new keys.
        total: Layers of the image, in all variants.
        bytes: Size of the layers with new keys.
        replaced: Digests of the ciphertexts before, which caches may still have.
    """

    layers: int
    total: int
    bytes: int
    replaced: tuple[str, ...] = ()


class Rekeying:
    """Encrypts the layers of images with new keys. Other images with these layers get the new ones, too."""

    def __init__(self, blobs: BlobStore, images: SqlImages, trail: AuditTrail) -> None:
        self._blobs = blobs
        self._images = images
        self._trail = trail

    async def run(
        self, organization: str, image: Digest, report: Callable[[Rekeyed], None] = lambda _: None
    ) -> Rekeyed:
        """Rekey all layers of an image. Sessions that began before continue with the old ones for a day.

        A run that was interrupted can be repeated.

        Args:
            image: Digest of the image as it was imported, or of one of its manifests.
            report: Called after each layer.

        Raises:
            NotFoundError: The organization has no such image.
            StorageError: A layer could not be read or stored; it keeps its old keys.
        """
        layers = await self._images.layers(organization, image)
        if layers is None:
            raise NotFoundError(f"{organization} has no image {image}: see `crisper image list`")
        wanted = [layer for layer in layers if encrypted_media_type(layer.media_type) is not None]
        done = Rekeyed(0, len(wanted), 0)
        for layer in wanted:
            before = await self._blobs.stat(organization, layer.digest)
            await self._blobs.rekey(organization, layer.digest)
            old = (str(before.ciphertext),) if before and before.ciphertext else ()
            size_bytes = done.bytes + layer.size_bytes
            done = Rekeyed(done.layers + 1, done.total, size_bytes, done.replaced + old)
            report(done)
        detail = {"digest": str(image), "layers": done.layers}
        await self._trail.record(AuditEvent(RegistryEventType.IMAGE_REKEYED, organization, detail=detail))
        return done
