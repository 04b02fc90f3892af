"""Ids of tokens can be arguments of commands."""

import secrets

import pytest

from auth import authority


def test_a_token_id_never_looks_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["-Y", "--", "a-"])
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _bytes: next(drawn))
    assert authority._new_token_id() == "a-"
