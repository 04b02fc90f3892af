"""The role `import`."""

import os
import secrets
import socket

from registry.catalog.blob_origins import SqlBlobOrigins
from registry.catalog.collection import SqlBlobPins
from registry.catalog.import_quotas import SqlImportQuota
from registry.catalog.jobs import SqlJobQueue
from registry.composition.shared import Shared
from registry.composition.storage import open_compressor
from registry.imports.bandwidth import Bandwidth
from registry.imports.importer import Importer
from registry.imports.linking import BlobLinker
from registry.imports.transfer import TransferOptions
from registry.imports.transfer_lock import TransferLock
from registry.imports.verification import ImageVerifier
from registry.imports.worker import ImportWorker
from registry.oci.platform import parse_platforms
from registry.upstream.from_settings import shared_registries, upstream_client
from registry.upstream.ranges import DownloadOptions, PrefetchBudget


def compose_import(shared: Shared) -> ImportWorker:
    """Build the role `import`: the worker that runs import jobs."""
    settings, database, clock = shared.settings, shared.database, shared.clock
    client = upstream_client(settings)
    shared.stack.push_async_callback(client.close)
    downloads = DownloadOptions(
        PrefetchBudget(settings.ahead_bytes),
        connections=settings.blob_connections,
        pace=Bandwidth(settings.import_bytes_per_s).pace,
        min_bytes_per_s=settings.import_min_bytes_per_s,
    )
    # Shorter than the lease of a job: the worker that takes over a job then need not wait for its blobs.
    transfer_lock = TransferLock(shared.redis, settings.lease_s / 2)
    origins = SqlBlobOrigins(database, clock)
    compressor = open_compressor(settings, shared.blobs, database, shared.metrics)
    if compressor is not None:
        shared.stack.callback(compressor.close)
    importer = Importer(
        client,
        shared.blobs,
        SqlBlobPins(database),
        shared.metrics,
        sharing=BlobLinker(shared.blobs, origins, shared_registries(settings)),
        max_image_bytes=settings.max_image_bytes,
        options=TransferOptions(downloads, transfer_lock, settings.layer_transfers),
        quota=SqlImportQuota(database, clock, shared.quotas),
        platforms=parse_platforms(settings.platforms),
        compressor=compressor,
        policies=shared.encryption_policies,
        verifier=ImageVerifier(shared.policies, clock),
    )
    return ImportWorker(
        SqlJobQueue(database, clock, shared.quotas),
        shared.vault,
        shared.progress,
        importer,
        shared.metrics,
        worker_id=f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(6)}",
        lease_s=settings.lease_s,
        jobs=settings.import_jobs,
        retry_delay_s=settings.import_retry_delay_s,
    )
