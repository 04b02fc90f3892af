"""The credentials of a private registry on the command line: a user name, and the secret from input."""

import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer


class LoginKind(StrEnum):
    """The kinds of the public API's `registry_authentication`."""

    BASIC = "basic"
    DOCKER_HUB = "docker_hub"
    AWS_ECR = "aws_ecr"
    GCP_GAR = "gcp_gar"
    GCP_GCR = "gcp_gcr"


UsernameOption = Annotated[
    str | None, typer.Option(help="The user of a private registry; an access key's id for aws_ecr.")
]
PasswordOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password, token, secret or key file from input.")
]
LoginOption = Annotated[
    LoginKind,
    typer.Option("--login", help="What the credentials are: docs/registries says which one is whose."),
]

_FIELDS: Mapping[LoginKind, tuple[str, str]] = {
    LoginKind.BASIC: ("username", "password"),
    LoginKind.DOCKER_HUB: ("username", "personal_access_token"),
    LoginKind.AWS_ECR: ("access_key_id", "secret_access_key"),
}


def read_authentication(
    kind: LoginKind, username: str | None, password_stdin: bool
) -> Mapping[str, Mapping[str, str]] | None:
    """Return a `registry_authentication`, with the secret read from input; None where none is asked for.

    Raises:
        BadParameter: One half is missing.
    """
    if kind not in _FIELDS:
        if username is not None or not password_stdin:
            raise typer.BadParameter("give --password-stdin, and no --username", param_hint="--login")
        return {kind.value: {"service_key": sys.stdin.read().strip()}}
    if (username is None) == password_stdin:
        raise typer.BadParameter("give --username and --password-stdin together", param_hint="--username")
    if username is None:
        return None
    name, secret = _FIELDS[kind]
    return {kind.value: {name: username, secret: sys.stdin.read().strip("\r\n")}}
