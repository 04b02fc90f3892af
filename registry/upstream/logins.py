"""Logins: the user name and password of an import, as given by the customer or exchanged for them.

A login belongs to one import and is never kept beyond it. It provides HTTP Basic credentials, which
`authorization` sends to the registry or to its realm. `show` performs the additional exchange that some
registries require (Amazon ECR, Azure with Entra).
"""

from dataclasses import dataclass
from typing import Protocol

from registry.model.imports import UpstreamCredential


@dataclass(frozen=True, slots=True)
class KnownLogin:
    """A user name and password, and when they expire.

    Attributes:
        credential: None for anonymous pulls.
        until_s: Time of expiry by the monotonic clock.
    """

    credential: UpstreamCredential | None
    until_s: float = float("inf")


class Login(Protocol):
    """The login of one import, called whenever credentials are needed."""

    @property
    def anonymous(self) -> bool:
        """Whether there are no credentials, so that none can leak."""

    async def show(self) -> KnownLogin:
        """Return the current credentials, exchanging them first if the registry requires it.

        Raises:
            AuthenticationFailedError: The exchange refused the customer's credentials.
            PullFailedError: The exchange failed.
            UpstreamUnavailableError: The exchange does not answer.
        """

    def renew(self) -> bool:
        """Discard exchanged credentials that were refused. Returns False if another exchange cannot help."""


class PlainLogin:
    """The customer's user name and password, unchanged, or none."""

    def __init__(self, credential: UpstreamCredential | None) -> None:
        self._shown = KnownLogin(credential)

    @property
    def anonymous(self) -> bool:
        """Whether there are no credentials."""
        return self._shown.credential is None

    async def show(self) -> KnownLogin:
        """Return the customer's credentials."""
        return self._shown

    def renew(self) -> bool:
        """Return False: there is nothing to renew."""
        return False
