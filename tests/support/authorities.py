"""A token authority with real keys and a real ledger, and nodes, a clock and a trail that tests own."""

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from auth.authority import Authority, MintedToken
from auth.context import AuthContext
from auth.ledger import EventStream
from auth.ports import AuditEvent, Binding, Node, TokenLedger
from auth.realm import ExchangeRequest, Realm
from auth.secret import Secret, hash_secret, new_node_secret
from auth.signing_keys import LocalSigningKeys
from auth.verifier import Verifier
from tests.support.ledgers import IMAGE

ISSUER, SERVICE, REPOSITORY = "https://registry.test", "registry.test", "acme/factory/camera"
PULL = f"repository:{REPOSITORY}:pull"
_groups = itertools.count()


@dataclass
class ManualClock:
    """Moves only by `advance`."""

    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class ListedEvents:
    """An audit trail in a list."""

    events: list[AuditEvent] = field(default_factory=list)

    async def record(self, event: AuditEvent) -> None:
        self.events.append(event)


class AuthStack:
    """Authority, realm and verifier over one ledger, with two nodes."""

    def __init__(
        self,
        keys: LocalSigningKeys,
        ledger: TokenLedger,
        *,
        patience_s: float = 8,
        stream: EventStream | None = None,
    ) -> None:
        self.keys = keys
        self.ledger = ledger
        self.clock, self.audit = ManualClock(), ListedEvents()
        self.nodes: dict[str, Node] = {}
        self._stream = stream
        context = AuthContext(ledger, self.audit, self.clock, issuer=ISSUER, service=SERVICE)
        self.authority = Authority(keys, context)
        self.realm = Realm(keys, context, patience_s=patience_s)
        self.verifier = Verifier(keys.verification_keys, context)
        self.secrets = {node_id: self.enrol(node_id) for node_id in ("node-1", "node-2")}

    def enrol(self, node_id: str, **changes: object) -> Secret:
        secret = new_node_secret()
        fields: dict[str, object] = {"binding": Binding.SECRET, "secret_hash": hash_secret(secret), **changes}
        self.nodes[node_id] = Node(node_id, **fields)  # type: ignore[arg-type]
        return secret

    async def mint(self, node_id: str = "node-1", **changes: object) -> MintedToken:
        fields: dict[str, object] = {
            "organization": "acme",
            "group_id": f"group-{next(_groups)}",
            "repository": REPOSITORY,
            "image": IMAGE,
            "node": self.nodes[node_id],
            **changes,
        }
        return await self.authority.mint(**fields)  # type: ignore[arg-type]

    def request(self, token: Secret, node_id: str = "node-1", **changes: object) -> ExchangeRequest:
        password = Secret(f"{token.reveal()}~{self.secrets[node_id].reveal()}")
        fields: dict[str, object] = {
            "username": node_id,
            "password": password,
            "service": SERVICE,
            "scopes": [PULL],
            "source": "192.0.2.7",
            **changes,
        }
        return ExchangeRequest(**fields)  # type: ignore[arg-type]

    async def recorded(self, token_id: str) -> list[AuditEvent]:
        """Return the events of a token that the ledger has recorded."""
        assert self._stream is not None
        (name,) = self._stream.names
        waiting = await self._stream.next(name, (), 10_000)
        return [each.event for each in waiting if each.event.token_id == token_id]

    def causes(self) -> list[str | None]:
        return [event.cause for event in self.audit.events if event.type == "token.refused"]

    def types(self) -> list[str]:
        return [event.type for event in self.audit.events]
