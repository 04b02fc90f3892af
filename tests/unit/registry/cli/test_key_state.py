"""Rules for the rotation of a node's encryption keys."""

from datetime import UTC, datetime, timedelta

import pytest

from registry.cli.key_state import KEPT, SESSION, KeyState

NOW = datetime(2026, 12, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def ago(**units: float) -> datetime:
    return NOW - timedelta(**units)


@pytest.mark.parametrize(
    ("retired_at", "rotates", "is_expired"),
    [
        (NOW, False, False),
        (NOW - SESSION + SECOND, False, False),
        (NOW - SESSION, True, False),
        (NOW - KEPT + SECOND, True, False),
        (NOW - KEPT, True, True),
        (ago(days=400), True, True),
        (NOW + timedelta(hours=9), False, False),  # a clock was wrong
    ],
)
def test_a_key_is_kept_for_the_sessions_that_need_it(
    retired_at: datetime,
    rotates: bool,  # noqa: FBT001
    is_expired: bool,  # noqa: FBT001
) -> None:
    state = KeyState("b", retired={"a": retired_at})
    assert state.may_rotate(NOW) is rotates
    assert (list(state.expired(NOW)) == ["a"]) is is_expired


def test_the_first_rotation_needs_no_wait() -> None:
    assert KeyState("a").may_rotate(NOW)


def test_a_confirmed_key_retires_the_one_before() -> None:
    state = KeyState("a", "b", {"z": ago(hours=25)}).confirmed(NOW, {"a", "b", "z"})
    assert state == KeyState("b", None, {"a": NOW, "z": ago(hours=25)})
    assert state.confirmed(NOW + SECOND, {"a", "b", "z"}) == state


def test_a_file_that_is_not_recorded_and_a_time_in_the_future_count_from_now() -> None:
    state = KeyState("b", retired={"a": NOW + timedelta(days=900)})
    assert state.confirmed(NOW, {"a", "b", "stray"}).retired == {"a": NOW, "stray": NOW}


def test_a_lost_file_is_forgotten() -> None:
    state = KeyState("b", "c", {"a": NOW})
    assert state.restricted_to({"b"}) == KeyState("b")
    assert state.restricted_to({"a", "c"}) == KeyState(None, "c", {"a": NOW})
    assert KeyState("b").restricted_to(set()).newest is None


@pytest.mark.parametrize(
    ("state", "keys"),
    [
        (KeyState(), []),
        (KeyState(next="a"), ["a"]),
        (KeyState("a"), ["a"]),
        (KeyState("a", "b", {"z": NOW}), ["b", "a"]),
        (KeyState("b", None, {"a": NOW, "z": ago(hours=1)}), ["b", "a"]),
    ],
)
def test_the_two_newest_keys_decrypt(state: KeyState, keys: list[str]) -> None:
    assert state.decrypting == keys
