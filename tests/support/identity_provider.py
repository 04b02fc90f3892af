"""A certified OpenID provider (oidc-provider), behind a relay that can tamper with its answers."""

import json
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from tests.support.built_programs import oidc_provider
from tests.support.http import Response, request
from tests.support.http_server import Handler, HttpServer
from tests.support.portal import PortalVisitor, cookies_of
from tests.support.processes import Process, free_port, listening

CLIENT_ID = "crisper"
CLIENT_SECRET = "a client secret: with/special+characters%"
Tamper = Callable[[str, dict[str, Any]], Mapping[str, Any]]


class OpenIdProvider:
    """The provider at `issuer`, the relay's address.

    Args:
        redirect_uri: Where the provider sends browsers back to.
        claims_only_at_userinfo: Whether ID tokens lack the claims of scopes, as the standard has it.
        host: The provider's name; `localhost` makes it another site than a portal at 127.0.0.1.

    Attributes:
        tamper: Changes the documents that Crisper reads, by path; None leaves them as they are.
    """

    def __init__(
        self,
        folder: Path,
        redirect_uri: str,
        *,
        claims_only_at_userinfo: bool = False,
        host: str = "127.0.0.1",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._behind, self.port = free_port(), free_port()
        self.issuer = f"http://{host}:{self.port}"
        self.tamper: Tamper | None = None
        self.requests: list[str] = []
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._accounts = folder / "accounts.json"
        self.set_accounts({})
        jwk = RSAAlgorithm.to_jwk(self._key, as_dict=True) | {"kid": "test", "use": "sig", "alg": "RS256"}
        client = {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "redirect_uris": [redirect_uri],
            "response_types": ["code"],
            "grant_types": ["authorization_code"],
        }
        node, modules = oidc_provider()
        configuration = {
            "issuer": self.issuer,
            "port": self._behind,
            "clients": [client],
            "jwks": {"keys": [jwk]},
            "accounts": str(self._accounts),
            "modules": str(modules),
            "claimsOnlyAtUserinfo": claims_only_at_userinfo,
        }
        file = folder / "provider.json"
        file.write_text(json.dumps(configuration))
        script = Path(__file__).with_name("oidc_provider") / "provider.mjs"
        self._argv = [node, str(script), str(file)]

    def set_accounts(self, accounts: Mapping[str, Mapping[str, Any]]) -> None:
        """Set the claims of each account, by its subject."""
        written = self._folder / "accounts.new"
        written.write_text(json.dumps(accounts))
        written.replace(self._accounts)

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Sign claims as the provider does."""
        return jwt.encode(dict(claims), self._key, "RS256", {"kid": "test"})

    @property
    def public_pem(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def __enter__(self) -> Self:
        self._process = Process(
            self._argv, self._folder / "provider.log", ready=lambda: listening(self._behind), timeout_s=60
        )
        self._relay = HttpServer(_relay_of(self, self._behind), self.port)
        self._relay.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._relay.__exit__(kind, error, trace)
        self._process.stop()


def _relay_of(provider: OpenIdProvider, behind: int) -> type[Handler]:
    class Relay(Handler):
        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection = HTTPConnection("127.0.0.1", behind, timeout=30)
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            sent, path = answer.read(), urlsplit(self.path).path
            provider.requests.append(path)
            if provider.tamper is not None and answer.headers.get_content_type() == "application/json":
                sent = json.dumps(provider.tamper(path, json.loads(sent))).encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)
            connection.close()

        do_GET = do_POST = _pass_on

    return Relay


class Browser:
    """A browser without script: follows redirects between portal and provider, with the cookies of both."""

    def __init__(self, portal: PortalVisitor) -> None:
        self.portal = portal
        self._cookies: dict[str, str] = {}

    def start(self, path: str = "/sign-in/openid") -> str:
        """Start a sign-in; return the URL at the provider."""
        return str(self.portal.get(path).expect(303).headers["Location"])

    def sign_in_at_provider(self, url: str, subject: str) -> str:
        """Sign in at the provider, and consent; return the URL that leads back to the portal."""
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        answer = self._send("GET", url)
        for _ in range(12):
            if answer.status in {HTTPStatus.SEE_OTHER, HTTPStatus.FOUND}:
                target = answer.headers["Location"]
                target = target if "://" in target else origin + target
                if not target.startswith(origin):
                    return str(target)
                answer = self._send("GET", target)
                continue
            page = answer.expect(200).body.decode()
            action = re.findall(r'<form[^>]* action="([^"]+)"', page)[0]
            (prompt,) = re.findall(r'name="prompt" value="(\w+)"', page)
            fields = {"prompt": prompt, "login": subject, "password": "any"}
            target = action if "://" in action else origin + action
            answer = self._send("POST", target, urlencode(fields).encode())
        raise AssertionError(f"the provider does not lead back: {answer.status} {answer.body[:500]!r}")

    def come_back(self, url: str) -> Response:
        """Follow the provider's redirect to the portal."""
        parts = urlsplit(url)
        return self.portal.get(f"{parts.path}?{parts.query}")

    def sign_in(self, subject: str, path: str = "/sign-in/openid") -> Response:
        """Sign in from the start to the end."""
        return self.come_back(self.sign_in_at_provider(self.start(path), subject))

    def _send(self, method: str, url: str, body: bytes | None = None) -> Response:
        headers = {"Accept": "text/html", "Content-Type": "application/x-www-form-urlencoded"}
        if self._cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        answer = request(method, url, headers=headers, body=body)
        self._cookies |= {name: morsel.value for name, morsel in cookies_of(answer).items()}
        return answer
