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
from registry.model.versions import StoredVersion
from storage.digest import Digest

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
IMAGE = StoredImage(Digest.of(b"image"), Digest.of(b"image"), "linux/amd64", (), 700)
PENDING, RUNNING, STOPPED, FAILED, DEPLOYING = GroupStatus

Outcome = tuple[GroupStatus, bool, str] | type[Exception] | None


def group(status: GroupStatus, *, started: bool) -> Group:
    key = GroupKey("acme", "shop", "web")
    made = Group.create(key, "registry.example/web:1", {"replicas": 3}, autostart=started, now=NOW).group
    served = 1 if status in {RUNNING, STOPPED, DEPLOYING} else None
    return replace(made, status=status, status_description="as before", served_version=served)


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
    if after.status is not before.status or event == "new image":
        assert after.status_since == LATER
        assert after.status_description != "as before"
    assert made.event.organization == "acme"
    assert (
        dict(made.event.detail).items() >= {"group_id": before.id, "project": "shop", "group": "web"}.items()
    )
    assert made.event.detail["version"] == after.version


OLD = StoredImage(Digest.of(b"old"), Digest.of(b"old"), "linux/amd64", (), 400)
SPEC = {"replicas": 3, "container": {"command": ["serve"], "priority": "low"}, "networking": {"port": 80}}


def updated(status: GroupStatus, *, started: bool) -> Group:
    """Make a group in a state, and have its second version imported."""
    first = group(PENDING, started=started).finish_import(OLD, now=NOW)
    assert first is not None
    served = replace(first.group, status=status, spec=SPEC)
    return served.update(SPEC, "registry.example/web:2", now=LATER).group


def fail(pending: Group, reason: str = "failed to authenticate") -> Group:
    failed = pending.fail_import(reason, "wrong password", now=LATER)
    assert failed is not None
    return failed.group


@pytest.mark.parametrize(("status", "started"), [(STOPPED, False), (DEPLOYING, True), (RUNNING, True)])
def test_a_failed_version_leaves_status_and_image(status: GroupStatus, started: bool) -> None:  # noqa: FBT001
    failed = fail(updated(status, started=started))
    assert (failed.status, failed.version, failed.served_version) == (status, 2, 1)
    assert (failed.image_digest, failed.image_size_bytes) == (OLD.digest, 400)
    assert failed.pending_change
    sentence = "version 2 failed to authenticate; version 1 is served. Reason: wrong password"
    assert failed.description == sentence
    for change in (failed.start(now=LATER), failed.stop(now=LATER), failed.run(1, now=LATER)):
        assert change is None or change.group.description == sentence
    too_large = fail(updated(status, started=started), "image too large")
    assert too_large.description.startswith("version 2 failed: image too large; version 1 is served")


def test_start_stop_and_a_node_during_an_import_decide_what_its_failure_leaves() -> None:
    stopped = updated(RUNNING, started=True).stop(now=LATER)
    assert stopped is not None
    assert (stopped.group.status, fail(stopped.group).status) == (PENDING, STOPPED)
    started = updated(STOPPED, started=False).start(now=LATER)
    assert started is not None
    assert fail(started.group).status is DEPLOYING
    running = started.group.run(1, now=LATER)
    assert running is not None
    assert (running.group.status, fail(running.group).status) == (PENDING, RUNNING)
    twice = running.group.update(SPEC, "registry.example/web:3", now=LATER).group
    assert (twice.version, fail(twice).status) == (3, RUNNING)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"replicas": 4}, False),
        ({"container": {"command": ["serve"], "priority": "high"}}, False),
        ({"container": {"command": ["serve"], "environment_variables": {}}}, False),
        ({"liveness_probe": None}, False),
        ({"container": {"command": ["serve", "--fast"]}}, True),
        ({"container": {"command": ["serve"], "environment_variables": {"A": "b"}}}, True),
        *(({probe: {"exec": {}}}, True) for probe in ("liveness_probe", "readiness_probe", "startup_probe")),
        ({"networking": {"port": 81}}, True),
    ],
)
def test_what_raises_the_version(change: dict[str, object], counts: bool) -> None:  # noqa: FBT001
    before = replace(group(RUNNING, started=True), spec=SPEC)
    made = before.update({**SPEC, **change}, None, now=LATER)
    assert made.group.version == made.group.served_version == (2 if counts else 1)
    assert made.image_of == (1 if counts else None)
    assert made.group.status is RUNNING
    pending = updated(RUNNING, started=True).update({**SPEC, **change}, None, now=LATER)
    assert (pending.group.version, pending.group.served_version) == (3 if counts else 2, 1)
    assert (pending.image_of, pending.group.status) == (None, PENDING)
    failed = fail(updated(RUNNING, started=True)).update({**SPEC, **change}, None, now=LATER)
    assert (failed.group.served_version, failed.image_of, failed.group.has_failed) == (1, None, True)


def test_an_import_of_what_failed_is_the_same_version_and_of_what_is_stored_the_next() -> None:
    failed = fail(updated(RUNNING, started=True))
    assert failed.update(SPEC, failed.image, now=LATER).group.version == 2
    stored = updated(RUNNING, started=True).finish_import(IMAGE, now=LATER)
    assert stored is not None
    again = stored.group.update(SPEC, stored.group.image, now=LATER).group
    assert again.version == 3
    same = again.finish_import(IMAGE, now=LATER)
    other = again.finish_import(OLD, now=LATER)
    assert same is not None
    assert other is not None
    assert (same.group.status, other.group.status) == (DEPLOYING, DEPLOYING)


@pytest.mark.parametrize("state", ["pending", "failed", "stored"])
def test_a_rollback_is_the_next_version_with_what_the_earlier_one_had(state: str) -> None:
    before = updated(RUNNING, started=True)
    if state == "failed":
        before = fail(before)
    elif state == "stored":
        stored = before.finish_import(IMAGE, now=LATER)
        assert stored is not None
        before = stored.group
    configuration = {"container.command": ["old"], "liveness_probe": {"exec": {}}}
    target = StoredVersion(1, "registry.example/web:1", configuration, OLD.digest, 400, OLD.platform)
    made = before.roll_back(target, now=LATER)
    assert made is not None
    after = made.group
    assert (after.version, after.served_version, after.image, made.image_of) == (3, 3, target.image, 1)
    assert after.spec == {
        "replicas": 3,
        "container": {"command": ["old"], "priority": "low"},
        "liveness_probe": {"exec": {}},
    }
    assert (after.status, after.description) == (DEPLOYING if state == "stored" else RUNNING, "")
    assert (made.event.type, made.event.detail["from_version"]) == ("group.rolled_back", 1)
    assert after.roll_back(replace(target, version=3), now=LATER) is None


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
