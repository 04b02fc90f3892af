"""The parts of a process that several roles use."""

import hmac
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cached_property

from auth.authority import Authority, IssuedTokens
from auth.context import AuthContext
from auth.key_watch import watched
from auth.ledger import (
    LedgerAddress,
    LedgerClient,
    LedgerLimits,
    RedisTokenLedger,
    Topology,
    connect,
)
from auth.nodes.ca import NodeCA
from auth.signing_keys import LocalPublicKeys, LocalSigningKeys, LocalVerificationKeys
from auth.verifier import Verifier
from registry.api.http.origin import Origin
from registry.api.http.paced import Pacing
from registry.api.key_refusals import REFUSALS_PER_MINUTE, KeyRefusals
from registry.audit.counting import CountingAuditTrail
from registry.audit.throttling import ThrottledAuditTrail
from registry.catalog.edges import SqlCiphertexts, SqlEdges
from registry.catalog.encryption import SqlEncryptionPolicies
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.events import SqlEventLog
from registry.catalog.figures import SqlFigures
from registry.catalog.groups import SqlGroupCatalog
from registry.catalog.instances import SqlInstances
from registry.catalog.node_blobs import SqlNodeBlobs
from registry.catalog.nodes import SqlNodeRegistry
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.policies import SqlPolicies
from registry.catalog.quotas import SqlQuotas
from registry.catalog.specs import SpecCipher
from registry.catalog.webhooks import SqlWebhooks
from registry.composition.storage import database_url, open_blobs
from registry.config import SIGNING_ROLES, STORAGE_ROLES, Role, Settings
from registry.datadir import DataDir, read_operator_key
from registry.ephemeral.credential_vault import RedisCredentialVault
from registry.ephemeral.progress import RedisProgressStore
from registry.ephemeral.rate_limits import RedisRateLimiter
from registry.model.encryption import Encryption
from registry.model.groups import Group
from registry.model.quotas import NAMES, Quotas
from registry.observe import Metrics
from registry.pull.documents import Documents
from registry.pull.egress import EgressCounter
from registry.pull.encryption import ImageEncryption
from registry.pull.resolve import ImageResolver
from registry.services.edges import Edges
from registry.services.instances import Instances
from registry.services.quotas import OrganizationQuotas
from registry.services.webhooks import WebhookSecrets
from registry.upstream.from_settings import hook_client
from registry.upstream.hooks import HookClient
from storage.blobs import BlobStore
from storage.ports import KeyProvider


