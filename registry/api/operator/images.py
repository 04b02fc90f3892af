"""The operator API's images."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from registry.api.endpoint import Call, Endpoint
from registry.api.operator.shapes import Count, Document, ImageVerdict, Instant
from registry.api.validation import Query, WholeNumber
from registry.model.images import ImageDirectory

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


class ZstdVariant(Document):
    """Variant of an image with zstd layers."""

    digest: str
    size: Count


class Image(Document):
    """A stored image and its zstd variant.

    Attributes:
        verdict: What the last import found about its signatures; null if no policy was for the image.
    """

    organization_name: str
    digest: str
    platform: str
    size: Count
    created_at: Instant
    zstd: ZstdVariant | None
    gain: float
    verdict: ImageVerdict | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Image":
        """Present an image of an organization."""
        size, zstd_size = row["size_bytes"], row["zstd_bytes"]
        return cls(
            organization_name=row["organization"],
            digest=row["digest"],
            platform=row["platform"],
            size=size,
            created_at=row["created_at"],
            zstd=ZstdVariant(digest=row["zstd_digest"], size=zstd_size) if zstd_size else None,
            gain=round(1 - zstd_size / size, 4) if zstd_size else 0.0,
            verdict=ImageVerdict.model_validate(row["verdict"]) if row["verdict"] else None,
        )


class Images(Document):
    """The newest images."""

    items: list[Image]


class ImagesApi:
    """Operations on images."""

    tag: ClassVar[str] = "images"

    def __init__(self, images: ImageDirectory) -> None:
        self._images = images

    @Endpoint("GET", "/images", "The newest images and the sizes of their variants.", errors=(400,))
    async def list_images(self, call: Call[None], query: ImageQuery) -> Images:  # noqa: ARG002
        """List stored images."""
        limit = min(query.limit, _MAX_PAGE)
        found = await self._images.list(query.organization_name, limit, query.digest)
        return Images(items=[Image.of(row) for row in found])
