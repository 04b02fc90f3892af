"""Repair of damaged images by importing them again from their public upstream registries."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import uuid4

from registry.catalog.quarantine import DamagedImage, SqlQuarantine
from registry.errors import ImportFailedError
from registry.imports.importer import Importer
from registry.model.groups import GroupKey
from registry.model.imports import ImportJob
from registry.oci.platform import parse_platforms
from registry.oci.reference import Reference

NO_VARIANT: Final = (
    "the image is intact, but its zstd variant is damaged: with compression on (CRISPER_COMPRESS), create a "
    "group with this image again to rebuild it; until then, mint tokens with the variant original"
)


@dataclass(frozen=True, slots=True)
class Repaired:
    """The result of repairing one group's image.

    Attributes:
        problem: Empty if all blobs were restored; otherwise a sentence with the reason.
    """

    repository: str
    problem: str = ""


class Repair:
    """Imports damaged images again, by digest and without credentials.

    A customer's credentials are erased when the import has ended. An image that requires credentials
    therefore stays damaged until its customer creates a group with it again. That import repairs all groups
    that share the blobs.
    """

    def __init__(self, importer: Importer, quarantine: SqlQuarantine) -> None:
        self._importer = importer
        self._quarantine = quarantine

    async def run(self) -> Sequence[Repaired]:
        """Try to repair each damaged image once."""
        return [await self._repair(damaged) for damaged in await self._quarantine.images()]

    async def _repair(self, damaged: DamagedImage) -> Repaired:
        key = GroupKey(damaged.organization, damaged.project, damaged.group)
        reference = replace(Reference.parse(damaged.image), digest=damaged.image_digest)
        job = ImportJob(
            id=str(uuid4()),
            group_id="",
            key=key,
            version=damaged.version,
            image=str(reference),
            attempt=1,
            platforms=parse_platforms(damaged.platform.split(",")),
        )
        try:
            await self._importer.run(job, None, lambda _progress: None)
        except ImportFailedError as error:
            return Repaired(key.repository, f"{error.reason}: {error.sentence}")
        if damaged in await self._quarantine.images():
            # The import did not recompress, or with other settings, so it did not replace the damaged blob.
            return Repaired(key.repository, NO_VARIANT)
        return Repaired(key.repository)
