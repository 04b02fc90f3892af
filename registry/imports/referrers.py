"""Lists of the artifacts that refer to a manifest, by the referrers API or the fallback tag."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from yarl import URL

from registry.errors import DocumentError
from registry.oci.attachments import subject_tag
from registry.oci.documents import Index, parse_document
from registry.oci.strict_json import parse_object
from registry.upstream.repository import UpstreamRepository, off_loop
from storage.digest import Digest

MAX_PAGES: Final = 8
"""Pages of one list. Referrers on later pages are not seen."""

T = TypeVar("T")


class Attempt(Protocol):
    """Runs a request, with retries or without."""

    async def __call__(self, request: Callable[[], Awaitable[T]]) -> T | None:
        """Return the response; None if there is no such document."""


async def list_referrers(
    source: UpstreamRepository, subject: Digest, attempt: Attempt
) -> list[Mapping[str, Any]]:
    """List the referrers of a manifest or an index, as entries of an OCI index.

    The tag is used if the registry does not support the referrers API. A list that is not valid is empty.
    """
    found: list[Mapping[str, Any]] | None = None
    page: URL | None = None
    for _ in range(MAX_PAGES):
        listed = await attempt(partial(source.referrers, subject, page))
        entries = None if listed is None else await _entries(listed.data, listed.media_type)
        if entries is None or listed is None:
            break
        found = (found or []) + entries
        page = listed.next
        if page is None:
            break
    if found is not None:
        return found
    tagged = await attempt(partial(source.attempt, subject_tag(subject)))
    return [] if tagged is None else await _entries(*tagged) or []


async def _entries(data: bytes, content_type: str | None) -> list[Mapping[str, Any]] | None:
    """Return the entries of a list; None if the document is no valid index."""
    try:
        if isinstance(await off_loop(data, parse_document, content_type), Index):
            fields = await off_loop(data, parse_object, "the list of referrers")
            return list(fields["manifests"])
    except DocumentError:
        pass
    return None
