"""Azure Container Registry with Entra: exchanges an Entra access token for the registry's refresh token.

Other Azure credentials need no exchange: `az acr login --expose-token` already returns the refresh token, and
admin users and service principals have passwords.
"""

import asyncio
import base64
import binascii
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

from yarl import URL

from auth.secret import Secret
from registry.errors import (
    AuthenticationFailedError,
    DocumentError,
    PullFailedError,
    UpstreamUnavailableError,
)
from registry.model.imports import UpstreamCredential
from registry.oci.strict_json import parse_object
from registry.upstream.egress import authority, bracketed_host
from registry.upstream.logins import KnownLogin
from registry.upstream.retry import is_outage, is_transient
from registry.upstream.transport import Transport

#: The user name that marks the password as a token.
TOKEN_USER: Final = "00000000-0000-0000-0000-000000000000"  # noqa: S105
MAX_ANSWER_BYTES: Final = 64 << 10
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}


def is_entra_token(credential: UpstreamCredential, host: str) -> bool:
    """Return whether a credential is an Entra access token, according to the token's audience.

    The token is not verified here: the registry verifies it in both cases.
    """
    if credential.username != TOKEN_USER:
        return False
    audience = _claims(credential.password.reveal()).get("aud")
    return isinstance(audience, str) and audience != host


class EntraLogin:
    """Login with an Entra access token, which is exchanged when the registry first requires a password."""

    anonymous = False

    def __init__(self, transport: Transport, registry: URL, token: UpstreamCredential) -> None:
        self._transport = transport
        self._registry = registry.origin()
        self._token = token.password
        self._shown: KnownLogin | None = None

    async def show(self) -> KnownLogin:
        """Return the registry's refresh token, with the user name that marks it as a token."""
        if self._shown is None:
            self._shown = KnownLogin(UpstreamCredential(TOKEN_USER, await self._exchange()))
        return self._shown

    def renew(self) -> bool:
        """Return False: the refresh token outlives the Entra token, so another exchange cannot help."""
        return False

    async def _exchange(self) -> Secret:
        host = authority(self._registry)
        token = self._token.reveal()
        form = {
            "grant_type": "access_token",
            "service": bracketed_host(self._registry),
            "access_token": token,
        }
        tenant = _claims(token).get("tid")
        if isinstance(tenant, str):
            form["tenant"] = tenant
        try:
            async with (
                asyncio.timeout(self._transport.timeouts.document_s),
                self._transport.send(
                    "POST",
                    self._registry / "oauth2" / "exchange",
                    headers=_FORM,
                    body=urlencode(form).encode(),
                    redirects=0,
                ) as response,
            ):
                status, retry_after_s = response.status, response.retry_after_s
                answer = await response.read(MAX_ANSWER_BYTES, "a token")
        except TimeoutError:
            raise UpstreamUnavailableError(
                f"{host} does not answer in time: check that the registry works, and try again later"
            ) from None
        if is_transient(status):
            raise UpstreamUnavailableError(
                f"{host} answers {status} when asked for a token: check that the registry works, and try "
                "again later",
                retry_after_s,
                outage=is_outage(status),
            )
        if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise AuthenticationFailedError(
                f"{host} refuses this Entra token: check that it has not expired, "
                "and that its identity has the role AcrPull"
            )
        if status != HTTPStatus.OK:
            raise PullFailedError(
                f"{host} answers {status} when asked for a token: check that this host is the image's "
                "registry"
            )
        return _refresh_token(answer, host)


def _refresh_token(answer: bytes, host: str) -> Secret:
    try:
        token = parse_object(answer, "the answer").get("refresh_token")
    except DocumentError:
        token = None
    if not isinstance(token, str) or not token:
        raise PullFailedError(f"{host} answers without a token: check that this host is the image's registry")
    return Secret(token)


def _claims(token: str) -> dict[str, object]:
    """Decode a JWT's claims without verification; empty if it is not a JWT."""
    try:
        _, payload, _ = token.split(".")
        return dict(parse_object(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), "the token"))
    except (ValueError, binascii.Error, DocumentError):
        return {}
