"""Settings, read from the environment and the command line at start. Immutable."""

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from registry.errors import ConfigError, ReferenceFormatError
from registry.hosts import RegistryAddress, is_loopback, listener_address, shares_domain
from registry.oci.platform import LINUX_AMD64, parse_platforms
from registry.sizes import parse_bytes
from storage.backends.locate import StorageLocation
from storage.keys.locate import KeyLocation

GIB = 1 << 30
_PRODUCTION_ADMIN_ADDRESS = "127.0.0.1:5001"
SHARED_REGISTRIES = ("docker.io", "ghcr.io", "public.ecr.aws", "quay.io")
Limit = Annotated[int, Field(ge=0, le=(1 << 53) - 1)]

_LISTS = (
    "insecure_registries",
    "egress_allow",
    "registry_cas",
    "registry_realms",
    "shared_registries",
    "insecure_webhooks",
    "platforms",
)
_SIZES = (
    *("max_image_bytes", "max_manifest_bytes", "max_unpacked_bytes", "ahead_bytes"),
    *("import_bytes_per_s", "import_min_bytes_per_s", "organization_spec_bytes", "organization_image_bytes"),
    *("organization_stored_bytes", "organization_import_bytes_per_day"),
)


class Role(StrEnum):
    """Role of a server process."""

    PULL = "pull"
    TOKEN = "token"  # noqa: S105
    API = "api"
    IMPORT = "import"


SIGNING_ROLES: Final = frozenset({Role.TOKEN, Role.API})
"""Roles that sign tokens."""

STORAGE_ROLES: Final = frozenset({Role.PULL, Role.API, Role.IMPORT})
"""Roles that use storage or the key-encryption keys."""


class AdminRoute(StrEnum):
    """What the administration listener can serve instead of the main listener."""

    OPERATOR = "operator"
    PORTAL = "portal"


