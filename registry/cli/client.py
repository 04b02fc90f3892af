"""HTTP client for the public API and the operator API."""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from yarl import URL

from auth.secret import Secret
from registry.cli.configuration import CONFIGURED, ClientConfiguration, usual_path
from registry.cli.unreachable import why_unreachable
from registry.datadir import OPERATOR_KEY_PREFIX, DataDir, read_operator_key
from registry.errors import ConfigError, RegistryError
from registry.model.remedies import for_operator

_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10)


class ServerRefusedError(RegistryError):
    """The server answered with an error (RFC 9457).

    Attributes:
        status: HTTP status.
        fields: Reasons by field, if the request did not validate.
    """

    def __init__(self, status: int, detail: str, fields: Mapping[str, list[str]]) -> None:
        super().__init__(detail)
        self.status = status
        self.fields = fields


class ServerUnreachableError(RegistryError):
    """The server does not answer, or is not a Crisper server."""


@dataclass(frozen=True, slots=True)
class Server:
    """Address of the server, and the key for it.

    Attributes:
        operator_url: Address of the operator API.
        ca: CA of the server's certificate, unless it is a public one.
        certificate: Certificate of the server itself, which runs on this machine, perhaps under another name.
    """

    url: str
    key: Secret
    operator_url: str
    ca: Path | None = None
    certificate: Path | None = None

    def tls(self) -> ssl.SSLContext:
        """Return a TLS context that verifies the server. Raises ConfigError: a file cannot be read."""
        if self.certificate is not None and self.ca is None:
            return _trusting_only(self.certificate)
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError):
            raise ConfigError(f"{self.ca} contains no CA certificate (PEM)") from None


