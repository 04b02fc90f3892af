import base64

import pytest

from auth.secret import Secret
from registry.errors import InvalidInputError
from registry.model.imports import CredentialKind, UpstreamCredential
from registry.upstream.authorization import basic_header
from registry.upstream.credentials import from_registry_authentication

KEY = '{"type": "service_account", "private_key": "k\\n"}'


def test_basic_and_docker_hub_are_user_name_and_secret() -> None:
    assert from_registry_authentication(
        {"basic": {"username": "org+robot", "password": "p:w"}}
    ) == UpstreamCredential("org+robot", Secret("p:w"))
    assert from_registry_authentication(
        {"docker_hub": {"username": "u", "personal_access_token": "dckr_pat_x"}}
    ) == UpstreamCredential("u", Secret("dckr_pat_x"))


@pytest.mark.parametrize("kind", ["gcp_gar", "gcp_gcr"])
def test_a_google_key_goes_whole_under_its_own_user_name(kind: str) -> None:
    encoded = base64.b64encode(KEY.encode()).decode()
    assert from_registry_authentication({kind: {"service_key": KEY}}) == UpstreamCredential(
        "_json_key", Secret(KEY)
    )
    assert from_registry_authentication({kind: {"service_key": encoded}}) == UpstreamCredential(
        "_json_key_base64", Secret(encoded)
    )


def test_a_google_access_token_goes_under_its_own_user_name() -> None:
    assert from_registry_authentication({"gcp_gar": {"service_key": "ya29.token"}}) == UpstreamCredential(
        "oauth2accesstoken", Secret("ya29.token")
    )


def test_an_aws_access_key_is_kept_apart_from_passwords() -> None:
    given = {"aws_ecr": {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "s/+="}}
    found = from_registry_authentication(given)
    assert found == UpstreamCredential("AKIAEXAMPLE", Secret("s/+="), CredentialKind.AWS_ACCESS_KEY)


def test_nothing_is_no_credential() -> None:
    assert from_registry_authentication(None) is None
    assert from_registry_authentication({}) is None
    assert from_registry_authentication({"basic": None}) is None


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"basic": {"username": "u"}}, "registry_authentication.basic.password"),
        ({"basic": {"username": "u", "password": 7}}, "registry_authentication.basic.password"),
        ({"basic": {"username": "", "password": "hunter2"}}, "registry_authentication.basic.username"),
        ({"basic": {"username": "u:v", "password": "hunter2"}}, "registry_authentication.basic.username"),
        ({"basic": {"username": "u", "password": "\ud800"}}, "registry_authentication.basic.password"),
        ({"basic": "hunter2"}, "registry_authentication.basic"),
        ({"gcp_gar": {"service_key": "hunter2"}}, "registry_authentication.gcp_gar.service_key"),
        ({"gcp_gar": {"service_key": "[]"}}, "registry_authentication.gcp_gar.service_key"),
        (
            {"aws_ecr": {"access_key_id": "AKIA, hunter2", "secret_access_key": "x"}},
            "registry_authentication.aws_ecr.access_key_id",
        ),
        ({"hunter2": {}}, "registry_authentication"),
        (
            {"basic": {"username": "u", "password": "p"}, "gcp_gar": {"service_key": KEY}},
            "registry_authentication",
        ),
    ],
)
def test_a_malformed_credential_is_refused_by_field_without_repeating_it(
    value: dict[str, object], path: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        from_registry_authentication(value)
    assert list(refused.value.fields) == [path]
    assert "hunter2" not in str(refused.value) + repr(refused.value.fields)


def test_a_header_hides_itself() -> None:
    header = basic_header(UpstreamCredential("u", Secret("pä")))
    assert header.reveal() == "Basic " + base64.b64encode("u:pä".encode()).decode()
    assert "Basic" not in repr(header)
