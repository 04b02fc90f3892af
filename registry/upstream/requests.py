"""Requests to a repository: authentication, retries after authentication, and the meaning of each status."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

from yarl import URL

from auth.secret import Secret
from registry.errors import (
    PullFailedError,
    UpstreamMissingError,
    UpstreamUnavailableError,
)
from registry.oci.reference import Reference
from registry.upstream.authorization import Authorization
from registry.upstream.egress import origin_of
from registry.upstream.guests import Guests, wants_token
from registry.upstream.response import Response
from registry.upstream.retry import is_outage, is_transient
from registry.upstream.transport import Transport
from storage.digest import Digest


class AuthenticatedRequests:
    """Requests to one repository of a registry, with the import's credentials.

    Attributes:
        root: Digest of the image's own manifest or index, once it has been fetched.
    """

    def __init__(
        self, transport: Transport, origin: URL, reference: Reference, authorization: Authorization
    ) -> None:
        self.root: Digest | None = None
        self._transport = transport
        self._reference = reference
        self._authorization = authorization
        self._guests = Guests(transport, origin, reference.repository)
        self._answered = False

    @asynccontextmanager
    async def send_small(
        self,
        method: str,
        url: URL,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        accept: Iterable[str] = (),
    ) -> AsyncIterator[Response]:
        """Send a request as `send` does, with a deadline for the whole response."""
        async with (
            self._transport.document_deadline(self._reference.host),
            self.send(method, url, what, headers=headers, accept=accept) as response,
        ):
            yield response

    @asynccontextmanager
    async def send(
        self,
        method: str,
        url: URL,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        accept: Iterable[str] = (),
    ) -> AsyncIterator[Response]:
        """Send a request. Authenticates and retries once each after a 401, a 403 and a 404.

        Args:
            what: What is requested, for errors.

        Raises:
            AuthenticationFailedError: The registry refused the credentials.
            PullFailedError: It does not exist, or the request failed permanently.
            UpstreamUnavailableError: A transient failure.
        """
        answered: set[tuple[str, int]] = set()
        try:
            while True:
                shown = await self._authorization.header()
                elsewhere = await self._guests.headers()
                async with self._transport.send(
                    method, url, headers=headers, accept=accept, authorization=shown, elsewhere=elsewhere
                ) as response:
                    answer = origin_of(response.origin), response.status
                    if answer not in answered:
                        answered.add(answer)
                        if await self._authenticates(response, shown, elsewhere):
                            continue
                    # A blob's signed URL may have expired: retry for another. A refused range is permanent.
                    signed = response.redirected and "blobs" in url.parts and "Range" not in (headers or {})
                    self._check_status(response, what, signed=signed)
                    self._answered = True
                    yield response
                    return
        except UpstreamUnavailableError as error:
            if error.outage or not self._answered:
                raise
            # It worked before.
            raise UpstreamUnavailableError(error.sentence, error.retry_after_s, outage=True) from error

    async def _authenticates(
        self, response: Response, shown: Secret | None, elsewhere: Mapping[str, Secret]
    ) -> bool:
        """Authenticate as a response requires. Returns whether to retry the request."""
        if response.redirected:
            return await self._guests.refused(response, elsewhere)
        match response.status:
            case HTTPStatus.UNAUTHORIZED:
                await self._authorization.refused(response, shown)
                return True
            case HTTPStatus.FORBIDDEN:
                return await self._authorization.found(shown) or await self._authorization.renewed(shown)
            case HTTPStatus.NOT_FOUND:
                return await self._authorization.found(shown)
            case HTTPStatus.OK | HTTPStatus.PARTIAL_CONTENT:
                self._authorization.admitted(shown)
        return False

    def _check_status(self, response: Response, what: str, *, signed: bool) -> None:
        status = response.status
        if status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            return
        if wants_token(response):
            raise self._guests.refusal(response)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise self._authorization.exhaustion(response.host, response.retry_after_s)
        if is_transient(status) or (signed and status < HTTPStatus.INTERNAL_SERVER_ERROR):
            raise UpstreamUnavailableError(
                f"{response.host} answers {status} for {what}: check that the registry works, and try "
                "again later",
                response.retry_after_s,
                outage=is_outage(status),
            )
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise (self._guests.refusal(response) if response.redirected else self._authorization.refusal())
        if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            raise UpstreamMissingError(self._missing(response.host, what))
        raise PullFailedError(
            f"{response.host} answers {status} for {what}: check that this host is the image's registry, "
            "and that its rules allow to pull the image"
        )

    def _missing(self, host: str, what: str) -> str:
        if self.root is not None:
            return (
                f"{host} lacks {what}, a part of {self._reference}: push the image again, and check that no "
                "cleanup job removes untagged manifests"
            )
        if self._reference.digest is not None:
            return f"{host} has no {what}: check that it was pushed to this repository and not deleted since"
        return f"{host} has no {what}: check its spelling, and that it was pushed"
