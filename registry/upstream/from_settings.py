"""Factories that create upstream and webhook clients from the operator's settings."""

import ssl
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network

from yarl import URL

from registry.config import Settings
from registry.errors import ConfigError, EgressRefusedError, ReferenceFormatError
from registry.hosts import reference_host, split_host
from registry.upstream.client import UpstreamClient
from registry.upstream.egress import HTTPS_PORT, EgressGuard, Network, bracketed_host, parse_url
from registry.upstream.hooks import HookClient
from registry.upstream.identity import IdentityClient
from registry.upstream.realms import PINNED_REALMS
from registry.upstream.retry import Backoff
from registry.upstream.routes import CertificateAuthorities, OutboundProxy


def upstream_client(settings: Settings) -> UpstreamClient:
    """Create the upstream client from the settings. Must be called inside a running event loop.

    Raises:
        ConfigError: A setting is invalid. `check_upstream_settings` reports this at startup.
    """
    return UpstreamClient(
        _guard(settings),
        backoff=Backoff(outage_s=settings.import_outage_s),
        authorities=_authorities(settings),
        realms=_realms(settings),
        proxy=_proxy(settings),
        ecr_endpoint=_ecr_endpoint(settings),
        max_manifest_bytes=settings.max_manifest_bytes,
    )


def hook_client(settings: Settings) -> HookClient:
    """Create the webhook client from the settings. Must be called inside a running event loop.

    Raises:
        ConfigError: A setting is invalid. `check_upstream_settings` reports this at startup.
    """
    return HookClient(_hook_guard(settings), proxy=_proxy(settings))


def identity_client(settings: Settings) -> IdentityClient:
    """Create the client for the identity provider. Must be called inside a running event loop.

    The operator chose the provider, so that it may have a private address, unless a proxy is to be used for
    it. Endpoints on other hosts need a public address or CRISPER_EGRESS_ALLOW.

    Raises:
        ConfigError: A setting is invalid. `check_upstream_settings` reports this at startup.
    """
    issuer = parse_url(settings.oidc_issuer or "")
    own = [f"{bracketed_host(issuer)}:{issuer.port}"]
    plain = own if issuer.scheme == "http" else []
    authorities = {split_host(host): context for host, context in _authorities(settings).items()}
    private = {(name, port or HTTPS_PORT): context for (name, port), context in authorities.items()}
    return IdentityClient(
        _guard(settings, insecure=plain, private=[] if settings.egress_proxy else own),
        trust=CertificateAuthorities(private=private),
        proxy=_proxy(settings),
    )


def check_upstream_settings(settings: Settings) -> None:
    """Validate all settings of upstreams and webhooks.

    Raises:
        ConfigError: A setting is invalid. The message has its name and its format.
    """
    _guard(settings)
    _authorities(settings)
    _realms(settings)
    _proxy(settings)
    _ecr_endpoint(settings)
    shared_registries(settings)
    _hook_guard(settings)


def shared_registries(settings: Settings) -> frozenset[str]:
    """Return the upstreams whose access control is trusted, as references name them."""
    return frozenset(_name("CRISPER_SHARED_REGISTRIES", host) for host in settings.shared_registries)


def _guard(
    settings: Settings, *, insecure: Sequence[str] | None = None, private: Sequence[str] = ()
) -> EgressGuard:
    """Return the guard of the settings.

    Args:
        insecure: Hosts that may use plain HTTP; by default the insecure registries.
        private: Further hosts that may have a private address.
    """
    networks: list[Network] = []
    hosts: list[str] = []
    for entry in settings.egress_allow:
        network = _network(entry)
        if network is not None:
            networks.append(network)
        else:
            hosts.append(entry)
    if insecure is None:
        insecure = [_host("--insecure-registry", host) for host in settings.insecure_registries]
    allowed = [_host("CRISPER_EGRESS_ALLOW", host) for host in hosts]
    return EgressGuard(insecure, [*allowed, *private], networks)


def _hook_guard(settings: Settings) -> EgressGuard:
    return EgressGuard([_host("CRISPER_INSECURE_WEBHOOKS", host) for host in settings.insecure_webhooks])


def _network(entry: str) -> Network | None:
    if "/" not in entry:
        return None
    try:
        return ip_network(entry)
    except ValueError as error:
        raise ConfigError(f"CRISPER_EGRESS_ALLOW takes HOST[:PORT] or a network as CIDR: {error}") from None


def _authorities(settings: Settings) -> Mapping[str, ssl.SSLContext]:
    found = {}
    for host, path in _pairs("CRISPER_REGISTRY_CAS", settings.registry_cas, "/PATH/CA.PEM"):
        try:
            found[host] = ssl.create_default_context(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"CRISPER_REGISTRY_CAS: {path} cannot be read: {error.strerror}") from None
    return found


def _realms(settings: Settings) -> Mapping[str, frozenset[str]]:
    found = dict(PINNED_REALMS)
    for host, realm in _pairs("CRISPER_REGISTRY_REALMS", settings.registry_realms, "REALM-HOST[:PORT]"):
        found[host] = found.get(host, frozenset()) | {_name("CRISPER_REGISTRY_REALMS", realm)}
    return found


def _proxy(settings: Settings) -> OutboundProxy | None:
    if settings.egress_proxy is None:
        return None
    try:
        url = URL(settings.egress_proxy)
        readable = url.scheme == "http" and url.host and url.path in {"", "/"} and not url.query_string
    except ValueError:
        readable = False
    if not readable:
        raise ConfigError("CRISPER_EGRESS_PROXY takes http://[USER:PASSWORD@]HOST[:PORT]")
    return OutboundProxy(url, settings.egress_proxy_resolves)


def _ecr_endpoint(settings: Settings) -> str | None:
    if settings.ecr_endpoint is not None:
        try:
            parse_url(settings.ecr_endpoint.replace("{region}", "us-east-1"))
        except EgressRefusedError:
            raise ConfigError(
                "CRISPER_ECR_ENDPOINT takes a URL, with {region} where the region goes"
            ) from None
    return settings.ecr_endpoint


def _pairs(setting: str, entries: Sequence[str], second: str) -> Iterator[tuple[str, str]]:
    for entry in entries:
        host, equals, value = entry.partition("=")
        if not equals or not value.strip():
            raise ConfigError(f"{setting} takes HOST[:PORT]={second}, several with commas")
        yield _name(setting, host.strip()), value.strip()


def _host(setting: str, host: str) -> str:
    try:
        split_host(host)
    except ReferenceFormatError as error:
        raise ConfigError(f"{setting} takes HOST[:PORT]: {error}") from None
    return host.lower()


def _name(setting: str, host: str) -> str:
    """Normalize the name of a host that uses TLS: without the default port."""
    return reference_host(_host(setting, host))