@dataclass
class Shared:
    """The parts of a process that several roles use. The constructor opens nothing.

    Keys are loaded when a role first uses them: a process has only the keys that its roles need
    (docs/adr/0065-keys-by-role.md).

    Attributes:
        stack: Closes what the roles open.
        trail: The audit trail with throttling and metrics, for refusals and tokens.
        events: The audit trail itself.
    """

    settings: Settings
    data: DataDir
    stack: AsyncExitStack
    metrics: Metrics
    database: Database
    redis: LedgerClient
    events: SqlEventLog
    trail: CountingAuditTrail
    ledger: RedisTokenLedger
    token_keys: LocalSigningKeys | LocalPublicKeys | None
    clock: SystemClock = field(default_factory=SystemClock)

    @cached_property
    def pacing(self) -> Pacing:
        return Pacing(self.settings.stall_s)

    @cached_property
    def origin(self) -> Origin:
        return Origin(self.settings.public_url, self.settings.service)

    @cached_property
    def key_provider(self) -> KeyProvider:
        """What wraps data keys, credentials and webhook secrets."""
        key_provider = self.settings.key_location.open()
        self.stack.push_async_callback(key_provider.aclose)
        return key_provider

    @cached_property
    def blobs(self) -> BlobStore:
        blobs = open_blobs(self.settings, self.key_provider, self.database)
        self.stack.push_async_callback(blobs.aclose)
        return blobs

    @property
    def signing_keys(self) -> LocalSigningKeys:
        if not isinstance(self.token_keys, LocalSigningKeys):
            raise TypeError("The roles of this process sign no tokens.")
        return self.token_keys

    @property
    def verification_keys(self) -> LocalVerificationKeys:
        if self.token_keys is None:
            raise TypeError("The roles of this process verify no tokens.")
        return self.token_keys.verification_keys

    @cached_property
    def is_operator_key(self) -> Callable[[str], bool]:
        return _key_check(read_operator_key(self.data.operator_key))

    @cached_property
    def key_refusals(self) -> KeyRefusals:
        return KeyRefusals(self.trail, RedisRateLimiter(self.redis, REFUSALS_PER_MINUTE))

    @cached_property
    def change_rates(self) -> RedisRateLimiter | None:
        rate = self.settings.organization_changes_per_minute
        return RedisRateLimiter(self.redis, rate) if rate else None

    @cached_property
    def node_ca(self) -> NodeCA:
        return NodeCA.load(self.data.node_ca)

    @cached_property
    def quotas(self) -> SqlQuotas:
        return SqlQuotas(self.database, self.clock, default_quotas(self.settings))

    @cached_property
    def policies(self) -> SqlPolicies:
        return SqlPolicies(self.database, self.clock)

    @cached_property
    def organization_quotas(self) -> OrganizationQuotas:
        return OrganizationQuotas(self.quotas, RedisRateLimiter(self.redis).take)

    @cached_property
    def groups(self) -> SqlGroupCatalog:
        specs = SpecCipher(self.database, self.key_provider)
        return SqlGroupCatalog(self.database, self.clock, specs, self.quotas)

    @cached_property
    def nodes(self) -> SqlNodeRegistry:
        return SqlNodeRegistry(self.database, self.clock)

    @cached_property
    def edges(self) -> SqlEdges:
        return SqlEdges(self.database, self.clock)

    @cached_property
    def ciphertexts(self) -> SqlCiphertexts:
        return SqlCiphertexts(self.database)

    @cached_property
    def edge_keys(self) -> Edges:
        return Edges(self.edges, self.clock, self.settings.public_url)

    @cached_property
    def figures(self) -> SqlFigures:
        return SqlFigures(self.database)

    @cached_property
    def organizations(self) -> SqlOrganizationDirectory:
        return SqlOrganizationDirectory(self.database)

    @cached_property
    def designations(self) -> SqlInstances:
        return SqlInstances(self.database, self.clock)

    @cached_property
    def resolver(self) -> ImageResolver:
        return ImageResolver(self.groups)

    @cached_property
    def documents(self) -> Documents:
        return Documents(self.blobs)

    @cached_property
    def encryption(self) -> ImageEncryption:
        return ImageEncryption(self.documents, self.blobs)

    @cached_property
    def encryption_policies(self) -> SqlEncryptionPolicies:
        server = Encryption(self.settings.encryption)
        return SqlEncryptionPolicies(self.database, self.clock, server)

    @cached_property
    def progress(self) -> RedisProgressStore:
        return RedisProgressStore(self.redis)

    @cached_property
    def vault(self) -> RedisCredentialVault:
        replicas = self.settings.redis_min_replicas
        return RedisCredentialVault(self.redis, self.key_provider, replicas=replicas)

    @cached_property
    def webhook_secrets(self) -> WebhookSecrets:
        return WebhookSecrets(self.key_provider)

    @cached_property
    def webhooks(self) -> SqlWebhooks:
        return SqlWebhooks(self.database, self.clock)

    @cached_property
    def hooks(self) -> HookClient:
        """The client of webhook endpoints, which also checks their URLs."""
        hooks = hook_client(self.settings)
        self.stack.push_async_callback(hooks.close)
        return hooks

    @cached_property
    def auth_context(self) -> AuthContext:
        name = self.settings.service
        return AuthContext(self.ledger, self.trail, self.clock, issuer=name, service=name)

    @cached_property
    def issued_tokens(self) -> IssuedTokens:
        return IssuedTokens(self.auth_context)

    @cached_property
    def authority(self) -> Authority:
        return Authority(self.signing_keys, self.auth_context)

    @cached_property
    def verifier(self) -> Verifier:
        egress = EgressCounter(self.figures.add, self.clock)
        self.stack.push_async_callback(egress.aclose)
        return Verifier(self.verification_keys, self.auth_context, egress.count)

    @cached_property
    def instances(self) -> Instances:
        async def dismiss_tokens(group: Group) -> None:
            organization = group.key.organization
            await self.issued_tokens.revoke_group(group.id, organization=organization, barred=False)

        return Instances(
            catalog=self.designations,
            groups=self.groups,
            tokens=self.issued_tokens,
            quotas=self.organization_quotas,
            node_blobs=SqlNodeBlobs(self.database, self.clock),
            image_of=self.resolver.image,
            dismiss_tokens=dismiss_tokens,
            trail=self.events,
            clock=self.clock,
        )

    @cached_property
    def probes(self) -> dict[str, Callable[[], Awaitable[None]]]:
        async def ledger() -> None:
            await self.redis.ping()

        probes: dict[str, Callable[[], Awaitable[None]]] = {"catalog": self.database.probe, "ledger": ledger}
        if self.settings.roles & STORAGE_ROLES:
            probes["storage and keys"] = self.blobs.probe
        return probes


async def open_shared(settings: Settings, data: DataDir, redis_url: str, stack: AsyncExitStack) -> Shared:
    """Open what all roles use. The stack closes it."""
    database = Database(database_url(settings, data))
    stack.push_async_callback(database.close)
    redis = connect(redis_url)
    stack.push_async_callback(redis.aclose)
    events = SqlEventLog(database, SystemClock())
    stack.push_async_callback(events.aclose)
    ledger = RedisTokenLedger(
        redis,
        _limits(settings),
        replicated=LedgerAddress.parse(redis_url).topology is not Topology.SINGLE,
        min_replicas=settings.redis_min_replicas,
    )
    stack.push_async_callback(ledger.aclose)
    throttled = ThrottledAuditTrail(events)
    stack.push_async_callback(throttled.aclose)
    metrics = Metrics()
    token_keys = _token_keys(settings.roles, data)
    if token_keys is not None:
        await stack.enter_async_context(watched(token_keys))
    return Shared(
        settings=settings,
        data=data,
        stack=stack,
        metrics=metrics,
        database=database,
        redis=redis,
        events=events,
        trail=CountingAuditTrail(throttled, metrics),
        ledger=ledger,
        token_keys=token_keys,
    )


def _token_keys(roles: AbstractSet[Role], data: DataDir) -> LocalSigningKeys | LocalPublicKeys | None:
    """Load the keys of tokens that the roles need."""
    if roles & SIGNING_ROLES:
        return LocalSigningKeys.load(data.signing_keys)
    return LocalPublicKeys(data.signing_keys) if Role.PULL in roles else None


def default_quotas(settings: Settings) -> Quotas:
    """Return the quotas of organizations for which the operator has not set others."""
    setting = {name: f"organization_{name}" for name in NAMES} | {"imports": "organization_import_jobs"}
    return Quotas(**{name: getattr(settings, setting[name]) for name in NAMES})


def _limits(settings: Settings) -> LedgerLimits:
    return LedgerLimits(
        grace_s=settings.completion_grace_s, base_s=settings.session_base_s, idle_s=settings.session_idle_s
    )


def _key_check(key: str) -> Callable[[str], bool]:
    kept = key.encode()

    def check(shown: str) -> bool:
        return hmac.compare_digest(shown.encode(errors="replace"), kept)

    return check
