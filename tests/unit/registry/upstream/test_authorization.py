import pytest
from yarl import URL

from auth.secret import Secret
from registry.errors import AuthenticationFailedError, PullFailedError
from registry.model.imports import UpstreamCredential
from registry.upstream.authorization import Authorization
from registry.upstream.challenge import Challenge
from registry.upstream.egress import EgressGuard, origin_of
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
        ("https://registry.digitalocean.com:443", "https://api.digitalocean.com/v2/registry/auth"),
        ("https://nvcr.io", "https://nvcr.io/proxy_auth"),
        ("https://nvcr.io", "https://authn.nvidia.com/token"),
        ("https://registry.hf.space", "https://huggingface.co/token"),
        (
            "https://rg.fr-par.scw.cloud",
            "https://api.scaleway.com/registry-internal/v1/regions/fr-par/tokens",
        ),
        ("https://registry.cn-hangzhou.aliyuncs.com", "https://dockerauth.cn-hangzhou.aliyuncs.com/auth"),
        ("https://registry-intl.us-west-1.aliyuncs.com", "https://dockerauth.us-west-1.aliyuncs.com/auth"),
        ("https://a.cn-zhangjiakou.cr.aliyuncs.com", "https://dockerauth-cn-zhangjiakou.aliyuncs.com/auth"),
        ("https://a.cn-hangzhou.cr.aliyuncs.com", "https://dockerauth-ee.cn-hangzhou.aliyuncs.com/auth"),
        (
            "https://c.cn-hangzhou.personal.cr.aliyuncs.com",
            "https://dockerauth.cn-hangzhou.aliyuncs.com/auth",
        ),
        ("https://gitlab.example.com:5050", "https://gitlab.example.com/jwt/auth"),
        ("https://gitlab.example.com", "https://gitlab.example.com:8443/jwt/auth"),
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
    ("registry", "realm", "asked"),
    [
        ("https://ghcr.io", "http://ghcr.io/token", "https://ghcr.io/token"),
        ("https://ghcr.io", "http://ghcr.io:443/token", "https://ghcr.io/token"),
        ("https://h.example:8443", "http://h.example:8443/t", "https://h.example:8443/t"),
        ("https://h.example:8443", "http://h.example/t", "https://h.example:8443/t"),
        ("https://h.example", "http://h.example:8080/t", "https://h.example:8080/t"),
        ("https://registry-1.docker.io", "http://auth.docker.io/token", "https://auth.docker.io/token"),
        ("http://h.example:5000", "http://h.example:5000/t", "http://h.example:5000/t"),
    ],
)
async def test_a_realm_of_a_registry_with_tls_is_asked_with_tls(
    registry: str, realm: str, asked: str
) -> None:
    found = await realm_for(registry, realm, ROBOT)
    assert (origin_of(found), found.path) == (origin_of(URL(asked)), URL(asked).path)


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://ghcr.io", "https://auth.docker.io/token"),
        ("https://registry-1.docker.io", "https://auth.docker.io.evil.example/token"),
        ("https://registry-1.docker.io", "https://auth.docker.io:8443/token"),
        ("https://registry-1.docker.io", "http://auth.docker.io:8080/token"),
        ("https://ghcr.io", "https://ghcr.io@evil.example/token"),
        ("https://ghcr.io", "http://evil.example/token"),
        ("https://ghcr.io", "https://ghcr.io.evil.example/token"),
        ("https://ghcr.io", "https://token.ghcr.io/"),
        ("http://registry.lan:5000", "http://registry.lan:5001/token"),
        ("http://registry.lan:5000", "http://registry.lan/token"),
        ("https://nvcr.io:8443", "https://authn.nvidia.com/token"),
        ("https://rg.fr-par.scw.cloud.evil.example", "https://api.scaleway.com/token"),
        ("https://x.rg.fr-par.scw.cloud", "https://api.scaleway.com/token"),
        ("https://registry.cn-hangzhou.aliyuncs.com", "https://dockerauth.cn-shanghai.aliyuncs.com/auth"),
        (
            "https://registry.cn-hangzhou.aliyuncs.com.evil",
            "https://dockerauth.cn-hangzhou.aliyuncs.com/auth",
        ),
        ("https://bucket.oss-cn-hangzhou.aliyuncs.com", "https://dockerauth.cn-hangzhou.aliyuncs.com/auth"),
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
