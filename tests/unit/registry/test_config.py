"""Settings of the administration listener."""

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
