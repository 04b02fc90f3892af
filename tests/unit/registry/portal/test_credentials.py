import pytest

from registry.oci.reference import Reference
from registry.portal.credentials import form_for
from registry.upstream.credentials import from_registry_authentication


@pytest.mark.parametrize(
    ("image", "kind", "registry"),
    [
        ("alpine", "docker_hub", "Docker Hub"),
        ("docker.io/acme/app:1", "docker_hub", "Docker Hub"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1", "aws_ecr", "Amazon ECR"),
        ("europe-west3-docker.pkg.dev/p/r/app", "gcp_gar", "Google Artifact Registry"),
        ("eu.gcr.io/p/app", "gcp_gcr", "Google Container Registry"),
        ("ghcr.io/acme/app", "basic", "GitHub Container Registry"),
        ("quay.io/acme/app", "basic", "Quay"),
        ("acme.azurecr.io/app", "basic", "Azure Container Registry"),
        ("registry.gitlab.com/acme/app", "basic", "GitLab Container Registry"),
        ("registry.example.com/app", "basic", "this registry"),
        ("ghcr.io.example.com/app", "basic", "this registry"),
    ],
)
def test_the_host_of_an_image_decides_which_credentials_are_asked_for(
    image: str, kind: str, registry: str
) -> None:
    form = form_for(Reference.parse(image))
    assert (form.kind, form.registry) == (kind, registry)


def test_what_was_typed_is_what_the_public_api_takes() -> None:
    form = form_for(Reference.parse("ghcr.io/acme/app"))
    typed = {"basic.username": "robot", "basic.password": "secret", "image": "ghcr.io/acme/app"}
    filled = form.filled(typed)
    assert filled == {"basic": {"username": "robot", "password": "secret"}}
    credential = from_registry_authentication(filled)
    assert credential is not None
    assert credential.username == "robot"


def test_a_form_that_was_left_empty_is_no_credential() -> None:
    form = form_for(Reference.parse("alpine"))
    assert form.filled({"docker_hub.username": "", "basic.username": "of another form"}) is None
