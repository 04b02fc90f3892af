"""All types of audit events, each with a descriptive sentence."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from auth.audit import AuthEventType, EventType


class RegistryEventType(EventType):
    """Types of the events that the registry itself records."""

    ORGANIZATION_CREATED = "organization.created", "The organization was created"
    ORGANIZATION_UPDATED = "organization.updated", "The platforms of the organization's imports were changed"
    ENCRYPTION_CHANGED = (
        "organization.encryption_changed",
        "The organization's policy for encrypted delivery was changed",
    )
    QUOTAS_CHANGED = "organization.quotas_changed", "Quotas of the organization were changed"
    POLICIES_CHANGED = "organization.policies_changed", "The policies for signatures of images were changed"
    API_KEY_CREATED = "api_key.created", "An API key was created"
    API_KEY_REVOKED = "api_key.revoked", "An API key was revoked"
    API_KEY_REFUSED = (
        "api_key.refused",
        "A request with an unknown or revoked API key or operator key was refused",
    )
    NODE_CREATED = "node.created", "The node was created"
    NODE_OFFERED = "node.offered", "The node was offered another enrolment"
    NODE_KEY_CHANGED = "node.key_changed", "The node's encryption key or its runtime was changed"
    NODE_SECRET_CHANGED = "node.secret_changed", "The node got another secret, and its tokens were revoked"
    NODE_REVOKED = "node.revoked", "The node was revoked"
    EDGE_CREATED = "edge.created", "The edge cache was created"
    EDGE_REVOKED = "edge.revoked", "The edge cache was deleted; its key is not valid any more"
    EDGE_FILLED = "edge.filled", "The edge cache has begun to fetch an encrypted layer"
    EDGE_WARMED = "edge.warmed", "The edge cache was asked to fetch the layers of an image"
    GROUP_CREATED = "group.created", "The group was created; its image will be imported"
    GROUP_IMPORTED = "group.imported", "The image is stored"
    GROUP_FAILED = "group.failed", "The import failed"
    GROUP_UPDATED = "group.updated", "The group was changed"
    GROUP_PLATFORMS_CHANGED = "group.platforms_changed", "The platforms of the group's imports were changed"
    GROUP_ROLLED_BACK = "group.rolled_back", "The group was returned to an earlier version"
    GROUP_STARTED = "group.started", "The group was started"
    GROUP_RUNNING = "group.running", "The first node of the group has the image"
    GROUP_DEPLOYING = "group.deploying", "The group's first node is still pulling"
    GROUP_STOPPED = "group.stopped", "The group was stopped"
    GROUP_DELETED = "group.deleted", "The group was deleted; its tokens were revoked"
    INSTANCE_DOWNLOADING = "instance.downloading", "The node is pulling"
    INSTANCE_CREATING = "instance.creating", "The node has the image"
    INSTANCE_RUNNING = "instance.running", "The container runs"
    INSTANCE_STOPPING = "instance.stopping", "The container is stopping"
    INSTANCE_UPDATED = "instance.updated", "The instance's deletion cost was changed"
    INSTANCE_REALLOCATED = (
        "instance.reallocated",
        "The node was released; its tokens were revoked",
    )
    INSTANCE_RECREATED = "instance.recreated", "The container is to be created again on its node"
    INSTANCE_RESTARTED = "instance.restarted", "The container is to be restarted"
    INSTANCE_LAPSED = "instance.lapsed", "The instance's token ended before its image was pulled"
    IMAGE_REKEYED = "image.rekeyed", "The image's layers were encrypted with new keys"
    BLOB_DAMAGED = "blob.damaged", "A stored blob is damaged or missing"
    AUDIT_PRUNED = "audit.pruned", "Records of this trail were removed after their retention"
    STORAGE_COLLECTED = "storage.collected", "Unused blobs were removed"
    WEBHOOK_CREATED = "webhook.created", "A webhook was registered"
    WEBHOOK_ENABLED = "webhook.enabled", "A disabled webhook was enabled again"
    WEBHOOK_DISABLED = "webhook.disabled", "A webhook was disabled because its endpoint failed for too long"
    WEBHOOK_KEY_RENEWED = "webhook.key_renewed", "The secret key of the organization's webhooks was replaced"
    WEBHOOK_REMOVED = "webhook.removed", "A webhook was removed"
    PORTAL_SIGNED_IN = "portal.signed_in", "A user signed in to the portal"
    PORTAL_SIGNED_OUT = "portal.signed_out", "A user signed out of the portal"
    PORTAL_REFUSED = "portal.refused", "A sign-in to the portal was refused"


EVENT_TYPES: Final[Mapping[str, EventType]] = MappingProxyType(
    {type_.value: type_ for type_ in sorted((*AuthEventType, *RegistryEventType))}
)
"""All event types by name, sorted by name."""
