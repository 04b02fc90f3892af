import io

import pytest
import typer

from registry.cli.registry_login import LoginKind, read_authentication


@pytest.mark.parametrize(
    ("kind", "username", "expected"),
    [
        (LoginKind.BASIC, "u", {"basic": {"username": "u", "password": "secret"}}),
        (LoginKind.DOCKER_HUB, "u", {"docker_hub": {"username": "u", "personal_access_token": "secret"}}),
        (LoginKind.AWS_ECR, "AKIA", {"aws_ecr": {"access_key_id": "AKIA", "secret_access_key": "secret"}}),
        (LoginKind.GCP_GAR, None, {"gcp_gar": {"service_key": "secret"}}),
        (LoginKind.GCP_GCR, None, {"gcp_gcr": {"service_key": "secret"}}),
    ],
)
def test_each_kind_takes_its_own_fields(
    monkeypatch: pytest.MonkeyPatch, kind: LoginKind, username: str | None, expected: object
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
    assert read_authentication(kind, username, password_stdin=True) == expected


def test_a_key_file_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{\n"type": "service_account"\n}\n'))
    assert read_authentication(LoginKind.GCP_GAR, None, password_stdin=True) == {
        "gcp_gar": {"service_key": '{\n"type": "service_account"\n}'}
    }


def test_without_credentials_there_are_none() -> None:
    assert read_authentication(LoginKind.BASIC, None, password_stdin=False) is None


@pytest.mark.parametrize(
    ("kind", "username", "password_stdin"),
    [
        (LoginKind.BASIC, "u", False),
        (LoginKind.BASIC, None, True),
        (LoginKind.AWS_ECR, None, True),
        (LoginKind.GCP_GAR, None, False),
        (LoginKind.GCP_GAR, "u", True),
    ],
)
def test_half_a_credential_is_wrong_usage(
    kind: LoginKind,
    username: str | None,
    password_stdin: bool,  # noqa: FBT001
) -> None:
    with pytest.raises(typer.BadParameter, match="use --"):
        read_authentication(kind, username, password_stdin)
