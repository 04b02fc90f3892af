"""The catalog's tables. They contain metadata; content is encrypted in storage, customers' settings here.

```
organizations ──< api_keys      nodes ── enrolments       edges       events
   ├──── quotas, policies, webhook_keys
   └──< webhooks ──< deliveries
organizations ── data_keys ──< groups, versions    encryption of specs
groups ──< jobs
   ├─────< versions >── images ──< image_contents
   │                      └──< image_platforms >── images     the image of each of several platforms
   └─────< instances ──< instance_tokens
node_blobs         blobs that nodes got in full, by organization
blob_keys          one row per tenant and blob: the wrapped data key
retired_keys       replaced rows of blob_keys, which older sessions still use
blob_origins       registries from which a blob was downloaded and verified
blob_pins          blobs that a running import needs (jobs ──< blob_pins)
partials           unfinished containers
daily_figures      sums of each day for charts
record_marks, object_marks, quarantine, upkeep    collection and scrubbing (docs/operations.md)
```
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)

from registry.model.figures import MAX_LABEL_CHARS
from registry.model.quotas import NAMES

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time on every database; SQLite alone would drop the time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Refuse naive times, which would mean the machine's time zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time in the catalog must be aware")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the time with its time zone."""
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)


class UntrustedText(TypeDecorator[str]):
    """Text from unauthenticated callers, limited to what every database can store.

    A row that cannot be written would make the whole statement fail, with rows of other requests.
    """

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Replace characters that PostgreSQL refuses or SQLite truncates at, and shorten the text."""
        return None if value is None else storable(value, self.length)


def storable(text: str, length: int) -> str:
    """Return text without NULs and lone surrogates, with at most `length` characters."""
    whole = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    return whole[:length]


# SQLite autoincrements only an INTEGER primary key.
_Cursor = BigInteger().with_variant(Integer, "sqlite")
_Digest = String(135)
NODE_ID_CHARS = 128


def _time(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, UtcDateTime, nullable=nullable)


def _spec_key() -> Column[Any]:
    """Return the reference to the data key of a spec; null if there is no spec, or it was shredded."""
    return Column("spec_key", ForeignKey("data_keys.id"))


organizations = Table(
    "organizations",
    metadata,
    Column("name", String(63), primary_key=True),
    _time("created_at"),
    Column("platforms", JSON(none_as_null=True)),  # null: as the server's settings
    Column("encryption", String(16)),  # null: as the server's settings
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(36), primary_key=True),
    Column("organization", ForeignKey("organizations.name"), nullable=False, index=True),
    Column("name", String(63), nullable=False),
    Column("key_hash", LargeBinary(32), nullable=False, unique=True),
    _time("created_at"),
    _time("revoked_at", nullable=True),
    Column("scope", String(16), nullable=False, server_default=text("'full'")),
    _time("last_used_at", nullable=True),
)

# Null: the server's default applies.
quotas = Table(
    "quotas",
    metadata,
    Column("organization", ForeignKey("organizations.name"), primary_key=True),
    *(Column(name, BigInteger) for name in NAMES),
    _time("updated_at"),
)

policies = Table(
    "policies",
    metadata,
    Column("organization", ForeignKey("organizations.name"), primary_key=True),
    Column("policies", JSON, nullable=False),
    _time("updated_at"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("node_id", String(NODE_ID_CHARS), primary_key=True),
    Column("binding", String(16), nullable=False),
    Column("secret_hash", LargeBinary(64)),
    Column("networks", JSON, nullable=False),
    _time("created_at"),
    _time("revoked_at", nullable=True),
    Column("reads_zstd", Boolean),
    Column("platform", String(32)),
    Column("encryption_key", String(2048)),
    Column("key_thumbprint", String(43)),
    Column("previous_encryption_key", String(2048)),
    Column("previous_key_thumbprint", String(43)),
    Column("runtime", String(16)),
)

enrolments = Table(
    "enrolments",
    metadata,
    Column("node_id", ForeignKey("nodes.node_id"), primary_key=True),
    Column("secret_hash", LargeBinary(32), nullable=False),
    Column("key_hash", LargeBinary(32)),
    _time("expires_at"),
)

edges = Table(
    "edges",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("key_hash", LargeBinary(32), nullable=False, unique=True),
    Column("url", String(2048), nullable=False),
    Column("serves", JSON, nullable=False),
    Column("networks", JSON, nullable=False),
    _time("created_at"),
)

# Keys of specs, wrapped with the organization's key-encryption key (`registry.catalog.specs`).
data_keys = Table(
    "data_keys",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("organization", String(63), nullable=False, unique=True),
    Column("kek_id", String(255), nullable=False),
    Column("wrapped_dek", LargeBinary(1024), nullable=False),
)

groups = Table(
    "groups",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("organization", String(63), nullable=False),
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("image", String(2048), nullable=False),
    _spec_key(),
    Column("sealed_spec", LargeBinary),
    Column("version", Integer, nullable=False),
    Column("autostart", Boolean, nullable=False),
    Column("status", String(16), nullable=False),
    Column("status_description", Text, nullable=False),
    _time("status_since"),
    _time("created_at"),
    _time("updated_at"),
    Column("job_id", String(36), nullable=False),
    Column("started", Boolean, nullable=False, server_default=false()),
    Column("revision", Integer, nullable=False, server_default=text("1")),
    Column("resume_status", String(16)),
    Column("platforms", JSON(none_as_null=True)),  # null: as the organization's
    # For quotas, collection and pages of lists, which do not load the spec.
    Column("image_caching", Boolean, nullable=False, server_default=false()),
    Column("replicas", BigInteger, nullable=False, server_default=text("0")),
    Column("spec_bytes", BigInteger, nullable=False, server_default=text("0")),
    UniqueConstraint("organization", "project", "name"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("group_id", ForeignKey("groups.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("image", String(2048), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker_id", String(64)),
    _time("lease_until", nullable=True),
    Column("credential_key", LargeBinary(256)),
    Column("with_credentials", Boolean),  # null: queued by a server that did not record it
    Column("reason", String(32)),
    Column("sentence", Text),
    _time("created_at"),
    _time("finished_at", nullable=True),
    _time("deferred_until", nullable=True),
    Index(None, "state", "lease_until"),
)

images = Table(
    "images",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("organization", String(63), nullable=False),
    Column("digest", _Digest, nullable=False),
    Column("manifest_digest", _Digest, nullable=False),
    # Several: separated by commas. SQLite does not enforce lengths (migrations/versions/0122).
    Column("platform", String(64).with_variant(String(255), "postgresql"), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    _time("created_at"),
    Column("zstd_digest", _Digest, index=True),
    Column("zstd_bytes", BigInteger),
    Column("index_digest", _Digest),  # of the imported platforms, if there are several
    _time("cached_at", nullable=True),  # when the last group with image_caching stopped using it
    Column("verdict", JSON(none_as_null=True)),  # of the last import for which there was a policy
    Column("facts", JSON(none_as_null=True)),  # of the last import that found any (registry/trust/facts.py)
    UniqueConstraint("organization", "digest", "platform"),
)

image_platforms = Table(
    "image_platforms",
    metadata,
    Column("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("platform_image_id", ForeignKey("images.id"), nullable=False, index=True),
)

image_contents = Table(
    "image_contents",
    metadata,
    Column("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("digest", _Digest, nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("media_type", String(255), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("variant", String(16)),  # null: all variants
    Column("diff_id", _Digest, index=True),
)

versions = Table(
    "versions",
    metadata,
    Column("group_id", ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("repository", String(191), nullable=False, index=True),
    Column("image_id", ForeignKey("images.id"), nullable=False, index=True),
    _time("created_at"),
    Column("image", String(2048), nullable=False, server_default=""),
    _spec_key(),
    Column("sealed_spec", LargeBinary),
    # Platforms that were wanted, but that the image does not have.
    Column("missing_platforms", JSON(none_as_null=True)),
)

instances = Table(
    "instances",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("group_id", ForeignKey("groups.id", ondelete="CASCADE"), nullable=False),
    Column("node_id", String(NODE_ID_CHARS), nullable=False),
    Column("version", Integer, nullable=False),
    Column("token_id", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("deletion_cost", Integer, nullable=False),
    _time("created_at"),
    _time("updated_at"),
    _time("checked_at"),
    Column("image_id", String(36)),  # may exist longer than its version and the image
    Column("report", JSON, nullable=False, server_default="{}"),
    Column("known_by", String(16)),
    Column("is_watched", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("group_id", "node_id"),
    Index(None, "is_watched", "checked_at"),
)

# All tokens of an instance that may still be valid, so that its state follows from all of them, and they can
# be revoked with it.
instance_tokens = Table(
    "instance_tokens",
    metadata,
    Column("token_id", String(64), primary_key=True),
    Column("instance_id", ForeignKey("instances.id", ondelete="CASCADE"), nullable=False, index=True),
    _time("minted_at"),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("image_id", String(36)),
    Column("has_ended", Boolean, nullable=False, server_default=false()),
    Column("has_run", Boolean, nullable=False, server_default=false()),  # a container was started
)

node_blobs = Table(
    "node_blobs",
    metadata,
    Column("organization", ForeignKey("organizations.name", ondelete="CASCADE"), primary_key=True),
    Column("node_id", ForeignKey("nodes.node_id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("blob", String(24), primary_key=True),
    _time("delivered_at"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("webhook_id", String(36), primary_key=True),
    Column("organization", ForeignKey("organizations.name"), nullable=False, index=True),
    Column("url", String(2048), nullable=False),
    Column("types", JSON, nullable=False),
    Column("kek_id", String(255), nullable=False),
    Column("sealed_secret", LargeBinary(1024), nullable=False),
    Column("after", BigInteger, nullable=False),
    _time("created_at"),
    _time("delivered_at", nullable=True),
    _time("failing_since", nullable=True),
    _time("disabled_at", nullable=True),
    Column("last_failure", Text),
)

# An empty `kek_id` of a webhook: its organization's key signs its messages.
webhook_keys = Table(
    "webhook_keys",
    metadata,
    Column("organization", ForeignKey("organizations.name"), primary_key=True),
    Column("kek_id", String(255), nullable=False),
    Column("sealed_secret", LargeBinary(1024), nullable=False),
    _time("created_at"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("message_id", String(64), primary_key=True),
    Column("webhook_id", ForeignKey("webhooks.webhook_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("body", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    _time("due_at"),
    Index(None, "due_at"),
)

blob_keys = Table(
    "blob_keys",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("digest", _Digest, primary_key=True, index=True),
    Column("file_id", LargeBinary(16), nullable=False),
    Column("object_name", String(128), nullable=False, index=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("kek_id", String(255), nullable=False, index=True),
    Column("wrapped_dek", LargeBinary(1024), nullable=False),
    Column("sidecar_name", String(128), nullable=True, index=True),
    Column("ciphertext", _Digest, nullable=True, index=True),
)

retired_keys = Table(
    "retired_keys",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("digest", _Digest, primary_key=True),
    Column("file_id", LargeBinary(16), primary_key=True),
    Column("object_name", String(128), nullable=False, index=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("kek_id", String(255), nullable=False),
    Column("wrapped_dek", LargeBinary(1024), nullable=False),
    Column("sidecar_name", String(128), nullable=False, index=True),
    Column("ciphertext", _Digest, nullable=False, index=True),
    _time("retired_at"),
)

partials = Table(
    "partials",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("digest", _Digest, primary_key=True),
    Column("file_id", LargeBinary(16), nullable=False),
    Column("object_name", String(128), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("kek_id", String(255), nullable=False),
    Column("wrapped_dek", LargeBinary(1024), nullable=False),
    Column("sidecar_name", String(128), nullable=True),
    _time("begun_at"),
)

# No foreign key to its job: an import counts also after its group was deleted.
import_charges = Table(
    "import_charges",
    metadata,
    Column("job_id", String(36), primary_key=True),
    Column("organization", String(63), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    _time("charged_at"),
    Index(None, "organization", "charged_at"),
)

blob_origins = Table(
    "blob_origins",
    metadata,
    Column("digest", _Digest, primary_key=True),
    Column("registry", String(261), primary_key=True),
    _time("verified_at"),
)

blob_pins = Table(
    "blob_pins",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", _Digest, primary_key=True),
    Column("organization", String(63), nullable=False),
    Index(None, "organization", "digest"),
)

record_marks = Table(
    "record_marks",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("digest", _Digest, primary_key=True),
    _time("since"),
)

# `condemned_at` is the time of the tombstone. A name with a tombstone is never used again. A week after the
# removal, no pending write can still use it.
object_marks = Table(
    "object_marks",
    metadata,
    Column("object_name", String(128), primary_key=True),
    _time("since"),
    _time("condemned_at", nullable=True),
    _time("removed_at", nullable=True),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("object_name", String(128), primary_key=True),
    Column("reason", Text, nullable=False),
    _time("found_at"),
)

upkeep = Table(
    "upkeep",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("holder", String(64)),
    _time("lease_until", nullable=True),
    Column("cursor", String(128), nullable=False),
    _time("finished_at", nullable=True),
    Column("report", JSON, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("cursor", _Cursor, primary_key=True, autoincrement=True),
    _time("at"),
    Column("type", String(64), nullable=False, index=True),
    Column("organization", String(63), index=True),
    Column("token_id", String(64), index=True),
    Column("node_id", UntrustedText(NODE_ID_CHARS)),
    Column("cause", String(32)),
    Column("source", UntrustedText(64)),
    Column("detail", JSON, nullable=False),
    Column("event_id", String(64), index=True, unique=True),  # for events from the ledger
    Column("group_id", String(36)),  # of groups and instances only
    Index(None, "group_id", "cursor"),
    Index(
        "ix_events_logged",
        "organization",
        "at",
        sqlite_where=text("group_id IS NOT NULL"),
        postgresql_where=text("group_id IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)

# Sums of each day for charts (docs/adr/0082).
daily_figures = Table(
    "daily_figures",
    metadata,
    Column("organization", String(63), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("label", String(MAX_LABEL_CHARS), primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Index(None, "kind", "label", "day"),
    Index("ix_daily_figures_sums", "kind", "day", "organization", "label", "amount"),
    sqlite_with_rowid=False,  # rows are read in the order of their key
)

# The hash chain over the audit trail (docs/adr/0062). `event_chain` has one row.
event_hashes = Table(
    "event_hashes",
    metadata,
    Column("cursor", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
)

event_chain = Table(
    "event_chain",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("kek_id", String(255)),
    Column("wrapped_key", LargeBinary(1024)),
    Column("anchor", BigInteger, nullable=False),
    Column("anchor_hash", LargeBinary(32), nullable=False),
    Column("head", BigInteger, nullable=False),
    Column("head_hash", LargeBinary(32), nullable=False),
    Column("mac", LargeBinary(32)),
)
