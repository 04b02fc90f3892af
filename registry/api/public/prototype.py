"""Requests that create a group ("ContainerGroupPrototype")."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from registry.api.public.container import KeptContainer, NewContainer
from registry.api.public.probes import LivenessProbe, ReadinessProbe, StartupProbe
from registry.api.public.scheduling import Networking, QueueAutoscaler, QueueConnection, ScalingAction
from registry.api.public.shapes import Items, Name, Omittable, Replicas, Shape, Text
from registry.services.views import NewGroup

RestartPolicy = Annotated[Text, Field(examples=["always", "on_failure", "never"])]

_NOT_IN_SPEC: Final[Mapping[str, bool | set[str]]] = {
    "name": True,
    "autostart_policy": True,
    "container": {"image", "registry_authentication"},
}


class KeptSpec(Shape):
    """Fields of a group that are stored and returned as sent."""

    container: KeptContainer
    replicas: Replicas
    restart_policy: RestartPolicy
    display_name: Omittable[Text] = None
    readme: Omittable[Text] = None
    country_codes: Omittable[Items[Text]] = Field(default_factory=list)
    networking: Omittable[Networking] = None
    liveness_probe: LivenessProbe | None = None
    readiness_probe: ReadinessProbe | None = None
    startup_probe: StartupProbe | None = None
    queue_connection: Omittable[QueueConnection] = None
    queue_autoscaler: Omittable[QueueAutoscaler] = None
    scaling_actions: Omittable[Items[ScalingAction]] = Field(default_factory=list, alias="scaling-actions")
    scheduled_scaling_enabled: Omittable[bool] = Field(default=False, alias="scheduled-scaling-enabled")

    def as_sent(self) -> Mapping[str, Any]:
        """Return the stored fields. Omitted members stay omitted; responses add their defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=_NOT_IN_SPEC)


class ContainerGroupPrototype(KeptSpec):
    """A request for a container group ("ContainerGroupPrototype")."""

    name: Name
    container: NewContainer
    autostart_policy: bool

    def as_new_group(self) -> NewGroup:
        """Separate the fields that are stored from the image and its credentials."""
        authentication = self.container.registry_authentication
        return NewGroup(
            image=self.container.image,
            autostart=self.autostart_policy,
            spec=self.as_sent(),
            registry_authentication=authentication.reveal() if authentication else None,
        )
