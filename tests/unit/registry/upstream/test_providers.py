import pytest

from registry.upstream.providers import EcrHost, Provider, detect


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("docker.io", Provider.DOCKER_HUB),
        ("registry-1.docker.io", Provider.DOCKER_HUB),
        ("ghcr.io", Provider.GHCR),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com", Provider.ECR),
        ("public.ecr.aws", Provider.ECR_PUBLIC),
        ("acme.azurecr.io", Provider.ACR),
        ("europe-docker.pkg.dev", Provider.GAR),
        ("gcr.io", Provider.GCR),
        ("eu.gcr.io", Provider.GCR),
        ("quay.io:443", Provider.QUAY),
        ("registry.gitlab.com", Provider.GITLAB),
        ("harbor.example.com:8443", Provider.OTHER),
        ("[::1]:5000", Provider.OTHER),
    ],
)
def test_a_family_is_told_by_its_host(host: str, provider: Provider) -> None:
    assert detect(host) is provider


@pytest.mark.parametrize(
    "host",
    [
        "ghcr.io.evil.example",
        "evil-ghcr.io",
        "azurecr.io.evil.example",
        "evilazurecr.io",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example",
        "123456789012.dkr.ecr.us-east-1.evil.example",
        "evil.example.dkr.ecr.us-east-1.amazonaws.com",
    ],
)
def test_a_host_that_only_looks_like_one_is_another(host: str) -> None:
    assert detect(host) is Provider.OTHER


@pytest.mark.parametrize(
    ("host", "region", "endpoint"),
    [
        ("dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1", "api.ecr.eu-west-1.amazonaws.com"),
        ("dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", "ecr-fips.us-gov-west-1.amazonaws.com"),
        ("dkr.ecr.cn-north-1.amazonaws.com.cn:443", "cn-north-1", "api.ecr.cn-north-1.amazonaws.com.cn"),
        ("dkr-ecr.us-east-2.on.aws", "us-east-2", "ecr.us-east-2.api.aws"),
        ("dkr-ecr-fips.us-east-2.on.aws", "us-east-2", "ecr-fips.us-east-2.api.aws"),
        ("dkr.ecr.us-east-1.localhost.localstack.cloud:4566", "us-east-1", None),
    ],
)
def test_an_ecr_host_names_its_region_and_that_its_api(host: str, region: str, endpoint: str | None) -> None:
    assert EcrHost.parse(f"123456789012.{host}") == EcrHost(region, endpoint)


def test_other_hosts_are_no_ecr() -> None:
    for host in ("public.ecr.aws", "dkr.ecr.us-east-1.amazonaws.com", "1.dkr.ecr.us-east-1.amazonaws.com"):
        assert EcrHost.parse(host) is None
