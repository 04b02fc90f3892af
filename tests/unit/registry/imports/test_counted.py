from collections.abc import Collection

from registry.imports.counted import CountingJobQueue
from registry.model.groups import GroupKey
from registry.model.images import StoredImage
from registry.model.imports import ImportJob
from registry.observe import Metrics
from storage.digest import Digest

IMAGE = StoredImage(Digest.of(b"i"), Digest.of(b"i"), "linux/amd64", (), 1)


class RecordingQueue:
    """Takes every outcome, or none."""

    def __init__(self, *, takes: bool) -> None:
        self.takes = takes

    async def claim(self, worker_id: str, lease_s: float) -> ImportJob | None:  # noqa: ARG002
        return None

    async def heartbeat(self, job_id: str, worker_id: str, lease_s: float) -> bool:  # noqa: ARG002
        return self.takes

    async def held(self, worker_id: str) -> Collection[str]:  # noqa: ARG002
        return ()

    async def succeed(self, job: ImportJob, worker_id: str, image: StoredImage) -> bool:  # noqa: ARG002
        return self.takes

    async def fail(self, job: ImportJob, worker_id: str, reason: str, sentence: str) -> bool:  # noqa: ARG002
        return self.takes


def job(image: str) -> ImportJob:
    return ImportJob("j", "g", GroupKey("acme", "shop", "web"), version=1, image=image, attempt=1)


async def test_ends_are_counted_by_family_and_outcome() -> None:
    metrics = Metrics()
    queue = CountingJobQueue(RecordingQueue(takes=True), metrics)
    await queue.succeed(job("alpine"), "w", IMAGE)
    await queue.fail(job("ghcr.io/acme/app:1"), "w", "failed to pull", "sentence")
    await queue.fail(job("https://what is this"), "w", "failed to pull", "sentence")
    shown = metrics.render().decode()
    for provider, outcome in (
        ("docker_hub", "done"),
        ("ghcr", "failed to pull"),
        ("other", "failed to pull"),
    ):
        assert f'crisper_imports_total{{outcome="{outcome}",provider="{provider}"}} 1.0' in shown


async def test_an_end_that_another_worker_records_is_not_counted() -> None:
    metrics = Metrics()
    queue = CountingJobQueue(RecordingQueue(takes=False), metrics)
    assert not await queue.succeed(job("alpine"), "w", IMAGE)
    assert "crisper_imports_total{" not in metrics.render().decode()
