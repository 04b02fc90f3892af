"""Anonymous access to registries to which a customer's registry redirects, such as behind a vanity domain."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from yarl import URL

from auth.secret import Secret
from registry.errors import AuthenticationFailedError
from registry.upstream.authorization import Authorization
from registry.upstream.egress import authority, origin_of
from registry.upstream.logins import PlainLogin
from registry.upstream.response import Response
from registry.upstream.transport import Transport

_MAX_GUESTS: Final = 4


class Guests:
    """Anonymous tokens for other origins. The customer's credentials are never used there."""

    def __init__(self, transport: Transport, registry: URL, repository: str) -> None:
        self._transport = transport
        self._registry = registry
        self._repository = repository
        self._by_origin: dict[str, Authorization] = {}

    async def headers(self) -> Mapping[str, Secret]:
        """Return the current Authorization header of each origin that asked for a token.

        Raises:
            AuthenticationFailedError, PullFailedError, UpstreamUnavailableError: As for `Authorization`.
        """
        found = {origin: await guest.header() for origin, guest in self._by_origin.items()}
        return {origin: header for origin, header in found.items() if header is not None}

    async def refused(self, response: Response, shown: Mapping[str, Secret]) -> bool:
        """Handle the response of another origin, and get an anonymous token if it asks for one.

        Args:
            shown: The Authorization headers of the refused request, by origin.

        Returns:
            Whether to retry the request.

        Raises:
            AuthenticationFailedError: The origin gives no anonymous access.
            PullFailedError, UpstreamUnavailableError: As for `Authorization.refused`.
        """
        if not wants_token(response):
            return False
        origin = origin_of(response.origin)
        if origin not in self._by_origin:
            if len(self._by_origin) >= _MAX_GUESTS:
                raise self.refusal(response)
            self._by_origin[origin] = Authorization(
                self._transport, response.origin, self._repository, PlainLogin(None)
            )
        try:
            await self._by_origin[origin].refused(response, shown.get(origin))
        except AuthenticationFailedError:
            raise self.refusal(response) from None
        return True

    def refusal(self, response: Response) -> AuthenticationFailedError:
        """Build the error for an origin that refuses anonymous access."""
        return AuthenticationFailedError(
            f"{authority(self._registry)} redirects to {response.host}, which does not allow anonymous "
            f"access: name the image at {response.host}, and give the credentials for it"
        )


def wants_token(response: Response) -> bool:
    """Return whether another origin, which is a registry, asks for authentication.

    A 401 without a challenge is from a file server: a signed URL has expired.
    """
    challenged = any(response.headers("WWW-Authenticate"))
    return response.redirected and response.status == HTTPStatus.UNAUTHORIZED and challenged
