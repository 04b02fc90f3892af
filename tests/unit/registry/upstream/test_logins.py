"""Which hosts are sent a credential that is of one provider only."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from auth.secret import Secret
from registry.errors import AuthenticationFailedError
from registry.model.imports import CredentialKind, UpstreamCredential
from registry.upstream.credentials.ecr import EcrLogin
from registry.upstream.credentials.logins import login_for
from registry.upstream.logins import Login, PlainLogin
from registry.upstream.transport import Transport

AMAZON, GOOGLE = CredentialKind.AWS_ACCESS_KEY, CredentialKind.GOOGLE_KEY
HOSTS: dict[CredentialKind, list[str]] = {
    AMAZON: [
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
        "123456789012.dkr-ecr.us-east-2.on.aws",
    ],
    GOOGLE: [
        "europe-docker.pkg.dev",
        "us-central1-docker.pkg.dev",
        "gcr.io",
        "eu.gcr.io",
        "marketplace.gcr.io",
        "GCR.IO",
    ],
}
NOBODYS = [
    "docker.io",
    "registry-1.docker.io",
    "ghcr.io",
    "quay.io",
    "acme.azurecr.io",
    "registry.gitlab.com",
    "harbor.example.com:8443",
    "127.0.0.1:5000",
    "[::1]:5000",
    "evilgcr.io",
    "gcr.io.evil.example",
    "evilpkg.dev",
    "pkg.dev.evil.example",
    "gcr.io-evil.example",
    "docker.pkg.dev.example",
    "123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example",
]
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


def login(kind: CredentialKind, host: str) -> Login:
    nowhere = cast("Transport", None)  # nothing is sent
    return login_for(nowhere, URL(f"https://{host}"), UpstreamCredential("u", Secret("hunter2"), kind), None)


@pytest.mark.parametrize(("kind", "host"), [(kind, host) for kind, hosts in HOSTS.items() for host in hosts])
def test_a_key_is_for_its_own_hosts(kind: CredentialKind, host: str) -> None:
    assert isinstance(login(kind, host), EcrLogin if kind is AMAZON else PlainLogin)
    (other,) = set(HOSTS) - {kind}
    with pytest.raises(AuthenticationFailedError):
        login(other, host)


@pytest.mark.parametrize("kind", [AMAZON, GOOGLE])
@pytest.mark.parametrize("host", NOBODYS)
def test_a_key_is_for_no_other_host(kind: CredentialKind, host: str) -> None:
    with pytest.raises(AuthenticationFailedError, match="basic") as refused:
        login(kind, host)
    assert "hunter2" not in str(refused.value)


@given(st.lists(LABEL, min_size=1, max_size=4), st.sampled_from(["", ":443", ":5000"]))
def test_a_google_key_goes_to_no_host_outside_googles_domains(labels: list[str], port: str) -> None:
    host = ".".join([*labels, "example"])
    for name in (host, f"gcr.io.{host}", f"docker.pkg.dev.{host}"):
        with pytest.raises(AuthenticationFailedError):
            login(GOOGLE, name + port)


@given(st.lists(LABEL, min_size=1, max_size=3), st.sampled_from(["pkg.dev", "gcr.io"]))
def test_a_google_key_goes_to_every_host_of_googles_domains(labels: list[str], domain: str) -> None:
    assert isinstance(login(GOOGLE, ".".join([*labels, domain])), PlainLogin)