class Settings(BaseSettings):
    """Settings of a server. Each field is `CRISPER_<NAME>` in the environment.

    Sizes can have a unit: `35GB`, `40GiB`.

    Attributes:
        env: `development` or `production`; `production` refuses defaults that are only safe on a developer's
            machine.
        host: Address to listen on.
        port: Port to listen on; 0 chooses a free port.
        data_dir: Folder for all data, unless another setting names another place.
        workers: Number of server processes; they share one port.
        roles: Roles of this server, separated by commas: `pull`, `token`, `api`, `import`.
        tls_cert: The server's TLS certificate chain (PEM); reloaded when the file changes.
        tls_key: Private key of the TLS certificate (PEM).
        log_level: `debug`, `info`, `warning` or `error`.
        platforms: Platforms that imports store if the image has them, separated by commas; organizations and
            groups can have their own.
        max_image_bytes: Size limit for an image: config and layers, compressed; each platform by itself.
        max_manifest_bytes: Size limit for each imported manifest and index; at most 4 MiB.
        lease_s: Seconds without a heartbeat after which another worker takes over an import.
        completion_grace_s: Seconds that a session stays open after all blobs of its image were delivered.
        drain_s: Seconds that a stopping server waits for running responses.
        public_url: URL at which nodes reach the server, `https://HOST[:PORT]`; image references begin with
            this host. If unset, Crisper uses the Host header of each request.
        insecure_registries: Upstream registries (`host[:port]`) that may be reached over plain HTTP and at
            private addresses.
        egress_allow: Upstream registries (`host[:port]`) that may have a private address, over TLS; or
            networks in CIDR notation whose addresses all upstreams may have.
        registry_cas: CA files for upstream registries, `host[:port]=/path/ca.pem`; they replace the public
            roots for that host.
        registry_realms: Token realms that may receive an upstream's credentials,
            `host[:port]=realm-host[:port]`.
        egress_proxy: Proxy for connections to upstream registries, `http://[user:password@]host[:port]`.
        egress_proxy_resolves: Whether the egress proxy resolves host names. If not, Crisper resolves and
            checks them, and gives the proxy an address.
        ecr_endpoint: URL of the Amazon ECR API, if not AWS' own; `{region}` stands for the registry's region.
        shared_registries: Upstream registries that Crisper trusts to check access to a blob; a blob from them
            is not downloaded again for another organization.
        redis_url: Redis for the token ledger; if unset, a child process on a private Unix socket.
        redis_min_replicas: Number of Redis replicas that must have a redemption, or the credentials of an
            import, before it is answered.
        database_url: Database of the catalog; if unset, SQLite in the data folder.
        storage_url: Place of the blobs: `file:///path`, `s3://bucket/prefix?...`, `gs://`, `az://`
            (docs/storage.md); if unset, the data folder.
        keys_url: Provider of the key-encryption keys: `local:///path`, `awskms://alias/...`,
            `vault://host/...` (docs/keys.md); if unset, the file `keyring`.
        keyring: Keyring file, if `keys_url` is unset; by default in the data folder.
        admin_address: `HOST:PORT` of the administration listener. It serves `/metrics`, the details of
            `/readyz`, `/docs` and `/openapi.json` instead of the main listener; over TLS, unless it is a
            loopback address. If unset, production uses 127.0.0.1:5001, and development has only the main
            listener.
        admin_routes: What else only the administration listener serves: `operator` (the operator API, except
            what nodes call themselves), `portal`.
        unix_socket: Unix socket for a proxy on this machine. Connections to it are trusted as the proxy's.
        unix_socket_group: Group that may open the Unix socket; without it, only the server's user may.
        node_ca: Additional CAs for node certificates (PEM), which name the node as `urn:crisper:node:<id>`.
        proxy_ca: CAs that issue client certificates to proxies, and to nothing else (PEM).
        enrolment_s: Lifetime of an enrolment secret in seconds.
        compress: Whether imports verify unpacked layers and create a zstd variant (docs/importer.md).
        compress_level: zstd level; higher is smaller and slower.
        compress_threads: Compression threads of a process; if unset, half of the processors, at least two.
        compress_min_gain: Share of a layer's bytes that zstd must save; otherwise the layer stays as it is.
        max_unpacked_bytes: Size limit for an image's unpacked layers.
        encryption: Delivery of layers, unless an organization has its own policy: `none` stores and delivers
            plaintext layers as before; `preferred` delivers ciphertext to nodes that can decrypt it;
            `required` delivers nothing else (docs/encrypted-delivery.md).
        delivery: What sends encrypted layers: `direct`, this process; `accel`, nginx in front of it;
            `redirect`, the object store, or the cache at `blob_redirect`
            (docs/how-to/offload-delivery.md).
        blob_redirect: URL of a cache for `redirect`; the digest of the layer is appended.
        default_variant: Variant that `auto` chooses for nodes whose zstd support is unknown.
        session_base_s: Seconds of a session in addition to the time that the transfer of the image takes.
        session_idle_s: Seconds without activity after which a session ends.
        idle_s: Seconds after which a connection without a complete request is closed. Set it above the
            proxy's own idle time-out.
        stall_s: Seconds after which a client that reads nothing is disconnected.
        node_responses: Responses of one node that a process works on at the same time; others wait for their
            turn. A response that waits for its client needs no turn.
        connections: Open connections of one process; fewer if it may have few descriptors. Idle connections
            that have not authenticated are closed for new ones.
        address_connections: Open connections of one IPv4 address or IPv6 /64 network in one process, at most
            half of `connections`; 0 means no limit, for a load balancer that hides its clients' addresses.
        node_connections: Open responses of one node in one process; further requests get 429.
        import_jobs: Concurrent imports of one server process at full speed. Up to eight times as many run if
            they wait for slow upstreams.
        layer_transfers: Concurrent layer downloads of one image.
        blob_connections: Concurrent connections for one large layer; 1 downloads each layer as one stream.
        ahead_bytes: Memory of one server process for buffering parts of layers that arrive out of order.
        import_bytes_per_s: Download rate limit of one server process, over all imports; 0 means no limit.
        import_outage_s: Seconds for which an import retries while its registry is down.
        import_retry_delay_s: Seconds until the last retry of an import whose registry was down for that long.
        import_min_bytes_per_s: Minimum rate of an import, over ten minutes of waiting for its upstream; 0
            means none.
        organization_groups: Quota of container groups. This and all further quotas (`organization_...`) are
            the defaults for each organization (docs/quotas.md); 0 means no limit.
        organization_replicas: Quota of replicas of all container groups.
        organization_spec_bytes: Quota of JSON of one group, without its image and credentials.
        organization_creations_per_minute: Quota of container groups created per minute.
        organization_reallocations_per_minute: Quota of reallocations per minute; likewise of recreations, and
            of restarts.
        organization_image_bytes: Quota of the compressed size of one image, below `max_image_bytes`.
        organization_stored_bytes: Quota of bytes in storage.
        organization_import_jobs: Quota of concurrent imports.
        organization_import_bytes_per_day: Quota of bytes imported within 24 hours.
        organization_streams: Quota of open event streams, for each server process.
        organization_api_keys: Quota of API keys.
        organization_webhooks: Quota of webhooks.
        gc_interval_s: Seconds between garbage collections by servers with the import role; 0 disables them
            (run `crisper gc`).
        gc_grace_s: Seconds that a blob must be unreferenced before garbage collection removes it.
        image_cache_s: Seconds for which an image stays stored after the last group with `image_caching` has
            stopped using it.
        api_requests_per_minute: Rate limit of one API key on the public API; 0 means no limit.
        hardware_file: JSON file with the GPU classes and availability that the public API shows
            (docs/public-api.md). It is read again when it has changed.
        organization_changes_per_minute: Rate limit of one organization's changes on the public API and the
            portal; 0 means no limit.
        insecure_webhooks: Webhook hosts (`host[:port]`) that may be reached over plain HTTP and at private
            addresses.
        event_days: Days for which the audit trail keeps records; 0 keeps them for good.
        webhook_days: Days without a successful delivery after which a webhook is disabled.
        docs_url: URL of this documentation as a site; the portal links to it.
        portal_session_s: Seconds that a sign-in to the portal lasts.
        oidc_issuer: OpenID Connect issuer at which people sign in to the portal, `https://HOST[/PATH]`
            (docs/portal.md). This and `oidc_client_id` and `oidc_roles` belong together.
        oidc_client_id: Crisper's client id at the issuer.
        oidc_client_secret: Crisper's client secret at the issuer; without one, it is a public client.
        oidc_client_secret_file: File with the client secret, instead of `oidc_client_secret`.
        oidc_scopes: Scopes to request, separated by spaces.
        oidc_roles: Roles by the values of a claim, as JSON: `{"claim": "groups", "roles": {"ops": "operator",
            "acme-admins": "owner@acme", "acme-devs": "member@acme", "acme-viewers": "viewer@acme"}}`.
        oidc_session_s: Seconds after which a person has to sign in again, at most `portal_session_s`. A role
            that was removed at the issuer ends within this time.
        oidc_redirect_url: Redirect URI that is registered at the issuer, if the portal has another address
            than `public_url`: `https://HOST[:PORT]/sign-in/openid/callback`.
        service: Name of the registry in tokens (`aud`) and challenges (`service`).
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
    admin_address: str | None = None
    admin_routes: Annotated[frozenset[AdminRoute], NoDecode] = frozenset()
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
    platforms: Annotated[tuple[str, ...], NoDecode] = (str(LINUX_AMD64),)
    max_image_bytes: Annotated[int, Field(gt=0)] = 35 * GIB
    max_manifest_bytes: Annotated[int, Field(gt=0, le=4 << 20)] = 1 << 20
    import_jobs: Annotated[int, Field(ge=1, le=64)] = 2
    layer_transfers: Annotated[int, Field(ge=1, le=16)] = 3
    blob_connections: Annotated[int, Field(ge=1, le=16)] = 4
    ahead_bytes: Annotated[int, Field(ge=0)] = 32 << 20
    import_bytes_per_s: Annotated[int, Field(ge=0)] = 0
    import_outage_s: Annotated[float, Field(ge=0, le=3600)] = 150.0
    import_retry_delay_s: Annotated[float, Field(ge=0, le=86400)] = 300.0
    import_min_bytes_per_s: Annotated[int, Field(ge=0)] = 64_000
    organization_groups: Limit = 500
    organization_replicas: Limit = 5000
    organization_spec_bytes: Limit = 64 << 10
    organization_creations_per_minute: Limit = 120
    organization_reallocations_per_minute: Limit = 120
    organization_image_bytes: Limit = 0
    organization_stored_bytes: Limit = 1_000_000_000_000
    organization_import_jobs: Limit = 8
    organization_import_bytes_per_day: Limit = 2_000_000_000_000
    organization_streams: Limit = 32
    organization_api_keys: Limit = 50
    organization_webhooks: Limit = 20
    lease_s: Annotated[float, Field(gt=0)] = 20.0
    compress: bool = True
    compress_level: Annotated[int, Field(ge=1, le=19)] = 3
    compress_threads: Annotated[int, Field(ge=1, le=64)] | None = None
    compress_min_gain: Annotated[float, Field(ge=0, lt=1)] = 0.02
    max_unpacked_bytes: Annotated[int, Field(gt=0)] = 200 * GIB
    encryption: Literal["none", "preferred", "required"] = "preferred"
    delivery: Literal["direct", "accel", "redirect"] = "direct"
    blob_redirect: str | None = None
    default_variant: Literal["original", "zstd"] = "original"
    session_base_s: Annotated[float, Field(gt=0)] = 600.0
    session_idle_s: Annotated[float, Field(gt=0)] = 900.0
    completion_grace_s: Annotated[float, Field(ge=0)] = 30.0
    drain_s: Annotated[float, Field(ge=0)] = 30.0
    idle_s: Annotated[float, Field(gt=0)] = 75.0
    stall_s: Annotated[float, Field(ge=1)] = 120.0
    node_responses: Annotated[int, Field(ge=1)] = 16
    connections: Annotated[int, Field(ge=1)] = 4096
    address_connections: Annotated[int, Field(ge=0)] = 1024
    node_connections: Annotated[int, Field(ge=1)] = 256
    gc_interval_s: Annotated[float, Field(ge=0)] = 3600.0
    gc_grace_s: Annotated[float, Field(ge=0)] = 3600.0
    image_cache_s: Annotated[float, Field(ge=0)] = 604800.0
    api_requests_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 1200
    hardware_file: Path | None = None
    organization_changes_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 300
    insecure_webhooks: Annotated[tuple[str, ...], NoDecode] = ()
    webhook_days: Annotated[float, Field(gt=0, le=365)] = 5.0
    event_days: Annotated[float, Field(ge=0, le=36_500)] = 90.0
    docs_url: str | None = None
    portal_session_s: Annotated[int, Field(ge=60, le=7 * 86400)] = 8 * 3600
    oidc_issuer: str | None = None
    oidc_client_id: str | None = None
    oidc_client_secret: Annotated[str | None, Field(repr=False)] = None
    oidc_client_secret_file: Path | None = None
    oidc_scopes: str = "openid profile email"
    oidc_roles: str | None = None
    oidc_session_s: Annotated[int, Field(ge=1, le=7 * 86400)] = 3600
    oidc_redirect_url: str | None = None
    log_level: str = "info"

    @field_validator("roles", "admin_routes", *_LISTS, mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Split `a,b`, the form of lists in the environment and in `--roles`."""
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator(*_SIZES, mode="before")
    @classmethod
    def _with_unit(cls, value: object) -> object:
        """Read `35GB` or `40 GiB`."""
        return parse_bytes(value) if isinstance(value, str) else value

    @field_validator("platforms")
    @classmethod
    def _known_platforms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(map(str, parse_platforms(value)))
        except ReferenceFormatError as error:
            raise ValueError(f"CRISPER_PLATFORMS: {error}") from None

    @field_validator("docs_url")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("CRISPER_DOCS_URL takes a URL with a scheme: https://docs.example.com")
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

    @field_validator("oidc_issuer", "oidc_redirect_url")
    @classmethod
    def _provider_address(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https://unset")
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
        if not is_safe or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("takes https://HOST/PATH; http:// only for this machine (a loopback address)")
        return value

    def _refuse_own_redirects(self) -> None:
        """Refuse redirects to the registry's own host or domain, to which Go's clients send the bearer."""
        target = self.blob_redirect or self.storage_location.url
        if target is None:
            raise ConfigError(
                "CRISPER_DELIVERY=redirect needs an object store (CRISPER_STORAGE_URL), or "
                "CRISPER_BLOB_REDIRECT"
            )
        host, own = urlsplit(target).hostname or "", urlsplit(self.public_url or "").hostname or ""
        if own and shares_domain(host, own):
            raise ConfigError(
                f"redirects to {host} would send it the nodes' tokens, because it shares the domain of "
                f"{own}: use another host for CRISPER_BLOB_REDIRECT or the object store"
            )

    @field_validator("blob_redirect")
    @classmethod
    def _https_base(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https://unset")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or "@" in parts.netloc:
            raise ValueError("CRISPER_BLOB_REDIRECT takes https://HOST/PATH, without a query or credentials")
        return value

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

    @field_validator("admin_address")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        if value is not None:
            listener_address(value)
        return value

    @property
    def admin_listener(self) -> tuple[str, int] | None:
        """Host and port of the administration listener; None if there is none."""
        address = self.admin_address or (_PRODUCTION_ADMIN_ADDRESS if self.production else None)
        return listener_address(address) if address else None

    @property
    def storage_location(self) -> StorageLocation:
        """Place of the blobs."""
        folder = self.data_dir.absolute() / "blobs"
        return StorageLocation.parse(self.storage_url or f"file://{quote(str(folder))}")

    @property
    def key_location(self) -> KeyLocation:
        """Provider of the key-encryption keys."""
        file = (self.keyring or self.data_dir / "keyring.json").absolute()
        return KeyLocation.parse(self.keys_url or f"local://{quote(str(file))}")

    @property
    def retention(self) -> timedelta | None:
        """Age at which records of the audit trail are removed; None keeps them."""
        return timedelta(days=self.event_days) if self.event_days else None

    @property
    def production(self) -> bool:
        """Whether defaults that are only safe on a developer's machine are refused."""
        return self.env == "production"

    def refuse_unsafe(self) -> None:
        """Refuse contradictory settings, and unsafe defaults in production.

        Raises:
            ConfigError: The message names every unsafe default and its setting.
        """
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("set both --tls-cert and --tls-key, or neither")
        if self.proxy_ca is not None and self.tls_cert is None:
            raise ConfigError("CRISPER_PROXY_CA needs TLS on this server: set --tls-cert and --tls-key")
        if self.blob_redirect is not None and self.delivery != "redirect":
            raise ConfigError("CRISPER_BLOB_REDIRECT needs CRISPER_DELIVERY=redirect")
        if self.delivery == "redirect":
            self._refuse_own_redirects()
        openid = (self.oidc_issuer, self.oidc_client_id, self.oidc_roles)
        if any(openid) and not all(openid):
            raise ConfigError("set all of CRISPER_OIDC_ISSUER, CRISPER_OIDC_CLIENT_ID and CRISPER_OIDC_ROLES")
        if self.oidc_client_secret and self.oidc_client_secret_file:
            raise ConfigError("set CRISPER_OIDC_CLIENT_SECRET or CRISPER_OIDC_CLIENT_SECRET_FILE, not both")
        if self.admin_routes and self.admin_listener is None:
            raise ConfigError("CRISPER_ADMIN_ROUTES needs a listener: set CRISPER_ADMIN_ADDRESS")
        if self.production and (unsafe := self.unsafe_for_strangers):
            lines = "\n  ".join(unsafe)
            raise ConfigError(
                f"CRISPER_ENV=production refuses these settings; change each of them:\n  {lines}"
            )

    @property
    def unsafe_for_strangers(self) -> tuple[str, ...]:
        """Settings, with the reason, that are only safe on a developer's machine."""
        admin_host, _ = self.admin_listener or ("", 0)
        unsafe = {
            "CRISPER_REDIS_URL: the embedded ledger does not survive the loss of its machine": (
                self.redis_url is None
            ),
            "CRISPER_DATABASE_URL: the embedded catalog serves one machine only": self.database_url is None,
            "CRISPER_STORAGE_URL: the data folder serves one machine only": self.storage_url is None,
            "CRISPER_TLS_CERT and CRISPER_TLS_KEY: tokens would cross the network unencrypted": (
                self.tls_cert is None and not is_loopback(self.host)
            ),
            "CRISPER_ADMIN_ADDRESS: without TLS, only a loopback address is safe": (
                self.tls_cert is None and bool(admin_host) and not is_loopback(admin_host)
            ),
            "CRISPER_KEYS_URL or CRISPER_KEYRING: the keyring is stored beside the data that it protects": (
                self.keyring is None and self.keys_url is None
            ),
            "CRISPER_PUBLIC_URL: nodes need one https:// address": not (self.public_url or "").startswith(
                "https://"
            ),
            "CRISPER_INSECURE_REGISTRIES: allows plain HTTP to an upstream registry": bool(
                self.insecure_registries
            ),
            "CRISPER_INSECURE_WEBHOOKS: allows plain HTTP to a webhook": bool(self.insecure_webhooks),
            "CRISPER_OIDC_ISSUER: without TLS, anyone in between can sign in": (
                (self.oidc_issuer or "").startswith("http://")
            ),
        }
        return tuple(line for line, bad in unsafe.items() if bad)
