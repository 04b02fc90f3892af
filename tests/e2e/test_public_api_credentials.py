"""SaladCloud's published SDK imports with each credential that the API has, from the registry that it is for.

The registries answer under their real names (tests/support/provider_farm.py); Amazon's password comes
from its API, which checks the access key's signature.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.crisper import PROJECT, CrisperServer, Organization
from tests.support.moto_server import AccessKey
from tests.support.provider_farm import ECR, REPOSITORY, Farm, provider_farm
from tests.support.salad_sdk import (
    CLIENTS,
    ContainerRegistryAuthentication,
    ContainerRegistryAuthenticationAwsEcr,
    ContainerRegistryAuthenticationBasic,
    ContainerRegistryAuthenticationDockerHub,
    ContainerRegistryAuthenticationGcpGar,
    ContainerRegistryAuthenticationGcpGcr,
    asking_for,
    calling,
    settled,
)

ROBOT, HUB_USER = ("robot", "robot-4711"), ("hub-user", "dckr_pat_4711")
SERVICE_KEY = json.dumps({"type": "service_account", "private_key": "4711"})

IMAGES = {
    "basic": f"selfhosted.example.com/{REPOSITORY}:1",
    "docker_hub": "app:1",
    "aws_ecr": f"{ECR}/{REPOSITORY}:1",
    "gcp_gar": f"us-docker.pkg.dev/{REPOSITORY}:1",
    "gcp_gcr": f"gcr.io/{REPOSITORY}:1",
}


def credentials(kind: str, key: AccessKey) -> ContainerRegistryAuthentication:
    every = {
        "basic": ContainerRegistryAuthenticationBasic(username=ROBOT[0], password=ROBOT[1]),
        "docker_hub": ContainerRegistryAuthenticationDockerHub(
            username=HUB_USER[0], personal_access_token=HUB_USER[1]
        ),
        "aws_ecr": ContainerRegistryAuthenticationAwsEcr(
            access_key_id=key.key_id, secret_access_key=key.secret
        ),
        "gcp_gar": ContainerRegistryAuthenticationGcpGar(service_key=SERVICE_KEY),
        "gcp_gcr": ContainerRegistryAuthenticationGcpGcr(service_key=SERVICE_KEY),
    }
    return ContainerRegistryAuthentication(**{kind: every[kind]})


@dataclass(frozen=True)
class Site:
    """The registries, and a server that finds them."""

    farm: Farm
    server: CrisperServer
    organization: Organization


@pytest.fixture(scope="module")
def site(workdir: Path) -> Iterator[Site]:
    folder = workdir / "families"
    folder.mkdir()
    with provider_farm(folder, dict([ROBOT])) as farm:
        farm.realms.admitted = {
            "auth.docker.io": {":".join(HUB_USER)},
            "us-docker.pkg.dev": {f"_json_key:{SERVICE_KEY}"},
            "gcr.io": {f"_json_key:{SERVICE_KEY}"},
        }
        environment = {**farm.environment, "CRISPER_SHARED_REGISTRIES": ""}  # each import logs in by itself
        with CrisperServer(folder / "crisper", env=environment) as server:
            yield Site(farm, server, server.operator.create_organization())


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("kind", IMAGES)
async def test_a_group_is_imported_with_every_kind_of_credentials(site: Site, client: str, kind: str) -> None:
    call = calling(client, site.server.url, site.organization.api_key)
    asked = asking_for(IMAGES[kind], credentials(kind, site.farm.key))
    made = await call("create_container_group", asked, site.organization.name, PROJECT)
    assert (made.name, made.display_name) == (asked.name, "Made by the SDK")
    assert (made.replicas, made.version) == (2, 1)
    assert made.current_state.status == "pending"
    group = await settled(call, site.organization.name, PROJECT, made.name)
    assert group.current_state.status == "stopped", group.current_state.description
    assert group.container.hash == site.farm.image.root
    assert group.container.size == sum(map(len, site.farm.image.blobs.values()))
    assert group.container.environment_variables == {"GREETING": "hello"}
    assert not hasattr(group.container, "registry_authentication")
