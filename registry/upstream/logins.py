"""What an import shows for itself: a customer's user name and password, or what they are exchanged for.

A login belongs to one import and is never kept beyond it. It gives HTTP Basic credentials, which
`authorization` shows to the registry or to its realm; registries with a step of their own before that
(Amazon ECR, Azure with Entra) take it in `show`.
"""

from dataclasses import dataclass
from typing import Protocol

from registry.model.imports import UpstreamCredential


@dataclass(frozen=True, slots=True)
class KnownLogin:
    """A user name and password, and how long they may be shown.

    Attributes:
        credential: None pulls as anybody may.
        until_s: By the monotonic clock.
    """

    credential: UpstreamCredential | None
    until_s: float = float("inf")


class Login(Protocol):
    """What one import shows for itself; asked again whenever something has to be shown."""

    @property
    def anonymous(self) -> bool:
        """Whether there is nothing to show, and so nothing to lose."""

    async def show(self) -> KnownLogin:
        """Return what to show now, exchanging it first where the registry's family wants that.

        Raises:
            AuthenticationFailedError: The exchange refuses what the customer gave.
            PullFailedError: The exchange cannot be made.
            UpstreamUnavailableError: The exchange does not answer.
        """

    def renew(self) -> bool:
        """Forget what was exchanged, because it was refused; False when asking again cannot help."""


class PlainLogin:
    """User name and password exactly as the customer gave them, or none."""

    def __init__(self, credential: UpstreamCredential | None) -> None:
        self._shown = KnownLogin(credential)

    @property
    def anonymous(self) -> bool:
        """Whether there is nothing to show."""
        return self._shown.credential is None

    async def show(self) -> KnownLogin:
        """Return what the customer gave."""
        return self._shown

    def renew(self) -> bool:
        """Have nothing newer."""
        return False
