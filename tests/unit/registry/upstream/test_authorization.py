import pytest
from yarl import URL

from auth.secret import Secret
from registry.errors import AuthenticationFailedError, PullFailedError
from registry.model.imports import UpstreamCredential
from registry.upstream.authorization import Authorization
from registry.upstream.challenge import Challenge
from registry.upstream.egress import EgressGuard
from registry.upstream.logins import PlainLogin
from registry.upstream.transport import Transport

ROBOT = UpstreamCredential("robot", Secret("s3cret"))


async def realm_for(registry: str, realm: str, credential: UpstreamCredential | None) -> URL:
    async with Transport(EgressGuard()) as transport:
        authorization = Authorization(transport, URL(registry), "team/app", PlainLogin(credential))
        return authorization._realm(Challenge("bearer", {"realm": realm}))


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://registry-1.docker.io", "https://auth.docker.io/token"),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"),
        ("https://ghcr.io", "https://ghcr.io/token"),
        ("https://quay.io:443", "https://quay.io/v2/auth"),
        ("https://harbor.example.com:8443", "https://harbor.example.com:8443/service/token"),
        ("http://registry.lan:5000", "http://registry.lan:5000/token"),
        ("http://registry.lan:5000", "https://registry.lan:5000/token"),
    ],
)
async def test_credentials_go_to_the_registrys_own_realm_or_a_pinned_one(registry: str, realm: str) -> None:
    assert await realm_for(registry, realm, ROBOT) == URL(realm)


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://ghcr.io", "https://auth.docker.io/token"),
        ("https://registry-1.docker.io", "https://auth.docker.io.evil.example/token"),
        ("https://registry-1.docker.io", "https://auth.docker.io:8443/token"),
        ("https://registry-1.docker.io", "http://auth.docker.io/token"),
        ("https://ghcr.io", "http://ghcr.io/token"),
        ("https://ghcr.io", "http://ghcr.io:443/token"),
        ("https://ghcr.io", "https://ghcr.io:444/token"),
        ("https://ghcr.io", "https://ghcr.io@evil.example/token"),
        ("https://evil.example", "https://registry-1.docker.io/token"),
    ],
)
async def test_credentials_go_nowhere_else(registry: str, realm: str) -> None:
    with pytest.raises(AuthenticationFailedError, match="not known to belong"):
        await realm_for(registry, realm, ROBOT)


async def test_without_credentials_any_realm_may_give_a_token() -> None:
    realm = "https://tokens.example.com/x"
    assert await realm_for("https://registry.example.com", realm, None) == URL(realm)


@pytest.mark.parametrize(
    "realm", ["", "/token", "token", "http://[x", "https://xn--/ü", "https://a b/", "https://x:99999/"]
)
async def test_a_realm_that_is_no_url_is_refused(realm: str) -> None:
    with pytest.raises(PullFailedError, match="the URL is not valid"):
        await realm_for("https://ghcr.io", realm, ROBOT)
