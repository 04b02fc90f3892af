"""Table of registries' quirks, from public bug reports: one row a quirk, with how its import ends."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tests.support.quirks import challenges, configs, documents, messages, realms, redirects, tags
from tests.support.quirks.row import Quirk

KINDS: Mapping[str, Sequence[Quirk]] = MappingProxyType(
    {
        "documents": documents.QUIRKS,
        "configs": configs.QUIRKS,
        "challenges": challenges.QUIRKS,
        "realms": realms.QUIRKS,
        "redirects": redirects.QUIRKS,
        "messages": messages.QUIRKS,
        "tags": tags.QUIRKS,
    }
)
QUIRKS = [quirk for quirks in KINDS.values() for quirk in quirks]
