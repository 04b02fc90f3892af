"""What customers send to change a group or an instance (RFC 7396, "JSON Merge Patch").

A patch is merged into what stands: objects member by member, where a null takes a member away. Two kinds of
object are replaced whole, since a merge of two of them would be neither: a probe and `container.logging`.
What comes of it has to validate as a new group would.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints, ValidationError

from registry.api.public.container import (
    GIB,
    MIB_MAX,
    PIB,
    Priority,
    RegistryAuthentication,
)
from registry.api.public.logs import Logging
from registry.api.public.probes import LivenessProbe, ReadinessProbe, StartupProbe
from registry.api.public.requests import KeptSpec, invalid_input
from registry.api.public.scheduling import QueueAutoscaler, ScalingAction
from registry.api.public.shapes import CountryCode, DisplayName, Line, Port, Replicas, Shape, Uuid
from registry.errors import InvalidInputError
from registry.services.views import GroupChange

_LINE = r"^.*$"
_WHOLE: Final = frozenset({"liveness_probe", "readiness_probe", "startup_probe", "container.logging"})
#: A null for one of these means that it stays: a group cannot do without.
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
    """What to change of the resources ("UpdateContainerResources")."""

    cpu: Annotated[int, Field(ge=1, le=1024)] | None = None
    memory: Annotated[int, Field(ge=1024, le=MIB_MAX)] | None = None
    gpu_classes: Annotated[list[Uuid], Field(max_length=100)] | None = None
    shm_size: Annotated[int, Field(ge=64, le=MIB_MAX)] | None = None
    storage_amount: Annotated[int, Field(ge=GIB, le=PIB)] | None = None


class UpdateContainer(Shape):
    """What to change of the container ("UpdateContainer")."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=_LINE)] | None = None
    registry_authentication: RegistryAuthentication | None = Field(default=None, repr=False)
    command: Annotated[list[Line], Field(max_length=100)] | None = None
    environment_variables: dict[str, Line | None] | None = None
    image_caching: bool | None = None
    logging: Logging | None = None
    priority: Priority | None = None
    resources: UpdateResources | None = None


class UpdateNetworking(Shape):
    """What to change of the networking ("UpdateContainerGroupNetworking")."""

    port: Port | None = None


class ContainerGroupPatch(Shape):
    """What to change of a group ("ContainerGroupPatch"); what is left out stays."""

    container: UpdateContainer | None = None
    country_codes: Annotated[list[CountryCode], Field(min_length=1, max_length=500)] | None = None
    display_name: DisplayName | None = None
    liveness_probe: LivenessProbe | None = None
    readiness_probe: ReadinessProbe | None = None
    startup_probe: StartupProbe | None = None
    networking: UpdateNetworking | None = None
    queue_autoscaler: QueueAutoscaler | None = None
    replicas: Replicas | None = None
    scaling_actions: Annotated[list[ScalingAction], Field(max_length=100)] | None = Field(
        default=None, alias="scaling-actions"
    )
    scheduled_scaling_enabled: bool | None = Field(default=None, alias="scheduled-scaling-enabled")

    @classmethod
    def read(cls, body: str) -> "ContainerGroupPatch":
        """Read a request's JSON.

        Raises:
            InvalidInputError: Names every field that does not validate; repeats no value.
        """
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise invalid_input(error) from None

    def as_change(self, *, pull: bool) -> GroupChange:
        """Part the image and what is used once from what is merged and kept."""
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
        merged = _merge(spec, patch)
        if "networking" in patch and "networking" not in spec:
            reason = "the group was made without networking, and cannot be given it"
            raise InvalidInputError("The request does not validate: networking.", {"networking": [reason]})
        try:
            kept = KeptSpec.model_validate_json(json.dumps(merged))
        except ValidationError as error:
            raise invalid_input(error) from None
        return kept.model_dump(mode="json", by_alias=True)


class ContainerGroupInstancePatch(Shape):
    """What to change of an instance ("ContainerGroupInstancePatch")."""

    deletion_cost: Annotated[int, Field(ge=0, le=100_000)] | None = None

    @classmethod
    def read(cls, body: str) -> "ContainerGroupInstancePatch":
        """Read a request's JSON. Raises InvalidInputError."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise invalid_input(error) from None


def _merge(standing: Mapping[str, Any], patch: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    merged = dict(standing)
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
