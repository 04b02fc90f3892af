import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import InvalidInputError
from registry.portal.lines import items_of, lines_of, lines_of_variables, variables_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def as_sent(text: str) -> str:
    """Return the text as a browser sends the content of a text field."""
    return text.replace("\n", "\r\n")


@given(st.lists(TEXT))
def test_items_come_back_as_they_were(items: list[str]) -> None:
    assert items_of(as_sent(lines_of(items))) == items


@given(st.dictionaries(TEXT, TEXT))
def test_variables_come_back_as_they_were(variables: dict[str, str]) -> None:
    assert variables_of(as_sent(lines_of_variables(variables))) == variables


def test_plain_lines_need_no_quotes() -> None:
    assert lines_of(["sh", "-c", "echo 'a b' | cat\n"]) == "sh\n-c\n\"echo 'a b' | cat\\n\""
    assert variables_of("A=1\n\n B = x=y \nC=") == {"A": "1", "B": "x=y", "C": ""}


@pytest.mark.parametrize("line", ["NAME", "=value", '"NAME', '"NAME"', 'NAME="value'])
def test_a_line_that_cannot_be_read_is_named_by_its_number(line: str) -> None:
    with pytest.raises(InvalidInputError, match="Line 2"):
        variables_of(f"A=1\n{line}")
