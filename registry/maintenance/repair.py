"""Bringing damaged blobs anew from where they came from, where no credentials are needed for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import uuid4

from registry.catalog.quarantine import DamagedImage, SqlQuarantine
from registry.errors import ImportFailedError
from registry.imports.importer import Importer
from registry.model.groups import GroupKey
from registry.model.imports import ImportJob
from registry.oci.reference import Reference

NO_VARIANT: Final = (
    "the image itself is whole, its zstd variant is not: with compression on (CRISPER_COMPRESS), create a "
    "group with this image again, which makes it anew; until then mint tokens with the variant original"
)


@dataclass(frozen=True, slots=True)
class Repaired:
    """One group's image, and how its repair ended.

    Attributes:
        problem: Empty when every blob is back; else what stands against it, in a sentence.
    """

    repository: str
    problem: str = ""


class Repair:
    """Imports damaged images again, by digest and without credentials.

    A customer's credentials are gone when their import has ended, so an image that asks for some stays
    damaged until its customer creates a group with it again; that import heals every group that shares the
    blobs.
    """

    def __init__(self, importer: Importer, quarantine: SqlQuarantine) -> None:
        self._importer = importer
        self._quarantine = quarantine

    async def run(self) -> Sequence[Repaired]:
        """Try each damaged image once."""
        return [await self._one(damaged) for damaged in await self._quarantine.images()]

    async def _one(self, damaged: DamagedImage) -> Repaired:
        key = GroupKey(damaged.organization, damaged.project, damaged.group)
        reference = replace(Reference.parse(damaged.image), digest=damaged.image_digest)
        job = ImportJob(
            id=str(uuid4()),
            group_id="",
            key=key,
            version=damaged.version,
            image=str(reference),
            attempt=1,
        )
        try:
            await self._importer.run(job, None, lambda _progress: None)
        except ImportFailedError as error:
            return Repaired(key.repository, f"{error.reason}: {error.sentence}")
        if damaged in await self._quarantine.images():
            # Encoded with other settings, or not at all: nothing takes the place of the damaged blob.
            return Repaired(key.repository, NO_VARIANT)
        return Repaired(key.repository)
