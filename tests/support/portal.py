"""The portal as a browser without script sees it: pages, forms and cookies, over HTTP."""

import re
import ssl
from collections.abc import Mapping
from html import unescape
from http.cookies import Morsel, SimpleCookie
from typing import Self
from urllib.parse import urlencode

from tests.support.http import Response, request

_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{64})"')


class PortalVisitor:
    """Keeps cookies and sends forms with the token of the page that they are on; `tls` is for `https://`.

    `source` is the loopback address that it comes from.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None, source: str | None = None) -> None:
        self.url = url
        self._source = source
        self.cookies: dict[str, str] = {}
        self._tls = tls

    @classmethod
    def signed_in(cls, url: str, key: str, tls: ssl.SSLContext | None = None) -> Self:
        visitor = cls(url, tls)
        visitor.send("/sign-in", {"key": key}).expect(303)
        return visitor

    def copy(self) -> "PortalVisitor":
        """Return the same browser, to do with as a test likes."""
        copied = PortalVisitor(self.url, self._tls, self._source)
        copied.cookies = dict(self.cookies)
        return copied

    def get(self, path: str, **headers: str) -> Response:
        """Ask for a page; underscores in header names are hyphens."""
        return self._ask("GET", path, {name.replace("_", "-"): text for name, text in headers.items()})

    def text(self, path: str) -> str:
        """Return a page's text as it is written, entities and all."""
        return self.get(path).expect(200).body.decode()

    def send(self, path: str, fields: Mapping[str, str], *, page: str | None = None) -> Response:
        """Fill in the form of a page and send it."""
        return self.post(path, {"form_token": self.form_token(page or path), **fields})

    def form_token(self, page: str) -> str:
        found = _TOKEN.findall(self.get(page).body.decode())
        return str(found[-1])

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Response:
        """Send a form as it is."""
        sent = {"Content-Type": "application/x-www-form-urlencoded"}
        sent |= {name.replace("_", "-"): text for name, text in headers.items()}
        return self._ask("POST", path, sent, urlencode(fields).encode())

    def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items() if value)
        sent = {"Accept": "text/html", **({"Cookie": cookies} if cookies else {}), **headers}
        answer = request(
            method, f"{self.url}{path}", headers=sent, body=body, tls=self._tls, source=self._source
        )
        self.cookies |= {name: morsel.value for name, morsel in cookies_of(answer).items()}
        return answer


def cookies_of(answer: Response) -> dict[str, Morsel[str]]:
    """Return the cookies that an answer sets, with their attributes."""
    lines = answer.headers.get_all("Set-Cookie") or ()
    return {name: morsel for line in lines for name, morsel in SimpleCookie(line).items()}


def plain(answer: Response) -> str:
    """Return what a page says, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.body.decode())).split())
