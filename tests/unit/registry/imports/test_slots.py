"""Who may start an import in a process, as others run there."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.imports.slots import PLACES_PER_JOB, SLOW_BYTES_PER_S, WINDOW_S, ImportSlots, Slot
from registry.model.imports import Progress, Stage

JOBS = 2


@dataclass
class Process:
    """A process with slots and a clock."""

    now: float = 0.0
    slots: ImportSlots = field(init=False)
    running: list[Slot] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.slots = ImportSlots(JOBS, lambda: self.now)

    def start(self, organization: str) -> bool:
        excluded = self.slots.excluded()
        if excluded is None or organization in excluded:
            return False
        self.running.append(self.slots.enter(organization))
        return True

    def fill(self, organization: str) -> int:
        """Start imports for as long as one may start, all of them from upstreams that drip."""
        count = 0
        while self.start(organization):
            count += 1
            self.drip()
        return count

    def drip(self) -> None:
        self.now += WINDOW_S

    def pass_time(self, bytes_per_s: float, slot: Slot, stage: Stage = Stage.PULLING) -> None:
        """Receive at a rate for a window, and see what that makes of the slot."""
        slot.follow(Progress(stage, 0, 1, round(slot._progress.bytes_done + bytes_per_s * WINDOW_S), 10**12))
        self.now += WINDOW_S
        self.slots.excluded()


@pytest.fixture
def process() -> Process:
    return Process()


def test_one_organization_runs_as_many_fast_imports_as_there_are_jobs(process: Process) -> None:
    assert [process.start("acme") for _ in range(3)] == [True, True, False]


def test_an_organization_that_runs_nothing_starts_beside_others_that_use_all_jobs(process: Process) -> None:
    assert all(process.start("acme") for _ in range(JOBS))
    assert [process.start(name) for name in ("rival", "rival", "third", "fourth")] == [
        True,
        False,
        True,
        False,  # twice as many as there are jobs
    ]


@pytest.mark.parametrize(
    ("bytes_per_s", "stage", "slow"),
    [
        (0, Stage.PULLING, True),
        (20_000, Stage.PULLING, True),
        (SLOW_BYTES_PER_S * 1.01, Stage.PULLING, False),
        (0, Stage.COMPRESSING, False),
        (0, Stage.STORING, False),
    ],
)
def test_an_import_is_slow_while_it_waits_for_its_upstream(
    process: Process, bytes_per_s: float, stage: Stage, *, slow: bool
) -> None:
    process.start("acme")
    process.pass_time(bytes_per_s, process.running[0], stage)
    assert process.running[0].is_slow is slow


def test_an_import_that_becomes_fast_again_takes_its_job_back(process: Process) -> None:
    assert all(process.start("acme") for _ in range(JOBS))
    process.drip()
    assert process.start("acme")
    for slot in process.running[:2]:
        slot.follow(Progress(Stage.PULLING, 0, 1, 10**9, 10**12))
    process.now += WINDOW_S
    assert not process.start("acme")


def test_dripping_imports_of_many_groups_leave_places_to_other_organizations(process: Process) -> None:
    """Each organization may take half of what is left, so several must conspire to take all."""
    places = PLACES_PER_JOB * JOBS
    assert [process.fill(name) for name in "abcd"] == [places // 2, places // 4, places // 8, places // 16]
    assert process.fill("e") == 1
    assert process.slots.excluded() is None


def test_the_place_of_an_import_that_ended_is_free(process: Process) -> None:
    assert all(process.start("acme") for _ in range(JOBS))
    assert not process.start("acme")
    process.slots.leave(process.running.pop())
    assert process.start("acme")


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=60))
def test_the_limits_hold_for_every_order_of_starts(starts: list[tuple[str, bool]]) -> None:
    process = Process()
    for organization, drips in starts:
        process.start(organization)
        if drips:
            process.drip()
        assert len(process.running) <= PLACES_PER_JOB * JOBS
        assert sum(not slot.is_slow for slot in process.running) <= 2 * JOBS
        most = max(Counter(slot.organization for slot in process.running).values(), default=0)
        assert most <= PLACES_PER_JOB * JOBS // 2
