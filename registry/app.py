"""The composition root: the only place that chooses adapters and hands them to who needs them."""

import asyncio
import hmac
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial

from aiohttp import web

from auth.authority import Authority
from auth.key_watch import watched
from auth.ledger import EventStream, LedgerAddress, LedgerLimits, RedisTokenLedger, Topology, connect
from auth.nodes.ca import NodeCA
from auth.nodes.enrolment import NodeEnrolment
from auth.nodes.trust import ClientTrust, Issuers
from auth.realm import Realm
from auth.secret import Secret
from auth.signing_keys import LocalSigningKeys
from auth.verifier import Verifier
from registry.api import operator, public
from registry.api.documentation import ApiReference
from registry.api.health import HealthApi
from registry.api.http.origin import Origin
from registry.api.http.peers import Peers
from registry.api.http.socket_sender import SocketSender
from registry.api.http.streaming import BlobStreamer
from registry.api.openapi import document
from registry.api.operator.events import EventsApi
from registry.api.operator.images import ImagesApi
from registry.api.operator.instances import InstancesApi
from registry.api.operator.nodes import NodesApi
from registry.api.operator.organizations import OrganizationsApi
from registry.api.operator.pull_tokens import PullTokensApi
from registry.api.operator.webhooks import WebhooksApi
from registry.api.public import ApiKeyAuthenticator, public_app
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
from registry.catalog.events import SqlEventLog
from registry.catalog.groups import SqlGroupCatalog
from registry.catalog.images import SqlImages, SqlKnownLayers
from registry.catalog.import_quotas import SqlImportQuota
from registry.catalog.instances import SqlInstances
from registry.catalog.jobs import SqlJobQueue
from registry.catalog.key_records import SqlKeyRecords
from registry.catalog.maintenance import SqlUpkeep
from registry.catalog.nodes import SqlNodeRegistry
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.overview import SqlOverview
from registry.catalog.partials import SqlPartials
from registry.catalog.quarantine import SqlQuarantine
from registry.catalog.webhooks import SqlWebhooks
from registry.config import Role, Settings
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
from registry.model.groups import Group
from registry.model.images import Variant
from registry.observe import Metrics
from registry.oci.reference import Reference
from registry.portal import Portal, PortalSessions, Services
from registry.portal.sessions import ATTEMPTS_PER_MINUTE
from registry.pull.resolve import ImageResolver
from registry.services.api_keys import ApiKeys
from registry.services.groups import ContainerGroups
from registry.services.instances import SWEEP_S, Instances
from registry.services.nodes import Nodes
from registry.services.pull_tokens import PullTokens
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
        web: What answers HTTP.
        worker: The import role; None where this process does not import.
        upkeep: Runs for as long as the process; None where it does not collect.
    """

    web: web.Application
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
        data: A data folder that has had its first start, with a catalog that is migrated.
        redis_url: The ledger.
    """
    async with AsyncExitStack() as stack:
        yield await _Composer(settings, data, redis_url, stack).build()


