"""Composition of the maintenance commands, with the server's catalog, storage and keys."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
from redis.exceptions import RedisError

from auth.ledger import connect
from registry.catalog.blob_origins import SqlBlobOrigins
from registry.catalog.collection import SqlBlobPins, SqlCollection
from registry.catalog.encryption import SqlEncryptionPolicies
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.event_chain import SqlEventChain
from registry.catalog.events import SqlEventLog
from registry.catalog.images import SqlImages
from registry.catalog.inspection import SqlInspection
from registry.catalog.key_records import SqlKeyRecords
from registry.catalog.maintenance import SqlUpkeep
from registry.catalog.quarantine import SqlQuarantine
from registry.composition.storage import database_url, open_blobs, open_compressor
from registry.config import Settings
from registry.datadir import DataDir
from registry.errors import ConfigError, RegistryError
from registry.imports.importer import Importer
from registry.imports.linking import BlobLinker
from registry.maintenance.collection import Collection
from registry.maintenance.damage import DamageReporter
from registry.maintenance.doctor import Doctor, Finding, Level
from registry.maintenance.rekeying import Rekeying
from registry.maintenance.repair import Repair
from registry.maintenance.scrubbing import Scrubbing
from registry.model.encryption import Encryption
from registry.observe import Metrics
from registry.upstream.from_settings import shared_registries, upstream_client
from storage.errors import StorageError

_HTTP = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True, slots=True)
class Upkeep:
    """Use-cases of maintenance."""

    collection: Collection
    scrubbing: Scrubbing
    repair: Repair
    doctor: Doctor
    rekeying: Rekeying


@asynccontextmanager
async def open_upkeep(settings: Settings) -> AsyncIterator[Upkeep]:
    """Open the catalog, storage and keys of a server with these settings.

    Raises:
        ConfigError: There is no catalog. None is created, because garbage collection with an empty catalog
            would remove all objects.
    """
    data = DataDir(settings.data_dir)
    if settings.database_url is None and not data.catalog.exists():
        raise ConfigError(
            f"there is no catalog at {data.catalog}: set the server's --data-dir or CRISPER_DATABASE_URL"
        )
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        database = Database(database_url(settings, data))
        stack.push_async_callback(database.close)
        keys = settings.key_location.open()
        stack.push_async_callback(keys.aclose)
        blobs = open_blobs(settings, keys, database)
        stack.push_async_callback(blobs.aclose)
        client = upstream_client(settings)
        stack.push_async_callback(client.close)
        events, upkeep = SqlEventLog(database, clock), SqlUpkeep(database, clock)
        dead = SqlCollection(database, clock, settings.image_cache_s)
        quarantine = SqlQuarantine(database, clock)
        desk = DamageReporter(SqlKeyRecords(database), quarantine, events)
        sharing = BlobLinker(blobs, SqlBlobOrigins(database, clock), shared_registries(settings))
        metrics = Metrics()
        compressor = open_compressor(settings, blobs, database, metrics)
        if compressor is not None:
            stack.callback(compressor.close)
        importer = Importer(
            client,
            blobs,
            SqlBlobPins(database),
            metrics,
            sharing=sharing,
            max_image_bytes=settings.max_image_bytes,
            compressor=compressor,
            policies=SqlEncryptionPolicies(database, clock, Encryption(settings.encryption)),
        )
        yield Upkeep(
            collection=Collection(blobs, dead, upkeep, clock),
            scrubbing=Scrubbing(blobs, quarantine, desk, upkeep),
            repair=Repair(importer, quarantine),
            doctor=Doctor(
                blobs=blobs,
                inspection=SqlInspection(database),
                collection=dead,
                quarantine=quarantine,
                chain=SqlEventChain(database, keys),
                private=_private(settings, data),
                ledger=partial(_ledger, settings, data),
            ),
            rekeying=Rekeying(blobs, SqlImages(database), events),
        )


async def examine(settings: Settings) -> Sequence[Finding]:
    """Run all checks. An error while opening catalog, storage or keys is also a finding."""
    try:
        async with open_upkeep(settings) as upkeep:
            return [finding async for finding in upkeep.doctor.examine()]
    except (RegistryError, StorageError) as error:
        return [Finding(Level.PROBLEM, "start", str(error), "then run `crisper doctor` again")]


def _private(settings: Settings, data: DataDir) -> list[Path]:
    files = [data.root, data.operator_key, data.catalog, data.blobs, data.ledger]
    if settings.key_location.file is not None:
        files.append(settings.key_location.file)
    for folder in (data.signing_keys, data.node_ca):
        files += [folder, *sorted(folder.glob("*"))]
    return files


async def _ledger(settings: Settings, data: DataDir) -> str:
    """Check the ledger directly, or through the server whose child it is."""
    if settings.redis_url is not None:
        redis = connect(settings.redis_url)
        try:
            await redis.ping()
        except (RedisError, OSError) as error:
            raise RegistryError(f"the ledger does not answer ({type(error).__name__})") from None
        finally:
            await redis.aclose()
        return ""
    if not data.address.exists():
        return "not checked: no server is running, and the ledger is its child process"
    url = json.loads(data.address.read_text())["status_url"]
    try:
        async with (
            aiohttp.ClientSession(timeout=_HTTP) as session,
            session.get(f"{url}/readyz", ssl=False) as answer,  # on this machine, without secrets
        ):
            failing = json.loads((await answer.read()).decode())["failing"]
    except aiohttp.ClientError as error:
        raise RegistryError(f"the server at {url} does not answer ({type(error).__name__})") from None
    if failing:
        raise RegistryError(f"the server at {url} is not ready: {', '.join(failing)}")
    return ""
