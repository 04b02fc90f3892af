"""Sources of pull tokens on a node, supplied by the scheduler (docs/nodes.md, "Tokens on a node").

`/etc/crisper/credentials.json`, or the file in CRISPER_CREDENTIALS, maps each registry to a source:

    {"registry.example.com": {"command": ["/usr/local/bin/pull-token"]},
     "registry.example.com:5000": {"url": "http://127.0.0.1:7000/pull-token"},
     "other.example.com": {"file": "/run/scheduler/pull-token.json"},
     "127.0.0.1:5100": {"proxy_of": "registry.example.com", "secret": "/var/lib/crisper-proxy/secret"}}

A source with `proxy_of` is for `crisper node proxy`: the credential of the registry, and the proxy's secret.
A scheme, the default port and capital letters make no difference in a registry's name.

A command reads `{"registry": ..., "image": ...}` from standard input; a URL gets it as a POST request. Both
answer `{"username": ..., "password": ...}`, or `{}` if there is nothing to pull. A file contains one such
object, or a list of them, each with the `image` that it is for.
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
    """The token source failed or returned no valid credential. The message never contains a credential."""


@dataclass(frozen=True, slots=True)
class Credential:
    """User name and password for the registry's token realm."""

    username: str
    password: str = field(repr=False)


def ask(registry: str, image: str | None = None) -> Credential | None:
    """Return the credential for a pull; None if the registry has no source, or the source has no token.

    Args:
        registry: The registry as the client writes it: `host[:port]`, or a URL.
        image: Reference of the image, if the client sends it.

    Raises:
        SourceError: The configuration or the source's answer is invalid.
    """
    path = Path(os.environ.get("CRISPER_CREDENTIALS", DEFAULT))
    sources = _object(_read(path), str(path))
    registry = _host(registry)
    plain_last = sorted(sources, key=lambda name: name == _host(name))  # the canonical name takes precedence
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
        case {"proxy_of": str(proxied), "secret": str(file)} if _host(proxied) != registry:
            found = ask(proxied, image and f"{_host(proxied)}/{image.partition('/')[2]}")
            secret = _read(Path(file)).decode("ascii", "replace").strip()
            return found and Credential(found.username, f"{found.password}~{secret}")
    raise SourceError(f"{path}: the source of {registry} needs a command, a url, a file or proxy_of")


def repository(image: str) -> str:
    """Strip tag and digest from an image reference."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _host(server: str) -> str:
    """Return a registry's canonical host. An invalid one is returned unchanged."""
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
        raise SourceError("the token source's url must be https://, or http:// to this machine")
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
        """Refuse all redirects, so that request and credential stay at the configured address."""


def _of_file(path: Path, image: str | None) -> Credential | None:
    """Return the credential for the image; the last one in the file if the client sends no image."""
    found = _json(_read(path), str(path))
    offers = found if isinstance(found, list) else [found]
    if not all(isinstance(offer, dict) for offer in offers):
        raise SourceError(f"{path} must contain one credential object, or a list of them")
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
            raise SourceError("the token source's answer lacks a username or a password")
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
        raise SourceError(f"{where} returned no JSON object")
    return value


def _json(text: bytes, where: str) -> Any:  # noqa: ANN401 (JSON)
    try:
        return json.loads(text)
    except ValueError:
        raise SourceError(f"{where} returned no valid JSON") from None


def _private(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme != "http":
        return parts.scheme == "https"
    try:
        return ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"
