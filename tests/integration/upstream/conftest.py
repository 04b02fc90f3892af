import math
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from auth.ports import Clock
from auth.secret import Secret
from registry.errors import PullFailedError
from registry.imports.importer import Importer
from registry.imports.linking import BlobLinker
from registry.imports.transfer import TransferOptions
from registry.imports.verification import ImageVerifier
from registry.model.groups import GroupKey
from registry.model.images import StoredImage
from registry.model.imports import ImportJob, Progress, UpstreamCredential
from registry.observe import Metrics
from registry.oci.platform import LINUX_AMD64, Platform
from registry.trust.policy import Policy
from registry.trust.verdict import Verdict
from registry.upstream.client import UpstreamClient
from registry.upstream.egress import EgressGuard
from registry.upstream.ranges import DownloadOptions, PrefetchBudget
from registry.upstream.realms import PINNED_REALMS
from registry.upstream.response import Timeouts
from registry.upstream.retry import Backoff
from storage.backends.memory import MemoryBackend
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.keys.local import LocalKeyring
from tests.support.distribution import Image, docker_registry, push
from tests.support.key_records import MemoryKeyRecords
from tests.support.pins import MemoryPins
from tests.support.signed_images import FixedClock, MemoryPolicies
from tests.support.upstream_faults import FaultyUpstream, faulty_upstream

FAST = Backoff(attempts=4, outage_s=0, base_s=0.01, cap_s=0.05, patience_s=3)
SHORT = Timeouts(connect_s=3, read_s=1, document_s=5)


def job_for(image: str, organization: str = "acme") -> ImportJob:
    key = GroupKey(organization, "shop", "web")
    return ImportJob("job-1", "group-1", key, version=1, image=image, attempt=1)


def credential(
    username: str = "robot$ci",
    password: str = "s3cret:päss",  # noqa: S107 - a throwaway
) -> UpstreamCredential:
    return UpstreamCredential(username, Secret(password))


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
async def store(tmp_path: Path, backend: MemoryBackend) -> AsyncIterator[BlobStore]:
    keys = LocalKeyring.create(tmp_path / "keyring.json")
    blobs = BlobStore(backend, keys, MemoryKeyRecords(), secrets.token_bytes(32))
    yield blobs
    await blobs.aclose()


@pytest.fixture
async def upstream() -> AsyncIterator[FaultyUpstream]:
    async with faulty_upstream() as server:
        yield server


@pytest.fixture
async def other() -> AsyncIterator[FaultyUpstream]:
    async with faulty_upstream() as server:
        yield server


@dataclass
class Bench:
    """Imports from listed upstreams into one store, and what they reported."""

    store: BlobStore
    backend: MemoryBackend
    reports: list[Progress] = field(default_factory=list)
    limit: int = 1 << 30
    ahead_bytes: int = 8 << 20
    backoff: Backoff = FAST
    timeouts: Timeouts = SHORT
    options: TransferOptions = field(init=False)

    def __post_init__(self) -> None:
        self.options = TransferOptions(
            DownloadOptions(PrefetchBudget(self.ahead_bytes), quick_bytes_per_s=math.inf)
        )  # else loopback never needs ranges

    sharing: BlobLinker | None = None
    verifier: ImageVerifier | None = None
    platforms: tuple[Platform, ...] = (LINUX_AMD64,)

    async def run(
        self,
        image: str,
        given: UpstreamCredential | None = None,
        *,
        insecure: tuple[str, ...] | None = None,
        realms: dict[str, set[str]] | None = None,
        organization: str = "acme",
        **options: Any,  # noqa: ANN401 - those of UpstreamClient
    ) -> StoredImage:
        listed = (image.partition("/")[0],) if insecure is None else insecure
        guard, pinned = options.pop("guard", EgressGuard(listed)), realms or PINNED_REALMS
        async with UpstreamClient(
            guard, timeouts=self.timeouts, backoff=self.backoff, realms=pinned, **options
        ) as client:
            importer = Importer(
                client,
                self.store,
                MemoryPins(),
                Metrics(),
                sharing=self.sharing,
                max_image_bytes=self.limit,
                options=self.options,
                verifier=self.verifier,
                platforms=self.platforms,
            )
            return await importer.run(job_for(image, organization), given, self.reports.append)

    async def holds(self, image: Image) -> None:
        """Check that every document and blob of an image is stored, byte for byte."""
        contents = {d: data for d, (_, data) in image.manifests.items()} | image.blobs
        for digest, data in contents.items():
            assert await self.read(digest) == data

    async def read(self, digest: str, organization: str = "acme") -> bytes:
        async with await self.store.open(organization, Digest.parse(digest)) as reader:
            return b"".join([bytes(part) async for part in reader.stream(0, reader.size_bytes)])


@pytest.fixture
def bench(store: BlobStore, backend: MemoryBackend) -> Bench:
    return Bench(store, backend)


@dataclass
class Shelf:
    """A registry with signed images, and imports from it by a policy."""

    host: str
    bench: Bench
    clock: Clock = field(default_factory=FixedClock)

    async def put(self, image: Image, *tagged: Mapping[str, Image]) -> None:
        await push(self.host, "acme/app", "v1", image, {})
        for tag, artifact in ((tag, artifact) for each in tagged for tag, artifact in each.items()):
            await push(self.host, "acme/app", tag, artifact, {})

    async def verdict(self, *policies: Policy) -> Verdict | None:
        self.bench.verifier = ImageVerifier(MemoryPolicies(policies), self.clock)
        return (await self.bench.run(f"{self.host}/acme/app:v1")).verdict

    async def refusal(self, *policies: Policy) -> str:
        with pytest.raises(PullFailedError) as caught:
            await self.verdict(*policies)
        return caught.value.sentence

    async def stores(self, digest: str) -> bool:
        try:
            await self.bench.read(digest)
        except Exception:  # noqa: BLE001 - whatever says that it is not there
            return False
        return True


@pytest.fixture
async def shelf(bench: Bench, tmp_path: Path) -> AsyncIterator[Shelf]:
    folder = tmp_path / "registry"
    folder.mkdir()
    async with docker_registry(folder) as host:
        yield Shelf(host, bench)
