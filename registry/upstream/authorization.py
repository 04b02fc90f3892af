"""Authentication of one import to its registry: Basic, or a Bearer token from the registry's realm.

The flow follows the distribution project's token specification (docs/spec/auth/token.md). All requests of an
import share one object. It renews an expired token before a request or after its 401, once for all parallel
transfers.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Final

from yarl import URL

from auth.secret import Secret
from registry.errors import (
    AuthenticationFailedError,
    ChallengeFormatError,
    EgressRefusedError,
    ImportFailedError,
    PullFailedError,
    UpstreamUnavailableError,
)
from registry.upstream.challenge import Challenge, read_challenges
from registry.upstream.egress import authority, origin_of, parse_url
from registry.upstream.grants import Grant, basic_header, parse_grant
from registry.upstream.logins import Login
from registry.upstream.realms import PINNED_REALMS, Realms, may_receive_credentials, with_tls
from registry.upstream.response import Response
from registry.upstream.retry import is_outage, is_transient
from registry.upstream.transport import Transport

MAX_TOKEN_BYTES: Final = 64 << 10


class Authorization:
    """Provides the Authorization header for one repository of a registry."""

    def __init__(
        self,
        transport: Transport,
        registry: URL,
        repository: str,
        login: Login,
        *,
        realms: Realms = PINNED_REALMS,
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
        self._grant: Grant | None = None
        self._accepted = False
        self._searched = self._asked = False
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
                challenge = await self._challenge_of(response, shown)
                if challenge.scheme == "basic" and shown is not None and not self._login.renew():
                    raise self.refusal()
            except AuthenticationFailedError:
                if self._accepted:
                    return  # some registries send a stray 401; the caller retries a request only once
                raise
            self._challenge = challenge
            self._accepted = False
            self._grant = await self._answer(challenge)

    async def found(self, shown: Secret | None) -> bool:
        """Handle a 404 or 403 to a request without credentials, which some registries send instead of a 401.

        If credentials exist, asks `/v2/` once for a challenge; without one there, HTTP Basic is used.

        Args:
            shown: The Authorization header of the refused request.

        Returns:
            Whether to retry the request.

        Raises:
            AuthenticationFailedError, PullFailedError, UpstreamUnavailableError: As for `refused`.
        """
        async with self._lock:
            if self._grant is not None:
                return shown is None
            if self._searched or self._login.anonymous:
                return False
            self._challenge = self._choose(await self._offers_of_base()) or Challenge("basic")
            self._grant = await self._answer(self._challenge)
            self._searched = True
            return True

    def admitted(self, shown: Secret | None) -> None:
        """Note that the registry answered a request.

        If it did so without credentials, `found` does not show any.

        Args:
            shown: The Authorization header of the request.
        """
        self._accepted = True
        self._searched = self._searched or shown is None

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
        if self._grant is None and not self._asked:
            return AuthenticationFailedError(
                f"{host} denies access to {self._repository} without asking for the credentials: check the "
                "repository's spelling, and that the registry allows pulls by this user"
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

    async def _challenge_of(self, response: Response, shown: Secret | None) -> Challenge:
        """Return the challenge to answer after a 401.

        Asks `/v2/` if the response has none that can be answered. Credentials are then tried with HTTP Basic.
        """
        offers = _offers(response)
        lapsed = any(offer.params.get("error") == "invalid_token" for offer in offers)
        if lapsed and shown is not None and self._challenge is not None:
            return self._challenge  # nvcr.io then names another realm, which gives no anonymous tokens
        chosen = self._choose(offers) or self._choose(await self._offers_of_base())
        if chosen is None and shown is None and not self._login.anonymous:
            return Challenge("basic")
        if chosen is None:
            raise AuthenticationFailedError(
                f"{authority(self._registry)} asks for a kind of login that is not supported: check that "
                "this host is the image's registry"
            )
        return chosen

    async def _offers_of_base(self) -> Sequence[Challenge]:
        url = self._registry / "v2/"
        async with (
            self._transport.document_deadline(authority(url)),
            self._transport.send("GET", url) as response,
        ):
            if is_transient(response.status):
                raise _unavailable(response, "when asked for its kind of login")
            return () if response.redirected else _offers(response)

    def _choose(self, offers: Iterable[Challenge]) -> Challenge | None:
        """Choose Bearer before Basic, unless only Basic can be used."""
        bearer = next((each for each in offers if each.scheme == "bearer" and each.params.get("realm")), None)
        basic = next((each for each in offers if each.scheme == "basic"), None)
        if bearer is None or basic is None:
            return bearer or basic
        try:
            self._realm(bearer)
        except ImportFailedError:
            return basic
        return bearer

    async def _answer(self, challenge: Challenge) -> Grant:
        self._asked = True
        if challenge.scheme == "bearer":
            return await self._fetch_token(challenge)
        shown = await self._login.show()
        if shown.credential is None:
            raise self.refusal()
        return Grant(basic_header(shown.credential), shown.until_s)

    async def _fetch_token(self, challenge: Challenge) -> Grant:
        realm = self._realm(challenge)
        asked = [("scope", scope) for scope in self._scopes(challenge)]
        if service := challenge.params.get("service"):
            asked.append(("service", service))
        credential = (await self._login.show()).credential
        basic = basic_header(credential) if credential else None
        url, strays, answered = realm.extend_query(asked), 1, False
        while True:
            started_s = self._monotonic()
            try:
                async with (
                    self._transport.document_deadline(authority(realm)),
                    self._transport.send(
                        "GET", url, authorization=basic, redirects=1, within_origin=True
                    ) as response,
                ):
                    answered = True
                    if response.status == HTTPStatus.UNAUTHORIZED and strays:
                        strays -= 1
                        continue
                    self._check_realm_status(response)
                    body = await response.read(MAX_TOKEN_BYTES, "a token")
            except PullFailedError:
                named = parse_url(challenge.params["realm"])
                if answered or named.scheme == realm.scheme or origin_of(realm) == origin_of(self._registry):
                    raise
                raise self._needs_tls(named, realm) from None
            return parse_grant(body, authority(realm), started_s)

    def _needs_tls(self, named: URL, realm: URL) -> AuthenticationFailedError:
        registry = authority(self._registry)
        return AuthenticationFailedError(
            f"{registry} names the token realm {origin_of(named)}, which has no TLS, and {origin_of(realm)} "
            "does not answer: ask its administrator to set the registry's external URL to "
            f"{origin_of(self._registry)}"
        )

    def _scopes(self, challenge: Challenge) -> Sequence[str]:
        """Return the challenge's scopes, and this repository's, which the challenge of `/v2/` lacks."""
        named = challenge.params.get("scope", "").split()
        if any(scope.startswith("repository:") for scope in named):
            return named
        return [*named, f"repository:{self._repository}:pull"]

    def _realm(self, challenge: Challenge) -> URL:
        """Return the realm's URL if it is allowed. Credentials are sent only to the registry's own realms."""
        registry = authority(self._registry)
        try:
            realm = with_tls(self._registry, parse_url(challenge.params.get("realm", "")))
        except EgressRefusedError as error:
            raise PullFailedError(
                f"{registry} names an invalid token realm ({error}): ask its administrator to correct it"
            ) from None
        if not self._login.anonymous and not may_receive_credentials(self._registry, realm, self._realms):
            raise AuthenticationFailedError(
                f"{registry} wants its credentials sent to {origin_of(realm)}, which is not known to "
                "belong to it: check the image's name, or ask the operator to allow that host"
            )
        return realm

    def _check_realm_status(self, response: Response) -> None:
        if response.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise self.refusal()
        if is_transient(response.status):
            raise _unavailable(response, "when asked for a token")
        if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            raise PullFailedError(
                f"{response.host} answers {response.status} when asked for a token: check that this host is "
                "the image's registry"
            )


def _offers(response: Response) -> Sequence[Challenge]:
    try:
        return read_challenges(response.headers("WWW-Authenticate"))
    except ChallengeFormatError:
        return ()


def _unavailable(response: Response, when: str) -> UpstreamUnavailableError:
    return UpstreamUnavailableError(
        f"{response.host} answers {response.status} {when}: check that the registry works, and try again "
        "later",
        response.retry_after_s,
        outage=is_outage(response.status),
    )
