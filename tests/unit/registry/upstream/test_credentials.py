import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.secret import Secret
from registry.errors import InvalidInputError
from registry.model.imports import CredentialKind, UpstreamCredential
from registry.upstream.credentials import from_registry_authentication
from registry.upstream.grants import basic_header

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
        "_json_key", Secret(KEY), CredentialKind.GOOGLE_KEY
    )
    assert from_registry_authentication({kind: {"service_key": encoded}}) == UpstreamCredential(
        "_json_key_base64", Secret(encoded), CredentialKind.GOOGLE_KEY
    )


def test_a_google_access_token_goes_under_its_own_user_name() -> None:
    assert from_registry_authentication({"gcp_gar": {"service_key": "ya29.token"}}) == UpstreamCredential(
        "oauth2accesstoken", Secret("ya29.token"), CredentialKind.GOOGLE_KEY
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


AROUND = st.text(" \t\r\n\u00a0\u2028\ufeff\u200b", max_size=4)
WITHIN = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp", "Cf"), exclude_characters=":"),
    min_size=1,
    max_size=30,
)


@given(AROUND, WITHIN, AROUND, WITHIN, AROUND)
def test_what_surrounds_a_pasted_credential_is_not_part_of_it(
    before: str, username: str, between: str, password: str, after: str
) -> None:
    pasted = {"username": before + username + between, "password": between + password + after}
    plain = {"username": username, "password": password}
    for kind, secret in (("basic", "password"), ("docker_hub", "personal_access_token")):
        given_ = [{"username": each["username"], secret: each["password"]} for each in (pasted, plain)]
        found = [from_registry_authentication({kind: each}) for each in given_]
        assert found == [UpstreamCredential(username, Secret(password))] * 2
    keys = {"access_key_id": before + "AKIAEXAMPLE" + after, "secret_access_key": after + password + before}
    found_key = from_registry_authentication({"aws_ecr": keys})
    assert found_key == UpstreamCredential("AKIAEXAMPLE", Secret(password), CredentialKind.AWS_ACCESS_KEY)


@given(AROUND, st.integers(1, 80), st.sampled_from(["\n", "\r\n", " \n\t"]), AROUND)
def test_a_base64_key_is_taken_with_its_line_breaks(
    before: str, width: int, line_break: str, after: str
) -> None:
    encoded = base64.b64encode(KEY.encode()).decode()
    lines = [encoded[start : start + width] for start in range(0, len(encoded), width)]
    pasted = before + line_break.join(lines) + after
    expected = UpstreamCredential("_json_key_base64", Secret(encoded), CredentialKind.GOOGLE_KEY)
    assert from_registry_authentication({"gcp_gar": {"service_key": pasted}}) == expected
    basic = from_registry_authentication({"basic": {"username": "_json_key_base64", "password": pasted}})
    assert basic == UpstreamCredential("_json_key_base64", Secret(encoded))


def test_a_service_account_key_may_have_many_lines() -> None:
    key = json.dumps(json.loads(KEY), indent=2).replace("\n", "\r\n")
    for pasted in (key, f"\n{key}\n", f"\ufeff{key}"):
        found = from_registry_authentication({"gcp_gcr": {"service_key": pasted}})
        assert found == UpstreamCredential("_json_key", Secret(key), CredentialKind.GOOGLE_KEY)
        basic = from_registry_authentication({"basic": {"username": "_json_key", "password": pasted}})
        assert basic == UpstreamCredential("_json_key", Secret(key))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"basic": {"username": "hun\nter2", "password": "p"}}, "line break"),
        ({"basic": {"username": "u", "password": "hun\r\nter2"}}, "line break"),
        ({"basic": {"username": "u", "password": "hunter2\0x"}}, "control character"),
        ({"basic": {"username": "_json_key", "password": "hun\nter2"}}, "line break"),
        ({"docker_hub": {"username": "u", "personal_access_token": "hun\u2028ter2"}}, "line break"),
        ({"basic": {"username": "u", "password": " \n\t"}}, "is required"),
        ({"aws_ecr": {"access_key_id": "AKIA hunter2", "secret_access_key": "s"}}, "letters and digits"),
        ({"aws_ecr": {"access_key_id": "AKIA", "secret_access_key": "hun ter2"}}, "blanks"),
        ({"gcp_gar": {"service_key": "hun\nter2"}}, "service account's key file"),
    ],
)
def test_what_cannot_be_right_gets_a_sentence(value: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        from_registry_authentication(value)
    ((reason,),) = refused.value.fields.values()
    assert sentence in reason
    assert not set("^$\\[]") & set(reason)
    assert "ter2" not in reason


def test_a_header_hides_itself() -> None:
    header = basic_header(UpstreamCredential("u", Secret("pä")))
    assert header.reveal() == "Basic " + base64.b64encode("u:pä".encode()).decode()
    assert "Basic" not in repr(header)
