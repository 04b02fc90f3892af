"""What customers send."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from registry.api.public.container import KeptContainer, NewContainer
from registry.api.public.probes import LivenessProbe, ReadinessProbe, StartupProbe
from registry.api.public.scheduling import Networking, QueueAutoscaler, QueueConnection, ScalingAction
from registry.api.public.shapes import CountryCode, DisplayName, Name, Omittable, Replicas, Shape
from registry.errors import InvalidInputError
from registry.services.views import NewGroup

MAX_FAULTS = 50

RestartPolicy = Literal["always", "on_failure", "never"]

_NOT_IN_SPEC: Mapping[str, bool | set[str]] = {
    "name": True,
    "autostart_policy": True,
    "container": {"image", "registry_authentication"},
}


class KeptSpec(Shape):
    """What is kept of a group as it came: the scheduler's."""

    container: KeptContainer
    replicas: Replicas
    restart_policy: RestartPolicy
    display_name: Omittable[DisplayName] = None
    country_codes: Omittable[Annotated[list[CountryCode], Field(min_length=1, max_length=500)]] = None
    networking: Omittable[Networking] = None
    liveness_probe: Omittable[LivenessProbe] = None
    readiness_probe: Omittable[ReadinessProbe] = None
    startup_probe: Omittable[StartupProbe] = None
    queue_connection: Omittable[QueueConnection] = None
    queue_autoscaler: Omittable[QueueAutoscaler] = None
    scaling_actions: Annotated[list[ScalingAction], Field(max_length=100)] = Field(
        default_factory=list, alias="scaling-actions"
    )
    scheduled_scaling_enabled: bool = Field(default=False, alias="scheduled-scaling-enabled")


class ContainerGroupPrototype(KeptSpec):
    """A request for a container group ("ContainerGroupPrototype")."""

    name: Name
    container: NewContainer
    autostart_policy: bool

    @classmethod
    def read(cls, body: str) -> "ContainerGroupPrototype":
        """Read a request's JSON.

        Raises:
            InvalidInputError: Names every field that does not validate; repeats no value.
        """
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise invalid_input(error) from None

    def as_new_group(self) -> NewGroup:
        """Part what is kept from what is used once."""
        authentication = self.container.registry_authentication
        return NewGroup(
            image=self.container.image,
            autostart=self.autostart_policy,
            spec=self.model_dump(mode="json", by_alias=True, exclude=_NOT_IN_SPEC),
            registry_authentication=authentication.reveal() if authentication else None,
        )


def invalid_input(error: ValidationError) -> InvalidInputError:
    """Tell which fields were refused and why, without the values; the first `MAX_FAULTS` of them."""
    fields: dict[str, list[str]] = {}
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    for fault in faults[:MAX_FAULTS]:
        if fault["type"] == "json_invalid":
            return InvalidInputError("The body is not JSON.")
        path = ".".join(str(part) for part in fault["loc"]) or "body"
        fields.setdefault(path, []).append(fault["msg"].removeprefix("Value error, "))
    return InvalidInputError(f"The request does not validate: {', '.join(fields)}.", fields)
