"""Health checks of catalog, storage, keys, ledger and files, with advice on problems (`crisper doctor`)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from registry.catalog.collection import SqlCollection
from registry.catalog.event_chain import SqlEventChain
from registry.catalog.inspection import SqlInspection
from registry.catalog.quarantine import SqlQuarantine
from registry.errors import AuditTrailError, RegistryError
from storage.blobs import BlobStore
from storage.errors import KeyUnavailableError, StorageError

_PAGE = 500
_NAMED = 5
_PROBE_S = 10.0


class Level(StrEnum):
    """Severity of a finding. Only a problem makes `crisper doctor` exit with 1."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        advice: What to do; empty if nothing is wrong.
    """

    level: Level
    subject: str
    text: str
    advice: str = ""


class Doctor:
    """Runs all checks. Read-only, except for the storage probe, which writes an object.

    Args:
        private: Files and folders that only their owner may read.
        ledger: Checks that the ledger answers; returns a sentence if no running server has one.
    """

    def __init__(
        self,
        *,
        blobs: BlobStore,
        inspection: SqlInspection,
        collection: SqlCollection,
        quarantine: SqlQuarantine,
        chain: SqlEventChain,
        private: Sequence[Path],
        ledger: Callable[[], Awaitable[str]],
    ) -> None:
        self._blobs = blobs
        self._inspection = inspection
        self._collection = collection
        self._quarantine = quarantine
        self._chain = chain
        self._private = private
        self._ledger = ledger

    async def examine(self) -> AsyncIterator[Finding]:
        """Yield the finding of each check."""
        for subject, check in (
            ("files", self._files),
            ("catalog", self._schema),
            ("storage", self._storage),
            ("keys", self._keys),
            ("blobs", self._objects),
            ("orphans", self._orphans),
            ("images", self._images),
            ("audit", self._audit_trail),
            ("ledger", self._answers),
        ):
            try:
                yield await check()
            except (RegistryError, StorageError, OSError, TimeoutError) as error:
                advice = "check that it is running and reachable, then run `crisper doctor` again"
                yield Finding(Level.PROBLEM, subject, str(error) or type(error).__name__, advice)

    async def _files(self) -> Finding:
        present = [path for path in self._private if path.exists()]
        shared = [path for path in present if path.stat().st_mode & 0o077]
        if shared:
            names = " ".join(map(str, shared))
            return Finding(
                Level.PROBLEM, "files", f"other users can access {names}", f"run: chmod go-rwx {names}"
            )
        return Finding(
            Level.OK, "files", f"{len(present)} secret files and folders are private to their owner"
        )

    async def _schema(self) -> Finding:
        found, needed = await self._inspection.revisions()
        if found != needed:
            text = f"the catalog's schema is {found or 'empty'}, this version needs {needed}"
            return Finding(Level.PROBLEM, "catalog", text, "start the server of this version once")
        counts = await self._inspection.jobs()
        imports = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none yet"
        return Finding(Level.OK, "catalog", f"schema {found}; imports: {imports}")

    async def _storage(self) -> Finding:
        async with asyncio.timeout(_PROBE_S):
            await self._blobs.probe()
            await self._blobs.probe_writing()
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
                continue  # a problem of the object, not of the key: checked below
        if lost:
            advice = "restore the keyring from its backup, or check that the key service is reachable"
            return Finding(Level.PROBLEM, "keys", "; ".join(lost[:_NAMED]), advice)
        return Finding(Level.OK, "keys", f"all {len(records)} keys in use can be unwrapped")

    async def _objects(self) -> Finding:
        wrong: list[str] = []
        count, after = 0, ""
        while page := await self._quarantine.objects_after(after, _PAGE):
            for records in page:
                after = records[0].object_name
                for name, expected_bytes in records[0].objects.items():
                    count += 1
                    size_bytes = await self._blobs.objects.size(name)
                    if size_bytes != expected_bytes:
                        is_there = "is missing" if size_bytes is None else f"has {size_bytes} bytes"
                        wrong.append(f"{records[0].digest} {is_there}")
        if wrong:
            text = f"{len(wrong)} of {count} objects do not match the catalog: {'; '.join(wrong[:_NAMED])}"
            advice = "check that storage is mounted, then run: crisper scrub --repair"
            return Finding(Level.PROBLEM, "blobs", text, advice)
        return Finding(Level.OK, "blobs", f"all {count} objects exist with the recorded size")

    async def _orphans(self) -> Finding:
        orphans = total = 0
        async for names in self._blobs.objects.pieces():
            total += len(names)
            orphans += len(await self._collection.unknown(names))
        if orphans > total // 2 and orphans > _PAGE // 5:
            text = f"{orphans} of {total} objects are not in the catalog"
            return Finding(Level.PROBLEM, "orphans", text, "check that catalog and storage belong together")
        return Finding(Level.OK, "orphans", f"{orphans} of {total} objects wait for collection")

    async def _images(self) -> Finding:
        damaged = await self._quarantine.images()
        if damaged:
            names = [f"{image.organization}/{image.project}/{image.group}" for image in damaged]
            text = f"{len(damaged)} groups have damaged or missing blobs: {', '.join(names[:_NAMED])}"
            advice = (
                "run: crisper scrub --repair; if an image needs credentials, ask its customer to create the "
                "group again"
            )
            return Finding(Level.PROBLEM, "images", text, advice)
        held = await self._quarantine.blobs()
        if held:
            text = f"{len(held)} quarantined blobs belong to no group"
            return Finding(Level.WARNING, "images", text, "none needed: collection removes them")
        return Finding(Level.OK, "images", "the images of all groups are complete")

    async def _audit_trail(self) -> Finding:
        try:
            report = await self._chain.verify()
            problem = report.problem
        except AuditTrailError as error:
            problem = str(error)
        if problem:
            advice = (
                "keep a copy of the catalog for an investigation, and compare it with your exports and logs"
            )
            return Finding(Level.PROBLEM, "audit", problem, advice)
        state = report.state
        text = (
            f"{report.records} records are unchanged, {report.unchained} are not chained yet; "
            f"the hash of record {state.head} is {state.head_hash.hex()}"
        )
        return Finding(Level.OK, "audit", text)

    async def _answers(self) -> Finding:
        async with asyncio.timeout(_PROBE_S):
            absent = await self._ledger()
        if absent:
            return Finding(
                Level.WARNING, "ledger", absent, "start the server, then run `crisper doctor` again"
            )
        return Finding(Level.OK, "ledger", "answers")
