"""Authentication of one import to its registry: Basic, or a Bearer token from the registry's realm.

The flow follows the distribution project's token specification (docs/spec/auth/token.md). All requests of an
import share one object. It renews an expired token before a request or after its 401, once for all parallel
transfers.
"""

import asyncio
import base64
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from yarl import URL

from auth.secret import Secret
from registry.errors import (
    AuthenticationFailedError,
    ChallengeFormatError,
    DocumentError,
    EgressRefusedError,
    PullFailedError,
    UpstreamUnavailableError,
)
from registry.model.imports import UpstreamCredential
from registry.oci.strict_json import parse_object
from registry.upstream.challenge import Challenge, parse_challenges
from registry.upstream.egress import authority, bracketed_host, parse_url
from registry.upstream.logins import Login
from registry.upstream.retry import is_outage, is_transient
from registry.upstream.transport import Response, Transport

MAX_TOKEN_BYTES: Final = 64 << 10
DEFAULT_EXPIRY_S: Final = 60.0
MAX_EXPIRY_S: Final = 24 * 3600.0
MAX_SLACK_S: Final = 10.0

#: Realms on other hosts that may receive a registry's credentials; each is `host[:port]`.
PINNED_REALMS: Final[Mapping[str, frozenset[str]]] = {
    "registry-1.docker.io": frozenset({"auth.docker.io"}),
    "registry.digitalocean.com": frozenset({"api.digitalocean.com"}),
    "registry.gitlab.com": frozenset({"gitlab.com"}),
}


@dataclass(frozen=True, slots=True)
class _Grant:
    """An Authorization header and when to renew it, by the monotonic clock."""

    header: Secret
    until_s: float


