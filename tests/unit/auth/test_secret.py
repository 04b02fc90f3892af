import pickle

import pytest

from auth.secret import Secret, hash_secret, matches, new_node_secret, split_password


def test_a_secret_shows_itself_nowhere_but_on_request() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]} {secret!s:>20}"
    assert secret.reveal() == "hunter2"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_node_secrets_are_256_bits_and_match_their_hash_only() -> None:
    one, other = new_node_secret(), new_node_secret()
    assert len(one.reveal()) == 43
    assert "~" not in one.reveal()
    assert matches(one, hash_secret(one))
    assert not matches(other, hash_secret(one))
    assert one != other
    assert one == Secret(one.reveal())


@pytest.mark.parametrize(
    ("password", "token", "secret"),
    [
        ("a.b.c", "a.b.c", None),
        ("a.b.c~s", "a.b.c", "s"),
        ("a~b~s", "a~b", "s"),
        ("a~", "a", ""),
        ("~s", "", "s"),
    ],
)
def test_passwords_split_at_the_last_tilde(password: str, token: str, secret: str | None) -> None:
    first, second = split_password(Secret(password))
    assert first.reveal() == token
    assert (second.reveal() if second else None) == secret
