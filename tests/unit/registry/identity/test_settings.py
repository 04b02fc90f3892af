"""Settings of the identity provider, as they are checked at start."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from registry.composition.identity import _client, check_identity_settings, people_of
from registry.config import Settings
from registry.errors import ConfigError
from registry.model.access import Role

GIVEN: dict[str, Any] = {
    "oidc_issuer": "https://id.example.com/realms/company",
    "oidc_client_id": "crisper",
    "oidc_client_secret": "hunter2",
    "oidc_roles": '{"claim": "groups", "roles": {"ops": "operator"}}',
}


def test_complete_settings_are_accepted_and_hide_the_secret() -> None:
    settings = Settings(**GIVEN)
    settings.refuse_unsafe()
    check_identity_settings(settings)
    people = people_of(settings)
    assert people is not None
    assert people.mapping.grants(["ops"]) == {None: Role.OPERATOR}
    assert "hunter2" not in repr(settings) + repr(_client(settings)) + str(_client(settings))
    check_identity_settings(Settings())
    assert people_of(Settings()) is None


@pytest.mark.parametrize("missing", ["oidc_issuer", "oidc_client_id", "oidc_roles"])
def test_incomplete_settings_are_refused(missing: str) -> None:
    with pytest.raises(ConfigError, match="CRISPER_OIDC_ISSUER, CRISPER_OIDC_CLIENT_ID"):
        Settings(**{**GIVEN, missing: None}).refuse_unsafe()


@pytest.mark.parametrize(
    "url",
    [
        "id.example.com",
        "http://id.example.com",
        "http://10.0.0.1",
        "ftp://id.example.com",
        "https://",
        "https://user:password@id.example.com",
        "https://id.example.com?x=1",
        "https://id.example.com#x",
    ],
)
@pytest.mark.parametrize("name", ["oidc_issuer", "oidc_redirect_url"])
def test_an_address_without_tls_or_with_more_than_a_path_is_refused(name: str, url: str) -> None:
    with pytest.raises(ValidationError, match="takes https://HOST/PATH"):
        Settings(**{**GIVEN, name: url})


def test_a_provider_without_tls_is_for_this_machine_and_not_for_production() -> None:
    settings = Settings(**{**GIVEN, "oidc_issuer": "http://127.0.0.1:3000"})
    settings.refuse_unsafe()
    assert any("CRISPER_OIDC_ISSUER" in line for line in settings.unsafe_for_strangers)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"oidc_roles": "{}"}, "CRISPER_OIDC_ROLES: write"),
        ({"oidc_roles": '{"claim": "groups", "roles": {"a": "admin"}}'}, "CRISPER_OIDC_ROLES: 'admin' is no"),
        ({"oidc_scopes": "profile"}, "CRISPER_OIDC_SCOPES must include openid"),
        ({"oidc_client_secret": None, "oidc_client_secret_file": "/nowhere"}, "cannot be read"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_name(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        check_identity_settings(Settings(**{**GIVEN, **change}))


def test_the_secret_comes_from_one_place(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("from-a-file\n")
    with pytest.raises(ConfigError, match="not both"):
        Settings(**{**GIVEN, "oidc_client_secret_file": path}).refuse_unsafe()
    secret = _client(
        Settings(**{**GIVEN, "oidc_client_secret": None, "oidc_client_secret_file": path})
    ).secret
    assert secret is not None
    assert secret.reveal() == "from-a-file"
    path.write_text("")
    with pytest.raises(ConfigError, match="is empty"):
        _client(Settings(**{**GIVEN, "oidc_client_secret": None, "oidc_client_secret_file": path}))
