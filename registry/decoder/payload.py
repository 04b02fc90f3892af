"""Payload that containerd's CRI passes to a stream processor: the descriptor of the layer. Linux only.

A serialized `protobuf.Any` on file descriptor 3 (containerd, docs/stream_processors.md). Its value is the
JSON of imgcrypt's `Payload`.
"""

import json
import os
import stat
from collections.abc import Mapping
from typing import Any, Final

PAYLOAD_FD: Final = 3
MAX_PAYLOAD_BYTES: Final = 4 << 20

_VALUE_FIELD = (2 << 3) | 2  # field 2 of protobuf.Any, length-delimited
_VARINT_BITS = 7
_MAX_VARINT_BYTES = 10
_LENGTH_DELIMITED = 2


def read_payload(fd: int = PAYLOAD_FD) -> Mapping[str, Any] | None:
    """Return the layer's descriptor; None if the client sends no payload, or none of this kind."""
    try:
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            return None
        with os.fdopen(fd, "rb") as pipe:
            data = pipe.read(MAX_PAYLOAD_BYTES + 1)
        payload = json.loads(_any_value(data)) if len(data) <= MAX_PAYLOAD_BYTES else None
    except (OSError, ValueError, IndexError, RecursionError):
        return None
    descriptor = payload.get("Descriptor") if isinstance(payload, dict) else None
    return descriptor if isinstance(descriptor, dict) else None


def _any_value(data: bytes) -> bytes:
    """Return the value of a `protobuf.Any`; all its fields are length-delimited."""
    at = 0
    value = b""
    while at < len(data):
        tag, at = _varint(data, at)
        size, at = _varint(data, at)
        if tag & 7 != _LENGTH_DELIMITED or at + size > len(data):
            raise ValueError("not a protobuf.Any")
        if tag == _VALUE_FIELD:
            value = data[at : at + size]
        at += size
    return value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for count in range(_MAX_VARINT_BYTES):
        number |= (data[at + count] & 0x7F) << (_VARINT_BITS * count)
        if data[at + count] < 0x80:  # noqa: PLR2004 - no continuation bit
            return number, at + count + 1
    raise ValueError("a number is too long")
