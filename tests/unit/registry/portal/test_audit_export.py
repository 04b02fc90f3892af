"""The audit trail as a file for spreadsheets and programs."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from auth.actor import OPERATOR_KEY, Actor, ActorKind
from registry.audit.trail import StoredEvent
from registry.portal.audit_export import columns_of, csv_head, csv_lines, json_lines
from registry.portal.messages import fact

AT = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def event(**facts: object) -> StoredEvent:
    usual = StoredEvent(1, AT, "node.created", "acme", None, None, None, "192.0.2.1", {})
    return replace(usual, **facts)  # type: ignore[arg-type]


def read(*events: StoredEvent, with_source: bool = True) -> list[dict[str, str]]:
    columns = columns_of(with_source=with_source)
    return list(csv.DictReader(io.StringIO(csv_head(columns) + csv_lines(events, columns))))


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_is_a_formula(begin: str) -> None:
    (row,) = read(event(node_id=f"{begin}HYPERLINK(1)"))
    assert row["node"] == f"'{begin}HYPERLINK(1)"


def test_cells_keep_quotes_commas_and_lines() -> None:
    (row,) = read(event(node_id='a "b", c\nd', detail={"version": 2}))
    assert row["node"] == 'a "b", c\nd'
    assert json.loads(row["detail"]) == {"version": 2}
    assert (row["event"], row["token"]) == ("The node was created", "")


def test_only_operators_get_network_addresses() -> None:
    assert "source" not in read(event(), with_source=False)[0]
    assert "192.0.2.1" not in json_lines([event()], columns_of(with_source=False))


@pytest.mark.parametrize(
    ("actor", "shown", "shown_to_customers"),
    [
        (None, ("", ""), ("", "")),
        (Actor(ActorKind.PERSON, "248289", "Jane Doe"), ("Jane Doe", "248289"), ("Jane Doe", "248289")),
        (Actor(ActorKind.API_KEY, "key-1", "=ci"), ("'=ci", "key-1"), ("'=ci", "key-1")),
        (Actor(ActorKind.PERSON, "7", "Ops", is_operator=True), ("Ops", "7"), ("operator", "")),
        (OPERATOR_KEY, ("operator key", ""), ("operator", "")),
    ],
)
def test_the_file_names_the_actor_but_not_operators_to_customers(
    actor: Actor | None, shown: tuple[str, str], shown_to_customers: tuple[str, str]
) -> None:
    for with_source, expected in ((True, shown), (False, shown_to_customers)):
        (row,) = read(event(actor=actor), with_source=with_source)
        assert (row["actor"], row["actor_id"]) == expected


def test_json_lines_are_one_document_each() -> None:
    lines = json_lines(
        [event(node_id="a\nb"), event(type="of.another.version")], columns_of(with_source=True)
    )
    first, second = map(json.loads, lines.splitlines())
    assert (first["node"], first["time"]) == ("a\nb", AT.isoformat())
    assert second["event"] == "of.another.version"


@pytest.mark.parametrize(
    ("value", "name", "shown"),
    [
        (None, "", "none"),
        ([], "", "none"),
        (True, "", "yes"),
        (1_500_000, "stored_bytes", "1.5 MB"),
        (7, "version", "7"),
        (["linux/amd64", "linux/arm64"], "", "linux/amd64; linux/arm64"),
        ([{"pattern": "*", "kinds": ["cosign-key"]}], "", "pattern: *, kinds: cosign-key"),
        ({"key_thumbprint": None}, "", "key thumbprint: none"),
    ],
)
def test_facts_are_text_for_people(value: object, name: str, shown: str) -> None:
    assert fact(value, name) == shown
