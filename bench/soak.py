"""Create groups, tokens and pulls and delete them continuously, and check that no resource grows.

    python -m bench.soak --minutes 10

Each client creates a group, waits for its import, mints tokens, pulls, tries a second pull that is refused,
revokes, and deletes the group. Meanwhile it samples memory and file descriptors of the server, keys of the
ledger, and temporary files. The ledger keeps a token for an hour after its end, so the number of keys may
grow with the number of tokens. The benchmark requires that every key expires, and that the keys per token do
not increase.
"""

import argparse
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from redis import Redis

from bench import results
from bench.rss import MIB
from bench.servers import single_layer
from tests.support.crisper import CrisperServer
from tests.support.pulling import Puller, PullFailedError
from tests.support.upstream import Upstream

SAMPLE_S = 5.0
GROWTH_MIB = 24
GROWTH_DESCRIPTORS = 8
TOKENS_PER_GROUP = 4


@dataclass(frozen=True)
class Sample:
    at_s: float
    rss_mib: float
    descriptors: int
    keys: int
    tokens: int
    temporaries: int


class Churn:
    """Totals of all clients."""

    def __init__(self, server: CrisperServer, reference: str) -> None:
        self._server = server
        self._reference = reference
        self.done = threading.Event()
        self.groups = self.tokens = self.pulls = 0

    def run(self) -> None:
        operator = self._server.operator
        organization, node = operator.create_organization(), operator.create_node()
        customer, puller = self._server.customer(organization), Puller(self._server.url)
        while not self.done.is_set():
            group = customer.import_image(self._reference)
            self.groups += 1
            tokens = [operator.mint(organization, group, node) for _ in range(TOKENS_PER_GROUP)]
            self.tokens += len(tokens)
            for token in tokens[1:]:
                puller.pull(token, node)
                self.pulls += 1
            operator.complete(tokens[1])
            operator.revoke(tokens[0])
            refused(puller, tokens[0], node)
            refused(puller, tokens[1], node)
            customer.delete(group)
            refused(puller, tokens[2], node)
        puller.close()


def refused(puller: Puller, token: object, node: object) -> None:
    try:
        puller.pull(token, node)  # type: ignore[arg-type]
    except PullFailedError as error:
        if "401" in str(error):
            return
        raise
    raise AssertionError("a token that is over pulled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="crisper-bench-") as name:
        folder = Path(name)
        with Upstream.anonymous(folder / "upstream") as upstream:
            image = single_layer(4 * MIB)
            upstream.push(image)
            with CrisperServer(folder / "crisper", insecure_registries=[upstream.host]) as server:
                churn = Churn(server, upstream.reference(image))
                samples = soak(server, churn, options)
                forever = keys_without_an_end(server)
    verdict = judge(samples, forever)
    figures = {
        "minutes": options.minutes,
        "groups": churn.groups,
        "tokens": churn.tokens,
        "pulls": churn.pulls,
        "verdict": verdict,
        "samples": [asdict(sample) for sample in samples],
    }
    print(f"{churn.groups} groups, {churn.tokens} tokens, {churn.pulls} pulls in {options.minutes} min")
    for line, good in verdict.items():
        print(f"  {'ok  ' if good else 'GROWS'} {line}")
    print(f"written to {results.write('soak', 'churning groups, tokens, pulls and deletes', figures)}")
    if not all(verdict.values()):
        sys.exit(1)


def soak(server: CrisperServer, churn: Churn, options: argparse.Namespace) -> list[Sample]:
    samples, began = [], time.monotonic()
    with ThreadPoolExecutor(options.clients) as threads:
        running = [threads.submit(churn.run) for _ in range(options.clients)]
        try:
            while time.monotonic() - began < options.minutes * 60 and not any(r.done() for r in running):
                time.sleep(SAMPLE_S)
                samples.append(sample(server, churn, time.monotonic() - began))
        finally:
            churn.done.set()
        for each in running:
            each.result()
    time.sleep(SAMPLE_S)
    samples.append(sample(server, churn, time.monotonic() - began))
    return samples


def ledger(server: CrisperServer) -> "Redis":
    return Redis(unix_socket_path=str(server.data_dir / "ledger" / "redis.sock"))


def sample(server: CrisperServer, churn: Churn, at_s: float) -> Sample:
    process = psutil.Process(server.process.pid)
    places = (server.tmp_dir, server.data_dir / "blobs" / "tmp")
    temporaries = sum(1 for place in places if place.exists() for path in place.rglob("*") if path.is_file())
    with ledger(server) as redis:
        keys = int(redis.dbsize())
    resident = round(process.memory_info().rss / MIB, 1)
    return Sample(round(at_s, 1), resident, process.num_fds(), keys, churn.tokens, temporaries)


def keys_without_an_end(server: CrisperServer) -> int:
    with ledger(server) as redis:
        return sum(int(redis.ttl(key)) == -1 for key in redis.scan_iter(count=1000))


def judge(samples: list[Sample], forever: int) -> dict[str, bool]:
    """Compare the second quarter of the run, with warm caches, with the last quarter."""
    quarter = max(1, len(samples) // 4)
    warm, late, last = samples[quarter : 2 * quarter], samples[-quarter - 1 : -1], samples[-1]

    def grown(name: str) -> float:
        before = statistics.median(float(getattr(each, name)) for each in warm)
        return statistics.median(float(getattr(each, name)) for each in late) - before

    memory, descriptors = grown("rss_mib"), grown("descriptors")
    per_token = [round(each.keys / max(1, each.tokens), 2) for each in (warm[-1], late[-1])]
    return {
        f"memory: {memory:+.1f} MiB": memory <= GROWTH_MIB,
        f"file descriptors: {descriptors:+.0f}": descriptors <= GROWTH_DESCRIPTORS,
        f"temporaries at the end: {last.temporaries}": last.temporaries == 0,
        f"keys that never expire: {forever}": forever == 0,
        f"keys per token: {per_token[0]}, later {per_token[1]}": per_token[1] <= per_token[0] + 0.1,
    }


if __name__ == "__main__":
    main()
