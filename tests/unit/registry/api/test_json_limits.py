"""The limit on the values of a JSON body: exact, and checked before the values are created."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.api import validation
from registry.api.validation import MAX_VALUES, check_json
from registry.errors import InvalidInputError

SCALARS = st.one_of(st.none(), st.integers(-9, 9), st.text('a,[]{}:"\\', max_size=6))
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text('a,["\\', max_size=3), inner, max_size=6)
    ),
    max_leaves=40,
)


def count(document: Any) -> int:  # noqa: ANN401
    children = document.values() if isinstance(document, dict) else document
    return sum(1 + count(each) for each in children) if isinstance(document, list | dict) else 0


@given(DOCUMENTS)
def test_a_body_is_refused_exactly_if_it_has_more_values(document: object) -> None:
    for most in (0, 3, 10):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(validation, "MAX_VALUES", most)
            if count(document) > most:
                with pytest.raises(InvalidInputError, match="more than"):
                    check_json(json.dumps(document))
            else:
                check_json(json.dumps(document))


@pytest.mark.parametrize(
    "body",
    [
        "[" + ",".join(["[1]"] * 200_000) + "]",
        "[" + ",".join(["[" * 90 + "]" * 90] * (MAX_VALUES - 1)) + "]",
        '"' + '\\"' * 400_000 + ",[" * 50_000,
        ",[" * 6_000 + '"\\"' * 300_000 + "\\",
    ],
    ids=["many lists", "nested lists", "a string that does not end", "quotes"],
)
def test_what_is_too_much_is_refused_fast(body: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidInputError):
        check_json(body)
    assert time.process_time() - began < 0.3
