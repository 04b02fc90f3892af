"""Options for the credentials of a private registry. The secret is read from standard input."""

import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer


class LoginKind(StrEnum):
    """Kinds of `registry_authentication` in the public API."""

    BASIC = "basic"
    DOCKER_HUB = "docker_hub"
    AWS_ECR = "aws_ecr"
    GCP_GAR = "gcp_gar"
    GCP_GCR = "gcp_gcr"


UserOption = Annotated[
    str | None, typer.Option(help="User name for a private registry; access key id for aws_ecr.")
]
PasswordOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password, token or key from standard input.")
]
LoginOption = Annotated[
    LoginKind,
    typer.Option("--login", help="Kind of the credentials; docs/registries lists it for each registry."),
]

_FIELDS: Mapping[LoginKind, tuple[str, str]] = {
    LoginKind.BASIC: ("username", "password"),
    LoginKind.DOCKER_HUB: ("username", "personal_access_token"),
    LoginKind.AWS_ECR: ("access_key_id", "secret_access_key"),
}


def read_authentication(
    kind: LoginKind, username: str | None, password_stdin: bool
) -> Mapping[str, Mapping[str, str]] | None:
    """Return `registry_authentication` with the secret from standard input; None without these options.

    Raises:
        BadParameter: User name or secret is missing.
    """
    if kind not in _FIELDS:
        if username is not None or not password_stdin:
            raise typer.BadParameter("use --password-stdin without --username", param_hint="--login")
        return {kind.value: {"service_key": sys.stdin.read().strip()}}
    if (username is None) == password_stdin:
        raise typer.BadParameter("use --username and --password-stdin together", param_hint="--username")
    if username is None:
        return None
    name, secret = _FIELDS[kind]
    return {kind.value: {name: username, secret: sys.stdin.read().strip("\r\n")}}
