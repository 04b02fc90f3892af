"""The use-cases of edge caches: create, list, delete, find by key."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from auth.audit import EventType
from auth.networks import Network
from auth.ports import AuditEvent, Clock
from auth.secret import Secret
from registry.audit.types import RegistryEventType
from registry.errors import InvalidInputError, NotFoundError, ReferenceFormatError
from registry.hosts import RegistryAddress, shares_domain
from registry.model.edges import Edge, EdgeRecords
from registry.services.api_keys import MAX_KEY_LENGTH, hash_api_key

_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class NewEdge:
    """A new edge with its key, which is returned only here."""

    edge: Edge
    key: Secret


class Edges:
    """Manages edge caches.

    Args:
        public_url: URL of the registry; None if it is unknown.
    """

    def __init__(self, records: EdgeRecords, clock: Clock, public_url: str | None) -> None:
        self._records = records
        self._clock = clock
        self._own = urlsplit(public_url or "").hostname or ""

    async def create(
        self, name: str, url: str, serves: Sequence[Network], networks: Sequence[Network], *, source: str
    ) -> NewEdge:
        """Create an edge.

        Args:
            url: `https://HOST[:PORT]`; `http://` is allowed, because nodes verify what they get.
            serves: Networks of the nodes that are sent to it.
            networks: Networks from which it may fetch; empty allows all.
            source: Network address of the caller.

        Raises:
            InvalidInputError: The URL is not acceptable.
            ConflictError: The name is in use.
        """
        edge = Edge(name, self._checked(url), tuple(serves), tuple(networks), self._clock.now())
        key = Secret(f"crisper_edge_{secrets.token_urlsafe(_KEY_BYTES)}")
        event = edge_event(RegistryEventType.EDGE_CREATED, name, source, url=edge.url)
        await self._records.add(edge, hash_api_key(key.reveal()), event)
        return NewEdge(edge, key)

    async def list(self) -> Sequence[Edge]:
        """Return all edges, ordered by name."""
        return await self._records.list()

    async def delete(self, name: str, *, source: str) -> None:
        """Delete an edge. Its key is refused from now on. Raises NotFoundError."""
        if not await self._records.remove(name, edge_event(RegistryEventType.EDGE_REVOKED, name, source)):
            raise NotFoundError(f"there is no edge {name!r}")

    async def find(self, key: str) -> Edge | None:
        """Return the edge with this key, or None."""
        if not key or len(key) > MAX_KEY_LENGTH:
            return None
        return await self._records.by_key(hash_api_key(key))

    def _checked(self, url: str) -> str:
        """Return a URL in its canonical form."""
        try:
            address = RegistryAddress.parse(url)
        except ReferenceFormatError as error:
            raise InvalidInputError(f"url: {error}", {"url": [str(error)]}) from None
        host = urlsplit(address.url).hostname or ""
        if self._own and shares_domain(host, self._own):
            reason = (
                f"use another domain than {self._own}: container clients would send the edge their tokens, "
                "because they trust redirects within a domain"
            )
            raise InvalidInputError(f"url: {reason}", {"url": [reason]})
        return address.url


def edge_event(type_: EventType, name: str, source: str, **detail: str) -> AuditEvent:
    """Return an event about an edge."""
    return AuditEvent(type_, source=source, detail={"edge": name, **detail})
