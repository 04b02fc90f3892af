"""Settings, read once from the environment and the command line, then frozen."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from registry.errors import ConfigError, ReferenceFormatError
from registry.hosts import RegistryAddress
from storage.backends.locate import StorageLocation
from storage.keys.locate import KeyLocation

GIB = 1 << 30
SHARED_REGISTRIES = ("docker.io", "ghcr.io", "public.ecr.aws", "quay.io")
_LISTS = (
    "insecure_registries",
    "egress_allow",
    "registry_cas",
    "registry_realms",
    "shared_registries",
    "insecure_webhooks",
)


class Role(StrEnum):
    """What a server process does."""

    PULL = "pull"
    TOKEN = "token"  # noqa: S105
    API = "api"
    IMPORT = "import"


class Settings(BaseSettings):
    """Everything that an operator can set; each field is `CRISPER_<NAME>` in the environment.

    Attributes:
        env: `production` refuses defaults that are only safe on one developer's machine.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        data_dir: Everything that the server keeps, where no other setting says otherwise.
        workers: Server processes behind one port.
        roles: What the server does.
        tls_cert: Its certificate chain, PEM; read again when it changes.
        tls_key: The certificate's private key, PEM.
        log_level: `debug`, `info`, `warning` or `error`.
        max_image_bytes: Limit on an image's config and layers, compressed.
        import_jobs: Imports that one process runs at a time.
        layer_transfers: Layers of one image that are fetched at a time.
        lease_s: An import whose worker is silent for so long is another worker's.
        completion_grace_s: How long a session goes on after it had every blob of its image.
        drain_s: How long a server that ends waits for running responses.
        public_url: `https://HOST[:PORT]`: how nodes reach the server, and what image references begin with;
            None derives it from each request's own Host.
        insecure_registries: `host[:port]` of upstreams that may be spoken to in the clear and at private
            addresses.
        egress_allow: `host[:port]` that may be at a private address, over TLS; or a network as CIDR whose
            addresses any upstream may have.
        registry_cas: `host[:port]=/path/ca.pem`: whose certificates count at that upstream, in place of the
            public roots.
        registry_realms: `host[:port]=realm-host[:port]`: where an upstream's credentials may go for a token.
        egress_proxy: `http://[user:password@]host[:port]`: what connections to upstreams go through.
        egress_proxy_resolves: The proxy is given names and decides; else addresses that were vetted here.
        ecr_endpoint: Amazon ECR's API, if not AWS' own; `{region}` stands for the registry's region.
        shared_registries: Upstreams whose word on who may see a blob is taken, so that it need not be
            downloaded again for another organization.
        redis_url: The ledger; None starts a child server on a private unix socket.
        redis_min_replicas: How many replicas of the ledger must hold a redemption before it is answered.
        database_url: The catalog; None is SQLite in the data folder.
        storage_url: Where blobs lie: `file:///path`, `s3://bucket/prefix?...`, `gs://`, `az://`
            (docs/storage.md); None is the data folder.
        keys_url: Who holds the key-encryption keys: `local:///path`, `awskms://alias/...`, `vault://host/...`
            (docs/keys.md); None is `keyring`.
        keyring: The keyring file, where `keys_url` names no other; None is in the data folder.
        unix_socket: Where a proxy on this machine connects; who may open the socket is the proxy.
        unix_socket_group: Group that may open it; without one only the server's own user may.
        node_ca: PEM of CAs whose certificates speak for nodes too, by their `urn:crisper:node:<id>`.
        proxy_ca: PEM of CAs whose client certificates are those of proxies, and of nothing else.
        enrolment_s: For how long an enrolment secret waits for its node.
        compress: Whether imports check their layers and give images a zstd variant (docs/importer.md).
        compress_level: Of zstd: more is smaller and slower.
        compress_threads: How many threads of a process compress; None is half the processors, two at least.
        compress_min_gain: What part of a layer's bytes zstd has to save; else the layer stays as it is.
        max_unpacked_bytes: How much an image's layers may unpack to.
        default_variant: What `auto` gives to nodes of which it is not known whether they read zstd layers.
        session_base_s: What a session's deadline allows beyond the time to deliver the image.
        session_idle_s: From a session's last sign of life to its end.
        idle_s: A connection that has not finished asking by then is closed, new or kept; above a proxy's own.
        stall_s: A client that takes nothing for so long is gone.
        node_responses: Blob responses that one node has running in one process; further ones wait.
        import_jobs: Imports that one server process runs at a time.
        layer_transfers: Layers of one image that are fetched at a time.
        blob_connections: To one upstream for one large layer; 1 fetches every layer as one stream.
        ahead_bytes: Memory of one server process for what is fetched ahead of its turn, over all imports.
        import_bytes_per_s: What one server process takes from upstreams, over all imports; 0 is no limit.
        organization_import_jobs: Imports of one organization that run at a time; 0 is without limit.
        organization_import_bytes_per_day: What one organization may import within any 24 hours; 0 is without
            limit.
        gc_interval_s: How often some server of the import role collects; 0 leaves it to `crisper gc`.
        gc_grace_s: How long something has to be dead before it is removed.
        api_requests_per_minute: What one API key has on the public API; 0 counts nothing.
        insecure_webhooks: `host[:port]` of webhooks that may be spoken to in the clear, at private addresses.
        webhook_days: After so many days without a success a webhook is given up.
        docs_url: Where this documentation is published as a site; the portal links to it.
        portal_session_s: For how long a sign-in to the portal lasts.
        service: The registry's name in tokens (`aud`) and challenges (`service`).
    """

    model_config = SettingsConfigDict(env_prefix="CRISPER_", frozen=True, extra="ignore")

    env: str = "development"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 5000
    data_dir: Path = Path("crisper-data")
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    roles: Annotated[frozenset[Role], NoDecode] = frozenset(Role)
    public_url: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    unix_socket: Path | None = None
    unix_socket_group: str | None = None
    node_ca: Path | None = None
    proxy_ca: Path | None = None
    enrolment_s: Annotated[int, Field(ge=1, le=7 * 86400)] = 3600
    insecure_registries: Annotated[tuple[str, ...], NoDecode] = ()
    egress_allow: Annotated[tuple[str, ...], NoDecode] = ()
    registry_cas: Annotated[tuple[str, ...], NoDecode] = ()
    registry_realms: Annotated[tuple[str, ...], NoDecode] = ()
    egress_proxy: Annotated[str | None, Field(repr=False)] = None  # may hold a password
    egress_proxy_resolves: bool = False
    ecr_endpoint: str | None = None
    shared_registries: Annotated[tuple[str, ...], NoDecode] = SHARED_REGISTRIES
    redis_url: Annotated[str | None, Field(repr=False)] = None  # may hold a password
    redis_min_replicas: Annotated[int, Field(ge=0, le=16)] = 0
    database_url: Annotated[str | None, Field(repr=False)] = None
    storage_url: str | None = None
    keys_url: str | None = None
    keyring: Path | None = None
    service: str = "crisper"
    max_image_bytes: Annotated[int, Field(gt=0)] = 35 * GIB
    import_jobs: Annotated[int, Field(ge=1, le=64)] = 2
    layer_transfers: Annotated[int, Field(ge=1, le=16)] = 3
    blob_connections: Annotated[int, Field(ge=1, le=16)] = 4
    ahead_bytes: Annotated[int, Field(ge=0)] = 32 << 20
    import_bytes_per_s: Annotated[int, Field(ge=0)] = 0
    organization_import_jobs: Annotated[int, Field(ge=0)] = 0
    organization_import_bytes_per_day: Annotated[int, Field(ge=0)] = 0
    lease_s: Annotated[float, Field(gt=0)] = 20.0
    compress: bool = True
    compress_level: Annotated[int, Field(ge=1, le=19)] = 3
    compress_threads: Annotated[int, Field(ge=1, le=64)] | None = None
    compress_min_gain: Annotated[float, Field(ge=0, lt=1)] = 0.02
    max_unpacked_bytes: Annotated[int, Field(gt=0)] = 200 * GIB
    default_variant: Literal["original", "zstd"] = "original"
    session_base_s: Annotated[float, Field(gt=0)] = 600.0
    session_idle_s: Annotated[float, Field(gt=0)] = 900.0
    completion_grace_s: Annotated[float, Field(ge=0)] = 30.0
    drain_s: Annotated[float, Field(ge=0)] = 30.0
    idle_s: Annotated[float, Field(gt=0)] = 75.0
    stall_s: Annotated[float, Field(ge=1)] = 120.0
    node_responses: Annotated[int, Field(ge=1)] = 16
    gc_interval_s: Annotated[float, Field(ge=0)] = 3600.0
    gc_grace_s: Annotated[float, Field(ge=0)] = 3600.0
    api_requests_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 1200
    insecure_webhooks: Annotated[tuple[str, ...], NoDecode] = ()
    webhook_days: Annotated[float, Field(gt=0, le=365)] = 5.0
    docs_url: str | None = None
    portal_session_s: Annotated[int, Field(ge=60, le=7 * 86400)] = 8 * 3600
    log_level: str = "info"

    @field_validator("roles", *_LISTS, mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Accept `a,b` as the environment and `--roles` write it."""
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("docs_url")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("write the documentation's address with its scheme: https://docs.example.com")
        return value.rstrip("/") if value else None

    @field_validator("public_url")
    @classmethod
    def _bare_origin(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return RegistryAddress.parse(value).require_referable().url
        except ReferenceFormatError as error:
            raise ValueError(f"CRISPER_PUBLIC_URL takes https://HOST[:PORT]: {error}") from None

    @field_validator("storage_url")
    @classmethod
    def _readable_storage_url(cls, value: str | None) -> str | None:
        if value is not None:
            StorageLocation.parse(value)
        return value

    @field_validator("keys_url")
    @classmethod
    def _readable_keys_url(cls, value: str | None) -> str | None:
        if value is not None:
            KeyLocation.parse(value)
        return value

    @property
    def storage_location(self) -> StorageLocation:
        """Where blobs lie."""
        folder = self.data_dir.absolute() / "blobs"
        return StorageLocation.parse(self.storage_url or f"file://{quote(str(folder))}")

    @property
    def key_location(self) -> KeyLocation:
        """Who holds the key-encryption keys."""
        file = (self.keyring or self.data_dir / "keyring.json").absolute()
        return KeyLocation.parse(self.keys_url or f"local://{quote(str(file))}")

    @property
    def production(self) -> bool:
        """Whether nothing is left to defaults that are only safe on one developer's machine."""
        return self.env == "production"

    def refuse_unsafe(self) -> None:
        """Refuse to start in production on defaults that are only safe on one developer's machine.

        Raises:
            ConfigError: Names every unsafe default and its setting.
        """
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("set both --tls-cert and --tls-key, or neither")
        if self.proxy_ca is not None and self.tls_cert is None:
            raise ConfigError("proxies show their certificates over TLS: set --tls-cert and --tls-key")
        if not self.production:
            return
        loopback = self.host in {"127.0.0.1", "::1", "localhost"}
        unsafe = {
            "CRISPER_REDIS_URL: the embedded ledger lives and dies with one machine": self.redis_url is None,
            "CRISPER_DATABASE_URL: the embedded catalog serves one machine": self.database_url is None,
            "CRISPER_STORAGE_URL: the data folder serves one machine": self.storage_url is None,
            "CRISPER_TLS_CERT and CRISPER_TLS_KEY: tokens would cross the network in the clear": (
                self.tls_cert is None and not loopback
            ),
            "CRISPER_KEYS_URL or CRISPER_KEYRING: the keyring lies beside the data that it protects": (
                self.keyring is None and self.keys_url is None
            ),
            "CRISPER_PUBLIC_URL: nodes must be told one https:// address": not (
                self.public_url or ""
            ).startswith("https://"),
            "CRISPER_INSECURE_REGISTRIES: an upstream is spoken to in the clear": bool(
                self.insecure_registries
            ),
            "CRISPER_INSECURE_WEBHOOKS: a webhook is spoken to in the clear": bool(self.insecure_webhooks),
        }
        if any(unsafe.values()):
            lines = "\n  ".join(line for line, bad in unsafe.items() if bad)
            raise ConfigError(f"CRISPER_ENV=production refuses these defaults, set each:\n  {lines}")
