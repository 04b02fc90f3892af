"""Requests that change a group (RFC 7396, "JSON Merge Patch").

A patch is merged into the stored group: objects member by member, and a null removes a member. Probes and
`container.logging` are replaced completely, because merging two different ones gives no meaningful value. The
result must be valid as the request that creates a group.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from registry.api.public.container import Priority, RegistryAuthentication
from registry.api.public.logs import Logging
from registry.api.public.probes import LivenessProbe, ReadinessProbe, StartupProbe
from registry.api.public.prototype import KeptSpec
from registry.api.public.scheduling import QueueAutoscaler, ScalingAction
from registry.api.public.shapes import MAX_ITEMS, Integer, Items, NewImage, Replicas, Shape, Text
from registry.errors import InvalidInputError
from registry.services.views import GroupChange

MAX_SPEC_BYTES: Final = 1 << 20
"""Maximum size of a group after a patch: the limit of a request that creates one."""

_WHOLE: Final = frozenset({"liveness_probe", "readiness_probe", "startup_probe", "container.logging"})
#: Required fields: a null leaves them unchanged.
_NEEDED: Final = frozenset(
    {
        "replicas",
        "networking",
        "networking.port",
        "container",
        "container.resources",
        "container.resources.cpu",
        "container.resources.memory",
    }
)


class UpdateResources(Shape):
    """Changes of the resources ("UpdateContainerResources")."""

    cpu: Integer | None = None
    memory: Integer | None = None
    gpu_classes: Items[Text] | None = None
    shm_size: Integer | None = None
    storage_amount: Integer | None = None
    storage: Integer | None = None


class UpdateContainer(Shape):
    """Changes of the container ("UpdateContainer")."""

    image: NewImage | None = None
    registry_authentication: RegistryAuthentication | None = Field(default=None, repr=False)
    command: Items[Text] | None = None
    environment_variables: Annotated[dict[str, Text | None], Field(max_length=MAX_ITEMS)] | None = None
    image_caching: bool | None = None
    logging: Logging | None = None
    priority: Priority | None = None
    resources: UpdateResources | None = None


class UpdateNetworking(Shape):
    """Changes of the networking ("UpdateContainerGroupNetworking")."""

    port: Integer | None = None


class ContainerGroupPatch(Shape):
    """Changes of a group ("ContainerGroupPatch"); omitted fields stay unchanged."""

    container: UpdateContainer | None = None
    country_codes: Items[Text] | None = None
    display_name: Text | None = None
    readme: Text | None = None
    liveness_probe: LivenessProbe | None = None
    readiness_probe: ReadinessProbe | None = None
    startup_probe: StartupProbe | None = None
    networking: UpdateNetworking | None = None
    queue_autoscaler: QueueAutoscaler | None = None
    replicas: Replicas | None = None
    scaling_actions: Items[ScalingAction] | None = Field(default=None, alias="scaling-actions")
    scheduled_scaling_enabled: bool | None = Field(default=None, alias="scheduled-scaling-enabled")

    def as_change(self, *, pull: bool) -> GroupChange:
        """Separate the image and its credentials from the fields that are merged and stored."""
        container = self.container
        authentication = container.registry_authentication if container else None
        return GroupChange(
            amend=self._amend,
            image=container.image if container else None,
            registry_authentication=authentication.reveal() if authentication else None,
            pull=pull,
        )

    def _amend(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        used_once = {"container": {"image", "registry_authentication"}}
        patch = self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=used_once)
        merged = json.dumps(_merge(spec, patch), ensure_ascii=False, separators=(",", ":"))
        if patch.get("networking") is not None and "networking" not in spec:
            reason = "the group was created without networking; create a new group to add it"
            raise InvalidInputError("The request does not validate: networking.", {"networking": [reason]})
        if len(merged.encode()) > MAX_SPEC_BYTES:
            raise InvalidInputError(f"The group would be larger than {MAX_SPEC_BYTES} bytes of JSON.")
        return KeptSpec.read(merged).as_sent()


class ContainerGroupRollback(Shape):
    """Version to return to; by default, the newest other version that is stored."""

    version: Annotated[int, Field(ge=1, le=2_147_483_647)] | None = None


def _merge(stored: Mapping[str, Any], patch: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    merged = dict(stored)
    for name, value in patch.items():
        path = f"{within}{name}"
        if value is None:
            if path not in _NEEDED:
                merged.pop(name, None)
        elif isinstance(value, dict) and path not in _WHOLE:
            below = merged.get(name)
            merged[name] = _merge(below if isinstance(below, dict) else {}, value, f"{path}.")
        else:
            merged[name] = value
    return merged
