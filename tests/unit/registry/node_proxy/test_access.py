"""Who may use the proxy."""

from base64 import b64encode
from pathlib import Path

import pytest

from auth.secret import Secret
from registry.errors import ConfigError, ProxyAccessError
from registry.node_proxy.access import LocalAccess, load_or_create_secret

SECRET = "s" * 43
ACCESS = LocalAccess(Secret(SECRET), {"127.0.0.1:5100", "localhost:5100", "[::1]:5100"})


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.1.2.3", "::1"])
@pytest.mark.parametrize("host", ["127.0.0.1:5100", "LOCALHOST:5100", "[::1]:5100"])
def test_callers_on_this_machine_are_known(peer: str, host: str) -> None:
    ACCESS.check_caller(peer, host)


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("10.0.0.1", "127.0.0.1:5100"),
        ("::ffff:10.0.0.1", "127.0.0.1:5100"),
        ("0.0.0.0", "127.0.0.1:5100"),
        ("", "127.0.0.1:5100"),
        (None, "127.0.0.1:5100"),
        ("127.0.0.1", "evil.example:5100"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1:5100.evil.example"),
        ("127.0.0.1", ""),
    ],
)
def test_others_are_refused(peer: str | None, host: str) -> None:
    with pytest.raises(ProxyAccessError):
        ACCESS.check_caller(peer, host)


@pytest.mark.parametrize(
    ("password", "token"),
    [(f"a.b.c~{SECRET}", "a.b.c"), (f"a.b.c~node-secret~{SECRET}", "a.b.c"), (f"~{SECRET}", "")],
)
def test_the_password_has_token_and_secret(password: str, token: str) -> None:
    assert ACCESS.pull_token(basic(f"node:{password}")).reveal() == token


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic é",
        "Basic /w==",
        f"Bearer {SECRET}",
        basic("node"),
        basic(SECRET),
        basic(f"node:{SECRET}"),
        basic(f"node:{SECRET}~"),
        basic(f"node:a.b.c~{SECRET}~"),
        basic(f"node:a.b.c~{SECRET}x"),
        basic(f"node~{SECRET}:a.b.c"),
    ],
)
def test_a_password_without_the_secret_is_refused_without_naming_it(header: str) -> None:
    with pytest.raises(ProxyAccessError) as refused:
        ACCESS.pull_token(header)
    assert SECRET not in str(refused.value)


def test_the_secret_is_created_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    created = load_or_create_secret(path)
    assert load_or_create_secret(path) == created
    assert path.stat().st_mode & 0o777 == 0o600
    assert created.reveal() not in repr(created)


@pytest.mark.parametrize(
    ("text", "mode"), [("x" * 43, 0o644), ("short", 0o600), ("", 0o600), ("a~" * 30, 0o600)]
)
def test_unsafe_secrets_are_refused(tmp_path: Path, text: str, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError):
        load_or_create_secret(path)