class Authorization:
    """Provides the Authorization header for one repository of a registry."""

    def __init__(
        self,
        transport: Transport,
        registry: URL,
        repository: str,
        login: Login,
        *,
        realms: Mapping[str, Collection[str]] = PINNED_REALMS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without a header: the registry's first 401 determines the scheme.

        Args:
            registry: The registry's origin.
            login: The import's credentials.
            realms: Other hosts that a registry's realm may be on, each `host[:port]`.
        """
        self._transport = transport
        self._registry = registry.origin()
        self._repository = repository
        self._login = login
        self._realms = realms
        self._monotonic = monotonic
        self._challenge: Challenge | None = None
        self._grant: _Grant | None = None
        self._accepted = False
        self._lock = asyncio.Lock()

    async def header(self) -> Secret | None:
        """Return the current Authorization header, renewing it first if it is about to expire.

        Raises:
            AuthenticationFailedError: The realm refused the credentials.
            PullFailedError: The realm cannot be used.
            UpstreamUnavailableError: The realm does not answer.
        """
        async with self._lock:
            if self._grant is not None and self._monotonic() >= self._grant.until_s and self._challenge:
                self._grant = await self._answer(self._challenge)
            return self._grant.header if self._grant else None

    async def refused(self, response: Response, shown: Secret | None) -> None:
        """Handle a 401: authenticate as its challenge requires, unless a parallel request has done so.

        Args:
            shown: The Authorization header of the refused request.

        Raises:
            AuthenticationFailedError: The refused credentials cannot be renewed.
            PullFailedError: The challenge or the realm cannot be used.
            UpstreamUnavailableError: The realm does not answer.
        """
        async with self._lock:
            if self._grant is not None and self._grant.header != shown:
                return
            try:
                challenge = self._choose(response)
                if challenge.scheme == "basic" and shown is not None and not self._login.renew():
                    raise self.refusal()
            except AuthenticationFailedError:
                if self._accepted:
                    return  # some registries send a stray 401; the caller retries a request only once
                raise
            self._challenge = challenge
            self._accepted = False
            self._grant = await self._answer(challenge)

    def accept(self) -> None:
        """Take note that the registry accepted the current Authorization header."""
        self._accepted = True

    async def renewed(self, shown: Secret | None) -> bool:
        """Handle a 403, which Amazon ECR sends for an expired password. Returns whether to retry the request.

        Args:
            shown: The Authorization header of the refused request.

        Raises:
            AuthenticationFailedError, PullFailedError, UpstreamUnavailableError: As for `refused`.
        """
        async with self._lock:
            if self._grant is None or self._challenge is None:
                return False
            if self._grant.header != shown:
                return True
            if not self._login.renew():
                return False
            self._grant = await self._answer(self._challenge)
            return True

    def refusal(self) -> AuthenticationFailedError:
        """Build the error for a registry that refuses access."""
        host = authority(self._registry)
        if self._login.anonymous:
            return AuthenticationFailedError(
                f"{host} denies anonymous access to {self._repository}: check its spelling, "
                "or give credentials in registry_authentication"
            )
        return AuthenticationFailedError(
            f"{host} refuses these credentials for {self._repository}: check user name and password "
            "or token, that they have not expired, and that they may pull this repository"
        )

    def exhaustion(self, host: str, retry_after_s: float | None) -> UpstreamUnavailableError:
        """Build the error for an exceeded rate limit. All pulls without credentials share one limit."""
        if self._login.anonymous:
            return UpstreamUnavailableError(
                f"{host} allows no more pulls without credentials for now: give some in "
                "registry_authentication, or try again later",
                retry_after_s,
            )
        return UpstreamUnavailableError(
            f"{host} allows no more pulls with these credentials for now: try again later", retry_after_s
        )

    def _choose(self, response: Response) -> Challenge:
        try:
            challenges = parse_challenges(response.headers("WWW-Authenticate"))
        except ChallengeFormatError:
            challenges = ()
        by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
        chosen = by_scheme.get("bearer") or by_scheme.get("basic")
        if chosen is None:
            raise AuthenticationFailedError(
                f"{authority(self._registry)} asks for a kind of login that is not supported"
            )
        return chosen

    async def _answer(self, challenge: Challenge) -> _Grant:
        if challenge.scheme == "bearer":
            return await self._fetch_token(challenge)
        shown = await self._login.show()
        if shown.credential is None:
            raise self.refusal()
        return _Grant(basic_header(shown.credential), shown.until_s)

    async def _fetch_token(self, challenge: Challenge) -> _Grant:
        realm = self._realm(challenge)
        asked = {"scope": challenge.params.get("scope") or f"repository:{self._repository}:pull"}
        if service := challenge.params.get("service"):
            asked["service"] = service
        credential = (await self._login.show()).credential
        basic = basic_header(credential) if credential else None
        url, strays = realm.update_query(asked), 1
        while True:
            started_s = self._monotonic()
            try:
                async with (
                    asyncio.timeout(self._transport.timeouts.document_s),
                    self._transport.send("GET", url, authorization=basic, redirects=0) as response,
                ):
                    if response.status == HTTPStatus.UNAUTHORIZED and strays:
                        strays -= 1
                        continue
                    self._check_realm_status(response)
                    body = await response.read(MAX_TOKEN_BYTES, "a token")
            except TimeoutError:
                raise UpstreamUnavailableError(f"{authority(realm)} does not answer in time") from None
            return _parse_grant(body, authority(realm), started_s)

    def _realm(self, challenge: Challenge) -> URL:
        """Return the realm's URL if it is allowed. Credentials are sent only to the registry's own realms."""
        registry = authority(self._registry)
        try:
            realm = parse_url(challenge.params.get("realm", ""))
        except EgressRefusedError as error:
            raise PullFailedError(f"{registry} names an invalid token realm: {error}") from None
        origin = realm.origin()
        same = (bracketed_host(origin), origin.port) == (bracketed_host(self._registry), self._registry.port)
        downgrade = origin.scheme != "https" and self._registry.scheme == "https"
        pinned = authority(origin) in self._realms.get(authority(self._registry), ())
        if not self._login.anonymous and (downgrade or not (same or pinned)):
            raise AuthenticationFailedError(
                f"{registry} wants its credentials sent to {authority(realm)}, which is not known to "
                "belong to it: check the image's name, or ask the operator to allow that host"
            )
        return realm

    def _check_realm_status(self, response: Response) -> None:
        if response.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise self.refusal()
        if is_transient(response.status):
            raise UpstreamUnavailableError(
                f"{response.host} answers {response.status} when asked for a token",
                response.retry_after_s,
                outage=is_outage(response.status),
            )
        if response.status != HTTPStatus.OK:
            raise PullFailedError(f"{response.host} answers {response.status} when asked for a token")


def basic_header(credential: UpstreamCredential) -> Secret:
    """Encode a credential as HTTP Basic (RFC 7617, UTF-8)."""
    pair = f"{credential.username}:{credential.password.reveal()}"
    return Secret("Basic " + base64.b64encode(pair.encode()).decode())


def _parse_grant(body: bytes, host: str, started_s: float) -> _Grant:
    try:
        fields = parse_object(body, "the token")
    except DocumentError:
        fields = {}
    token = fields.get("token") or fields.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
        raise PullFailedError(f"{host} answers without a token")
    expiry = fields.get("expires_in", DEFAULT_EXPIRY_S)
    if isinstance(expiry, bool) or not isinstance(expiry, (int, float)) or expiry <= 0:
        expiry = DEFAULT_EXPIRY_S
    expiry = min(float(expiry), MAX_EXPIRY_S)
    return _Grant(Secret(f"Bearer {token}"), started_s + expiry - min(MAX_SLACK_S, expiry / 5))
