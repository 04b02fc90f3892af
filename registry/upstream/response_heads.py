"""Response heads that HTTP clients read although HTTP forbids them, rewritten before aiohttp parses them."""

import re
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler

MAX_FIELD_BYTES: Final = 32 << 10
MAX_FIELDS: Final = 256
_MAX_HEAD_BYTES: Final = 256 << 10

_END: Final = re.compile(rb"\r?\n\r?\n")
_INFORMATIONAL: Final = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d")


class TolerantConnector(aiohttp.TCPConnector):
    """Opens connections whose response heads are rewritten (`tolerable`)."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of aiohttp
        super().__init__(**options)
        handler: type[ResponseHandler] = _TolerantHandler
        self._factory = partial(handler, loop=self._loop)


def tolerable(head: bytes) -> bytes:
    """Return a head with one Content-Length, if all of them are equal, and none beside chunks.

    RFC 9110, section 8.6, and RFC 9112, section 6.3, allow this to a recipient. Different values stay, so
    that the parser refuses the response.
    """
    lines = head.split(b"\n")
    fields = [tuple(part.strip().lower() for part in line.split(b":", 1)) for line in lines]
    lengths = [field[1] for field in fields if field[0] == b"content-length" and len(field) > 1]
    chunked = any(field[0] == b"transfer-encoding" and field[-1].endswith(b"chunked") for field in fields)
    values = {value.strip() for text in lengths for value in text.split(b",")}
    if not lengths or (len(values) > 1 and not chunked):
        return head
    kept = [line for line, field in zip(lines, fields, strict=True) if field[0] != b"content-length"]
    if not chunked:
        kept.insert(1, b"Content-Length: " + values.pop() + b"\r")
    return b"\n".join(kept)


class _TolerantHandler(ResponseHandler):
    """Holds back the beginning of a response until its head is complete."""

    _held: bytearray | None = None

    def set_response_params(self, **params: Any) -> None:  # noqa: ANN401 - those of aiohttp
        """Expect a response."""
        self._held = bytearray()
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Pass on data after a complete head, or after so much that it cannot be one."""
        if self._held is None or not data:
            super().data_received(data)
            return
        self._held += data
        while end := _END.search(self._held):
            head, rest = bytes(self._held[: end.end()]), self._held[end.end() :]
            self._held = rest if _INFORMATIONAL.match(head) else None
            super().data_received(tolerable(head) + (b"" if self._held is not None else bytes(rest)))
            if self._held is None:
                return
        if len(self._held) > _MAX_HEAD_BYTES:
            self._release()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Pass on an incomplete head, so that the parser judges it."""
        self._release()
        super().connection_lost(exc)

    def _release(self) -> None:
        held, self._held = self._held, None
        if held:
            super().data_received(bytes(held))
