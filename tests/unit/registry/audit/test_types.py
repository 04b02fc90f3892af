"""Every event that the code records has a type, and every type is in the portal, the reference, the docs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from auth.audit import AuthEventType, EventType
from docs import generate
from registry.audit.types import EVENT_TYPES, RegistryEventType
from registry.model.instances import InstanceState
from registry.model.webhooks import FAMILIES
from registry.portal.messages import event_sentence

ROOT = Path(__file__).parents[4]
CONSTRUCTORS = {"AuditEvent", "instance_event", "event", "_event"}
BY_STATE = {f"instance.{state.value}" for state in InstanceState}


def calls() -> Iterator[tuple[Path, ast.Call, str]]:
    for package in ("auth", "registry"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    called = node.func
                    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                    yield path, node, name


def test_no_event_is_recorded_under_a_name_that_is_no_type() -> None:
    made = [(path, call) for path, call, name in calls() if name in CONSTRUCTORS and call.args]
    assert len(made) > 20
    assert [
        f"{path}:{call.lineno}"
        for path, call in made
        if isinstance(call.args[0], ast.Constant | ast.JoinedStr)
    ] == []


def test_every_type_is_recorded_somewhere() -> None:
    used = {
        node.attr
        for package in ("auth", "registry")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "").endswith("EventType")
    }
    every = (*AuthEventType, *RegistryEventType)
    assert [type_.value for type_ in every if type_.name not in used and type_.value not in BY_STATE] == []


def test_every_state_that_a_scheduler_can_report_has_a_type() -> None:
    assert BY_STATE - EVENT_TYPES.keys() == {"instance.allocating"}, "token.minted says that"


@pytest.mark.parametrize("type_", EVENT_TYPES.values())
def test_a_type_is_explained_in_the_portal_and_in_the_reference(type_: EventType) -> None:
    assert re.fullmatch(r"[a-z_]+\.[a-z_]+", type_.value)
    assert re.fullmatch(r"[A-Z][^`]*[^.`]", type_.sentence)
    assert event_sentence(type_.value) == type_.sentence
    assert f"| `{type_.value}` | {type_.sentence}. |\n" in generate.events()


def test_names_and_sentences_are_not_given_twice() -> None:
    every = (*AuthEventType, *RegistryEventType)
    assert len(EVENT_TYPES) == len(every) == len({type_.sentence for type_ in every})


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_about_webhooks_lists_the_types_of_a_family(family: str) -> None:
    page = (ROOT / "docs/webhooks.md").read_text()
    (row,) = re.findall(rf"^\| `{family}\.\*` \| (.*) \|$", page, re.MULTILINE)
    listed = {f"{family}.{name}" for name in re.findall(r"`([a-z_]+)`", re.sub(r"\([^)]*\)", "", row))}
    assert listed == {name for name, type_ in EVENT_TYPES.items() if type_.family == family}
