"""Amazon ECR: exchanges an access key for a password valid twelve hours (ECR API, GetAuthorizationToken)."""

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

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
from registry.upstream.egress import authority
from registry.upstream.logins import KnownLogin
from registry.upstream.retry import is_transient
from registry.upstream.transport import Transport

LIFETIME_S: Final = 12 * 3600.0
SLACK_S: Final = 300.0
MAX_ANSWER_BYTES: Final = 64 << 10
_BODY: Final = b"{}"
_ACTION: Final = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
_CONTENT_TYPE: Final = "application/x-amz-json-1.1"
#: AWS marks transient failures by name: the status is 400 in any case.
_TRANSIENT: Final = frozenset(
    {"ThrottlingException", "Throttling", "RequestLimitExceeded", "ServerException", "ServiceUnavailable"}
)


class EcrLogin:
    """Login with an AWS access key, which is exchanged when the registry first requires a password."""

    anonymous = False

    def __init__(
        self,
        transport: Transport,
        key: UpstreamCredential,
        region: str,
        endpoint: URL,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Configure the login without sending a request.

        Args:
            key: Access key id and secret access key.
            region: AWS region for the signature.
            endpoint: The region's ECR API; the egress guard checks it like any other URL.
        """
        self._transport = transport
        self._key = key
        self._region = region
        self._endpoint = endpoint
        self._monotonic = monotonic
        self._wall = wall
        self._shown: KnownLogin | None = None
        self._renewed = False

    async def show(self) -> KnownLogin:
        """Return user `AWS` and its password, which is renewed before it expires."""
        if self._shown is None or self._monotonic() >= self._shown.until_s:
            self._shown = await self._exchange()
        return self._shown

    def renew(self) -> bool:
        """Discard the password, once per import: a new password that is refused has not expired."""
        if self._renewed:
            return False
        self._shown, self._renewed = None, True
        return True

    async def _exchange(self) -> KnownLogin:
        host = authority(self._endpoint)
        headers = await asyncio.to_thread(self._signed)
        asked_s = self._monotonic()
        try:
            async with (
                asyncio.timeout(self._transport.timeouts.document_s),
                self._transport.send(
                    "POST",
                    self._endpoint,
                    headers={
                        "Content-Type": _CONTENT_TYPE,
                        "X-Amz-Target": _ACTION,
                        "X-Amz-Date": headers["X-Amz-Date"],
                    },
                    authorization=Secret(headers["Authorization"]),
                    body=_BODY,
                    redirects=0,
                ) as response,
            ):
                status = response.status
                answer = await response.read(MAX_ANSWER_BYTES, "a token")
        except TimeoutError:
            raise UpstreamUnavailableError(
                f"{host} does not answer in time: check that the registry works, and try again later"
            ) from None
        fields = _object(answer)
        if status != HTTPStatus.OK:
            raise self._refusal(host, status, fields)
        return self._read(host, fields, asked_s)

    def _signed(self) -> Mapping[str, str]:
        """Sign the request (AWS Signature Version 4)."""
        # Imported here because it takes 0.1 s, and only this registry needs it.
        from botocore.auth import SigV4Auth  # noqa: PLC0415
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415
        from botocore.credentials import Credentials  # noqa: PLC0415

        request = AWSRequest(
            "POST",
            str(self._endpoint),
            headers={"Content-Type": _CONTENT_TYPE, "X-Amz-Target": _ACTION},
            data=_BODY,
        )
        key = Credentials(self._key.username, self._key.password.reveal())
        SigV4Auth(key, "ecr", self._region).add_auth(request)
        return {name: str(value) for name, value in request.headers.items()}

    def _refusal(
        self, host: str, status: int, fields: Mapping[str, object]
    ) -> AuthenticationFailedError | PullFailedError:
        named = str(fields.get("__type", "")).rpartition("#")[2]
        if is_transient(status) or named in _TRANSIENT:
            return UpstreamUnavailableError(
                f"{host} answers {status} when asked for a token: check that the registry works, and try "
                "again later"
            )
        if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return AuthenticationFailedError(
                f"{host} refuses this access key: check the access key id and its secret, that the key is "
                "active, and that its policy allows ecr:GetAuthorizationToken"
            )
        return PullFailedError(
            f"{host} answers {status} when asked for a token: check that this host is the image's registry"
        )

    def _read(self, host: str, fields: Mapping[str, object], asked_s: float) -> KnownLogin:
        match fields.get("authorizationData"):
            case [{"authorizationToken": str(token), "expiresAt": expires_at}, *_]:
                username, password = _pair(token)
            case _:
                username, password, expires_at = "", "", None
        if not password:
            raise PullFailedError(
                f"{host} answers without a token: check that this host is the image's registry"
            )
        return KnownLogin(
            UpstreamCredential(username, Secret(password)), asked_s + self._lifetime_s(expires_at)
        )

    def _lifetime_s(self, stated: object) -> float:
        """Use the stated expiry only if it is plausible, because AWS' clock and ours may differ."""
        left_s = float(stated) - self._wall() if isinstance(stated, int | float) else LIFETIME_S
        lifetime_s = min(left_s, LIFETIME_S) if left_s > 2 * SLACK_S else LIFETIME_S
        return lifetime_s - SLACK_S


def _pair(token: str) -> tuple[str, str]:
    try:
        username, _, password = base64.b64decode(token, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return username, password


def _object(answer: bytes) -> Mapping[str, object]:
    try:
        return parse_object(answer, "the answer")
    except DocumentError:
        return {}
