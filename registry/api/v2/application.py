"""The OCI distribution API, pull only (distribution-spec 1.1, "Pull" and "Content Discovery").

Every request shows a session's bearer, asks the ledger once, and sees its session's image and
nothing else. In the session's own repository what is not of that image does not exist; every other
repository is refused, whether it exists or not (docs/adr/0028-404-inside-403-outside-the-repository.md).
"""

from typing import Final

from aiohttp import web

from auth.verifier import Verifier
from registry.api.http.origin import Origin
from registry.api.http.streaming import BlobStreamer
from registry.api.v2.blobs import Blobs
from registry.api.v2.damaged import DamageWatch
from registry.api.v2.gate import Gate
from registry.api.v2.listings import Listings
from registry.api.v2.manifests import Manifests
from registry.api.v2.node_limit import NodeConcurrencyLimit
from registry.maintenance.damage import DamageReporter
from registry.model.groups import GroupCatalog
from registry.pull.attached import AttachmentReader
from registry.pull.documents import Documents
from registry.pull.resolve import ImageResolver
from storage.blobs import BlobStore

PREFIX: Final = "/v2"


def distribution_app(
    *,
    verifier: Verifier,
    resolver: ImageResolver,
    blobs: BlobStore,
    catalog: GroupCatalog,
    streamer: BlobStreamer,
    limit: NodeConcurrencyLimit,
    damage: DamageReporter,
    origin: Origin,
) -> web.Application:
    """Make the application to mount at `PREFIX`.

    Args:
        verifier: Checks every request's bearer and asks the ledger.
        resolver: Finds what the session's image holds.
        blobs: Where the bytes are.
        catalog: For tag lists.
        streamer: Sends blobs and meters them.
        limit: How many of them a node may have at a time.
        damage: Takes reports of blobs that do not verify.
        origin: Where the realm is, for challenges.
    """
    gate = Gate(verifier, resolver, limit, origin)
    watch, attached = DamageWatch(blobs, damage), AttachmentReader(blobs)
    return gate.app(
        [
            *Manifests(gate, resolver, Documents(blobs), attached, watch).routes(),
            *Blobs(gate, resolver, blobs, streamer, watch).routes(),
            *Listings(catalog, attached).routes(),
        ]
    )
