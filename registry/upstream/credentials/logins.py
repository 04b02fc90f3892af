"""Selection of the login for a customer's credential, by the registry's provider."""

from typing import Final

from yarl import URL

from registry.errors import AuthenticationFailedError
from registry.model.imports import CredentialKind, UpstreamCredential
from registry.upstream.credentials.acr import EntraLogin, is_entra_token
from registry.upstream.credentials.ecr import EcrLogin
from registry.upstream.egress import bracketed_host
from registry.upstream.logins import Login, PlainLogin
from registry.upstream.providers import EcrHost, Provider, detect
from registry.upstream.transport import Transport

_GOOGLE: Final = frozenset({Provider.GAR, Provider.GCR})


def login_for(
    transport: Transport, registry: URL, credential: UpstreamCredential | None, ecr_endpoint: str | None
) -> Login:
    """Choose the login for a credential at a registry. Sends nothing yet.

    Args:
        registry: The registry's origin.
        ecr_endpoint: ECR's API, if not AWS' own; `{region}` stands for the registry's region.

    Raises:
        AuthenticationFailedError: An AWS access key for a registry that is not Amazon ECR, or a Google key
            for a registry that is not Google's.
    """
    host = bracketed_host(registry)
    if credential is None:
        return PlainLogin(None)
    if credential.kind is CredentialKind.AWS_ACCESS_KEY:
        return _aws(transport, host, credential, ecr_endpoint)
    if credential.kind is CredentialKind.GOOGLE_KEY and detect(host) not in _GOOGLE:
        raise AuthenticationFailedError(
            f"{host} is not a registry of Google's, and gcp_gar and gcp_gcr are sent only to those "
            "(LOCATION-docker.pkg.dev, gcr.io, LOCATION.gcr.io): check the image's host, or give "
            "credentials as basic"
        )
    if detect(host) is Provider.ACR and is_entra_token(credential, host):
        return EntraLogin(transport, registry, credential)
    return PlainLogin(credential)


def _aws(transport: Transport, host: str, key: UpstreamCredential, ecr_endpoint: str | None) -> Login:
    if detect(host) is Provider.ECR_PUBLIC:
        return PlainLogin(None)  # public; it needs no access key
    ecr = EcrHost.parse(host)
    if ecr is not None and ecr_endpoint is not None:
        return EcrLogin(transport, key, ecr.region, URL(ecr_endpoint.replace("{region}", ecr.region)))
    if ecr is None or ecr.endpoint is None:
        raise AuthenticationFailedError(
            f"{host} is no Amazon ECR registry, and aws_ecr opens those only: write "
            "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME, or give credentials as basic"
        )
    return EcrLogin(transport, key, ecr.region, URL(f"https://{ecr.endpoint}/"))
