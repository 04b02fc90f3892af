"""What the owner of a group reads of its imports."""

from datetime import UTC, datetime

import pytest

from registry.audit.trail import StoredEvent
from registry.model.group_logs import LogEntry, Severity


@pytest.mark.parametrize(
    ("detail", "severity"),
    [
        ({}, Severity.INFO),
        ({"trusted": True, "sentence": "signed by a key"}, Severity.INFO),
        ({"trusted": False, "sentence": "the image is not signed"}, Severity.WARNING),
    ],
)
def test_an_image_that_its_policy_does_not_accept_is_a_warning(
    detail: dict[str, object], severity: Severity
) -> None:
    event = StoredEvent(
        cursor=1,
        at=datetime(2026, 12, 1, tzinfo=UTC),
        type="group.imported",
        organization="acme",
        token_id=None,
        node_id=None,
        cause=None,
        source=None,
        detail=detail,
    )
    entry = LogEntry.of(event)
    assert entry.severity is severity
    assert entry.text.endswith(str(detail.get("sentence", "The image is stored")))
