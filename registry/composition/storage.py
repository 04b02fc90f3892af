"""The catalog's address, the blob storage and the compressor, which maintenance commands open too."""

import os

from registry.catalog.collection import SqlBlobPins
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.images import SqlKnownLayers
from registry.catalog.key_records import SqlKeyRecords
from registry.catalog.partials import SqlPartials
from registry.config import Settings
from registry.datadir import DataDir
from registry.imports.recompress.pipeline import Compression, Compressor
from registry.observe import Metrics
from storage.blobs import BlobStore
from storage.keys.locate import name_key
from storage.ports import KeyProvider


def database_url(settings: Settings, data: DataDir) -> str:
    """Return the URL of the catalog."""
    return settings.database_url or f"sqlite:///{data.catalog}"


def open_blobs(settings: Settings, keys: KeyProvider, database: Database) -> BlobStore:
    """Open storage; the caller closes it."""
    return BlobStore(
        settings.storage_location.open(),
        keys,
        SqlKeyRecords(database),
        name_key(keys),
        partials=SqlPartials(database, SystemClock()),
    )


def open_compressor(
    settings: Settings, blobs: BlobStore, database: Database, metrics: Metrics
) -> Compressor | None:
    """Open the compressor of layers, unless the settings turn it off. The caller closes it."""
    if not settings.compress:
        return None
    how = Compression(
        level=settings.compress_level,
        threads=settings.compress_threads or max(2, (os.cpu_count() or 1) // 2),
        min_gain=settings.compress_min_gain,
        max_unpacked_bytes=settings.max_unpacked_bytes,
    )
    return Compressor(blobs, SqlBlobPins(database), SqlKnownLayers(database), metrics, how)
