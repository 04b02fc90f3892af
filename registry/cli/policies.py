"""`crisper policy`: commands for policies of signatures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from registry.cli.ask import ask
from registry.cli.options import DATA_DIR, DEFAULT, DataDirOption, JsonOption, OrganizationName
from registry.cli.output import fail, print_json, say, show, table
from registry.cli.registry_login import (
    LoginKind,
    LoginOption,
    PasswordOption,
    UserOption,
    read_authentication,
)
from registry.errors import ConfigError, RegistryError
from registry.model.remedies import for_operator

policy_app = typer.Typer(no_args_is_help=True, help="Policies: whose signed images are imported.")

NameArgument = Annotated[str, typer.Argument(help="Name of the organization.")]


class ImageRefusedError(RegistryError):
    """The policy does not accept the image."""


@policy_app.command("show")
def show_(name: NameArgument, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Show an organization's policies. With --json, the output is a file for `crisper policy set`."""
    _print(ask(data_dir, lambda client: client.operator("GET", _path(name))), as_json=as_json)


@policy_app.command("set")
def set_(
    name: NameArgument,
    file: Annotated[
        Path | None, typer.Argument(help='JSON file: {"policies": [...]}, as `policy show --json` prints it.')
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Remove all policies.")] = False,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Replace an organization's policies. They apply to imports that begin after that."""
    if (file is None) != none:
        raise typer.BadParameter("give a file, or --none", param_hint="FILE")
    body = {"policies": []} if file is None else _read(file)
    _print(ask(data_dir, lambda client: client.operator("PUT", _path(name), body)), as_json=as_json)


@policy_app.command("test")
def try_(
    image: Annotated[str, typer.Argument(help="Image reference, for example ghcr.io/acme/app:1.2.")],
    organization: OrganizationName = DEFAULT,
    username: UserOption = None,
    password_stdin: PasswordOption = False,
    login: LoginOption = LoginKind.BASIC,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Check an image against an organization's policies, without importing it.

    The command fails if an import would fail.
    """
    body: dict[str, Any] = {"image": image}
    if (authentication := read_authentication(login, username, password_stdin)) is not None:
        body["registry_authentication"] = authentication
    found = ask(data_dir, lambda client: client.operator("POST", f"{_path(organization)}/test", body))
    verdict = found["verdict"]
    rows = [("image", found["image"]), ("digest", found["digest"]), *verdict_rows(verdict)]
    show(found, as_json=as_json, rows=rows)
    if not found["importable"]:
        fail(ImageRefusedError("an import of this image would fail: sign it, or change the policy"))


def verdict_rows(verdict: Mapping[str, Any] | None) -> Sequence[tuple[str, object]]:
    """Return what to print of a verdict."""
    if verdict is None:
        return [("signatures", "not checked: no policy is for this image")]
    sentence = for_operator(verdict["sentence"])
    return [
        ("signatures", sentence if verdict["trusted"] else f"not trusted: {sentence}"),
        ("policy", f"{verdict['pattern']} ({verdict['mode']})"),
        ("checked", verdict["checked_at"]),
    ]


def _read(file: Path) -> Any:  # noqa: ANN401 (JSON)
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        fail(
            ConfigError(f"{file} cannot be read as JSON: print an example with `crisper policy show --json`")
        )


def _print(found: Any, *, as_json: bool) -> None:  # noqa: ANN401 (JSON)
    if as_json:
        print_json(found)
        return
    rows = [
        {**policy, "trusts": ", ".join(map(_describe, policy["rules"])) or "nobody"}
        for policy in found["policies"]
    ]
    if not rows:
        say("No policies: all images are imported without a check.")
        return
    columns = {"PATTERN": "pattern", "MODE": "mode", "REQUIRES": "require", "OF": "trusts"}
    table(rows, columns, as_json=False, empty="")


def _describe(rule: Mapping[str, Any]) -> str:
    if rule["type"] == "cosign-key":
        return "a cosign key"
    if rule["type"] == "notation":
        return f"notation {rule.get('identity') or 'certificate'}"
    if rule["type"] == "slsa-provenance":
        return f"provenance of {rule['builder']} from {rule.get('source') or 'any source'}"
    return f"{rule['identity']} of {rule['issuer']}"


def _path(organization: str) -> str:
    return f"/organizations/{quote(organization)}/policies"
