"""The composition root: the only module that chooses adapters, with one `compose_` function per role."""

import asyncio
import hmac
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Coroutine, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, partial

from aiohttp import web

from auth.authority import Authority, IssuedTokens
from auth.context import AuthContext
from auth.key_watch import watched
from auth.ledger import (
    EventStream,
    LedgerAddress,
    LedgerClient,
    LedgerLimits,
    RedisTokenLedger,
    Topology,
    connect,
)
from auth.nodes.ca import NodeCA, load_certificate
from auth.nodes.enrolment import NodeEnrolment
from auth.nodes.trust import ClientTrust, Issuers
from auth.realm import Realm
from auth.secret import Secret
from auth.signing_keys import LocalPublicKeys, LocalSigningKeys, LocalVerificationKeys
from auth.verifier import Verifier
from registry.api import operator, public
from registry.api.documentation import ApiReference
from registry.api.endpoint import Access, Part
from registry.api.health import HealthApi, Readiness
from registry.api.http.origin import Origin
from registry.api.http.peers import Peers
from registry.api.http.socket_sender import SocketSender
from registry.api.http.streaming import BlobStreamer
from registry.api.key_refusals import REFUSALS_PER_MINUTE, KeyRefusals
from registry.api.openapi import document
from registry.api.operator.events import EventsApi
from registry.api.operator.images import ImagesApi
from registry.api.operator.instances import InstancesApi
from registry.api.operator.nodes import NodesApi
from registry.api.operator.organizations import OrganizationsApi
from registry.api.operator.platforms import PlatformsApi
from registry.api.operator.pull_tokens import PullTokensApi
from registry.api.operator.quotas import QuotasApi
from registry.api.operator.webhooks import WebhooksApi
from registry.api.public import ApiKeyAuthenticator, PublicServices, public_app
from registry.api.root import root_app
from registry.api.token import TokenApi
from registry.api.v2.application import PREFIX as DISTRIBUTION_PREFIX
from registry.api.v2.application import distribution_app
from registry.api.v2.node_limit import NodeConcurrencyLimit
from registry.audit.counting import CountingAuditTrail
from registry.audit.drain import EventDrain
from registry.audit.throttling import ThrottledAuditTrail
from registry.catalog.api_keys import SqlApiKeyDirectory
from registry.catalog.blob_origins import SqlBlobOrigins
from registry.catalog.collection import SqlBlobPins, SqlCollection
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.enrolments import SqlEnrolmentRecords
from registry.catalog.event_chain import SqlEventChain
from registry.catalog.events import SqlEventLog
from registry.catalog.group_logs import SqlGroupLogs
from registry.catalog.groups import SqlGroupCatalog
from registry.catalog.images import SqlImages, SqlKnownLayers
from registry.catalog.import_quotas import SqlImportQuota
from registry.catalog.instances import SqlInstances
from registry.catalog.jobs import SqlJobQueue
from registry.catalog.key_records import SqlKeyRecords
from registry.catalog.maintenance import SqlUpkeep
from registry.catalog.node_blobs import SqlNodeBlobs
from registry.catalog.nodes import SqlNodeRegistry
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.overview import SqlOverview
from registry.catalog.partials import SqlPartials
from registry.catalog.platforms import SqlPlatformSettings
from registry.catalog.quarantine import SqlQuarantine
from registry.catalog.quotas import SqlQuotas
from registry.catalog.specs import SpecCipher
from registry.catalog.webhooks import SqlWebhooks
from registry.config import SIGNING_ROLES, STORAGE_ROLES, AdminRoute, Role, Settings
from registry.datadir import DataDir, read_operator_key
from registry.ephemeral.credential_vault import RedisCredentialVault
from registry.ephemeral.portal_sessions import RedisPortalSessions
from registry.ephemeral.progress import RedisProgressStore
from registry.ephemeral.rate_limits import RedisRateLimiter
from registry.imports.bandwidth import Bandwidth
from registry.imports.importer import Importer
from registry.imports.linking import BlobLinker
from registry.imports.recompress.pipeline import Compression, Compressor
from registry.imports.transfer import TransferOptions
from registry.imports.transfer_lock import TransferLock
from registry.imports.worker import ImportWorker
from registry.maintenance.collection import Collection
from registry.maintenance.damage import DamageReporter
from registry.maintenance.periodic import repeat
from registry.maintenance.trail import TrailKeeper
from registry.model.groups import Group
from registry.model.images import Variant
from registry.model.quotas import NAMES, Quotas
from registry.observe import Metrics
from registry.oci.platform import parse_platforms
from registry.oci.reference import Reference
from registry.portal import Portal, PortalSessions, Services
from registry.portal.sessions import FAILURES_PER_MINUTE
from registry.pull.resolve import ImageResolver
from registry.services.api_keys import ApiKeys
from registry.services.group_logs import GroupLogs
from registry.services.groups import ContainerGroups
from registry.services.hardware import HardwareFile
from registry.services.instances import SWEEP_S, Instances
from registry.services.nodes import Nodes
from registry.services.pull_tokens import PullTokens
from registry.services.quotas import OrganizationQuotas
from registry.services.webhook_delivery import WebhookDispatcher
from registry.services.webhooks import Webhooks, WebhookSecrets
from registry.upstream.credentials import from_registry_authentication
from registry.upstream.from_settings import hook_client, shared_registries, upstream_client
from registry.upstream.hooks import HookClient
from registry.upstream.ranges import DownloadOptions, PrefetchBudget
from storage.blobs import BlobStore
from storage.keys.locate import name_key
from storage.ports import KeyProvider


