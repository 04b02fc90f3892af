"""Table of registries' quirks, from public bug reports: one row a quirk, with how its import ends."""

from tests.support.quirks import challenges, documents, messages, realms, redirects, tags

QUIRKS = [
    *documents.QUIRKS,
    *challenges.QUIRKS,
    *realms.QUIRKS,
    *redirects.QUIRKS,
    *messages.QUIRKS,
    *tags.QUIRKS,
]