class _Composer:
    def __init__(self, settings: Settings, data: DataDir, redis_url: str, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._data = data
        self._stack = stack
        self._clock = SystemClock()
        self._metrics = Metrics()
        self._origin = Origin(settings.public_url, settings.service)
        self._is_operator_key = _key_check(read_operator_key(data.operator_key))

        self._database = Database(database_url(settings, data))
        stack.push_async_callback(self._database.close)
        self._redis = connect(redis_url)
        stack.push_async_callback(self._redis.aclose)
        keys = settings.key_location.open()
        stack.push_async_callback(keys.aclose)
        self._blobs = open_blobs(settings, keys, self._database)
        stack.push_async_callback(self._blobs.aclose)

        self._catalog = SqlGroupCatalog(self._database, self._clock)
        self._nodes = SqlNodeRegistry(self._database, self._clock)
        self._organizations = SqlOrganizationDirectory(self._database)
        self._designations = SqlInstances(self._database, self._clock)
        self._events = SqlEventLog(self._database, self._clock)
        stack.push_async_callback(self._events.aclose)
        self._vault = RedisCredentialVault(self._redis, keys)
        self._board = RedisProgressStore(self._redis)

        self._node_ca = NodeCA.load(data.node_ca)
        self._keys = LocalSigningKeys.load(data.signing_keys)
        ledger = RedisTokenLedger(
            self._redis,
            _limits(settings),
            replicated=LedgerAddress.parse(redis_url).topology is not Topology.SINGLE,
            min_replicas=settings.redis_min_replicas,
        )
        stack.push_async_callback(ledger.aclose)
        name = settings.service
        bounded = ThrottledAuditTrail(self._events)
        stack.push_async_callback(bounded.aclose)
        trail = CountingAuditTrail(bounded, self._metrics)
        self._trail = trail
        self._authority = Authority(self._keys, ledger, trail, self._clock, issuer=name, service=name)
        self._realm = Realm(self._keys, ledger, trail, self._clock, issuer=name, service=name)
        public_keys = self._keys.verification_keys
        self._verifier = Verifier(public_keys, ledger, trail, self._clock, issuer=name, service=name)

        self._webhook_secrets = WebhookSecrets(keys)
        self._webhook_catalog = SqlWebhooks(self._database, self._clock)
        self._key_directory = SqlApiKeyDirectory(self._database, self._clock)
        self._api_keys = ApiKeys(
            keys=self._key_directory,
            organizations=self._organizations,
            clock=self._clock,
        )
        self._instances = Instances(
            catalog=self._designations,
            groups=self._catalog,
            tokens=self._authority,
            dismiss_tokens=self._dismiss_tokens,
            trail=self._events,
            clock=self._clock,
        )

    async def build(self) -> Composition:
        await self._stack.enter_async_context(watched(self._keys))
        roles = self._settings.roles
        worker = await self._worker() if Role.IMPORT in roles else None
        mounted: dict[str, web.Application] = {}
        tokens = TokenApi(self._realm, self._keys.verification_keys)
        if Role.PULL in roles:
            mounted[DISTRIBUTION_PREFIX] = self._distribution()
        if Role.API in roles:
            groups = self._groups(worker.nudge if worker else _nobody)
            mounted[public.PREFIX] = self._public(groups)
            mounted[operator.PREFIX] = self._operator()
        routes = HealthApi(self._probes(), self._metrics).routes()
        if Role.API in roles:
            routes += ApiReference(partial(document, mounted.values())).routes()
        if Role.TOKEN in roles:
            mounted["/token"] = tokens.app()
            routes.append(web.get("/.well-known/jwks.json", tokens.jwks))
        root = root_app(mounted, routes, self._metrics, self._peers())
        if Role.API in roles:
            self._portal(groups).mount(root)
        return Composition(root, worker, self._upkeep())

    def _upkeep(self) -> Callable[[], Awaitable[None]] | None:
        if Role.IMPORT not in self._settings.roles:
            return None
        courier = WebhookDispatcher(
            catalog=self._webhook_catalog,
            secrets=self._webhook_secrets,
            post=self._hooks.post,
            clock=self._clock,
            disable_after=timedelta(days=self._settings.webhook_days),
        )
        chores: list[Callable[[], Coroutine[None, None, None]]] = [
            courier.run,
            self._drain().run,
            partial(repeat, "instances", SWEEP_S, self._instances.sweep),
        ]
        if self._settings.gc_interval_s > 0:
            chores.append(self._collecting())

        async def run() -> None:
            async with asyncio.TaskGroup() as group:
                for chore in chores:
                    group.create_task(chore())

        return run

    def _drain(self) -> EventDrain:
        stream = EventStream(self._redis)
        self._stack.push_async_callback(stream.aclose)
        return EventDrain(stream, self._events.store, self._trail.count)

    def _collecting(self) -> Callable[[], Coroutine[None, None, None]]:
        interval_s, grace_s = self._settings.gc_interval_s, self._settings.gc_grace_s
        dead, upkeep = SqlCollection(self._database, self._clock), SqlUpkeep(self._database, self._clock)
        collection = Collection(self._blobs, dead, upkeep, self._clock)
        return partial(repeat, "gc", interval_s, partial(collection.run_if_due, interval_s, grace_s))

    @cached_property
    def _hooks(self) -> HookClient:
        """What reaches webhooks; opened by the roles that register them or tell them."""
        hooks = hook_client(self._settings)
        self._stack.push_async_callback(hooks.close)
        return hooks

    async def _worker(self) -> ImportWorker:
        client = upstream_client(self._settings)
        self._stack.push_async_callback(client.close)
        settings = self._settings
        lines = DownloadOptions(
            PrefetchBudget(settings.ahead_bytes),
            connections=settings.blob_connections,
            pace=Bandwidth(settings.import_bytes_per_s).pace,
        )
        # Shorter than a job's: whoever takes a dead worker's job over does not wait for its blobs as well.
        transfer_lock = TransferLock(self._redis, settings.lease_s / 2)
        daily = settings.organization_import_bytes_per_day
        origins = SqlBlobOrigins(self._database, self._clock)
        sharing = BlobLinker(self._blobs, origins, shared_registries(settings))
        compressor = open_compressor(settings, self._blobs, self._database, self._metrics)
        if compressor is not None:
            self._stack.callback(compressor.close)
        importer = Importer(
            client,
            self._blobs,
            SqlBlobPins(self._database),
            self._metrics,
            sharing=sharing,
            max_image_bytes=settings.max_image_bytes,
            options=TransferOptions(lines, transfer_lock, settings.layer_transfers),
            quota=SqlImportQuota(self._database, self._clock, daily),
            compressor=compressor,
        )
        queue = SqlJobQueue(self._database, self._clock, settings.organization_import_jobs)
        return ImportWorker(
            queue,
            self._vault,
            self._board,
            importer,
            self._metrics,
            worker_id=f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(6)}",
            lease_s=settings.lease_s,
            jobs=settings.import_jobs,
        )

    def _distribution(self) -> web.Application:
        sender = SocketSender()
        self._stack.callback(sender.close)
        return distribution_app(
            verifier=self._verifier,
            resolver=ImageResolver(self._catalog),
            blobs=self._blobs,
            catalog=self._catalog,
            streamer=BlobStreamer(sender, self._metrics, stall_s=self._settings.stall_s),
            limit=NodeConcurrencyLimit(self._settings.node_responses),
            damage=DamageReporter(
                SqlKeyRecords(self._database), SqlQuarantine(self._database, self._clock), self._events
            ),
            origin=self._origin,
        )

    def _groups(self, nudge: Callable[[], None]) -> ContainerGroups:
        return ContainerGroups(
            catalog=self._catalog,
            vault=self._vault,
            progress_store=self._board,
            organizations=self._organizations,
            instances=self._instances,
            clock=self._clock,
            parse_reference=Reference.parse,
            credential_from=from_registry_authentication,
            revoke_tokens=self._authority.revoke_group,
            nudge=nudge,
        )

    def _public(self, groups: ContainerGroups) -> web.Application:
        rate = self._settings.api_requests_per_minute
        authenticate = ApiKeyAuthenticator(
            keys=self._api_keys,
            is_operator_key=self._is_operator_key,
            rates=RedisRateLimiter(self._redis, rate) if rate else None,
        )
        return public_app(groups, self._instances, authenticate)

    async def _dismiss_tokens(self, group: Group) -> None:
        await self._authority.revoke_group(group.id, organization=group.key.organization, barred=False)

    def _operator(self) -> web.Application:
        enrolment = NodeEnrolment(
            self._node_ca,
            self._nodes,
            SqlEnrolmentRecords(self._database, self._clock),
            self._trail,
            self._clock,
            offer_s=self._settings.enrolment_s,
        )
        webhooks = Webhooks(
            catalog=self._webhook_catalog,
            secrets=self._webhook_secrets,
            organizations=self._organizations,
            clock=self._clock,
            vet=self._hooks.vet,
        )
        return operator.operator_app(
            [
                OrganizationsApi(self._organizations, self._api_keys),
                WebhooksApi(webhooks),
                NodesApi(Nodes(self._nodes, enrolment, self._authority), enrolment),
                InstancesApi(self._instances),
                PullTokensApi(self._pull_tokens(), self._authority, self._origin),
                ImagesApi(SqlImages(self._database)),
            ],
            EventsApi(self._events),
            is_operator_key=self._is_operator_key,
            verifier=self._verifier,
        )

    def _pull_tokens(self) -> PullTokens:
        return PullTokens(
            self._catalog,
            self._designations,
            self._nodes,
            self._authority,
            Variant(self._settings.default_variant),
        )

    def _portal(self, groups: ContainerGroups) -> Portal:
        async def organization_of(key_hash: bytes) -> str | None:
            found = await self._key_directory.by_hash(key_hash)
            return found.organization if found is not None else None

        sessions = PortalSessions(
            sessions=RedisPortalSessions(self._redis, self._settings.portal_session_s),
            organization_of=organization_of,
            operator_key=Secret(read_operator_key(self._data.operator_key)),
            attempts=RedisRateLimiter(self._redis, ATTEMPTS_PER_MINUTE).take,
            trail=self._trail,
            origin=self._origin,
        )
        services = Services(
            groups=groups,
            instances=self._instances,
            catalog=self._catalog,
            overview=SqlOverview(self._database),
            progress=self._board,
            nodes=self._nodes,
            tokens=self._pull_tokens(),
            authority=self._authority,
            origin=self._origin,
            clock=self._clock,
            probes=self._probes(),
            signing_keys=lambda: self._keys.keys,
            docs_url=self._settings.docs_url,
        )
        return Portal(sessions, services)

    def _peers(self) -> Peers:
        node_ca, proxy_ca = self._settings.node_ca, self._settings.proxy_ca
        issuers = Issuers([self._node_ca.certificate])
        if node_ca is not None:
            issuers += Issuers.load(node_ca)
        proxies = ClientTrust(Issuers.load(proxy_ca)) if proxy_ca is not None else None
        return Peers(ClientTrust(issuers), proxies, self._clock.now)

    def _probes(self) -> dict[str, Callable[[], Awaitable[None]]]:
        async def ledger() -> None:
            await self._redis.ping()

        return {
            "storage and keys": self._blobs.probe,
            "catalog": self._database.probe,
            "ledger": ledger,
        }


def _limits(settings: Settings) -> LedgerLimits:
    return LedgerLimits(
        grace_s=settings.completion_grace_s, base_s=settings.session_base_s, idle_s=settings.session_idle_s
    )


def _key_check(key: str) -> Callable[[str], bool]:
    kept = key.encode()

    def check(shown: str) -> bool:
        return hmac.compare_digest(shown.encode(errors="replace"), kept)

    return check


def _nobody() -> None:
    """Nudge no worker: none runs in this process, and those elsewhere ask once a second."""
