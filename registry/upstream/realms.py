"""Token realms that may receive a registry's credentials (docs/importer.md, "Authentication"). No I/O."""

import re
from collections.abc import Collection, Mapping
from typing import Final

from yarl import URL

from registry.upstream.egress import HTTP_PORT, authority, bracketed_host

Realms = Mapping[str, Collection[str]]

#: Realms on other hosts that may receive a registry's credentials; each is `host[:port]`.
PINNED_REALMS: Final[Mapping[str, frozenset[str]]] = {
    "nvcr.io": frozenset({"authn.nvidia.com"}),
    "registry-1.docker.io": frozenset({"auth.docker.io"}),
    "registry.digitalocean.com": frozenset({"api.digitalocean.com"}),
    "registry.gitlab.com": frozenset({"gitlab.com"}),
    "registry.hf.space": frozenset({"huggingface.co"}),
}
_REGION: Final = r"(?P<region>[a-z]{2}-[a-z]+(?:-[a-z0-9]+){0,3})"
_ALIBABA: Final = (
    "dockerauth.{region}.aliyuncs.com",
    "dockerauth-{region}.aliyuncs.com",
    "dockerauth-ee.{region}.aliyuncs.com",
)
#: Providers with registries in many regions, and the realms of a region.
_REGIONAL_REALMS: Final[Mapping[re.Pattern[str], Collection[str]]] = {
    re.compile(rf"rg\.{_REGION}\.scw\.cloud"): ("api.scaleway.com",),
    re.compile(rf"registry(?:-intl)?\.{_REGION}\.aliyuncs\.com"): _ALIBABA,
    re.compile(rf"[a-z0-9-]+\.{_REGION}(?:\.personal)?\.cr\.aliyuncs\.com"): _ALIBABA,
}


def with_tls(registry: URL, realm: URL) -> URL:
    """Return the URL at which to ask a realm: with TLS, if the registry has TLS.

    Registries behind a TLS proxy often name their realm with `http://`, because they do not know about the
    proxy. On the registry's own host, such a realm is behind the same proxy.
    """
    if registry.scheme != "https" or realm.scheme != "http":
        return realm
    secured = realm.with_scheme("https")
    if bracketed_host(realm) == bracketed_host(registry) and realm.port in {HTTP_PORT, registry.port}:
        return secured.with_port(registry.port)
    return secured.with_port(None if realm.port == HTTP_PORT else realm.port)


def may_receive_credentials(registry: URL, realm: URL, pinned: Realms) -> bool:
    """Return whether a realm may receive a registry's credentials.

    These are the registry's own origin, every port with TLS on the registry's host, and realms that are
    pinned for this registry.

    Args:
        registry: The registry's origin.
        pinned: Other hosts by registry, each `host[:port]`.
    """
    own_host = bracketed_host(realm) == bracketed_host(registry)
    own_port = realm.scheme == "https" or realm.port == registry.port
    known = {*pinned.get(authority(registry), ()), *_regional(registry)}
    return (own_host and own_port) or authority(realm) in known


def _regional(registry: URL) -> Collection[str]:
    for pattern, realms in _REGIONAL_REALMS.items():
        if match := pattern.fullmatch(authority(registry)):
            return [realm.format(region=match["region"]) for realm in realms]
    return ()
