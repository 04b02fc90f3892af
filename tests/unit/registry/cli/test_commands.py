"""What every command promises: help with examples, JSON where it prints data, errors with a next step."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from registry.cli.examples import EXAMPLES
from registry.cli.main import app

ONLY_CONFIRM = {
    "serve",
    "delete",
    "complete",
    "revoke",
    "start",
    "stop",
    "reallocate",
    "restart",
    "recreate",
    "proxy",
}
ALWAYS_JSON = {"event export"}
FILES = {"image sbom"}  # prints a file of the image's publisher


def _commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 (the library's own)
    for name, each in getattr(command, "commands", {}).items():
        if hasattr(each, "commands"):
            yield from _commands(each, f"{path}{name} ")
        else:
            yield f"{path}{name}", each


COMMANDS = dict(_commands(typer.main.get_command(app)))


def invoke(*argv: str, **env: str) -> Result:
    return CliRunner().invoke(app, list(argv), env={"NO_COLOR": "1", "COLUMNS": "200", **env})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_and_shows_an_example(name: str) -> None:
    shown = invoke(*name.split(), "--help")
    assert shown.exit_code == 0
    assert COMMANDS[name].help
    assert EXAMPLES[name]
    for example in EXAMPLES[name]:
        assert f"$ {example}" in shown.output
        words = shlex.split(example.rpartition("| ")[2])
        typed = words[words.index("crisper") + 1 :]
        assert typed[: len(name.split())] == name.split()
        options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert {word for word in typed if word.startswith("--")} <= options


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_that_prints_data_prints_it_as_json(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert "--json" in options or name.rsplit(maxsplit=1)[-1] in ONLY_CONFIRM or name in ALWAYS_JSON | FILES


def test_exit_codes_tell_a_refusal_from_wrong_usage(tmp_path: Path) -> None:
    nobody = {"CRISPER_URL": "http://127.0.0.1:1", "CRISPER_API_KEY": "x", "XDG_CONFIG_HOME": str(tmp_path)}
    unreachable = invoke("node", "list", **nobody)
    assert (unreachable.exit_code, "crisper serve" in unreachable.stderr) == (1, True)
    assert invoke("node", "create", **nobody).exit_code == 2
    assert invoke("gc", "--data-dir", str(tmp_path), CRISPER_PORT="many").exit_code == 2


def test_without_a_key_a_command_says_where_to_put_one(tmp_path: Path) -> None:
    told = invoke("node", "list", "--data-dir", str(tmp_path), XDG_CONFIG_HOME=str(tmp_path))
    assert told.exit_code == 1
    for place in ("CRISPER_API_KEY", str(tmp_path / "crisper/config.toml"), "--data-dir"):
        assert place in told.stderr


def test_init_draws_the_keys_of_an_installation_once(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first = json.loads(invoke("init", "--data-dir", str(folder), "--json").stdout)
    key = Path(first["operator_key"]).read_text()
    assert invoke("init", "--data-dir", str(folder)).exit_code == 0
    assert Path(first["operator_key"]).read_text() == key
    assert [path.stat().st_mode & 0o077 for path in folder.rglob("*")] == [0] * len(list(folder.rglob("*")))
