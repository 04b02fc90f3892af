"""Many imports of few images at the same time, through one server; what that took of the upstream."""

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.crisper import PROJECT, CrisperServer, Organization
from tests.support.http import request
from tests.support.processes import Process, wait_until

CLIENTS = 8


@dataclass(frozen=True)
class RandomUpstream:
    """A running `bench.random_upstream`.

    Attributes:
        reference: Of its first image; others have their number as tag.
        layers: Digest to size.
    """

    port: int
    reference: str
    size_bytes: int
    layers: dict[str, int]

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def tagged(self, number: int) -> str:
        return f"{self.reference.removesuffix('latest')}{number}"

    def sent(self) -> dict[str, int]:
        """Return how many bytes of each layer were written to a connection."""
        counted: dict[str, int] = request("GET", f"http://{self.host}/sent").expect(200).json()
        return counted


@contextmanager
def random_upstream(
    folder: Path, *, size_gb: float, layers: int, images: int = 1
) -> Iterator[RandomUpstream]:
    """Run one; its log is in `folder`."""
    log = folder / f"upstream-{images}.log"
    argv = [sys.executable, "-m", "bench.random_upstream", f"--size-gb={size_gb}"]
    argv += [f"--layers={layers}", f"--images={images}"]
    timeout_s = 60 + 30 * size_gb * images
    with Process(argv, log, ready=lambda: '"layers"' in log.read_text(), timeout_s=timeout_s):
        said: dict[str, Any] = json.loads(log.read_text().splitlines()[0])
        yield RandomUpstream(said["port"], said["reference"], said["size_bytes"], said["layers"])


@dataclass(frozen=True)
class Outcome:
    """How many imports ended in which way, how long all took, and which layers came more than once."""

    took_s: float
    statuses: dict[str, int]
    fetched_again: dict[str, float]


def import_many(
    server: CrisperServer, upstream: RandomUpstream, *, images: int, imports: int, timeout_s: float
) -> Outcome:
    """Create all groups at once, in one organization, and wait until the last one is settled."""
    organization = server.operator.create_organization()
    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as clients:
        create = server.customer(organization).create_group
        list(clients.map(create, [upstream.tagged(n % images) for n in range(imports)]))
    wait_until(
        lambda: "pending" not in _statuses(server, organization),
        timeout_s=timeout_s,
        what="every import is settled",
        interval_s=0.25,
    )
    took_s = time.monotonic() - began
    found = _statuses(server, organization)
    sent = upstream.sent()
    wanted = {digest for digest in upstream.layers if sent.get(digest)}
    again = {digest: sent[digest] / upstream.layers[digest] - 1 for digest in sorted(wanted)}
    return Outcome(
        round(took_s, 1),
        {status: found.count(status) for status in sorted(set(found))},
        {digest: round(share, 3) for digest, share in again.items() if share},
    )


def _statuses(server: CrisperServer, organization: Organization) -> list[str]:
    url = f"{server.url}/api/public/organizations/{organization.name}/projects/{PROJECT}/containers"
    answer = request("GET", url, headers={"Salad-Api-Key": organization.api_key}).expect(200)
    return [item["current_state"]["status"] for item in answer.json()["items"]]