def _trusting_only(certificate: Path) -> ssl.SSLContext:
    """Return a context for the one server that has this certificate, whatever its name and issuer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is trusted, not its issuer
    try:
        leaf, *_ = x509.load_pem_x509_certificates(certificate.read_bytes())
        context.load_verify_locations(cadata=leaf.public_bytes(Encoding.PEM).decode())
    except (OSError, ValueError, ssl.SSLError):
        raise ConfigError(
            f"the server's certificate {certificate} cannot be read: run the command as the server's user, "
            "or set CRISPER_URL and CRISPER_CA"
        ) from None
    return context


def find_server(data_dir: Path, configured: ClientConfiguration) -> Server:
    """Find address and key in the environment, the configuration file, or a local server's data folder.

    Raises:
        ConfigError: There is no key.
    """
    folder = DataDir(data_dir)
    url = os.environ.get("CRISPER_URL") or configured.url
    operator_url = os.environ.get("CRISPER_OPERATOR_URL") or configured.operator_url
    key = os.environ.get("CRISPER_API_KEY") or configured.api_key
    if key is None and configured.api_key_file is not None:
        key = read_operator_key(configured.api_key_file)
    ca = Path(named) if (named := os.environ.get("CRISPER_CA")) else configured.ca
    certificate = None
    if url is None:
        try:
            local = json.loads(folder.address.read_text())
        except FileNotFoundError:
            local = {"url": "http://127.0.0.1:5000"}
        url = str(local["url"])
        operator_url = operator_url or local.get("operator_url")
        certificate = Path(local["certificate"]) if local.get("certificate") else None
    if key is None:
        if not folder.operator_key.exists():
            raise ConfigError(
                f"no API key found: set CRISPER_API_KEY, set api_key_file in {usual_path()}, "
                f"or name the server's data folder with --data-dir (searched: {folder.root})"
            )
        key = read_operator_key(folder.operator_key)
    return Server(url.rstrip("/"), Secret(key), (operator_url or url).rstrip("/"), ca, certificate)


class ApiClient:
    """Client of one server's APIs."""

    def __init__(self, server: Server, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session

    async def operator(self, method: str, path: str, body: object = None, **query: object) -> Any:  # noqa: ANN401 (JSON)
        """Call the operator API. `path` is relative to `/api/v1`."""
        headers = {"Authorization": f"Bearer {self._server.key.reveal()}"}
        server = self._server.operator_url
        return await self._call(server, method, f"/api/v1{path}", headers, body, query)

    async def operator_file(self, path: str, **query: object) -> bytes:
        """Download a file from the operator API."""
        headers = {"Authorization": f"Bearer {self._server.key.reveal()}"}
        path = f"/api/v1{path}"
        answer, _ = await self._send(self._server.operator_url, "GET", path, headers, None, query)
        return answer

    async def operator_list(self, path: str) -> list[Any]:
        """Return all items of a list of the operator API, page by page."""
        items: list[Any] = []
        after = None
        while True:
            page = await self.operator("GET", path, after=after)
            items += page["items"]
            after = page.get("next_after")
            if after is None:
                return items

    async def group_list(
        self, organization: str | None, project: str, page_size: int | None = None
    ) -> list[Any]:
        """Return all container groups of a project, page by page.

        Args:
            organization: None lists those of all organizations, which needs an operator key.
        """
        if organization is None:
            names = [each["name"] for each in await self.operator_list("/organizations")]
            return [group for name in names for group in await self.group_list(name, project, page_size)]
        items: list[Any] = []
        path: str | None = _groups(organization, project) + (f"?page_size={page_size}" if page_size else "")
        while path is not None:
            page, path = await self._exchange(self._server.url, "GET", path, self._customer, None)
            items += self._in_the_callers_words(page)["items"]
        return items

    async def groups(
        self, method: str, organization: str, project: str, name: str | None = None, body: object = None
    ) -> Any:  # noqa: ANN401 (JSON)
        """Call the public API's container groups, or one of them."""
        return await self.group(method, organization, project, quote(name or ""), body)

    async def group(
        self, method: str, organization: str, project: str, path: str, body: object = None
    ) -> Any:  # noqa: ANN401 (JSON)
        """Call the public API. `path` is quoted, and relative to the project's container groups."""
        url = f"{_groups(organization, project)}/{path}".rstrip("/")
        answer = await self._call(self._server.url, method, url, self._customer, body)
        return self._in_the_callers_words(answer)

    @property
    def _customer(self) -> dict[str, str]:
        return {"Salad-Api-Key": self._server.key.reveal()}

    def _in_the_callers_words(self, answer: Any) -> Any:  # noqa: ANN401 (JSON)
        """Return groups with descriptions that tell an operator what to do, if the key is an operator's."""
        if self._server.key.reveal().startswith(OPERATOR_KEY_PREFIX) and isinstance(answer, dict):
            for group in answer.get("items", [answer]):
                state = group.get("current_state", {})
                if description := state.get("description"):
                    state["description"] = for_operator(description)
        return answer

    async def _call(
        self,
        server: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: object,
        query: Mapping[str, object] = MappingProxyType({}),
    ) -> Any:  # noqa: ANN401 (JSON)
        document, _ = await self._exchange(server, method, path, headers, body, query)
        return document

    async def _exchange(
        self,
        server: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: object,
        query: Mapping[str, object] = MappingProxyType({}),
    ) -> tuple[Any, str | None]:
        """Return the answer, and the path of the next page, if there is one."""
        answer, following = await self._send(server, method, path, headers, body, query)
        return _json(answer), following

    async def _send(
        self,
        server: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: object,
        query: Mapping[str, object],
    ) -> tuple[bytes, str | None]:
        """Return the body of the answer, and the path of the next page, if there is one."""
        params = {name: str(value) for name, value in query.items() if value is not None}
        try:
            async with self._session.request(
                method, server + path, headers=headers, json=body, params=params
            ) as response:
                answer = await response.read()
                status = response.status
                following = response.links.get("next")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ServerUnreachableError(why_unreachable(server, error)) from None
        if status >= 400:  # noqa: PLR2004 (RFC 9110, section 15)
            raise _refusal(status, _json(answer))
        return answer, URL(following["url"]).raw_path_qs if following else None


@asynccontextmanager
async def connect(data_dir: Path) -> AsyncIterator[ApiClient]:
    """Open a client for the server that `find_server` returns."""
    async with open_client(find_server(data_dir, CONFIGURED.get(ClientConfiguration()))) as client:
        yield client


@asynccontextmanager
async def open_client(server: Server) -> AsyncIterator[ApiClient]:
    """Open a client for a server."""
    connector = aiohttp.TCPConnector(ssl=server.tls())
    async with aiohttp.ClientSession(
        connector=connector, timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        yield ApiClient(server, session)
        await asyncio.sleep(0)  # let the connector close its transports


def _groups(organization: str, project: str) -> str:
    return f"/api/public/organizations/{quote(organization)}/projects/{quote(project)}/containers"


def _json(answer: bytes) -> Any:  # noqa: ANN401 (JSON)
    try:
        return json.loads(answer.decode()) if answer else None
    except ValueError:
        raise ServerUnreachableError("the answer is not from a Crisper server: check CRISPER_URL") from None


def _refusal(status: int, document: object) -> ServerRefusedError:
    problem = document if isinstance(document, dict) else {}
    fields = problem.get("errors")
    detail = problem.get("detail") or problem.get("title") or f"the server answered {status}"
    return ServerRefusedError(status, str(detail), fields if isinstance(fields, dict) else {})
