"""A container: its image, the credentials for it, and what it is given to run with."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from registry.api.public.logs import Logging
from registry.api.public.shapes import Credential, Document, Image, Line, Omittable, Shape, Uuid

MIB_MAX = 1 << 30
GIB = 1 << 30
PIB = 1 << 50

Priority = Literal["high", "medium", "low", "batch"]
Command = Annotated[list[Line], Field(max_length=100)] | None


class Resources(Shape):
    """What a container asks a machine for: cores, MiB of memory, bytes of storage, GPU class ids."""

    cpu: Annotated[int, Field(ge=1, le=1024)]
    memory: Annotated[int, Field(ge=1024, le=MIB_MAX)]
    gpu_classes: Annotated[list[Uuid], Field(max_length=100)] = Field(default_factory=list)
    shm_size: Annotated[int, Field(ge=64, le=MIB_MAX)] = 64
    storage_amount: Omittable[Annotated[int, Field(ge=GIB, le=PIB)]] = None


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

    service_key: Document


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
    command: Command = None
    environment_variables: dict[str, Line] = Field(default_factory=dict)
    image_caching: Omittable[bool] = None
    logging: Omittable[Logging] = None
    priority: Priority | None = None


class NewContainer(KeptContainer):
    """A container as it is asked for ("CreateContainer")."""

    image: Image
    registry_authentication: Omittable[RegistryAuthentication] = Field(default=None, repr=False)


class ServedContainer(Shape):
    """A container as it is answered ("Container"): without credentials, with what the import found."""

    image: str
    hash: Omittable[str] = None
    size: Omittable[Annotated[int, Field(ge=0)]] = None
    command: Command
    environment_variables: dict[str, str]
    image_caching: Omittable[bool] = None
    logging: Omittable[Logging] = None
    resources: Resources
