"""Settings that are checked at start: the administration listener, and redirects of layers."""

import pytest
from pydantic import ValidationError

from registry.config import Settings
from registry.errors import ConfigError


def test_production_has_a_private_listener_unless_it_is_set() -> None:
    assert Settings(env="production").admin_listener == ("127.0.0.1", 5001)
    assert Settings(env="production", admin_address="[::1]:9000").admin_listener == ("::1", 9000)
    assert Settings().admin_listener is None


@pytest.mark.parametrize(
    "address", ["", "5001", ":5001", "localhost", "localhost:", "h:65536", "h:+1", "h:\uff11"]
)
def test_an_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="HOST:PORT"):
        Settings(admin_address=address)


def test_production_refuses_a_reachable_listener_without_tls() -> None:
    with pytest.raises(ConfigError, match="CRISPER_ADMIN_ADDRESS"):
        Settings(env="production", admin_address="10.0.0.5:5001").refuse_unsafe()


def test_moved_routes_need_a_listener() -> None:
    with pytest.raises(ConfigError, match="CRISPER_ADMIN_ADDRESS"):
        Settings.model_validate({"admin_routes": "operator,portal"}).refuse_unsafe()


def test_an_unknown_route_is_refused() -> None:
    with pytest.raises(ValidationError, match="admin_routes"):
        Settings.model_validate({"admin_routes": "operators"})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"delivery": "redirect"}, "needs an object store"),
        ({"blob_redirect": "https://cache.example.net"}, "needs CRISPER_DELIVERY=redirect"),
        (
            {"delivery": "redirect", "blob_redirect": "https://c.registry.example.com"},
            "shares the domain",
        ),
        (
            {"delivery": "redirect", "blob_redirect": "https://registry.example.com:8443/b"},
            "shares the domain",
        ),
        ({"delivery": "redirect", "blob_redirect": "https://example.com"}, "shares the domain"),
        (
            {"delivery": "redirect", "storage_url": "s3://b/?endpoint=https://s3.registry.example.com"},
            "shares the domain",
        ),
    ],
)
def test_redirects_to_the_registrys_own_domain_are_refused(settings: dict[str, str], said: str) -> None:
    made = Settings.model_validate({"public_url": "https://registry.example.com", **settings})
    with pytest.raises(ConfigError, match=said):
        made.refuse_unsafe()


def test_redirects_to_other_hosts_are_accepted() -> None:
    for target in ("https://cache.example.com/blobs", "https://cache.example.net", "http://10.0.0.7:8080"):
        given = {"delivery": "redirect", "blob_redirect": target}
        Settings.model_validate({"public_url": "https://registry.example.com", **given}).refuse_unsafe()


@pytest.mark.parametrize(
    "target", ["https://u:p@cache.example.net", "ftp://cache.example.net", "https://cache/?q", "cache"]
)
def test_a_redirect_target_is_a_plain_url(target: str) -> None:
    with pytest.raises(ValidationError, match="without a query or credentials"):
        Settings.model_validate({"delivery": "redirect", "blob_redirect": target})


@pytest.mark.parametrize(
    ("given", "size_bytes"),
    [("35GB", 35_000_000_000), ("40 GiB", 40 << 30), ("1000", 1000), ("1.5TB", 1_500_000_000_000)],
)
def test_sizes_can_have_a_unit(given: str, size_bytes: int) -> None:
    assert Settings.model_validate({"max_image_bytes": given}).max_image_bytes == size_bytes


@pytest.mark.parametrize("given", ["35XB", "-1GB", "GB", "0", "35,000", "1.5.2", "35 GB x"])
def test_sizes_that_are_none_are_refused(given: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"max_image_bytes": given})
