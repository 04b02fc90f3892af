"""The OCI distribution API, pull only (distribution-spec 1.1, "Pull" and "Content Discovery").

Every request has a session's bearer token, is checked in the ledger once, and has access to the session's
image only. Other content in the session's repository gets 404; every other repository gets 403, whether it
exists or not (docs/adr/0028-404-inside-403-outside-the-repository.md).
"""

from typing import Final

from aiohttp import web

from auth.verifier import Verifier
from registry.api.http.origin import Origin
from registry.api.http.paced import Pacing
from registry.api.http.streaming import BlobStreamer
from registry.api.v2.blobs import Blobs
from registry.api.v2.damaged import DamageWatch
from registry.api.v2.gate import Gate
from registry.api.v2.listings import Listings
from registry.api.v2.manifests import Manifests
from registry.api.v2.node_limit import NodeConcurrencyLimit
from registry.api.v2.offload import Offload
from registry.maintenance.damage import DamageReporter
from registry.model.groups import GroupCatalog
from registry.pull.attached import AttachmentReader
from registry.pull.documents import Documents
from registry.pull.nearest_edge import NearestEdge
from registry.pull.resolve import ImageResolver
from registry.pull.session_images import SessionImages
from storage.blobs import BlobStore

PREFIX: Final = "/v2"


def distribution_app(
    *,
    verifier: Verifier,
    resolver: ImageResolver,
    images: SessionImages,
    documents: Documents,
    blobs: BlobStore,
    catalog: GroupCatalog,
    streamer: BlobStreamer,
    limit: NodeConcurrencyLimit,
    damage: DamageReporter,
    origin: Origin,
    pacing: Pacing,
    edges: NearestEdge | None = None,
    offload: Offload | None = None,
) -> web.Application:
    """Return the application to mount at `PREFIX`.

    Args:
        verifier: Verifies bearer tokens and checks them in the ledger.
        resolver: Finds the content of the session's image.
        images: Finds the sessions' images.
        documents: Reads manifests.
        blobs: Store of the blobs.
        catalog: Catalog of groups, for tag lists.
        streamer: Sends and meters blobs.
        limit: Limits a node's responses.
        damage: Reports damaged blobs.
        origin: Address of the realm, for challenges.
        pacing: Sends large documents.
        edges: Finds the edge near a node.
        offload: Delivers ciphertext elsewhere; None sends all bodies from here.
    """
    gate = Gate(verifier, images, limit, origin, pacing=pacing, edges=edges)
    watch, attached = DamageWatch(blobs, damage), AttachmentReader(blobs)
    return gate.app(
        [
            *Manifests(gate, resolver, documents, attached, watch).routes(),
            *Blobs(gate, resolver, blobs, streamer, watch, offload=offload).routes(),
            *Listings(catalog, resolver, attached).routes(),
        ]
    )
