"""Comparison of an image's layers with those of its zstd variant. No I/O."""

from dataclasses import dataclass

from registry.model.images import ContentKind, ImageContent, StoredImage


@dataclass(frozen=True, slots=True)
class Layer:
    """Sizes of one layer.

    Attributes:
        size_bytes: Size of the original layer.
        zstd_bytes: Size in the zstd variant; None if the layer is the same in both.
    """

    digest: str
    size_bytes: int
    zstd_bytes: int | None = None


def layers_of(image: StoredImage) -> tuple[Layer, ...]:
    """Return an image's layers, base first."""
    in_zstd = _layers(image.zstd) if image.zstd is not None else []
    encoded = {each.diff_id: each for each in in_zstd if each.diff_id is not None}
    return tuple(
        _layer(each, encoded.get(each.diff_id) if each.diff_id is not None else None)
        for each in _layers(image)
    )


def gain_percent(size_bytes: int, zstd_bytes: int | None) -> int | None:
    """Return the percentage of bytes that the zstd variant saves; None if there is no variant."""
    return round(100 * (1 - zstd_bytes / size_bytes)) if zstd_bytes is not None and size_bytes else None


def _layers(image: StoredImage) -> list[ImageContent]:
    return [content for content in image.contents if content.kind is ContentKind.LAYER]


def _layer(original: ImageContent, encoded: ImageContent | None) -> Layer:
    differs = encoded is not None and encoded.digest != original.digest
    zstd_bytes = encoded.size_bytes if encoded is not None and differs else None
    return Layer(str(original.digest), original.size_bytes, zstd_bytes)
