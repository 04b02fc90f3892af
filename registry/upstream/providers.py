"""Detection of a registry's provider by its host name, for logins, metrics and guides."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from registry.hosts import split_host


class Provider(StrEnum):
    """Known registry providers. The values are a metric label, so their number is kept small."""

    DOCKER_HUB = "docker_hub"
    GHCR = "ghcr"
    ECR = "ecr"
    ECR_PUBLIC = "ecr_public"
    ACR = "acr"
    GAR = "gar"
    GCR = "gcr"
    QUAY = "quay"
    GITLAB = "gitlab"
    OTHER = "other"


_BY_NAME: Final[Mapping[str, Provider]] = {
    "docker.io": Provider.DOCKER_HUB,
    "registry-1.docker.io": Provider.DOCKER_HUB,
    "ghcr.io": Provider.GHCR,
    "public.ecr.aws": Provider.ECR_PUBLIC,
    "gcr.io": Provider.GCR,
    "quay.io": Provider.QUAY,
    "registry.gitlab.com": Provider.GITLAB,
}
_BY_SUFFIX: Final[Mapping[str, Provider]] = {
    ".azurecr.io": Provider.ACR,
    ".azurecr.cn": Provider.ACR,
    ".azurecr.us": Provider.ACR,
    ".pkg.dev": Provider.GAR,
    ".gcr.io": Provider.GCR,
}
_ECR: Final = re.compile(
    r"\d{12}\.dkr(?P<form>[.-])ecr(?P<fips>-fips)?\.(?P<region>[a-z]{2,8}(?:-[a-z]{2,12}){1,3}-\d{1,2})"
    r"\.(?P<suffix>[a-z0-9.-]+)"
)
#: Domains of registries, with the domain of the API in the same partition (AWS' endpoint rules for ECR).
_ECR_CLASSIC: Final = frozenset({"amazonaws.com", "amazonaws.com.cn", "amazonaws.eu"})
_ECR_DUAL_STACK: Final[Mapping[str, str]] = {
    "on.aws": "api.aws",
    "on.amazonwebservices.com.cn": "api.amazonwebservices.com.cn",
}


def detect(host: str) -> Provider:
    """Detect the provider of a registry by its `host[:port]`; `OTHER` if it is unknown."""
    name, _ = split_host(host)
    if (known := _BY_NAME.get(name)) is not None:
        return known
    if (ecr := EcrHost.parse(host)) is not None and ecr.endpoint is not None:
        return Provider.ECR
    return next((found for suffix, found in _BY_SUFFIX.items() if name.endswith(suffix)), Provider.OTHER)


@dataclass(frozen=True, slots=True)
class EcrHost:
    """A private Amazon ECR registry, as its host name describes it.

    Attributes:
        region: The AWS region for request signatures.
        endpoint: Host of the region's ECR API; None if the name has ECR's form, but is not in AWS' domains.
    """

    region: str
    endpoint: str | None

    @classmethod
    def parse(cls, host: str) -> Self | None:
        """Parse `<account>.dkr.ecr[-fips].<region>.<domain>`; None for any other host."""
        match = _ECR.fullmatch(split_host(host)[0])
        if match is None:
            return None
        region, suffix, fips = match["region"], match["suffix"], match["fips"] or ""
        if match["form"] == "-":
            domain = _ECR_DUAL_STACK.get(suffix)
            return cls(region, f"ecr{fips}.{region}.{domain}" if domain else None)
        if suffix not in _ECR_CLASSIC:
            return cls(region, None)
        api = "" if fips and suffix == "amazonaws.com" else "api."
        return cls(region, f"{api}ecr{fips}.{region}.{suffix}")
