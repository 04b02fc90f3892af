"""Image references as in Docker: `[registry/]repository[:tag][@digest]`.

The grammar and the defaults (`docker.io`, `library/`, `latest`) are those of
github.com/distribution/reference. Ports and IPv6 literals are checked more strictly.
"""

import re
from dataclasses import dataclass
from typing import Self

from registry.errors import ReferenceFormatError
from registry.hosts import split_host
from storage.digest import Digest
from storage.errors import DigestError

DOCKER_HUB = "docker.io"
MAX_REFERENCE_LENGTH = 1024
MAX_REPOSITORY_LENGTH = 255

_DOCKER_HUB_ENDPOINT = "registry-1.docker.io"
_DOCKER_HUB_ALIASES = frozenset({"docker.io", "index.docker.io"})
_DOCKER_HUB_HOSTS = _DOCKER_HUB_ALIASES | {_DOCKER_HUB_ENDPOINT, "registry.hub.docker.com"}
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII | re.IGNORECASE)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_BARE_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """Image reference. `parse` returns only valid ones.

    Attributes:
        registry: Host and port as customers write them, in lower case; `docker.io` for Docker Hub.
        repository: Path in the registry, including `library/`.
        tag: Tag; None only if there is a digest and no tag.
        digest: Digest, which takes precedence over the tag.
    """

    registry: str
    repository: str
    tag: str | None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a reference.

        Raises:
            ReferenceFormatError: The reference is invalid. The message says what to change.
        """
        _check_upstream_settings(text)
        rest, at, digest_text = text.partition("@")
        digest = _parse_digest(digest_text) if at else None
        registry, path = _split_registry(rest)
        path, colon, tag = path.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise ReferenceFormatError(
                "a tag has 1 to 128 letters, digits, dots, dashes and underscores: myimage:1.0"
            )
        repository = _parse_repository(registry, path)
        if not colon and digest is None:
            tag = "latest"
        return cls(registry, repository, tag or None, digest)

    @property
    def host(self) -> str:
        """Host and port for connections."""
        return _DOCKER_HUB_ENDPOINT if self.registry == DOCKER_HUB else self.registry

    @property
    def identifier(self) -> str:
        """Digest, or else tag, for requests to the registry."""
        return str(self.digest) if self.digest else self.tag or "latest"

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def names(self) -> tuple[str, str]:
        """`name`, and the name that the same repository has without a port 443 and a host of Docker Hub."""
        host = self.registry.removesuffix(":443")
        registry = DOCKER_HUB if host in _DOCKER_HUB_HOSTS else host
        return self.name, f"{registry}/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def is_repository(text: str) -> bool:
    """Return whether this is a valid name of a repository (distribution-spec, "Pulling manifests")."""
    return len(text) <= MAX_REPOSITORY_LENGTH and _REPOSITORY.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Return whether this is a valid tag (distribution-spec, "Pulling manifests")."""
    return _TAG.fullmatch(text) is not None


def _check_upstream_settings(text: str) -> None:
    if not text or len(text) > MAX_REFERENCE_LENGTH:
        raise ReferenceFormatError(f"an image reference has 1 to {MAX_REFERENCE_LENGTH} characters")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ReferenceFormatError(
            "an image reference must not contain spaces, control or non-ASCII characters"
        )
    if scheme := _SCHEME.match(text):
        raise ReferenceFormatError(
            f"remove {scheme[0].lower()} from the reference: write registry.example.com/image:tag"
        )


def _parse_digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except DigestError as error:
        raise ReferenceFormatError(f"the text after @ is not a digest: {error}") from None


def _split_registry(text: str) -> tuple[str, str]:
    """Split off the registry as Docker does: the first component if it has a dot, a colon or a capital."""
    first, slash, rest = text.partition("/")
    if not slash or not (first == "localhost" or re.search(r"[.:A-Z]", first)):
        return DOCKER_HUB, text
    name, port = split_host(first)
    host = name if port is None else f"{name}:{port}"
    return (DOCKER_HUB if host in _DOCKER_HUB_ALIASES else host), rest


def _parse_repository(registry: str, path: str) -> str:
    if registry == DOCKER_HUB and "/" not in path:
        if _BARE_HEX.fullmatch(path):
            raise ReferenceFormatError("64 hex characters are an image id, not a name: write name@sha256:...")
        path = f"library/{path}"
    if len(path) > MAX_REPOSITORY_LENGTH:
        raise ReferenceFormatError(f"a repository has at most {MAX_REPOSITORY_LENGTH} characters")
    if not _REPOSITORY.fullmatch(path):
        raise ReferenceFormatError(
            "a repository has lower-case letters and digits, separated by single dots, underscores, "
            "dashes and slashes: team/my-image"
        )
    return path
