"""The server's public address, for challenges and image references."""

from aiohttp import web

from registry.errors import ReferenceFormatError
from registry.hosts import RegistryAddress


class Origin:
    """The registry's address and name.

    Args:
        public_url: Set by the operator; with None, the Host header of each request is used, which is
            correct unless a proxy changes it.
        service: The registry's name in challenges and tokens.

    Raises:
        ReferenceFormatError: The public URL is not of the form `https://HOST[:PORT]`.
    """

    def __init__(self, public_url: str | None, service: str) -> None:
        self._public = None if public_url is None else RegistryAddress.parse(public_url)
        self.service = service

    def is_secure(self, request: web.Request) -> bool:
        """Return whether clients connect over TLS."""
        return (self._public.scheme if self._public else request.scheme) == "https"

    def url(self, request: web.Request) -> str:
        """Return scheme and host, without a trailing slash.

        Raises:
            web.HTTPBadRequest: The request's Host is not a valid registry address.
        """
        return self._address(request).url

    def host(self, request: web.Request) -> str:
        """Return `host[:port]`, the first part of an image reference.

        Raises:
            web.HTTPBadRequest: An image reference cannot start with the request's Host.
        """
        try:
            return self._address(request).require_referable().host
        except ReferenceFormatError as error:
            raise _bad_host(error) from None

    def _address(self, request: web.Request) -> RegistryAddress:
        if self._public is not None:
            return self._public
        try:
            return RegistryAddress.parse(f"{request.scheme}://{request.host}")
        except ReferenceFormatError as error:
            raise _bad_host(error) from None


def _bad_host(error: ReferenceFormatError) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=f"The request's Host is not an address of a registry: {error}.")
