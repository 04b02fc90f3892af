"""Credential forms for well-known registries, chosen by host. No I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from registry.oci.reference import DOCKER_HUB, Reference


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a credential form.

    Attributes:
        name: Name of the field in the public API's `registry_authentication`.
        secret: Whether the input is hidden.
        lines: Height of the input; more than one for a document to paste.
    """

    name: str
    label: str
    secret: bool = False
    lines: int = 1


@dataclass(frozen=True, slots=True)
class CredentialForm:
    """Credential form for one kind of registry.

    Attributes:
        kind: Field of `registry_authentication` for these credentials.
        registry: Display name of the registry.
        advice: Where to get the credential, and the least permission that it needs.
    """

    kind: str
    registry: str
    advice: str
    fields: tuple[Field, ...]

    def filled(self, form: Mapping[str, str]) -> dict[str, dict[str, str]] | None:
        """Return the input as `registry_authentication`; None if all fields are empty."""
        typed = {field.name: form.get(f"{self.kind}.{field.name}", "") for field in self.fields}
        return {self.kind: typed} if any(typed.values()) else None


def _basic(
    registry: str,
    advice: str,
    username: str = "User name",
    password: str = "Password",  # noqa: S107 (labels)
) -> CredentialForm:
    fields = (Field("username", username), Field("password", password, secret=True))
    return CredentialForm("basic", registry, advice, fields)


_DOCKER_HUB = CredentialForm(
    "docker_hub",
    "Docker Hub",
    "A personal access token of Docker Hub with the permission Read-only. With two-factor authentication, "
    "the account's password does not work.",
    (Field("username", "Docker ID"), Field("personal_access_token", "Personal access token", secret=True)),
)
_ECR = CredentialForm(
    "aws_ecr",
    "Amazon ECR",
    "An access key of a user with the permissions ecr:GetAuthorizationToken, ecr:BatchGetImage and "
    "ecr:GetDownloadUrlForLayer for this repository.",
    (Field("access_key_id", "Access key id"), Field("secret_access_key", "Secret access key", secret=True)),
)
_SERVICE_KEY = (Field("service_key", "Service account key", secret=True, lines=4),)
_GAR = CredentialForm(
    "gcp_gar",
    "Google Artifact Registry",
    "The JSON key of a service account with the role Artifact Registry Reader. Paste the whole file.",
    _SERVICE_KEY,
)
_GCR = CredentialForm(
    "gcp_gcr",
    "Google Container Registry",
    "The JSON key of a service account with read access to the registry's bucket. Paste the whole file.",
    _SERVICE_KEY,
)
_GHCR = _basic(
    "GitHub Container Registry",
    "A personal access token (classic) with the scope read:packages.",
    "GitHub user",
    "Personal access token",
)
_QUAY = _basic(
    "Quay",
    "A robot account with the permission Read for this repository. Its name has a plus sign: team+robot.",
    "Robot account",
    "Robot token",
)
_ACR = _basic(
    "Azure Container Registry",
    "A token of the registry with the scope map _repositories_pull, or a service principal with AcrPull.",
    "Token name or client id",
    "Password or client secret",
)
_GITLAB = _basic(
    "GitLab Container Registry",
    "A deploy token with the scope read_registry.",
    "Deploy token user name",
    "Deploy token",
)
_OTHER = _basic(
    "this registry",
    "A user or robot account of the registry that may only pull this repository.",
)

_BY_HOST: tuple[tuple[re.Pattern[str], CredentialForm], ...] = tuple(
    (re.compile(pattern), form)
    for pattern, form in (
        (re.escape(DOCKER_HUB), _DOCKER_HUB),
        (r"[0-9]{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?", _ECR),
        (r"[a-z0-9-]+-docker\.pkg\.dev", _GAR),
        (r"([a-z]+\.)?gcr\.io", _GCR),
        (r"ghcr\.io", _GHCR),
        (r"quay\.io", _QUAY),
        (r"[a-z0-9-]+\.azurecr\.(io|cn|us)", _ACR),
        (r"registry\.gitlab\.com", _GITLAB),
    )
)


def form_for(reference: Reference | None) -> CredentialForm:
    """Return the credential form for an image's registry; the generic one if there is no reference yet."""
    registry = reference.registry if reference is not None else ""
    return next((form for host, form in _BY_HOST if host.fullmatch(registry)), _OTHER)
