"""Ports of container groups kept in memory, and what was asked of them, in order."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from auth.errors import LedgerUnavailableError, TokenNotFoundError
from auth.records import TokenState, TokenView
from auth.secret import Secret
from registry.api.public import PublicServices
from registry.catalog.api_keys import SqlApiKeyDirectory
from registry.catalog.engine.database import Database
from registry.catalog.events import SqlEventLog
from registry.catalog.group_logs import SqlGroupLogs
from registry.catalog.groups import SqlGroupCatalog
from registry.catalog.instances import SqlInstances
from registry.catalog.node_blobs import SqlNodeBlobs
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.quotas import SqlQuotas
from registry.catalog.webhooks import SqlWebhooks
from registry.errors import InvalidInputError, ReferenceFormatError
from registry.model.groups import Group, GroupCatalog, GroupKey, GroupTransition
from registry.model.images import StoredImage
from registry.model.imports import UpstreamCredential
from registry.model.quotas import Quotas
from registry.services.api_keys import ApiKeys
from registry.services.group_logs import GroupLogs
from registry.services.groups import ContainerGroups
from registry.services.hardware import HardwareFile
from registry.services.instances import Instances
from registry.services.quotas import OrganizationQuotas
from registry.services.webhooks import Webhooks, WebhookSecrets
from storage.keys.local import LocalKeyring
from tests.support.catalogs import spec_cipher
from tests.support.memory_ports import MemoryCredentialVault, MemoryProgressStore


class Clock:
    """Starts at a fixed instant and moves on by a second with each look."""

    def __init__(self) -> None:
        self._now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


class JournalledVault(MemoryCredentialVault):
    """Holds credentials by job, and notes its writes."""

    def __init__(self, journal: list[str]) -> None:
        super().__init__()
        self._journal = journal

    async def seal(self, job_id: str, credential: UpstreamCredential) -> bytes:
        self._journal.append("seal")
        return await super().seal(job_id, credential)

    async def forget(self, job_id: str) -> None:
        self._journal.append("forget")
        await super().forget(job_id)


class MemoryTokens:
    """Tokens as the ledger would show them."""

    def __init__(self, journal: list[str]) -> None:
        self.views: dict[str, TokenView] = {}
        self._journal = journal

    async def show(self, token_id: str) -> TokenView:
        if token_id not in self.views:
            raise TokenNotFoundError(token_id)
        return self.views[token_id]

    async def revoke(self, token_id: str) -> TokenView:
        self._journal.append(f"revoke {token_id}")
        view = await self.show(token_id)
        self.views[token_id] = replace(view, state=TokenState.REVOKED)
        return self.views[token_id]


class JournalledCatalog(SqlGroupCatalog):
    """The real catalog; notes its writes, and fails with `failure`."""

    def __init__(self, database: Database, journal: list[str], quotas: SqlQuotas | None = None) -> None:
        super().__init__(database, Clock(), spec_cipher(database), quotas)
        self._journal = journal
        self.failure: Exception | None = None

    async def create(self, created: GroupTransition, credential_key: bytes | None) -> None:
        self._journal.append("insert")
        if self.failure:
            raise self.failure
        await super().create(created, credential_key)

    async def delete(self, key: GroupKey, *, source: str | None = None) -> Group | None:
        self._journal.append("remove")
        if self.failure:
            raise self.failure
        return await super().delete(key, source=source)


class World:
    """Use-cases over a real catalog in a file, with the rest in memory.

    `journal` holds the writes in the order in which they came.
    """

    def __init__(self, database: Database, quotas: Quotas | None = None) -> None:
        self._database = database
        self.journal: list[str] = []
        self.clock = Clock()
        self.vault = JournalledVault(self.journal)
        self.board = MemoryProgressStore()
        self.quota_catalog = SqlQuotas(database, self.clock, quotas)
        self.quotas = OrganizationQuotas(self.quota_catalog)
        self.catalog = JournalledCatalog(database, self.journal, self.quota_catalog)
        self.organizations = SqlOrganizationDirectory(database)
        self.events = SqlEventLog(database, self.clock)
        self.revoked: list[str] = []
        self.revocations_allowed = 1000
        self.tokens = MemoryTokens(self.journal)
        self.images: dict[str, StoredImage] = {}
        self.designations = SqlInstances(database, self.clock)
        self.instances = Instances(
            catalog=self.designations,
            groups=self.catalog,
            tokens=self.tokens,
            quotas=self.quotas,
            node_blobs=SqlNodeBlobs(database, self.clock),
            image_of=self._image_of,
            dismiss_tokens=self._dismiss,
            trail=self.events,
            clock=self.clock,
        )
        self.keys = ApiKeys(
            keys=SqlApiKeyDirectory(database, self.clock),
            organizations=self.organizations,
            quotas=self.quotas,
            clock=self.clock,
        )
        self.groups = self.over(self.catalog)

    def services(self, keyring: LocalKeyring) -> PublicServices:
        """Return what the public API offers."""
        webhooks = Webhooks(
            catalog=SqlWebhooks(self._database, self.clock),
            secrets=WebhookSecrets(keyring),
            organizations=self.organizations,
            quotas=self.quotas,
            clock=self.clock,
            vet=lambda _: None,
        )
        logs = GroupLogs(SqlGroupLogs(self._database), self.catalog)
        return PublicServices(self.groups, self.instances, self.quotas, logs, webhooks, HardwareFile(None))

    def over(self, catalog: GroupCatalog) -> ContainerGroups:
        return ContainerGroups(
            catalog=catalog,
            vault=self.vault,
            progress_store=self.board,
            organizations=self.organizations,
            instances=self.instances,
            quotas=self.quotas,
            clock=self.clock,
            parse_reference=parse_reference,
            credential_from=credential_from,
            revoke_tokens=self._revoke,
            nudge=lambda: self.journal.append("nudge"),
        )

    async def _image_of(self, _repository: str, digest: str) -> StoredImage | None:
        return self.images.get(digest)

    async def _dismiss(self, group: Group) -> None:
        self.journal.append(f"dismiss {group.key.name}")

    async def _revoke(self, group_id: str) -> None:
        self.journal.append("revoke")
        if len(self.revoked) == self.revocations_allowed:
            raise LedgerUnavailableError
        self.revoked.append(group_id)


def parse_reference(text: str) -> str:
    if "://" in text:
        raise ReferenceFormatError("an image reference has no scheme: leave out https://")
    return text


def credential_from(value: Mapping[str, Mapping[str, str]]) -> UpstreamCredential | None:
    if "basic" not in value:
        raise InvalidInputError("no", {"registry_authentication": ["give basic"]})
    basic = value["basic"]
    return UpstreamCredential(basic["username"], Secret(basic["password"]))
