import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.upstream.response_heads import tolerable

LINE = b"HTTP/1.1 200 OK\r\n"
ONE = LINE + b"Content-Length: 2\r\nX: a\r\n\r\n"


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        (b"X: a\r\nContent-Length: 2\r\ncontent-length:2 \r\n\r\n", ONE),
        (b"Content-Length: 2, 2\r\nX: a\r\n\r\n", ONE),
        (b"Content-Length: 2\r\nX: a\r\nCONTENT-LENGTH :  2\r\n\r\n", ONE),
        (
            b"Content-Length: 3\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            LINE + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        ),
        (
            b"Content-Length: 3\r\nContent-Length: 4\r\nTransfer-Encoding: Chunked\r\n\r\n",
            LINE + b"Transfer-Encoding: Chunked\r\n\r\n",
        ),
    ],
)
def test_equal_lengths_are_one_and_chunks_have_none(fields: bytes, read: bytes) -> None:
    assert tolerable(LINE + fields) == read


@pytest.mark.parametrize(
    "fields",
    [
        b"\r\n",
        b"X: a\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n",
        b"Content-Length: 2, 3\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: +2\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length:\r\n\r\n",
        b"X-Content-Length: 2\r\nTransfer-Encoding: identity\r\n\r\n",
    ],
)
def test_other_heads_are_left_to_the_parser(fields: bytes) -> None:
    assert tolerable(LINE + fields) == LINE + fields


@given(st.lists(st.sampled_from([b"A: b", b"Content-Length: 2", b"content-length: 2", b" folded", b""])))
def test_no_other_field_changes(lines: list[bytes]) -> None:
    head = LINE + b"\r\n".join([*lines, b"", b""])
    kept = [line for line in head.split(b"\r\n") if b"length" not in line.lower()]
    assert [line for line in tolerable(head).split(b"\r\n") if b"Length" not in line] == kept
