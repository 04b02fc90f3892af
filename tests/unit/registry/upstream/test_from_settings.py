from pathlib import Path

import pytest
from yarl import URL

from registry.config import Settings
from registry.errors import ConfigError
from registry.upstream import from_settings as configured
from registry.upstream.realms import PINNED_REALMS


def settings(**given: object) -> Settings:
    return Settings(**given)  # type: ignore[arg-type]


def test_networks_and_hosts_are_told_apart() -> None:
    guard = configured._guard(settings(egress_allow="harbor.lan:8443, 10.20.0.0/16,fd00:20::/32"))
    assert guard.allows_private(URL("https://harbor.lan:8443/"))
    assert guard.permits("10.20.3.4")
    assert guard.permits("fd00:20::1")
    assert not guard.permits("10.21.0.1")


def test_realms_are_added_to_those_that_are_pinned() -> None:
    realms = configured._realms(
        settings(registry_realms="reg.lan:443=git.lan,registry.gitlab.com=sso.lan:8443")
    )
    assert realms["reg.lan"] == {"git.lan"}
    assert realms["registry.gitlab.com"] == {"gitlab.com", "sso.lan:8443"}
    assert realms["registry-1.docker.io"] == PINNED_REALMS["registry-1.docker.io"]


def test_nothing_is_shared_where_the_list_is_empty() -> None:
    assert "docker.io" in configured.shared_registries(settings())
    assert configured.shared_registries(settings(shared_registries="")) == frozenset()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("insecure_registries", "http://registry.lan"),
        ("egress_allow", "registry.lan/path"),
        ("egress_allow", "10.0.0.1/8"),
        ("registry_cas", "registry.lan"),
        ("registry_cas", "registry.lan=/nowhere/ca.pem"),
        ("registry_realms", "registry.lan=https://git.lan/token"),
        ("registry_realms", "=git.lan"),
        ("egress_proxy", "proxy.lan:3128"),
        ("egress_proxy", "https://user:hunter2@proxy.lan:3128"),
        ("egress_proxy", "http://user:hunter2@proxy.lan:3128/path"),
        ("ecr_endpoint", "api.ecr"),
        ("shared_registries", "ghcr.io/acme"),
    ],
)
def test_a_setting_that_cannot_be_read_is_refused_by_name(name: str, value: str) -> None:
    expected = "insecure-registry" if name == "insecure_registries" else f"CRISPER_{name.upper()}"
    with pytest.raises(ConfigError, match=expected) as refused:
        configured.check_upstream_settings(settings(**{name: value}))
    assert "hunter2" not in str(refused.value)


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("none")
    with pytest.raises(ConfigError, match="CRISPER_REGISTRY_CAS"):
        configured.check_upstream_settings(settings(registry_cas=f"registry.lan={path}"))


def test_a_proxys_password_is_not_shown() -> None:
    given = settings(egress_proxy="http://user:hunter2@proxy.lan:3128")
    assert "hunter2" not in repr(given) + repr(configured._proxy(given))
