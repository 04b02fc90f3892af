"""Where a node gets its pull tokens: what the scheduler supplies (docs/nodes.md, "Tokens on a node").

`/etc/crisper/credentials.json`, or the file that CRISPER_CREDENTIALS names, gives each registry a source:

    {"registry.example.com": {"command": ["/usr/local/bin/pull-token"]},
     "registry.example.com:5000": {"url": "http://127.0.0.1:7000/pull-token"},
     "other.example.com": {"file": "/run/scheduler/pull-token.json"}}

Clients may ask with the default port, with a scheme or in capitals: it is the same registry.
A command reads, and a URL is posted, `{"registry": ..., "image": ...}`; both answer `{"username": ...,
"password": ...}`, or `{}` when there is nothing to pull. A file holds one such object, or a list of them in
which `image` says what each is for.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from registry.errors import ReferenceFormatError
from registry.hosts import asked_host

DEFAULT: Final = Path("/etc/crisper/credentials.json")
_TIMEOUT_S = 20
_MAX_BYTES = 1 << 20


class SourceError(Exception):
    """The source does not answer, or not with a credential; the message never holds one."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a client gives the realm."""

    username: str
    password: str = field(repr=False)


def ask(registry: str, image: str | None = None) -> Credential | None:
    """Return the credential for a pull; None when the scheduler has none, or does not know the registry.

    Args:
        registry: As the client names it: `host[:port]`, or a URL.
        image: The reference that is pulled, where the client says it.

    Raises:
        SourceError: The configuration or the source's answer cannot be read.
    """
    path = Path(os.environ.get("CRISPER_CREDENTIALS", DEFAULT))
    sources = _object(_read(path), str(path))
    registry = _host(registry)
    plain_last = sorted(sources, key=lambda name: name == _host(name))  # of two names for one host it counts
    source = {_host(name): sources[name] for name in plain_last}.get(registry)
    if source is None:
        return None
    image = None if image is None else _with_host(image)
    match source:
        case {"command": [str(), *_] as command}:
            return _credential(_run(command, registry, image))
        case {"url": str(url)}:
            return _credential(_post(url, registry, image))
        case {"file": str(file)}:
            return _of_file(Path(file), image)
    raise SourceError(f"{path}: give {registry} a command, a url or a file")


def repository(image: str) -> str:
    """Return an image reference without tag and digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _host(server: str) -> str:
    """Name a registry in the one form that references have; what cannot be one stays as it is."""
    try:
        return asked_host(server)
    except ReferenceFormatError:
        return server


def _with_host(image: str) -> str:
    host, slash, rest = image.partition("/")
    return f"{_host(host)}{slash}{rest}"


def _run(command: list[str], registry: str, image: str | None) -> bytes:
    try:
        done = subprocess.run(
            command, input=_question(registry, image), capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired, TypeError) as error:
        raise SourceError(f"{command[0]} did not answer ({type(error).__name__})") from None
    if done.returncode:
        raise SourceError(f"{command[0]} exited {done.returncode}")
    return done.stdout


def _post(url: str, registry: str, image: str | None) -> bytes:
    if not _private(url):
        raise SourceError("a token source's url is https://, or http:// to this machine")
    request = Request(  # noqa: S310 (the scheme was checked)
        url, data=_question(registry, image), headers={"Content-Type": "application/json"}
    )
    try:
        with build_opener(ProxyHandler({}), _NoRedirects()).open(request, timeout=_TIMEOUT_S) as answer:
            return bytes(answer.read(_MAX_BYTES))
    except (URLError, OSError) as error:
        raise SourceError(f"the token source does not answer ({type(error).__name__})") from None


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Follow nothing: the question and its answer are for one address."""


def _of_file(path: Path, image: str | None) -> Credential | None:
    """Choose the credential of the image; where the client says no image, the last one."""
    found = _json(_read(path), str(path))
    offers = found if isinstance(found, list) else [found]
    if not all(isinstance(offer, dict) for offer in offers):
        raise SourceError(f"{path} holds something else than credentials")
    if image is not None:
        wanted = repository(image)
        offers = [o for o in offers if repository(_with_host(str(o.get("image", image)))) == wanted]
    return _made(offers[-1]) if offers else None


def _question(registry: str, image: str | None) -> bytes:
    return json.dumps({"registry": registry, "image": image}).encode()


def _credential(answer: bytes) -> Credential | None:
    return _made(_object(answer, "the token source"))


def _made(answer: Mapping[str, Any]) -> Credential | None:
    match answer:
        case {"username": str(username), "password": str(password)} if username and password:
            return Credential(username, password)
        case {"username": _} | {"password": _}:
            raise SourceError("the token source answered half a credential")
    return None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None


def _object(text: bytes, where: str) -> dict[str, Any]:
    value = _json(text, where)
    if not isinstance(value, dict):
        raise SourceError(f"{where} holds no JSON object")
    return value


def _json(text: bytes, where: str) -> Any:  # noqa: ANN401 (JSON)
    try:
        return json.loads(text)
    except ValueError:
        raise SourceError(f"{where} holds no JSON") from None


def _private(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme != "http":
        return parts.scheme == "https"
    try:
        return ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"
