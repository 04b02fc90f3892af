"""Translation of aiohttp's errors into those of an import, with a step for the customer."""

import socket
import ssl
from collections.abc import Mapping
from typing import Final

import aiohttp

from registry.errors import EgressRefusedError, PlainHttpError, PullFailedError, UpstreamUnavailableError

PERMANENT: Final[Mapping[type[Exception], str]] = {
    aiohttp.ClientConnectorCertificateError: (
        "shows a TLS certificate that is not trusted: check that it is valid for this name, or ask the "
        "operator to trust its CA"
    ),
    aiohttp.InvalidURL: "is not a host that can be reached: check the registry's name",
}
TRANSIENT: Final[Mapping[type[Exception], str]] = {
    aiohttp.ClientProxyConnectionError: (
        "cannot be reached, because the outbound proxy does not answer: ask the operator to check the "
        "outbound proxy"
    ),
    aiohttp.ClientHttpProxyError: (
        "cannot be reached through the outbound proxy: ask the operator to check the outbound proxy"
    ),
    aiohttp.ClientConnectorDNSError: "has a name that cannot be resolved: check the registry's name",
    socket.gaierror: "has a name that cannot be resolved: check the registry's name",
    aiohttp.ClientConnectorSSLError: "cannot be reached with TLS: check the registry's TLS settings",
    aiohttp.ClientConnectorError: (
        "cannot be reached: check that the registry runs, and that the internet can reach it"
    ),
    TimeoutError: "does not answer in time: check that the registry works, and try again later",
}
_BROKE_OFF: Final = "broke off before it answered: check that the registry works, and try again later"
#: OpenSSL's reasons for an answer that is not TLS.
_NO_TLS: Final = frozenset(
    {
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "RECORD_LAYER_FAILURE",
        "PACKET_LENGTH_TOO_LONG",
        "UNKNOWN_PROTOCOL",
    }
)
#: Statuses of the proxy itself that retries do not change.
_FINAL_OF_PROXY: Final = frozenset({400, 403, 405, 407})


def translate(error: Exception, host: str) -> PullFailedError:
    """Translate an error of aiohttp into one that contains nothing of the request."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, EgressRefusedError):
        return PullFailedError(
            f"{host} is at a private or reserved address: use a registry with a public address, or ask the "
            "operator to allow this one"
        )
    if isinstance(error, aiohttp.ClientHttpProxyError) and error.status in _FINAL_OF_PROXY:
        return PullFailedError(
            f"{host} cannot be reached, because the outbound proxy refuses it: ask the operator to allow it "
            "there"
        )
    if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
        return PlainHttpError(
            f"{host} answers without TLS: use a registry with TLS, or ask the operator to allow plain HTTP "
            "for this one"
        )
    for kind, what in PERMANENT.items():
        if isinstance(error, kind):
            return PullFailedError(f"{host} {what}")
    transient = next((what for kind, what in TRANSIENT.items() if isinstance(error, kind)), None)
    # A name that does not exist, or TLS that is set up wrongly, is more often a mistake than an outage.
    mistake = isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror | ssl.SSLError) or (
        isinstance(error, aiohttp.ClientConnectorSSLError) and not isinstance(cause, ssl.SSLEOFError)
    )
    return UpstreamUnavailableError(f"{host} {transient or _BROKE_OFF}", outage=not mistake)
