"""Pins in memory, for imports without a catalog."""

from collections.abc import Sequence

from storage.digest import Digest


class MemoryPins:
    """Remembers what was pinned, by job."""

    def __init__(self) -> None:
        self.pinned: dict[str, set[Digest]] = {}

    async def pin(self, job_id: str, organization: str, digests: Sequence[Digest]) -> None:  # noqa: ARG002
        self.pinned.setdefault(job_id, set()).update(digests)
