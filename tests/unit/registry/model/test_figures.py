"""What is counted of each event."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from registry.model.figures import BUCKETS_S, FigureKey, FigureKind, bucket_of, figures_of

AT = datetime(2026, 12, 1, 23, 59, tzinfo=UTC)
TIMES = {"duration_s": 2.5, "since_request_s": 31.0}


def row(type_: str, *, organization: str | None = "acme", cause: str | None = None, **detail: Any) -> Any:  # noqa: ANN401
    return {"at": AT, "type": type_, "organization": organization, "cause": cause, "detail": detail}


def imported(report: dict[str, float]) -> Any:  # noqa: ANN401
    return {**row("group.imported"), "detail": {"import": report}}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (row("token.redeemed"), {("redeemed", ""): 1}),
        (row("token.refused", cause="replayed"), {("refused", "replayed"): 1}),
        (row("token.refused", cause="replayed", suppressed=40), {("refused", "replayed"): 40}),
        (row("group.failed", cause="failed to pull"), {("import", "failed to pull"): 1}),
        (row("group.imported"), {("import", "stored"): 1}),
        (
            imported(TIMES),
            {("import", "stored"): 1, ("import_time", "1"): 1, ("stored_time", "3"): 1},
        ),
        (row("instance.creating", since_mint_s=3), {("pull_time", "1"): 1}),
        (row("instance.creating"), {}),
        (row("instance.running", since_mint_s=5000.0), {("start_time", str(len(BUCKETS_S))): 1}),
        (row("group.created"), {}),
    ],
)
def test_an_event_counts_under_its_kinds(event: Any, expected: dict[tuple[str, str], int]) -> None:  # noqa: ANN401
    assert {(key.kind, key.label): count for key, count in figures_of([event]).items()} == expected


def test_events_of_a_day_and_organization_are_added() -> None:
    events = [row("token.redeemed"), row("token.redeemed"), row("token.refused", organization=None)]
    assert figures_of(events) == {
        FigureKey(date(2026, 12, 1), "acme", FigureKind.REDEEMED, ""): 2,
        FigureKey(date(2026, 12, 1), "", FigureKind.REFUSED, "unknown"): 1,
    }


@pytest.mark.parametrize(("seconds", "bucket"), [(0, "0"), (1, "0"), (1.1, "1"), (3600, "6"), (3600.1, "7")])
def test_a_duration_is_in_the_first_bucket_that_is_long_enough(seconds: float, bucket: str) -> None:
    assert bucket_of(seconds) == bucket
