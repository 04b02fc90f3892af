"""A container: its image, the credentials for it, and what it is given to run with."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from registry.api.public.logs import Logging
from registry.api.public.shapes import (
    MAX_ITEMS,
    Credential,
    Image,
    Integer,
    Items,
    Omittable,
    Shape,
    Text,
)

Priority = Annotated[Text, Field(examples=["high", "medium", "low", "batch"])]


class Resources(Shape):
    """What a container asks a machine for: cores, MiB of memory, bytes of storage, GPU class ids.

    Attributes:
        storage: Not in the reference, but in container groups that SaladCloud publishes.
    """

    cpu: Integer
    memory: Integer
    gpu_classes: Items[Text] | None = Field(default_factory=list)
    shm_size: Omittable[Integer] = 64
    storage_amount: Omittable[Integer] = None
    storage: Omittable[Integer] = None


class UsernamePassword(Shape):
    """Credentials of any registry."""

    username: Credential
    password: Credential


class DockerHubToken(Shape):
    """A personal access token of Docker Hub."""

    username: Credential
    personal_access_token: Credential


class AwsAccessKey(Shape):
    """An access key that may read from ECR."""

    access_key_id: Credential
    secret_access_key: Credential


class GcpServiceKey(Shape):
    """A service account's key, the whole JSON document."""

    service_key: Credential


class RegistryAuthentication(Shape):
    """How the customer's registry is to be asked for the image: one way of five."""

    basic: Omittable[UsernamePassword] = None
    docker_hub: Omittable[DockerHubToken] = None
    aws_ecr: Omittable[AwsAccessKey] = None
    gcp_gar: Omittable[GcpServiceKey] = None
    gcp_gcr: Omittable[GcpServiceKey] = None

    @model_validator(mode="after")
    def _one_at_most(self) -> Self:
        if len(self.model_dump()) > 1:
            raise ValueError("give one kind of registry credentials: that of the image's registry")
        return self

    def reveal(self) -> Mapping[str, Any] | None:
        """Return the credentials in the clear, in the API's shape; None when the object is empty."""
        return {
            kind: {name: secret.get_secret_value() for name, secret in fields.items()}
            for kind, fields in self.model_dump().items()
        } or None


class KeptContainer(Shape):
    """What is kept of a container, besides its image."""

    resources: Resources
    command: Items[Text] | None = None
    environment_variables: Omittable[Annotated[dict[str, Text], Field(max_length=MAX_ITEMS)]] = Field(
        default_factory=dict
    )
    image_caching: Omittable[bool] = None
    logging: Omittable[Logging] = None
    priority: Priority | None = None


class NewContainer(KeptContainer):
    """A container in a request ("CreateContainer")."""

    image: Image
    registry_authentication: Omittable[RegistryAuthentication] = Field(default=None, repr=False)


class ServedContainer(KeptContainer):
    """A container as it is returned ("Container"): without credentials, with what the import found."""

    image: str
    hash: Omittable[str] = None
    size: Omittable[Annotated[int, Field(ge=0)]] = None
