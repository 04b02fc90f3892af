"""The use-case of bills of materials: read one that is attached to a stored image."""

import asyncio
from dataclasses import dataclass
from typing import Final

from registry.catalog.images import SqlImages
from registry.errors import NotFoundError, SignatureError
from registry.trust.facts import ImageFacts, Sbom, SbomFormat, open_sbom
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.errors import DigestError

MAX_READS: Final = 2
"""Bills that a process reads at a time: each needs several times its size, which imports limit to 8 MiB."""

_MAX_PLATFORMS: Final = 32


@dataclass(frozen=True, slots=True)
class SbomFile:
    """A bill of materials as a file."""

    data: bytes
    media_type: str
    name: str

    @property
    def headers(self) -> dict[str, str]:
        """Response headers: strangers wrote the file, so a browser must not show it."""
        return {
            "Content-Disposition": f'attachment; filename="{self.name}"',
            "Content-Security-Policy": "sandbox",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }


class ImageSboms:
    """Reads bills of materials of stored images."""

    def __init__(self, images: SqlImages, blobs: BlobStore) -> None:
        self._images = images
        self._blobs = blobs
        self._reading = asyncio.Semaphore(MAX_READS)

    async def read(self, organization: str | None, digest: str, format_: SbomFormat | None) -> SbomFile:
        """Read an image's bill of materials.

        Args:
            organization: Only images of this organization; None searches all.
            digest: Digest of the image, or of the manifest of one of its platforms.
            format_: The wanted format; None reads the first bill.

        Raises:
            NotFoundError: There is no such image, or it has no such bill.
        """
        try:
            named = str(Digest.parse(digest))
        except DigestError:
            raise NotFoundError(
                "This is not a valid digest: give `sha256:` and 64 hexadecimal digits."
            ) from None
        rows = await self._images.list(organization, _MAX_PLATFORMS, named)
        if not rows:
            raise NotFoundError("No image has this digest. List images with `crisper image list`.")
        for row in rows:
            for sbom in ImageFacts.load(row["facts"]).sboms:
                if format_ in (None, sbom.format):
                    return await self._open(row["organization"], named, sbom)
        kind = f"SBOM in the format {format_.value}" if format_ else "SBOM"
        raise NotFoundError(
            f"The image has no {kind}. Attach one at its registry, and import the image again."
        )

    async def _open(self, organization: str, digest: str, sbom: Sbom) -> SbomFile:
        async with self._reading:
            async with await self._blobs.open(organization, sbom.digest) as reader:
                data = b"".join([bytes(part) async for part in reader.stream()])
            try:
                document, media_type = await asyncio.to_thread(open_sbom, data, sbom)
            except SignatureError as error:
                raise NotFoundError(f"The image has an SBOM that cannot be read: {error}.") from None
        suffix = next((each for each in ("json", "xml") if media_type.endswith(each)), "txt")
        name = f"{digest.partition(':')[2][:12]}.{sbom.format.value}.{suffix}"
        return SbomFile(document, media_type, name)
