"""One small registry whose answers have a quirk: in its documents, challenges, realms, redirects or HTTP."""

import base64
import re
import secrets
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.support.certificates import SERVER, TestCa
from tests.support.distribution import OCI_MANIFEST, Image, digest_of
from tests.support.upstream_faults import Seen, ranged

USERNAME, PASSWORD = "robot$ci", "s3cret:päss"
BASIC = "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()

#: Answers a request; None where the registry answers as usual.
Answer = Callable[["QuirkyUpstream", web.Request], Awaitable[web.StreamResponse | None]]
#: Writes a response's status, fields and body as bytes of HTTP.
Wire = Callable[[int, Sequence[tuple[str, str]], bytes], bytes]


class QuirkyUpstream:
    """A registry on a port for plain HTTP, and on one for TLS if it has a certificate.

    Attributes:
        host: Host and port that references name.
        plain: Host and port without TLS.
        other: Another registry, to which this one may lead.
        requires: `basic`, `bearer` or nothing.
        challenges: WWW-Authenticate headers of a 401; by default, that of `requires`. They may name
            `{host}`, `{plain}` and `{other}`.
        hides: Status for anonymous requests outside of `/v2/`, instead of 401 with a challenge.
        answers: Quirks by the last component of a path, or by `*`.
        wire: Writes the responses; aiohttp by default.
    """

    def __init__(self) -> None:
        self.host = self.plain = ""
        self.scheme = "http"
        self.other: QuirkyUpstream = self
        self.requires = ""
        self.admits_anonymous_tokens = False
        self.challenges: Sequence[str] | None = None
        self.hides = 0
        self.answers: dict[str, Answer] = {}
        self.wire: Wire | None = None
        self.used: Counter[Answer] = Counter()
        self.tokens: set[str] = set()
        self.seen: list[Seen] = []
        self.documents: dict[str, tuple[str | None, bytes]] = {}
        self.blobs: dict[str, bytes] = {}

    def add(self, image: Image, tag: str = "1") -> None:
        self.documents |= image.manifests
        self.documents[tag] = image.manifests[image.root]
        self.blobs |= image.blobs

    def tag(self, data: bytes, kind: str | None = OCI_MANIFEST, tag: str = "1") -> None:
        """Put a document under a tag and under its digest."""
        self.documents[tag] = self.documents[digest_of(data)] = (kind, data)

    def count(self, ending: str) -> int:
        return sum(seen.path.endswith(ending) for seen in self.seen)

    def filled(self, text: str) -> str:
        values = {"host": self.host, "plain": self.plain, "other": self.other.host, "scheme": self.scheme}
        return re.sub(r"\{(host|plain|other|scheme)\}", lambda match: values[match[1]], text)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        authorization = request.headers.get("Authorization")
        self.seen.append(Seen(request.method, request.path, authorization, request.headers.get("Range")))
        name = request.path.rstrip("/").rsplit("/", 1)[-1]
        for quirk in (self.answers.get(name), self.answers.get("*")):
            if quirk is not None and (answer := await quirk(self, request)) is not None:
                return answer
        return await self.send(request, self.usual(request, name))

    async def send(self, request: web.Request, response: web.Response) -> web.StreamResponse:
        if self.wire is None:  # aiohttp gives every response a Content-Type
            return response
        body = response.body if isinstance(response.body, bytes) else b""
        fields = [(field, value) for field, value in response.headers.items() if field != "Content-Length"]
        assert request.transport is not None
        request.transport.write(self.wire(response.status, fields, b"" if request.method == "HEAD" else body))
        request.transport.close()
        return response

    def usual(self, request: web.Request, name: str) -> web.Response:
        authorization = request.headers.get("Authorization", "")
        if name == "token":
            return self._token(authorization)
        if not self._admits(authorization):
            if self.hides and name != "v2":
                return web.json_response({"errors": []}, status=self.hides)
            return self.refuse()
        if name == "v2":
            return web.json_response({})
        if "/manifests/" in request.path and name in self.documents:
            kind, data = self.documents[name]
            return web.Response(body=data, headers={} if kind is None else {"Content-Type": kind})
        return self._blob(request, name)

    def _blob(self, request: web.Request, name: str) -> web.Response:
        if name in self.blobs:
            return ranged(request, self.blobs[name], "application/octet-stream")
        return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)

    def refuse(self) -> web.Response:
        """Answer 401 with the challenges."""
        response = web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401)
        usual = {
            "basic": 'Basic realm="upstream"',
            "bearer": 'Bearer realm="{scheme}://{host}/token",service="s"',
        }
        for challenge in (usual[self.requires],) if self.challenges is None else self.challenges:
            response.headers.add("WWW-Authenticate", self.filled(challenge))
        return response

    def _admits(self, authorization: str) -> bool:
        if self.requires == "basic":
            return authorization == BASIC
        return not self.requires or authorization.removeprefix("Bearer ") in self.tokens

    def _token(self, authorization: str) -> web.Response:
        if authorization != BASIC and not (self.admits_anonymous_tokens and not authorization):
            return web.json_response({"details": "denied"}, status=401)
        return web.json_response({"token": self.new_token(), "expires_in": 300})

    def new_token(self) -> str:
        token = secrets.token_urlsafe(12)
        self.tokens.add(token)
        return token


@asynccontextmanager
async def quirky_upstream(certificates: Path | None = None) -> AsyncIterator[QuirkyUpstream]:
    """Serve a registry and its other one.

    Args:
        certificates: Folder for a CA; the registry is then reached over TLS, and has `ca.pem` there.
    """
    async with AsyncExitStack() as stack:
        upstream, other = QuirkyUpstream(), QuirkyUpstream()
        upstream.other = other
        context = None
        if certificates is not None:
            files = TestCa.create(certificates).issue("quirky", hosts=["127.0.0.1"], purposes=SERVER)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files.certificate, files.key)
        for server in (upstream, other):
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", server.handle)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            server.host = server.plain = f"127.0.0.1:{runner.addresses[0][1]}"
            if context is not None:
                await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
                server.host, server.scheme = f"127.0.0.1:{runner.addresses[1][1]}", "https"
        yield upstream
