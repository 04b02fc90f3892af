from collections.abc import Callable
from dataclasses import replace

from registry.imports.import_log import ImportLog
from registry.model.imports import Progress, Stage

PULLING = Progress(Stage.PULLING, 1, 2, 60, 100)


def ticking(step_s: float) -> Callable[[], float]:
    passed = [0.0]

    def now() -> float:
        passed[0] += step_s
        return passed[0]

    return now


def test_each_stage_is_measured_and_waits_are_counted() -> None:
    log = ImportLog(attempt=2, now=ticking(10.0))
    waits = PULLING.waiting("It answered 503"), PULLING.waiting("It answered 502")
    for progress in (Progress(Stage.PULLING), waits[0], waits[0], PULLING, waits[1]):
        log.follow(progress)
    for stage in (Stage.COMPRESSING, Stage.STORING):
        log.follow(replace(PULLING, stage=stage))
    facts = log.report().facts
    assert facts == {
        "duration_s": 30.0,
        "pulling_s": 10.0,
        "compressing_s": 10.0,
        "storing_s": 10.0,
        "layers": 2,
        "size_bytes": 100,
        "retries": 2,
        "last_retry": waits[1].retry,
        "attempt": 2,
    }


def test_an_import_that_ends_before_its_manifest_has_only_its_time() -> None:
    assert ImportLog(now=ticking(0.5)).report().facts == {"duration_s": 0.5, "pulling_s": 0.5}
