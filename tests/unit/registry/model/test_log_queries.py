"""SaladCloud's log query language over the entries of groups and instances."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.audit.trail import StoredEvent
from registry.errors import InvalidInputError
from registry.model.group_logs import LogEntry
from registry.model.log_queries import MAX_COMPARISONS, MAX_DEPTH, MAX_WORDS, parse_query

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVENTS = [
    ("group.created", None, {"image": "app:1", "version": 1}),
    ("group.failed", "failed to pull", {"version": 1, "sentence": 'the "image" is\\gone'}),
    ("instance.running", None, {"version": 2, "instance_id": "one"}),
    ("instance.lapsed", "expired", {"version": 2, "instance_id": "two"}),
]
ENTRIES = [
    LogEntry.of(
        StoredEvent(
            n,
            START + timedelta(minutes=n),
            type_,
            "acme",
            None,
            "pc-1" if type_.startswith("instance") else None,
            cause,
            None,
            {"project": "dev", "group": "web", **detail},
        )
    )
    for n, (type_, cause, detail) in enumerate(EVENTS)
]


def matching(query: str) -> list[int]:
    predicate = parse_query(query)
    return [n for n, entry in enumerate(ENTRIES) if predicate(entry)]


@pytest.mark.parametrize(
    ("query", "found"),
    {
        "": [0, 1, 2, 3],
        "  \n ": [0, 1, 2, 3],
        'severity = "error"': [1],
        'severity != "error"': [0, 2, 3],
        'severity >= "warning"': [1, 3],
        'severity < "warning"': [0, 2],
        "severity_number > 3": [1, 3],
        'resource.type = "instance_controller"': [2, 3],
        'resource.type =~ "Instance_Controller"': [2, 3],
        'resource.type !=~ "Instance_Controller"': [0, 1],
        'resource.labels.container_group_name = "web"': [0, 1, 2, 3],
        'resource.labels.container_group_version = "2"': [2, 3],
        "resource.labels.container_group_version = 2": [2, 3],
        'resource.labels.instance_id = "one"': [2],
        'resource.labels.instance_id != "one"': [3],
        'resource.labels.instance_id startswith "t"': [3],
        'not resource.labels.instance_id = "one"': [0, 1, 3],
        'text_log contains "stored"': [],
        'text_log contains "will be imported"': [0],
        'TEXT_LOG contains "x"': None,
        'log contains~ "THE IMPORT"': [1],
        'log !contains~ "THE IMPORT"': [0, 2, 3],
        r'text_log endswith "\"image\" is\\gone"': [1],
        "text_log endswith 'is\\\\gone'": [1],
        'text_log !startswith "The"': [],
        'time >= "2026-03-01T12:01:00Z" AND time < "2026-03-01T12:03:00Z"': [1, 2],
        'time = "2026-03-01T13:02:00+01:00"': [2],
        'time > "2026-03-01T12:02:00"': [3],
        'severity = "error" or severity = "warning" and resource.type = "deployment_controller"': [1],
        '(severity = "error" or severity = "warning") and resource.labels.instance_id = "two"': [3],
        'not (severity = "info" or severity = "warning")': [1],
        'NOT NOT severity = "error"': [1],
        'json_log.field = "x"': [],
        'trace_id != "x"': [],
        'resource.labels.a.b-c = "x"': [],
        "severity": None,
        "severity =": None,
        "severity = error": None,
        'severity = "bad"': None,
        'severity contains "err"': None,
        'time contains "2026"': None,
        'time > "yesterday"': None,
        'time > "0001-01-01T00:00:00+14:00"': None,
        'severity = "error" severity = "info"': None,
        '(severity = "error"': None,
        'severity = "error")': None,
        'nothing = "x"': None,
        'json_log = "x"': None,
        'severity = "error': None,
        "and": None,
        "not": None,
        '"x" = severity': None,
        "\0": None,
        "severity_number > 1e30": None,
        "severity_number > " + "9" * 5000: None,
    }.items(),
)
def test_a_query_finds_its_entries_or_is_refused(query: str, found: list[int] | None) -> None:
    if found is None:
        with pytest.raises(InvalidInputError) as refused:
            matching(query)
        assert list(refused.value.fields) == ["query"]
    else:
        assert matching(query) == found


def test_a_query_is_bounded() -> None:
    one = 'severity = "error"'
    assert matching(" or ".join([one] * MAX_COMPARISONS)) == [1]
    assert matching("(" * MAX_DEPTH + one + ")" * MAX_DEPTH) == [1]
    assert matching("not " * (MAX_WORDS - 4) + one) == [1]
    for large in (
        "not " * (MAX_WORDS - 2) + one,
        " or ".join([one] * (MAX_COMPARISONS + 1)),
        "(" * (MAX_DEPTH + 1) + one,
        "(" * 20_000,
    ):
        with pytest.raises(InvalidInputError):
            matching(large)


@given(st.text(alphabet="()\"'\\=!<>~ andort severity_log.12", max_size=60) | st.text(max_size=40))
def test_any_text_is_a_query_or_refused(query: str) -> None:
    try:
        predicate = parse_query(query)
    except InvalidInputError:
        return
    assert all(isinstance(predicate(entry), bool) for entry in ENTRIES)
