"""A plain HTTP client that pulls whole images and verifies them, for tests and benchmarks of many."""

import hashlib
import json
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from tests.support.crisper import Node, PullToken
from tests.support.http import basic


class PullFailedError(Exception):
    """The pull did not end with every byte.

    Attributes:
        status: Of the response that refused it; None if there was none, or other bytes.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Puller:
    """Pulls as containers' clients do: kept connections, and one more try on one that had been used before.

    Args:
        url: The server.
        tls: For `https://`.
    """

    def __init__(self, url: str, *, timeout_s: float = 60, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._timeout_s = timeout_s
        self._tls = tls
        self._connection: HTTPConnection | None = None

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def pull(self, token: PullToken, node: Node) -> int:
        """Redeem a token and pull its image; return the bytes of its blobs."""
        repository, bearer = self.repository(token), self.redeem(token, node)
        digest, document = self.get(f"/v2/{repository}/manifests/{token.digest}", bearer)
        manifest = json.loads(document)
        if "manifests" in manifest:
            child = manifest["manifests"][0]["digest"]
            digest, document = self.get(f"/v2/{repository}/manifests/{child}", bearer)
            manifest = json.loads(document)
        total = 0
        for blob in (manifest["config"], *manifest["layers"]):
            digest, content = self.get(f"/v2/{repository}/blobs/{blob['digest']}", bearer)
            if digest != blob["digest"]:
                raise PullFailedError(f"other bytes than {blob['digest']}")
            total += len(content)
        return total

    @staticmethod
    def repository(token: PullToken) -> str:
        return token.reference.split("/", 1)[1].split("@")[0].rsplit(":", 1)[0]

    def redeem(self, token: PullToken, node: Node) -> dict[str, str]:
        """Redeem a token; return the header that pulls its image."""
        login = {"Authorization": basic(token.username, token.password(node))}
        _, answer = self.get(f"/token?service=crisper&scope=repository:{self.repository(token)}:pull", login)
        return {"Authorization": f"Bearer {json.loads(answer)['token']}"}

    def get(self, path: str, headers: dict[str, str]) -> tuple[str, bytes]:
        """Return a body's digest and the body. A connection that was kept may have been closed meanwhile."""
        kept = self._connection is not None and self._connection.sock is not None
        try:
            return self._get(path, headers)
        except (HTTPException, OSError) as error:
            self.close()
            if not kept:
                raise PullFailedError(f"GET {path[:60]}: {type(error).__name__} {error}") from error
            return self.get(path, headers)

    def _connect(self) -> HTTPConnection:
        if self._tls is None:
            return HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        return HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._tls)

    def _get(self, path: str, headers: dict[str, str]) -> tuple[str, bytes]:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request("GET", path, headers=headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise PullFailedError(f"GET {path[:60]}: {answer.status} {body[:200]!r}", answer.status)
        return f"sha256:{hashlib.sha256(body).hexdigest()}", body
