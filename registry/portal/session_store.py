"""Store of the portal's sessions: the port that `registry.ephemeral.portal_sessions` implements."""

from typing import Protocol

from auth.secret import Secret


class SessionStore(Protocol):
    """Store of sessions (`registry.ephemeral.portal_sessions`)."""

    ttl_s: int

    async def open(self, holder: bytes, ttl_s: int | None = None) -> Secret:
        """Create a session of the usual or a shorter lifetime. Returns its id."""

    async def find(self, session_id: str) -> bytes | None:
        """Return who opened a session, or None."""

    async def replace(self, session_id: str, holder: bytes) -> None:
        """Replace the holder of a session, if it has not ended. Its lifetime stays as it is."""

    async def close(self, session_id: str) -> None:
        """End a session."""

    async def begin_form(self, session_id: str, form_id: str) -> str | None:
        """Record that a form was submitted. Returns None the first time.

        Returns:
            If it was submitted before, the page to show; empty if it is still being processed.
        """

    async def end_form(self, session_id: str, form_id: str, page: str) -> None:
        """Record the page to show if a form is submitted again."""

    async def put_secret(self, session_id: str, page: str, sealed: bytes) -> None:
        """Store a sealed secret for one read on a page, for a short time."""

    async def take_secret(self, session_id: str, page: str) -> bytes | None:
        """Return and delete the sealed secret of a page, or None."""
