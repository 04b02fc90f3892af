"""The life of a group: what each event makes of each state, and what it records."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from registry.errors import InvalidInputError
from registry.model.groups import Group, GroupKey, GroupStatus, GroupTransition
from registry.model.images import StoredImage
from registry.model.imports import Progress, Stage
from storage.digest import Digest

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
IMAGE = StoredImage(Digest.of(b"image"), Digest.of(b"image"), "linux/amd64", (), 700)
PENDING, RUNNING, STOPPED, FAILED, DEPLOYING = GroupStatus

Outcome = tuple[GroupStatus, bool, str] | type[Exception] | None


def group(status: GroupStatus, *, started: bool) -> Group:
    key = GroupKey("acme", "shop", "web")
    made = Group.create(key, "registry.example/web:1", {"replicas": 3}, autostart=started, now=NOW).group
    return replace(made, status=status, status_description="as before")


EVENTS: dict[str, Callable[[Group], GroupTransition | None]] = {
    "start": lambda group: group.start(now=LATER, source="192.0.2.7"),
    "stop": lambda group: group.stop(now=LATER, source="192.0.2.7"),
    "update": lambda group: group.update({"replicas": 4}, None, now=LATER),
    "new image": lambda group: group.update(group.spec, "registry.example/web:2", now=LATER),
    "imported": lambda group: group.finish_import(IMAGE, now=LATER),
    "import failed": lambda group: group.fail_import("failed to pull", "no such tag", now=LATER),
    "node has image": lambda group: group.run(1, now=LATER),
    "node has another version": lambda group: group.run(7, now=LATER),
}
SAME = "same"  # the status stays

#: What becomes of (status, started): the new status, the new `started` and the event, or nothing.
TABLE: dict[str, dict[tuple[GroupStatus, bool], Outcome]] = {
    "start": {
        (PENDING, False): (PENDING, True, "group.started"),
        (STOPPED, False): (DEPLOYING, True, "group.started"),
        (DEPLOYING, False): (DEPLOYING, True, "group.started"),
        (RUNNING, False): (DEPLOYING, True, "group.started"),
        (FAILED, False): InvalidInputError,
        (FAILED, True): InvalidInputError,
    },
    "stop": {
        (PENDING, True): (PENDING, False, "group.stopped"),
        (STOPPED, True): (STOPPED, False, "group.stopped"),
        (DEPLOYING, True): (STOPPED, False, "group.stopped"),
        (RUNNING, True): (STOPPED, False, "group.stopped"),
        (FAILED, True): (FAILED, False, "group.stopped"),
    },
    "update": {
        (status, started): (status, started, "group.updated")
        for status, started in product(GroupStatus, (False, True))
    },
    "new image": {
        (status, started): (PENDING, started, "group.updated")
        for status, started in product(GroupStatus, (False, True))
    },
    "imported": {
        (PENDING, False): (STOPPED, False, "group.imported"),
        (PENDING, True): (DEPLOYING, True, "group.imported"),
    },
    "import failed": {
        (PENDING, False): (FAILED, False, "group.failed"),
        (PENDING, True): (FAILED, True, "group.failed"),
    },
    "node has image": {
        (DEPLOYING, False): (RUNNING, False, "group.running"),
        (DEPLOYING, True): (RUNNING, True, "group.running"),
    },
    "node has another version": {},
}
EVERY = list(product(EVENTS, GroupStatus, (False, True)))


@pytest.mark.parametrize(("event", "status", "started"), EVERY)
def test_what_an_event_makes_of_a_group(event: str, status: GroupStatus, started: bool) -> None:  # noqa: FBT001
    before, expected = group(status, started=started), TABLE[event].get((status, started))
    if isinstance(expected, type):
        with pytest.raises(expected):
            EVENTS[event](before)
        return
    made = EVENTS[event](before)
    if expected is None:
        assert made is None
        return
    assert made is not None
    assert (made.group.status, made.group.started, made.event.type) == expected


@pytest.mark.parametrize(("event", "status", "started"), EVERY)
def test_a_transition_keeps_the_rest_and_says_when(event: str, status: GroupStatus, started: bool) -> None:  # noqa: FBT001
    before = group(status, started=started)
    if isinstance(TABLE[event].get((status, started)), type):
        return
    made = EVENTS[event](before)
    if made is None:
        return
    after, by_owner = made.group, event in {"start", "stop", "update", "new image"}
    assert (after.id, after.key, after.created_at) == (before.id, before.key, before.created_at)
    assert after.updated_at == LATER
    assert after.revision == before.revision + by_owner
    assert after.version == before.version + (event == "new image")
    assert (after.job_id != before.job_id) == (event == "new image")
    moved = after.status is not before.status or event == "new image"
    if moved:
        assert after.status_since == LATER
        assert after.status_description != "as before"
    assert made.event.organization == "acme"
    assert (
        dict(made.event.detail).items() >= {"group_id": before.id, "project": "shop", "group": "web"}.items()
    )
    assert made.event.detail["version"] == after.version


def test_a_new_group_waits_for_its_image_and_wants_to_run_if_it_starts_by_itself() -> None:
    for autostart in (False, True):
        made = Group.create(
            GroupKey("acme", "shop", "web"), "x:1", {}, autostart=autostart, now=NOW, source="::1"
        )
        assert (made.group.status, made.group.started, made.group.version) == (PENDING, autostart, 1)
        assert made.group.status_description == str(Progress(Stage.PULLING))
        assert (made.event.type, made.event.source) == ("group.created", "::1")
        assert made.event.detail["image"] == "x:1"


def test_a_group_can_be_deleted_in_any_state() -> None:
    for status, started in product(GroupStatus, (False, True)):
        event = group(status, started=started).delete(source="::1")
        assert (event.type, event.source) == ("group.deleted", "::1")


def test_an_import_says_what_was_stored_or_why_not() -> None:
    zstd = replace(IMAGE, digest=Digest.of(b"zstd"), size_bytes=500)
    stored = group(PENDING, started=False).finish_import(replace(IMAGE, zstd=zstd), now=LATER)
    assert stored is not None
    assert stored.event.detail["digest"] == str(IMAGE.digest)
    assert stored.event.detail["zstd"] == {"digest": str(zstd.digest), "size": 500}
    assert (stored.group.image_digest, stored.group.image_size_bytes) == (IMAGE.digest, 700)
    failed = group(PENDING, started=False).fail_import("failed to pull", "no such tag", now=LATER)
    assert failed is not None
    assert failed.group.status_description == "failed to pull: no such tag"
    assert (failed.event.cause, failed.event.detail["sentence"]) == ("failed to pull", "no such tag")


def test_damage_is_said_and_never_stored_as_the_status() -> None:
    damaged = replace(group(RUNNING, started=True), is_damaged=True)
    assert damaged.description.startswith("damaged: ")
    assert damaged.update({}, None, now=LATER).group.status_description == "as before"
