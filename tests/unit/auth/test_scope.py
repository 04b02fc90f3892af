import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.scope import Scope, parse_scopes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([""], []),
        (["repository:a/b/c:pull"], [("repository", "a/b/c", {"pull"})]),
        (["repository:a/b/c:pull,push"], [("repository", "a/b/c", {"pull", "push"})]),
        (["repository:h:5000/a:pull"], [("repository", "h:5000/a", {"pull"})]),
        (["repository:a:* registry:catalog:*"], [("repository", "a", {"*"}), ("registry", "catalog", {"*"})]),
        (["repository:a:pull", "repository:b:pull"], [("repository", x, {"pull"}) for x in "ab"]),
        (["repository(plugin):a:pull"], [("repository", "a", {"pull"})]),
        (["repository:a", ":a:pull", "repository::pull", "repository:a:", "repository:a:PULL"], []),
    ],
)
def test_scopes_are_read_and_what_cannot_be_read_is_left_out(
    values: list[str], expected: list[tuple[str, str, set[str]]]
) -> None:
    assert parse_scopes(values) == tuple(Scope(t, n, frozenset(a)) for t, n, a in expected)


def test_only_pull_or_everything_asks_to_pull() -> None:
    asked = parse_scopes(["repository:a:push repository:b:pull repository:c:* image:d:pull"])
    assert [s.asks_to_pull(s.name) for s in asked] == [False, True, True, False]
    assert not asked[1].asks_to_pull("a")


@given(st.lists(st.text(max_size=200), max_size=5))
def test_no_text_makes_the_parser_fail_or_name_nothing(values: list[str]) -> None:
    assert all(scope.name and scope.type and scope.actions for scope in parse_scopes(values))
