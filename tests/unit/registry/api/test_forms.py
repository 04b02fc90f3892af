"""Decoding of forms (`registry.api.http.bodies`): as `urllib` does, but strict, and in C."""

from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.api.http.bodies import MAX_FIELDS, _parse_form

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=8))
@example([("a\\x41", "\\u0041%+ &=\\N{DASH}"), ("é", "\x00\x80\xff\u2028😀")])
def test_what_urllib_encodes_is_decoded(pairs: list[tuple[str, str]]) -> None:
    assert list(_parse_form(urlencode(pairs)).items()) == pairs


@given(st.text("a%4é1\\xN{}+&=", max_size=40))
def test_what_is_decoded_is_what_urllib_decodes(text: str) -> None:
    try:
        found = list(_parse_form(text).items())
    except ValueError:
        return
    assert found == parse_qsl(text, keep_blank_values=True, errors="strict")


@pytest.mark.parametrize("text", ["a=%", "a=%4", "a=%zz", "a=%FF", "a=%ed%a0%80", "&" * MAX_FIELDS])
def test_invalid_escapes_and_too_many_fields_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        _parse_form(text)
