"""What the operator API answers."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from auth.nodes.enrolment import EnrolmentOffer
from auth.ports import Node
from auth.records import SessionView, TokenView
from registry.audit.trail import StoredEvent
from registry.model.api_keys import ApiKey
from registry.model.groups import GroupKey
from registry.model.images import Variant
from registry.model.organizations import Organization
from registry.model.webhooks import Webhook
from registry.services.pull_tokens import Designation
from registry.services.views import InstanceView


def instant(time: datetime) -> str:
    """Write a time as RFC 3339 has it, in UTC."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def organization(found: Organization) -> dict[str, object]:
    """Describe a customer."""
    return {"name": found.name, "created_at": instant(found.created_at)}


def api_key(key: ApiKey) -> dict[str, object]:
    """Describe a key to the public API; the key itself is never shown again."""
    return {
        "key_id": key.key_id,
        "name": key.name,
        "created_at": instant(key.created_at),
        "revoked_at": instant(key.revoked_at) if key.revoked_at else None,
    }


def webhook(found: Webhook) -> dict[str, object]:
    """Describe an endpoint and how it does; its secret is never shown again."""
    times = {
        "created_at": found.created_at,
        "delivered_at": found.delivered_at,
        "failing_since": found.failing_since,
        "disabled_at": found.disabled_at,
    }
    return {
        "webhook_id": found.webhook_id,
        "url": found.url,
        "types": list(found.types),
        **{name: instant(at) if at else None for name, at in times.items()},
        "last_failure": found.last_failure,
    }


def instance(key: GroupKey, view: InstanceView) -> dict[str, object]:
    """Describe a node's designation for a group."""
    found = view.instance
    return {
        "instance_id": found.id,
        "organization_name": key.organization,
        "project_name": key.project,
        "container_group_name": key.name,
        "node_id": found.node_id,
        "state": found.state.value,
        "version": found.version,
        "token_id": found.token_id,
        "deletion_cost": found.deletion_cost,
        "pulling_progress": view.progress,
        "created_at": instant(found.created_at),
        "updated_at": instant(found.updated_at),
    }


def node(found: Node) -> dict[str, object]:
    """Describe a node; its secret is never shown again."""
    return {
        "node_id": found.node_id,
        "binding": found.binding.value,
        "networks": [str(network) for network in found.networks],
        "zstd": found.reads_zstd,
        "revoked_at": instant(found.revoked_at) if found.revoked_at else None,
    }


def offer(node_id: str, offered: EnrolmentOffer) -> dict[str, object]:
    """Describe an enrolment, its secret included: the only time that it is shown."""
    return {
        "node_id": node_id,
        "enrolment_secret": offered.secret.reveal(),
        "expires_at": instant(offered.expires_at),
    }


def designation(made: Designation, host: str) -> dict[str, object]:
    """Describe a minted token, the token itself included: the only time that it is shown."""
    return {
        "token_id": made.minted.token_id,
        "token": made.minted.token.reveal(),
        "username": made.node_id,
        "expires_at": instant(made.minted.expires_at),
        "image": {
            "reference": f"{host}/{made.key.repository}:v{made.version}",
            "digest": str(made.image.digest),
            "size": made.image.size_bytes,
            "variant": made.image.variant.value,
        },
    }


def token(view: TokenView, variant: Variant | None, host: str) -> dict[str, object]:
    """Describe a token's state and its session; `variant` is None when the image is gone."""
    return {
        "token_id": view.token_id,
        "state": view.state.value,
        "node_id": view.node_id,
        "organization_name": view.organization,
        "expires_at": instant(view.expires_at),
        "image": {
            "reference": f"{host}/{view.repository}@{view.image_digest}",
            "digest": view.image_digest,
            "size": view.image_size,
            "variant": variant.value if variant else None,
        },
        "session": _session(view.session) if view.session else None,
    }


def _session(view: SessionView) -> dict[str, object]:
    return {
        "bytes_delivered": view.bytes_delivered,
        "blobs": {"complete": view.blobs_complete, "total": view.blobs_total},
        "redeemed_at": instant(view.redeemed_at),
        "last_seen": instant(view.last_seen),
        "deadline": instant(view.deadline),
    }


def image(row: Mapping[str, Any]) -> dict[str, object]:
    """Describe an image of an organization, and what it gains by its variant."""
    size, zstd_size = row["size_bytes"], row["zstd_bytes"]
    zstd = {"digest": row["zstd_digest"], "size": zstd_size} if zstd_size else None
    return {
        "organization_name": row["organization"],
        "digest": row["digest"],
        "platform": row["platform"],
        "size": size,
        "created_at": instant(row["created_at"]),
        "zstd": zstd,
        "gain": round(1 - zstd_size / size, 4) if zstd_size else 0.0,
    }


def event(stored: StoredEvent) -> dict[str, object]:
    """Describe an audit event."""
    return {
        "cursor": stored.cursor,
        "time": instant(stored.at),
        "type": stored.type,
        "organization_name": stored.organization,
        "token_id": stored.token_id,
        "node_id": stored.node_id,
        "cause": stored.cause,
        "source": stored.source,
        "detail": dict(stored.detail),
    }
