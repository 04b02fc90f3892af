"""`Range` headers, against the bytes that they select."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.pull.ranges import MAX_RANGES, ByteRange, is_open_ended, parse_ranges
from storage.errors import BlobRangeError

specs = st.one_of(
    st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda p: (p[0], p[0] + p[1])),
    st.integers(0, 12).map(lambda first: (first, None)),
    st.integers(0, 12).map(lambda last: (None, last)),
)


def selected(spec: tuple[int | None, int | None], size: int) -> range:
    """Return the offsets that a range selects (RFC 9110, section 14.1.2)."""
    first, last = spec
    if first is None:
        return range(max(0, size - (last or 0)), size)
    return range(first, size if last is None else min(size, last + 1))


@given(
    st.lists(specs, min_size=1, max_size=MAX_RANGES), st.integers(0, 10), st.sampled_from([",", " , ", ",,"])
)
def test_every_satisfiable_range_is_selected_in_order(
    asked: list[tuple[int | None, int | None]], size: int, comma: str
) -> None:
    parts = [f"{'' if a is None else a}-{'' if b is None else b}" for a, b in asked]
    expected = [ByteRange(span.start, len(span)) for spec in asked if (span := selected(spec, size))]
    header = "bytes=" + comma.join(parts)
    if expected:
        assert parse_ranges(header, size) == tuple(expected)
    else:
        with pytest.raises(BlobRangeError):
            parse_ranges(header, size)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-1,x",
        "bytes=3-1",
        "bytes=0-1,3-1",
        "rows=0-1",
    ],
)
def test_other_headers_select_the_whole_blob(header: str | None) -> None:
    assert parse_ranges(header, 10) == ()


def test_more_ranges_than_the_limit_are_refused() -> None:
    assert len(parse_ranges("bytes=" + ",".join(["0-0"] * MAX_RANGES), 10)) == MAX_RANGES
    with pytest.raises(BlobRangeError):
        parse_ranges("bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)), 10)


@pytest.mark.parametrize(("header", "open_ended"), [(None, False), ("bytes=1-", True), ("bytes=1-2", False)])
def test_open_ended_headers_are_recognized(header: str | None, open_ended: bool) -> None:  # noqa: FBT001
    assert is_open_ended(header) == open_ended
