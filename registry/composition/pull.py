"""The roles `pull` and `token`."""

from aiohttp import web

from auth.realm import Realm
from registry.api.http.socket_sender import SocketSender
from registry.api.http.streaming import BlobStreamer
from registry.api.token import TokenApi
from registry.api.v2.application import distribution_app
from registry.api.v2.node_limit import NodeConcurrencyLimit
from registry.api.v2.offload import AccelOffload, Offload, RedirectOffload
from registry.catalog.key_records import SqlKeyRecords
from registry.catalog.quarantine import SqlQuarantine
from registry.composition.shared import Shared
from registry.maintenance.damage import DamageReporter
from registry.pull.session_images import SessionImages


def compose_pull(shared: Shared) -> web.Application:
    """Build the role `pull`: `/v2/`."""
    sender = SocketSender()
    shared.stack.callback(sender.close)
    return distribution_app(
        verifier=shared.verifier,
        resolver=shared.resolver,
        images=SessionImages(shared.resolver, shared.encryption, shared.nodes),
        documents=shared.documents,
        blobs=shared.blobs,
        catalog=shared.groups,
        streamer=BlobStreamer(sender, shared.metrics, stall_s=shared.settings.stall_s),
        limit=NodeConcurrencyLimit(shared.settings.node_responses, shared.settings.node_connections),
        damage=DamageReporter(
            SqlKeyRecords(shared.database), SqlQuarantine(shared.database, shared.clock), shared.events
        ),
        origin=shared.origin,
        pacing=shared.pacing,
        offload=_offload(shared),
    )


def _offload(shared: Shared) -> Offload | None:
    settings = shared.settings
    if settings.delivery == "accel":
        return AccelOffload(shared.blobs)
    return RedirectOffload(shared.blobs, settings.blob_redirect) if settings.delivery == "redirect" else None


def compose_token(shared: Shared) -> TokenApi:
    """Build the role `token`: `/token` and the public signing keys."""
    realm = Realm(shared.signing_keys, shared.auth_context)
    return TokenApi(realm, shared.verification_keys)
