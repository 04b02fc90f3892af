"""The roles `pull` and `token`."""

from collections.abc import Mapping

from aiohttp import web

from auth.realm import Realm
from registry.api import edge_fills
from registry.api.http.socket_sender import SocketSender
from registry.api.http.streaming import BlobStreamer
from registry.api.token import TokenApi
from registry.api.v2 import application as v2
from registry.api.v2.damaged import DamageWatch
from registry.api.v2.node_limit import NodeConcurrencyLimit
from registry.api.v2.offload import AccelOffload, EdgeOffload, Offload, RedirectOffload
from registry.catalog.key_records import SqlKeyRecords
from registry.catalog.quarantine import SqlQuarantine
from registry.composition.shared import Shared
from registry.ephemeral.handovers import RedisHandovers
from registry.maintenance.damage import DamageReporter
from registry.pull.nearest_edge import NearestEdge
from registry.pull.session_images import SessionImages


def compose_pull(shared: Shared) -> Mapping[str, web.Application]:
    """Build the role `pull`. Returns its applications by prefix: for nodes and for edges."""
    sender = SocketSender()
    shared.stack.callback(sender.close)
    streamer = BlobStreamer(sender, shared.metrics, stall_s=shared.settings.stall_s)
    damage = DamageReporter(
        SqlKeyRecords(shared.database), SqlQuarantine(shared.database, shared.clock), shared.events
    )
    return {
        v2.PREFIX: _for_nodes(shared, streamer, damage),
        edge_fills.PREFIX: _for_edges(shared, streamer, damage),
    }


def _for_nodes(shared: Shared, streamer: BlobStreamer, damage: DamageReporter) -> web.Application:
    edges = NearestEdge(shared.edges)
    handovers = RedisHandovers(shared.redis)
    return v2.distribution_app(
        verifier=shared.verifier,
        resolver=shared.resolver,
        images=SessionImages(shared.resolver, shared.encryption, shared.nodes),
        documents=shared.documents,
        blobs=shared.blobs,
        catalog=shared.groups,
        streamer=streamer,
        limit=_limit(shared),
        damage=damage,
        origin=shared.origin,
        pacing=shared.pacing,
        edges=edges,
        offload=EdgeOffload(edges, shared.blobs, handovers.may_leave, _offload(shared)),
    )


def _for_edges(shared: Shared, streamer: BlobStreamer, damage: DamageReporter) -> web.Application:
    return edge_fills.EdgeFills(
        edges=shared.edge_keys,
        ciphertexts=shared.ciphertexts,
        blobs=shared.blobs,
        streamer=streamer,
        limit=_limit(shared),
        watch=DamageWatch(shared.blobs, damage),
        refusals=shared.key_refusals,
        trail=shared.trail,
        ledger=shared.ledger,
        metrics=shared.metrics,
    ).app()


def _limit(shared: Shared) -> NodeConcurrencyLimit:
    return NodeConcurrencyLimit(shared.settings.node_responses, shared.settings.node_connections)


def _offload(shared: Shared) -> Offload | None:
    settings = shared.settings
    if settings.delivery == "accel":
        return AccelOffload(shared.blobs)
    return RedirectOffload(shared.blobs, settings.blob_redirect) if settings.delivery == "redirect" else None


def compose_token(shared: Shared) -> TokenApi:
    """Build the role `token`: `/token` and the public signing keys."""
    realm = Realm(shared.signing_keys, shared.auth_context)
    return TokenApi(realm, shared.verification_keys)
