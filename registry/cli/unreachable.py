"""Why a server cannot be reached, in words that say what to do."""

import errno
import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import aiohttp

# Results of OpenSSL's X509_verify_cert (x509_vfy.h).
_CERTIFICATE: Final[Mapping[int, str]] = MappingProxyType(
    {
        9: "is not valid yet: check the clocks of this machine and of the server",
        10: "has expired: renew it on the server",
        62: "is for another name: use the one in the certificate, or get a certificate for this one",
        64: "is for another name: use the one in the certificate, or get a certificate for this one",
    }
)
# The first that matches says why. aiohttp derives many of these from each other, so the order counts.
_CAUSES: Final[tuple[tuple[tuple[type[Exception], ...], str], ...]] = (
    (
        (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError),
        "{server} is not a valid URL: write it as https://registry.example.com",
    ),
    (
        (aiohttp.ClientConnectorDNSError,),
        "the name {host} of {server} cannot be resolved: check CRISPER_URL and this machine's DNS",
    ),
    (
        (aiohttp.ClientSSLError,),
        "what answers at {server} does not use TLS, or too old a version: write http:// if it uses none",
    ),
    ((TimeoutError,), "{server} did not answer in time: check the address, firewalls, and the server's load"),
    ((aiohttp.ClientConnectorError,), "{server} cannot be reached: check the address and the network"),
    (
        (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError),
        "{server} closed the connection without an answer: write https:// if it uses TLS, or try again",
    ),
    ((Exception,), "what answers at {server} is not a Crisper server: write https:// if it uses TLS"),
)


def why_unreachable(server: str, error: Exception) -> str:
    """Return the cause of a failed request to a server.

    Args:
        server: URL of the server.
        error: Raised by aiohttp.
    """
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        code = cause.verify_code if isinstance(cause, ssl.SSLCertVerificationError) else 0
        reason = _CERTIFICATE.get(code, "is not trusted: set CRISPER_CA to the file of its CA")
        return f"the certificate of {server} {reason}"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno == errno.ECONNREFUSED:
        return f"no server answers at {server}: start one with `crisper serve`, or set CRISPER_URL"
    reason = next(text for kinds, text in _CAUSES if isinstance(error, kinds))
    return reason.format(server=server, host=urlsplit(server).hostname)
