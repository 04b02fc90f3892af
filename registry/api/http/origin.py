"""Where clients reach us, as they should be told."""

from aiohttp import web
from yarl import URL


class Origin:
    """The registry's address and name.

    Args:
        public_url: Fixed by the operator; None answers with the address that each request came to, which
            is right wherever no proxy changes it.
        service: The registry's name in challenges and tokens.
    """

    def __init__(self, public_url: str | None, service: str) -> None:
        self._public_url = public_url
        self.service = service

    def url(self, request: web.Request) -> str:
        """Return scheme and authority, without a slash at the end."""
        return self._public_url or f"{request.scheme}://{request.host}"

    def authority(self, request: web.Request) -> str:
        """Return `host[:port]`, the first part of a reference to `docker pull`."""
        return URL(self.url(request)).authority
