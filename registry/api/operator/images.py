"""The operator API's images."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Final

from aiohttp import web
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from registry.api.endpoint import Call, Endpoint
from registry.api.operator.shapes import Count, Document, ImageVerdict, Instant
from registry.api.validation import Query, WholeNumber
from registry.model.images import ImageDirectory
from registry.services.sboms import ImageSboms
from registry.trust.facts import ImageFacts, SbomFormat

_MAX_PAGE: Final = 1000
_MAX_DIGEST_CHARS: Final = 135


class ImageQuery(Query):
    """Query of the list of images."""

    organization_name: str | SkipJsonSchema[None] = Field(
        default=None, description="Only images of this organization."
    )
    digest: str | SkipJsonSchema[None] = Field(
        default=None, max_length=_MAX_DIGEST_CHARS, description="Only images with this digest."
    )
    limit: WholeNumber = Field(default=100, description=f"Maximum number of images, up to {_MAX_PAGE}.")


class SbomQuery(Query):
    """Query of a bill of materials."""

    organization_name: str | SkipJsonSchema[None] = Field(
        default=None, description="Only images of this organization."
    )
    format: SbomFormat | SkipJsonSchema[None] = Field(
        default=None, description="The wanted format; by default the first bill."
    )


class ZstdVariant(Document):
    """Variant of an image with zstd layers."""

    digest: str
    size: Count


class SbomReference(Document):
    """A bill of materials that is attached to the image; download it with `/images/{digest}/sbom`.

    Attributes:
        digest: Digest of the stored blob.
        size: Size of the stored blob in bytes.
        attested: Whether the blob is an in-toto statement that contains the document.
    """

    format: SbomFormat
    digest: str
    media_type: str
    size: Count
    attested: bool


class StatedProvenance(Document):
    """What attached provenance states. Only a policy verifies it (`verdict.builds`)."""

    builder: str
    source: str | None


class StatedBase(Document):
    """The base image that the manifest's annotations name."""

    name: str | None
    digest: str | None


class Image(Document):
    """A stored image and its zstd variant.

    Attributes:
        verdict: What the last import found about its signatures; null if no policy was for the image.
        provenance: Not verified.
        base_image: Not verified.
    """

    organization_name: str
    digest: str
    platform: str
    size: Count
    created_at: Instant
    zstd: ZstdVariant | None
    gain: float
    verdict: ImageVerdict | None
    sboms: list[SbomReference]
    provenance: StatedProvenance | None
    base_image: StatedBase | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Image":
        """Present an image of an organization."""
        size, zstd_size = row["size_bytes"], row["zstd_bytes"]
        facts = ImageFacts.load(row["facts"])
        return cls(
            organization_name=row["organization"],
            digest=row["digest"],
            platform=row["platform"],
            size=size,
            created_at=row["created_at"],
            zstd=ZstdVariant(digest=row["zstd_digest"], size=zstd_size) if zstd_size else None,
            gain=round(1 - zstd_size / size, 4) if zstd_size else 0.0,
            verdict=ImageVerdict.model_validate(row["verdict"]) if row["verdict"] else None,
            sboms=[
                SbomReference(
                    format=each.format,
                    digest=str(each.digest),
                    media_type=each.media_type,
                    size=each.size_bytes,
                    attested=each.attested,
                )
                for each in facts.sboms
            ],
            provenance=StatedProvenance(**asdict(facts.provenance)) if facts.provenance else None,
            base_image=StatedBase(**asdict(facts.base)) if facts.base else None,
        )


class Images(Document):
    """The newest images."""

    items: list[Image]


class ImagesApi:
    """Operations on images."""

    tag: ClassVar[str] = "images"

    def __init__(self, images: ImageDirectory, sboms: ImageSboms) -> None:
        self._images = images
        self._sboms = sboms

    @Endpoint("GET", "/images", "The newest images and the sizes of their variants.", errors=(400,))
    async def list_images(self, call: Call[None], query: ImageQuery) -> Images:  # noqa: ARG002
        """List stored images."""
        limit = min(query.limit, _MAX_PAGE)
        found = await self._images.list(query.organization_name, limit, query.digest)
        return Images(items=[Image.of(row) for row in found])

    @Endpoint(
        "GET",
        "/images/{digest}/sbom",
        "The document.",
        errors=(400, 404),
        streams=("application/spdx+json", "application/vnd.cyclonedx+json", "text/spdx", "application/xml"),
        headers={"Content-Disposition": "The name of the file."},
    )
    async def download_sbom(self, call: Call[None], query: SbomQuery) -> web.Response:
        """Download the bill of materials of a stored image.

        The digest is that of the image, or of the manifest of one platform. The document is not verified.
        """
        found = await self._sboms.read(query.organization_name, call.path("digest"), query.format)
        return web.Response(body=found.data, content_type=found.media_type, headers=found.headers)
