"""The configuration file of client commands."""

from pathlib import Path

import pytest
import typer

from registry.cli.client import find_server
from registry.cli.configuration import ClientConfiguration
from registry.cli.main import app
from registry.errors import ConfigError


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CRISPER_URL", "CRISPER_API_KEY", "CRISPER_CA", "CRISPER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "config.toml"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_file_names_server_key_and_ca(tmp_path: Path) -> None:
    (tmp_path / "op.key").write_text("crisper_op_k\n")
    (tmp_path / "op.key").chmod(0o600)
    text = 'url = "https://r.example/"\napi_key_file = "op.key"\nca = "ca.pem"\n'
    server = find_server(tmp_path, ClientConfiguration.load(write(tmp_path, text)))
    assert (server.url, server.key.reveal()) == ("https://r.example", "crisper_op_k")
    assert server.ca == tmp_path / "ca.pem"


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRISPER_URL", "https://other.example")
    monkeypatch.setenv("CRISPER_API_KEY", "other")
    configured = ClientConfiguration.load(write(tmp_path, 'url = "https://r.example"\napi_key = "k"\n'))
    server = find_server(tmp_path, configured)
    assert (server.url, server.key.reveal()) == ("https://other.example", "other")


def test_no_file_in_the_usual_place_is_no_configuration(tmp_path: Path) -> None:
    assert ClientConfiguration.load(None) == ClientConfiguration()
    (tmp_path / "crisper").mkdir()
    write(tmp_path / "crisper", 'organization = "acme"\n')
    assert ClientConfiguration.load(None).organization == "acme"


def test_defaults_reach_the_commands_that_have_such_an_option() -> None:
    defaults = ClientConfiguration(organization="acme", project="web").defaults(typer.main.get_command(app))
    assert defaults["group"]["list"] == {"organization": "acme", "project": "web"}
    assert defaults["node"]["list"] == {}


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("url = ", 0o600, "not valid TOML"),
        ('ulr = "https://r.example"\n', 0o600, "ulr"),
        ('api_key = "secret-key"\n', 0o644, "chmod 600"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_without_showing_a_key(
    tmp_path: Path, text: str, mode: int, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        ClientConfiguration.load(write(tmp_path, text, mode))
    assert "secret-key" not in str(refused.value)


def test_a_file_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration file"):
        ClientConfiguration.load(tmp_path / "none.toml")
