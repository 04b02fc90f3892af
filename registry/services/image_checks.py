"""Checks of an image as an import would make them, without importing it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from registry.catalog.platforms import SqlPlatformSettings
from registry.errors import ImportFailedError, RateLimitedError, UpstreamUnavailableError
from registry.imports.plan import plan_import
from registry.imports.verification import ImageVerifier
from registry.model.groups import GroupKey
from registry.model.images import ContentKind
from registry.model.imports import UpstreamCredential
from registry.oci.platform import parse_platforms
from registry.oci.reference import Reference
from registry.services.quotas import OrganizationQuotas
from registry.trust.verdict import Verdict
from registry.upstream.client import UpstreamClient
from registry.upstream.image_documents import ImagePlatforms, read_platforms

MAX_CHECKS: Final = 4
MAX_CHECKS_OF_ORGANIZATION: Final = 2
CHECK_S: Final = 45.0
CHECKS_PER_MINUTE: Final = 12

_BUSY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class CheckedPlatform:
    """A platform that an import would store.

    Attributes:
        size_bytes: Compressed size of the config and the layers.
    """

    platform: str
    digest: str
    size_bytes: int
    layers: int


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """Result of a check.

    Attributes:
        image: The reference, in full.
        digest: Digest of the document that the reference names.
        missing: Platforms that an import would want, but that the image does not have.
        verdict: What was found about its signatures; None if no policy is for the image.
    """

    image: str
    digest: str
    platforms: Sequence[CheckedPlatform]
    missing: Sequence[str]
    verdict: Verdict | None


class ImageChecks:
    """Reads the documents of images and checks their signatures. No layer is fetched.

    Args:
        client: Client of upstream registries, with the rules of imports for addresses, certificates and time.
        settings: Platforms of organizations and groups.
        platforms: Platforms of all others.
        max_image_bytes: The server's limit on an image's compressed size.
        take_rate: Counts a check of an organization. Returns the seconds to wait, or 0.
    """

    def __init__(
        self,
        *,
        client: UpstreamClient,
        verifier: ImageVerifier,
        settings: SqlPlatformSettings,
        platforms: Sequence[str],
        quotas: OrganizationQuotas,
        max_image_bytes: int,
        take_rate: Callable[[str], Awaitable[float]],
    ) -> None:
        self._client = client
        self._verifier = verifier
        self._settings = settings
        self._platforms = platforms
        self._quotas = quotas
        self._max_image_bytes = max_image_bytes
        self._take_rate = take_rate
        self._running: Counter[str] = Counter()

    async def check(
        self,
        organization: str,
        reference: Reference,
        credential: UpstreamCredential | None,
        *,
        group: GroupKey | None = None,
    ) -> CheckedImage:
        """Check an image as an import for an organization would.

        Args:
            group: The group for whose next version the image is checked.

        Raises:
            NotFoundError: There is no such organization or group.
            RateLimitedError: Too many checks run at the moment.
            AuthenticationFailedError, PullFailedError: As an import would fail.
            ImageTooLargeError: A platform is larger than the server's limit or the organization's quota.
        """
        own = await self._settings.of_group(group) if group is not None else None
        own = own or await self._settings.of_organization(organization)
        limit = (await self._quotas.of(organization)).image_bytes
        max_bytes = min(limit or self._max_image_bytes, self._max_image_bytes)
        with self._counted(organization):
            try:
                async with asyncio.timeout(CHECK_S):
                    source = await self._client.open(reference, credential)
                    found = await read_platforms(source, parse_platforms(own or self._platforms))
                    checked = _plan(found, max_bytes)
                    verdict = await self._verifier.check(organization, source, found)
            except TimeoutError:
                raise UpstreamUnavailableError(
                    "the registry did not deliver the image's documents and signatures within "
                    f"{CHECK_S:.0f} s: try again later"
                ) from None
        missing = [str(platform) for platform in found.missing]
        digest = str(found.found[0].root.digest)
        return CheckedImage(str(source.reference), digest, checked, missing, verdict)

    async def count(self, organization: str) -> None:
        """Count a check that a customer asked for. Raises RateLimitedError: there were too many."""
        if (wait_s := await self._take_rate(f"image-check:{organization}")) > 0:
            raise RateLimitedError(wait_s, f"At most {CHECKS_PER_MINUTE} images can be checked per minute.")

    @contextmanager
    def _counted(self, organization: str) -> Iterator[None]:
        busy = self._running.total() >= MAX_CHECKS
        if busy or self._running[organization] >= MAX_CHECKS_OF_ORGANIZATION:
            raise RateLimitedError(_BUSY_S, "Other images are being checked. Try again in a few seconds.")
        self._running[organization] += 1
        try:
            yield
        finally:
            self._running[organization] -= 1
            if not self._running[organization]:
                del self._running[organization]


def _plan(found: ImagePlatforms, max_bytes: int) -> Sequence[CheckedPlatform]:
    """Return what an import would store. Raises ImageTooLargeError."""
    return [
        CheckedPlatform(
            planned.image.platform,
            str(planned.image.manifest_digest),
            planned.image.size_bytes,
            sum(content.kind is ContentKind.LAYER for content in planned.image.contents),
        )
        for planned in plan_import(found.found, max_bytes).platforms
    ]


def reason_of(error: ImportFailedError) -> str:
    """Return an error as a failed group describes it: `<reason>: <sentence>`."""
    return f"{error.reason}: {error.sentence}"