@dataclass(frozen=True, slots=True)
class Composition:
    """One server process, composed.

    Attributes:
        main: What the main listener answers.
        admin: What the administration listener answers; None without one.
        worker: The import role; None where this process does not import.
        upkeep: Runs for as long as the process; None where it does not collect.
    """

    main: web.Application
    admin: web.Application | None
    worker: ImportWorker | None
    upkeep: Callable[[], Awaitable[None]] | None = None


def database_url(settings: Settings, data: DataDir) -> str:
    """Return where the catalog is."""
    return settings.database_url or f"sqlite:///{data.catalog}"


def open_blobs(settings: Settings, keys: KeyProvider, database: Database) -> BlobStore:
    """Open storage; the caller closes it."""
    return BlobStore(
        settings.storage_location.open(),
        keys,
        SqlKeyRecords(database),
        name_key(keys),
        partials=SqlPartials(database, SystemClock()),
    )


def default_quotas(settings: Settings) -> Quotas:
    """Return the quotas of organizations for which the operator has not set others."""
    setting = {name: f"organization_{name}" for name in NAMES} | {"imports": "organization_import_jobs"}
    return Quotas(**{name: getattr(settings, setting[name]) for name in NAMES})


def open_compressor(
    settings: Settings, blobs: BlobStore, database: Database, metrics: Metrics
) -> Compressor | None:
    """Open what makes variants, where settings want them; the caller closes it."""
    if not settings.compress:
        return None
    how = Compression(
        level=settings.compress_level,
        threads=settings.compress_threads or max(2, (os.cpu_count() or 1) // 2),
        min_gain=settings.compress_min_gain,
        max_unpacked_bytes=settings.max_unpacked_bytes,
    )
    return Compressor(blobs, SqlBlobPins(database), SqlKnownLayers(database), metrics, how)


@asynccontextmanager
async def compose(settings: Settings, data: DataDir, redis_url: str) -> AsyncIterator[Composition]:
    """Build one server process, and close what it opened, in reverse order, at the end.

    Args:
        settings: Validated.
        data: A data folder after its first start, with a migrated catalog.
        redis_url: URL of the token ledger.
    """
    async with AsyncExitStack() as stack:
        shared = await _open_shared(settings, data, redis_url, stack)
        worker = compose_import(shared) if Role.IMPORT in settings.roles else None
        upkeep = compose_upkeep(shared) if Role.IMPORT in settings.roles else None
        main, admin = _Listener(), _Listener() if settings.admin_listener else None
        readiness = Readiness(shared.probes)
        main.routes += HealthApi(readiness, shared.metrics, details=admin is None).routes()
        if admin is not None:
            admin.routes += HealthApi(readiness, shared.metrics, details=True).routes()
        if Role.PULL in settings.roles:
            main.mounted[DISTRIBUTION_PREFIX] = compose_pull(shared)
        if Role.TOKEN in settings.roles:
            tokens = compose_token(shared)
            main.mounted["/token"] = tokens.app()
            main.routes.append(web.get("/.well-known/jwks.json", tokens.jwks))
        if Role.API in settings.roles:
            compose_api(shared, worker.nudge if worker else _no_worker, main, admin)
        peers = _peers(shared)
        yield Composition(
            main.application(shared.metrics, peers, shared.origin),
            admin.application(shared.metrics, peers, shared.origin) if admin else None,
            worker,
            upkeep,
        )


@dataclass
class _Listener:
    """What one listener serves."""

    mounted: dict[str, web.Application] = field(default_factory=dict)
    routes: list[web.RouteDef] = field(default_factory=list)
    portal: Portal | None = None

    def application(self, metrics: Metrics, peers: Peers, origin: Origin) -> web.Application:
        """Return the root application."""
        root = root_app(self.mounted, self.routes, metrics, peers, origin)
        if self.portal is not None:
            self.portal.mount(root)
        return root


@dataclass
class _Shared:
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
    def organizations(self) -> SqlOrganizationDirectory:
        return SqlOrganizationDirectory(self.database)

    @cached_property
    def designations(self) -> SqlInstances:
        return SqlInstances(self.database, self.clock)

    @cached_property
    def resolver(self) -> ImageResolver:
        return ImageResolver(self.groups)

    @cached_property
    def progress(self) -> RedisProgressStore:
        return RedisProgressStore(self.redis)

    @cached_property
    def vault(self) -> RedisCredentialVault:
        return RedisCredentialVault(self.redis, self.key_provider)

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
        return Verifier(self.verification_keys, self.auth_context)

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


async def _open_shared(settings: Settings, data: DataDir, redis_url: str, stack: AsyncExitStack) -> _Shared:
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
    return _Shared(
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


def compose_pull(shared: _Shared) -> web.Application:
    """Build the role `pull`: `/v2/`."""
    sender = SocketSender()
    shared.stack.callback(sender.close)
    return distribution_app(
        verifier=shared.verifier,
        resolver=shared.resolver,
        blobs=shared.blobs,
        catalog=shared.groups,
        streamer=BlobStreamer(sender, shared.metrics, stall_s=shared.settings.stall_s),
        limit=NodeConcurrencyLimit(shared.settings.node_responses),
        damage=DamageReporter(
            SqlKeyRecords(shared.database), SqlQuarantine(shared.database, shared.clock), shared.events
        ),
        origin=shared.origin,
    )


def compose_token(shared: _Shared) -> TokenApi:
    """Build the role `token`: `/token` and the public signing keys."""
    realm = Realm(shared.signing_keys, shared.auth_context)
    return TokenApi(realm, shared.verification_keys)


def compose_import(shared: _Shared) -> ImportWorker:
    """Build the role `import`: the worker that runs import jobs."""
    settings, database, clock = shared.settings, shared.database, shared.clock
    client = upstream_client(settings)
    shared.stack.push_async_callback(client.close)
    downloads = DownloadOptions(
        PrefetchBudget(settings.ahead_bytes),
        connections=settings.blob_connections,
        pace=Bandwidth(settings.import_bytes_per_s).pace,
        min_bytes_per_s=settings.import_min_bytes_per_s,
    )
    # Shorter than the lease of a job: the worker that takes over a job then need not wait for its blobs.
    transfer_lock = TransferLock(shared.redis, settings.lease_s / 2)
    origins = SqlBlobOrigins(database, clock)
    compressor = open_compressor(settings, shared.blobs, database, shared.metrics)
    if compressor is not None:
        shared.stack.callback(compressor.close)
    importer = Importer(
        client,
        shared.blobs,
        SqlBlobPins(database),
        shared.metrics,
        sharing=BlobLinker(shared.blobs, origins, shared_registries(settings)),
        max_image_bytes=settings.max_image_bytes,
        options=TransferOptions(downloads, transfer_lock, settings.layer_transfers),
        quota=SqlImportQuota(database, clock, shared.quotas),
        platforms=parse_platforms(settings.platforms),
        compressor=compressor,
    )
    return ImportWorker(
        SqlJobQueue(database, clock, shared.quotas),
        shared.vault,
        shared.progress,
        importer,
        shared.metrics,
        worker_id=f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(6)}",
        lease_s=settings.lease_s,
        jobs=settings.import_jobs,
        retry_delay_s=settings.import_retry_delay_s,
    )


def compose_upkeep(shared: _Shared) -> Callable[[], Awaitable[None]]:
    """Build the background work of the role `import`: webhooks, events, instances, garbage collection."""
    settings = shared.settings
    dispatcher = WebhookDispatcher(
        catalog=shared.webhooks,
        secrets=shared.webhook_secrets,
        post=shared.hooks.post,
        clock=shared.clock,
        disable_after=timedelta(days=settings.webhook_days),
    )
    stream = EventStream(shared.redis)
    shared.stack.push_async_callback(stream.aclose)
    chores: list[Callable[[], Coroutine[None, None, None]]] = [
        dispatcher.run,
        EventDrain(stream, shared.events.store, shared.trail.count).run,
        partial(repeat, "instances", SWEEP_S, shared.instances.sweep),
        TrailKeeper(
            SqlEventChain(shared.database, shared.key_provider), shared.clock, settings.retention
        ).run,
    ]
    if settings.gc_interval_s > 0:
        collection = Collection(
            shared.blobs,
            SqlCollection(shared.database, shared.clock, settings.image_cache_s),
            SqlUpkeep(shared.database, shared.clock),
            shared.clock,
        )
        collect = partial(collection.run_if_due, settings.gc_interval_s, settings.gc_grace_s)
        chores.append(partial(repeat, "gc", settings.gc_interval_s, collect))

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for chore in chores:
                group.create_task(chore())

    return run


def compose_api(
    shared: _Shared, nudge: Callable[[], None], main: "_Listener", admin: "_Listener | None"
) -> None:
    """Build the role `api`: the public API, the operator API and the portal.

    Args:
        nudge: Wakes the import worker of this process.
        main: Gets what customers and nodes call, and the rest unless `admin` gets it.
        admin: The administration listener, if there is one.
    """
    settings = shared.settings
    groups = ContainerGroups(
        catalog=shared.groups,
        vault=shared.vault,
        progress_store=shared.progress,
        organizations=shared.organizations,
        instances=shared.instances,
        quotas=shared.organization_quotas,
        clock=shared.clock,
        parse_reference=Reference.parse,
        credential_from=from_registry_authentication,
        revoke_tokens=shared.authority.revoke_group,
        nudge=nudge,
    )
    variant = Variant(settings.default_variant)
    pull_tokens = PullTokens(shared.groups, shared.designations, shared.nodes, shared.authority, variant)
    key_directory = SqlApiKeyDirectory(shared.database, shared.clock)
    api_keys = ApiKeys(
        keys=key_directory,
        organizations=shared.organizations,
        quotas=shared.organization_quotas,
        clock=shared.clock,
    )
    webhooks = Webhooks(
        catalog=shared.webhooks,
        secrets=shared.webhook_secrets,
        organizations=shared.organizations,
        quotas=shared.organization_quotas,
        clock=shared.clock,
        vet=shared.hooks.vet,
    )
    rate = settings.api_requests_per_minute
    authenticate = ApiKeyAuthenticator(
        keys=api_keys,
        is_operator_key=shared.is_operator_key,
        refusals=shared.key_refusals,
        rates=RedisRateLimiter(shared.redis, rate) if rate else None,
        changes=shared.change_rates,
    )
    private = admin or main
    moved = settings.admin_routes
    services = _public_services(shared, groups, webhooks)
    main.mounted[public.PREFIX] = public_app(services, authenticate)
    parts = _operator_parts(shared, api_keys, pull_tokens, webhooks)
    operators = private if AdminRoute.OPERATOR in moved else main
    operators.mounted[operator.PREFIX] = full = _operator_app(shared, parts, frozenset(Access))
    if operators is not main:
        main.mounted[operator.PREFIX] = _operator_app(shared, parts, operator.NODES_OWN)
    (private if AdminRoute.PORTAL in moved else main).portal = _portal(
        shared, groups, pull_tokens, key_directory
    )
    private.routes += ApiReference(partial(document, [main.mounted[public.PREFIX], full])).routes()


def _public_services(shared: _Shared, groups: ContainerGroups, webhooks: Webhooks) -> PublicServices:
    return PublicServices(
        groups=groups,
        instances=shared.instances,
        quotas=shared.organization_quotas,
        logs=GroupLogs(SqlGroupLogs(shared.database), shared.groups),
        webhooks=webhooks,
        hardware=HardwareFile(shared.settings.hardware_file),
    )


def _operator_parts(
    shared: _Shared, api_keys: ApiKeys, pull_tokens: PullTokens, webhooks: Webhooks
) -> list[Part]:
    enrolment = NodeEnrolment(
        shared.node_ca,
        shared.nodes,
        SqlEnrolmentRecords(shared.database, shared.clock),
        shared.trail,
        shared.clock,
        offer_s=shared.settings.enrolment_s,
    )
    return [
        OrganizationsApi(shared.organizations, api_keys),
        QuotasApi(shared.organization_quotas),
        WebhooksApi(webhooks),
        NodesApi(Nodes(shared.nodes, enrolment, shared.authority), enrolment),
        InstancesApi(shared.instances),
        PullTokensApi(pull_tokens, shared.authority, shared.origin),
        ImagesApi(SqlImages(shared.database)),
        PlatformsApi(SqlPlatformSettings(shared.database, shared.clock), shared.settings.platforms),
    ]


def _operator_app(shared: _Shared, parts: Sequence[Part], accesses: Container[Access]) -> web.Application:
    return operator.operator_app(
        parts,
        EventsApi(shared.events),
        is_operator_key=shared.is_operator_key,
        refusals=shared.key_refusals,
        verifier=shared.verifier,
        accesses=accesses,
    )


def _portal(
    shared: _Shared, groups: ContainerGroups, pull_tokens: PullTokens, keys: SqlApiKeyDirectory
) -> Portal:
    async def organization_of(key_hash: bytes) -> str | None:
        found = await keys.by_hash(key_hash)
        return found.organization if found is not None else None

    sessions = PortalSessions(
        sessions=RedisPortalSessions(shared.redis, shared.settings.portal_session_s),
        organization_of=organization_of,
        operator_key=Secret(read_operator_key(shared.data.operator_key)),
        failures=RedisRateLimiter(shared.redis, FAILURES_PER_MINUTE).take,
        changes=shared.change_rates.take if shared.change_rates else None,
        trail=shared.trail,
        origin=shared.origin,
    )
    services = Services(
        groups=groups,
        instances=shared.instances,
        catalog=shared.groups,
        overview=SqlOverview(shared.database),
        progress=shared.progress,
        nodes=shared.nodes,
        tokens=pull_tokens,
        authority=shared.authority,
        origin=shared.origin,
        clock=shared.clock,
        probes=shared.probes,
        signing_keys=lambda: shared.signing_keys.keys,
        docs_url=shared.settings.docs_url,
    )
    return Portal(sessions, services)


def _peers(shared: _Shared) -> Peers:
    node_ca, proxy_ca = shared.settings.node_ca, shared.settings.proxy_ca
    issuers = Issuers([load_certificate(shared.data.node_ca)])
    if node_ca is not None:
        issuers += Issuers.load(node_ca)
    proxies = ClientTrust(Issuers.load(proxy_ca)) if proxy_ca is not None else None
    return Peers(ClientTrust(issuers), proxies, shared.clock.now)


def _limits(settings: Settings) -> LedgerLimits:
    return LedgerLimits(
        grace_s=settings.completion_grace_s, base_s=settings.session_base_s, idle_s=settings.session_idle_s
    )


def _key_check(key: str) -> Callable[[str], bool]:
    kept = key.encode()

    def check(shown: str) -> bool:
        return hmac.compare_digest(shown.encode(errors="replace"), kept)

    return check


def _no_worker() -> None:
    """Do nothing: workers in other processes poll for jobs once a second."""
