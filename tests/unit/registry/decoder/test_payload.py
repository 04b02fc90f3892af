import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.decoder.payload import MAX_PAYLOAD_BYTES, read_payload
from tests.support.decoding import feed, protobuf_any, serialized_payload

DESCRIPTOR = {
    "mediaType": "application/vnd.oci.image.layer.v1.tar+encrypted",
    "digest": "sha256:00",
    "size": 1,
}


def read(data: bytes) -> object:
    """Read a payload of any size from a pipe, as containerd passes it."""
    reader, writer = os.pipe()
    thread = feed(os.fdopen(writer, "wb"), data)
    try:
        return read_payload(reader)
    finally:
        thread.join()


@pytest.mark.parametrize("annotation", ["short", "x" * 100_000])
def test_the_descriptor_is_in_the_payload_of_cri(annotation: str) -> None:
    described = DESCRIPTOR | {"annotations": {"example": annotation}}
    assert read(serialized_payload(described)) == described


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"\x0a",
        b"\x12\xff",
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x08\x01",
        protobuf_any(b"[]"),
        protobuf_any(b"null"),
        protobuf_any(b"{}"),
        protobuf_any(b'{"Descriptor":[]}'),
        protobuf_any(b"\xff"),
        protobuf_any(b"[" * 100_000),
        serialized_payload(DESCRIPTOR)[:-1],
        serialized_payload(DESCRIPTOR | {"annotations": {"example": "x" * MAX_PAYLOAD_BYTES}}),
    ],
)
def test_another_payload_is_as_none(data: bytes) -> None:
    assert read(data) is None


def test_a_file_that_is_no_pipe_is_no_payload(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(serialized_payload(DESCRIPTOR))
    with (tmp_path / "file").open("rb") as file:
        assert read_payload(file.fileno()) is None
        closed = os.dup(file.fileno())
    os.close(closed)
    assert read_payload(closed) is None


@given(st.binary(max_size=200))
def test_garbage_is_as_none(data: bytes) -> None:
    assert read(protobuf_any(data)) is None
    assert read(data) is None


def test_the_value_of_an_any_is_its_second_field() -> None:
    value = json.dumps({"Descriptor": DESCRIPTOR}).encode()
    assert read(protobuf_any(value, b"")) == DESCRIPTOR
