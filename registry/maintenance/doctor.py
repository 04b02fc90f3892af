"""Looks at catalog, storage, keys, ledger and files together, and says what is wrong and what to do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from registry.catalog.collection import SqlCollection
from registry.catalog.inspection import SqlInspection
from registry.catalog.quarantine import SqlQuarantine
from registry.errors import RegistryError
from storage.blobs import BlobStore
from storage.errors import KeyUnavailableError, StorageError

_PAGE = 500
_NAMED = 5
_PROBE_S = 10.0


class Level(StrEnum):
    """How bad it is. Only a problem makes `crisper doctor` exit with 1."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        advice: What to do; empty where nothing is.
    """

    level: Level
    subject: str
    text: str
    advice: str = ""


class Doctor:
    """Reads only, besides the probe of storage.

    Args:
        private: Files and folders that only their owner may read.
        ledger: Proves that the ledger answers; returns a sentence where no server runs that has one.
    """

    def __init__(
        self,
        *,
        blobs: BlobStore,
        inspection: SqlInspection,
        collection: SqlCollection,
        quarantine: SqlQuarantine,
        private: Sequence[Path],
        ledger: Callable[[], Awaitable[str]],
    ) -> None:
        self._blobs = blobs
        self._inspection = inspection
        self._collection = collection
        self._quarantine = quarantine
        self._private = private
        self._ledger = ledger

    async def examine(self) -> AsyncIterator[Finding]:
        """Yield a finding for everything that is looked at."""
        for subject, look in (
            ("files", self._files),
            ("catalog", self._schema),
            ("storage", self._storage),
            ("keys", self._keys),
            ("blobs", self._objects),
            ("orphans", self._orphans),
            ("images", self._images),
            ("ledger", self._answers),
        ):
            try:
                yield await look()
            except (RegistryError, StorageError, OSError, TimeoutError) as error:
                advice = "make it answer, then run `crisper doctor` again"
                yield Finding(Level.PROBLEM, subject, str(error) or type(error).__name__, advice)

    async def _files(self) -> Finding:
        present = [path for path in self._private if path.exists()]
        shared = [path for path in present if path.stat().st_mode & 0o077]
        if shared:
            names = " ".join(map(str, shared))
            return Finding(Level.PROBLEM, "files", f"others can reach {names}", f"run: chmod go-rwx {names}")
        return Finding(Level.OK, "files", f"{len(present)} secret files and folders are their owner's alone")

    async def _schema(self) -> Finding:
        found, needed = await self._inspection.revisions()
        if found != needed:
            text = f"the catalog's schema is {found or 'empty'}, this version needs {needed}"
            return Finding(Level.PROBLEM, "catalog", text, "start the server of this version once")
        counts = await self._inspection.jobs()
        said = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none yet"
        return Finding(Level.OK, "catalog", f"schema {found}; imports: {said}")

    async def _storage(self) -> Finding:
        async with asyncio.timeout(_PROBE_S):
            await self._blobs.probe()
        return Finding(Level.OK, "storage", "objects can be written and read; the key provider answers")

    async def _keys(self) -> Finding:
        lost: list[str] = []
        records = await self._inspection.record_of_each_key()
        for record in records:
            try:
                async with await self._blobs.open_record(record):
                    pass
            except KeyUnavailableError as error:
                lost.append(str(error))
            except StorageError:
                continue  # the object's trouble, not the key's: looked at below
        if lost:
            advice = "restore the keyring from its backup, or make the key service answer"
            return Finding(Level.PROBLEM, "keys", "; ".join(lost[:_NAMED]), advice)
        return Finding(Level.OK, "keys", f"all {len(records)} keys in use unwrap")

    async def _objects(self) -> Finding:
        wrong: list[str] = []
        count, after = 0, ""
        while page := await self._quarantine.objects_after(after, _PAGE):
            for records in page:
                count += 1
                after = records[0].object_name
                size_bytes = await self._blobs.objects.size(after)
                if size_bytes != records[0].stored_bytes:
                    is_there = "is missing" if size_bytes is None else f"has {size_bytes} bytes"
                    wrong.append(f"{records[0].digest} {is_there}")
        if wrong:
            text = f"{len(wrong)} of {count} objects are not as recorded: {'; '.join(wrong[:_NAMED])}"
            return Finding(
                Level.PROBLEM, "blobs", text, "see that storage is mounted; run: crisper scrub --repair"
            )
        return Finding(Level.OK, "blobs", f"all {count} objects are there, as long as recorded")

    async def _orphans(self) -> Finding:
        orphans = total = 0
        async for names in self._blobs.objects.pieces():
            total += len(names)
            orphans += len(await self._collection.unknown(names))
        if orphans > total // 2 and orphans > _PAGE // 5:
            text = f"the catalog knows nothing of {orphans} of {total} objects"
            return Finding(Level.PROBLEM, "orphans", text, "see that catalog and storage belong together")
        return Finding(Level.OK, "orphans", f"{orphans} of {total} objects wait for collection")

    async def _images(self) -> Finding:
        damaged = await self._quarantine.images()
        if damaged:
            names = [f"{image.organization}/{image.project}/{image.group}" for image in damaged]
            text = f"{len(damaged)} groups have damaged or missing blobs: {', '.join(names[:_NAMED])}"
            advice = "run: crisper scrub --repair; what needs credentials, its customer has to create again"
            return Finding(Level.PROBLEM, "images", text, advice)
        held = await self._quarantine.blobs()
        if held:
            text = f"{len(held)} blobs are in quarantine, of no group"
            return Finding(Level.WARNING, "images", text, "collection removes them in time")
        return Finding(Level.OK, "images", "every group's image is whole")

    async def _answers(self) -> Finding:
        async with asyncio.timeout(_PROBE_S):
            absent = await self._ledger()
        if absent:
            return Finding(Level.WARNING, "ledger", absent, "start the server to have it looked at")
        return Finding(Level.OK, "ledger", "answers")
