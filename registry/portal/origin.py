"""Origin of a group's image: its signatures, provenance, base image and SBOMs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from registry.catalog.images import SqlImages
from registry.model.remedies import for_operator
from registry.trust.facts import ImageFacts, SbomFormat
from registry.trust.verdict import Verdict

MAX_PLATFORMS: Final = 8


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of the image of one platform.

    Attributes:
        digest: Digest of the platform's manifest.
        sentence: The verdict in a sentence; None if no policy was for the image.
        formats: Formats of the SBOMs, each once.
    """

    platform: str
    digest: str
    verdict: Verdict | None
    sentence: str | None
    facts: ImageFacts
    formats: Sequence[SbomFormat]


async def origins_of(
    images: SqlImages, organization: str, digest: str, *, is_operator: bool
) -> Sequence[Origin]:
    """Return what is known of an image, by platform; empty if there is nothing to show."""
    found = []
    for row in await images.list(organization, MAX_PLATFORMS, digest):
        verdict = Verdict.load(row["verdict"]) if row["verdict"] else None
        facts = ImageFacts.load(row["facts"])
        if verdict is None and facts == ImageFacts():
            continue
        sentence = verdict.sentence if verdict else None
        found.append(
            Origin(
                row["platform"],
                row["manifest_digest"],
                verdict,
                for_operator(sentence) if sentence and is_operator else sentence,
                facts,
                tuple(dict.fromkeys(each.format for each in facts.sboms)),
            )
        )
    return found
