"""When a client has everything of its image: the proxy then reports that the pull is complete."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from registry.oci.documents import Manifest
from storage.digest import Digest

QUIET_S: Final = 15.0
"""Time without a request after which blobs that were served before this pull count as not needed."""


class PullCompletion:
    """Follows the responses of one pull.

    Args:
        was_served: Returns whether a client on this node got a blob in an earlier pull.
        report: Called once, when the client has everything.
        quiet_s: As `QUIET_S`.
    """

    def __init__(
        self,
        was_served: Callable[[Digest], bool],
        report: Callable[[], Awaitable[None]],
        quiet_s: float = QUIET_S,
    ) -> None:
        self._was_served = was_served
        self._report = report
        self._quiet_s = quiet_s
        self._manifests: dict[Digest, Manifest] = {}
        self._served: set[Digest] = set()
        self._requested: set[Digest] = set()
        self._open = 0
        self._waiting: asyncio.Task[None] | None = None
        self._is_reported = False

    def add_manifest(self, digest: Digest, manifest: Manifest) -> None:
        """Record that the client got a manifest. It may have all of its blobs."""
        self._manifests[digest] = manifest
        self._look()

    @contextmanager
    def response(self, digest: Digest, *, counts: bool = True) -> Iterator[None]:
        """Follow the response with a blob. It was served to its end unless this raises.

        Args:
            digest: Digest of the blob.
            counts: Whether the client keeps what it gets.
        """
        self._open += 1
        self._requested.add(digest)
        try:
            yield
            if counts:
                self._served.add(digest)
        finally:
            self._open -= 1
            self._look()

    def _look(self) -> None:
        """Report at once if everything was served in this pull, or later if nothing else is requested."""
        if self._waiting is not None:
            self._waiting.cancel()
        delay_s = 0.0 if self._has_everything(lambda _digest: False) else self._quiet_s
        self._waiting = asyncio.create_task(self._report_after(delay_s))

    async def _report_after(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        if self._open or self._is_reported:
            return
        if await asyncio.to_thread(self._has_everything, self._was_served):
            self._is_reported = True
            await self._report()

    def _has_everything(self, had_before: Callable[[Digest], bool]) -> bool:
        """Return whether the client has all blobs of one of its manifests.

        A blob that was requested in this pull must have been served in it.
        """

        def has(digest: Digest) -> bool:
            return digest in self._served or (digest not in self._requested and had_before(digest))

        return any(
            all(has(blob.digest) for blob in manifest.blobs) for manifest in tuple(self._manifests.values())
        )
