"""Registries with quirks: what crane, skopeo and containerd pull is imported, and other failures say why.

The rows are in tests/support/quirks; quirks of ranges are in test_range_quirks.py.
"""

import re
import ssl
from pathlib import Path
from typing import Any

import pytest

from registry.errors import ImportFailedError
from registry.upstream.egress import EgressGuard
from tests.integration.upstream.conftest import Bench, credential
from tests.support.distribution import digest_of
from tests.support.failures import is_documented
from tests.support.quirks import QUIRKS
from tests.support.quirks.row import LAYER, Quirk
from tests.support.quirky_upstream import BASIC, QuirkyUpstream, quirky_upstream

#: What to do next; tests/integration/upstream/test_sentences.py looks for it in docs/failures.md.
STEP = r"(: (ask|check|give|push|use) .*)?"
TRUST = ssl.create_default_context()


def test_the_table_has_many_rows_with_a_name_of_their_own() -> None:
    assert len({quirk.name for quirk in QUIRKS}) == len(QUIRKS) >= 150


@pytest.mark.parametrize("quirk", QUIRKS, ids=str)
async def test_a_quirk_ends_as_its_row_says(bench: Bench, tmp_path: Path, quirk: Quirk) -> None:
    async with quirky_upstream(tmp_path if quirk.tls else None) as upstream:
        quirk.arrange(upstream)
        if quirk.fails:
            with pytest.raises(ImportFailedError) as failure:
                await imported(bench, upstream, quirk, tmp_path)
            assert re.fullmatch(quirk.fails + STEP, failure.value.sentence), failure.value.sentence
            assert is_documented(failure.value.reason, failure.value.sentence), failure.value.sentence
            assert failure.value.reason == quirk.reason
            assert bench.backend.objects == {}
        else:
            await imported(bench, upstream, quirk, tmp_path)
            if any("/blobs/" + digest_of(LAYER) in seen.path for seen in upstream.seen):
                assert await bench.read(digest_of(LAYER)) == LAYER
        shown = [seen for seen in upstream.other.seen if seen.authorization == BASIC]
        assert bool(shown) == quirk.shares


async def imported(bench: Bench, upstream: QuirkyUpstream, quirk: Quirk, folder: Path) -> None:
    """Import the image, and check that documents and blobs are stored byte for byte."""
    hosts = (upstream.host, upstream.plain, upstream.other.host)
    options: dict[str, Any] = {"ssl_context": TRUST}
    if quirk.tls:
        context = ssl.create_default_context(cafile=folder / "ca.crt")
        options = {"guard": EgressGuard(private=hosts), "ssl_context": context}
    stored = await bench.run(
        f"{upstream.host}/app:1", credential() if quirk.login else None, insecure=hosts, **options
    )
    expected = upstream.documents | upstream.other.documents
    for digest in {str(stored.digest), str(stored.manifest_digest)}:
        assert await bench.read(digest) == expected[digest][1]
    assert bench.reports[-1].bytes_done == sum(
        content.size_bytes for content in stored.contents if content.kind.name == "LAYER"
    )
