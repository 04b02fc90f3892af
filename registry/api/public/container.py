"""A container: its image, registry credentials and run-time configuration."""

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
    """Required resources: cores, MiB of memory, bytes of storage, GPU class ids.

    Attributes:
        storage: Missing from SaladCloud's reference, but present in groups that SaladCloud publishes.
    """

    cpu: Integer
    memory: Integer
    gpu_classes: Items[Text] | None = Field(default_factory=list)
    shm_size: Omittable[Integer] = 64
    storage_amount: Omittable[Integer] = None
    storage: Omittable[Integer] = None


class UsernamePassword(Shape):
    """Credentials for any registry."""

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
    """Credentials for the customer's registry, of one of five kinds."""

    basic: Omittable[UsernamePassword] = None
    docker_hub: Omittable[DockerHubToken] = None
    aws_ecr: Omittable[AwsAccessKey] = None
    gcp_gar: Omittable[GcpServiceKey] = None
    gcp_gcr: Omittable[GcpServiceKey] = None

    @model_validator(mode="after")
    def _one_at_most(self) -> Self:
        if len(self.model_dump()) > 1:
            raise ValueError("give one kind of registry credentials: the kind of the image's registry")
        return self

    def reveal(self) -> Mapping[str, Any] | None:
        """Return the credentials in plaintext, in the API's shape; None if the object is empty."""
        return {
            kind: {name: secret.get_secret_value() for name, secret in fields.items()}
            for kind, fields in self.model_dump().items()
        } or None


class KeptContainer(Shape):
    """Stored fields of a container, except its image."""

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
    """A container in a response ("Container"): without credentials, with results of the import."""

    image: str
    hash: Omittable[str] = None
    size: Omittable[Annotated[int, Field(ge=0)]] = None
