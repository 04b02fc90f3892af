"""A row of the table, and what its arrangements share."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from tests.support.distribution import make_image
from tests.support.quirky_upstream import Answer, QuirkyUpstream, Wire

LAYER = random.Random(5).randbytes(3000)
IMAGE = make_image([LAYER])
DOCKER_IMAGE = make_image([LAYER], docker=True)
HOST = r"127\.0\.0\.1:\d+"
PULL = "failed to pull"
AUTHENTICATE = "failed to authenticate"

Arrange = Callable[[QuirkyUpstream], object]


@dataclass(frozen=True)
class Quirk:
    """One row.

    Attributes:
        arrange: Gives the registry its quirk.
        fails: Regular expression for the start of the failure's sentence; empty if the image is imported.
        reason: The failure's reason.
        login: Whether the customer gives credentials.
        tls: Whether the registry has TLS.
        shares: Whether the other registry may receive the credentials.
        policy: Why the import refuses what crane or skopeo take.
    """

    name: str
    arrange: Arrange
    fails: str = ""
    reason: str = PULL
    login: bool = False
    tls: bool = False
    policy: str = ""
    shares: bool = False

    def __str__(self) -> str:
        return self.name


def http(
    line: str = "HTTP/1.1 {status} OK",
    *more: str,
    before: str = "",
    end: str = "\r\n",
    length: str | None = "Content-Length: {length}",
    body: Callable[[bytes], bytes] = bytes,
) -> Wire:
    """Write responses with a status line, more fields, another length, or another body.

    Args:
        before: Bytes before the response, such as an informational one.
        end: End of each line.
        length: Lines with the body's length; None if there are none.
    """

    def wire(status: int, fields: Sequence[tuple[str, str]], data: bytes) -> bytes:
        lengths = [] if length is None else length.format(length=len(data)).split("\n")
        lines = [line.format(status=status), *(f"{name}: {value}" for name, value in fields), *more, *lengths]
        return before.encode() + end.join([*lines, "", ""]).encode("latin-1") + body(data)

    return wire


def document(fields: dict[str, object] | bytes, kind: str | None) -> Arrange:
    """Serve a document under the tag, over the blobs of the images."""

    def arrange(upstream: QuirkyUpstream) -> None:
        upstream.blobs |= IMAGE.blobs | DOCKER_IMAGE.blobs
        upstream.wire = http() if kind is None else None
        upstream.tag(fields if isinstance(fields, bytes) else json.dumps(fields).encode(), kind)

    return arrange


def fields_of(image: str = "oci", **changes: object) -> dict[str, object]:
    """Return the fields of a manifest, changed; those changed to `...` are absent."""
    found = json.loads((IMAGE if image == "oci" else DOCKER_IMAGE).root_bytes) | changes
    return {name: value for name, value in found.items() if value is not ...}


def guarded(requires: str, *challenges: str, **settings: object) -> Arrange:
    """Serve the image to those who authenticate."""

    def arrange(upstream: QuirkyUpstream) -> None:
        upstream.add(IMAGE)
        upstream.requires = requires
        upstream.challenges = challenges or None
        for name, value in settings.items():
            setattr(upstream, name, value)

    return arrange


def answering(requires: str = "", **answers: Answer) -> Arrange:
    """Serve the image with quirks by the last component of a path; `tag` is the image's, `every` any."""

    def arrange(upstream: QuirkyUpstream) -> None:
        guarded(requires)(upstream)
        names = {"tag": "1", "every": "*"}
        upstream.answers |= {names.get(name, name): answer for name, answer in answers.items()}

    return arrange


def status(code: int, body: str = "", *, times: int = 1_000, **fields: str) -> Answer:
    """Answer with a status, the first `times`; the fields may name `{host}`, `{plain}` and `{other}`."""

    async def answer(upstream: QuirkyUpstream, request: web.Request) -> web.StreamResponse | None:
        upstream.used[answer] += 1
        if upstream.used[answer] > times:
            return None
        headers = {name.replace("_", "-"): upstream.filled(value) for name, value in fields.items()}
        return await upstream.send(request, web.Response(status=code, text=body, headers=headers))

    return answer
