"""How long a fleet takes to start an image, by who sends the bytes: measured, checked and simulated.

    python -m bench.fleet

1. Measures what one worker spends on a redemption, a manifest, and the request of a blob that another server
   sends; and takes the CPU time per byte from the newest result of `bench.pull`.
2. Checks the model (`bench.fleet_model`) with complete starts at full speed on that worker, and with 200 real
   clients on loopback that read as slowly as home lines.
3. Simulates fleets of up to a million nodes.

Writes `bench/results/<date>-<commit>-fleet.json`; `python -m bench.readme` copies the table to
docs/how-to/sizing.md.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil
from aiohttp import ClientSession, TCPConnector

from bench import results
from bench.fleet_model import MBIT_PER_S, QUANTILES, Costs, Delivery, Fleet, Outcome, Site, simulate
from bench.readme import newest
from tests.support import images
from tests.support.crisper import CrisperServer, Node, Organization, PullToken
from tests.support.encrypted import KeyPair
from tests.support.http import basic
from tests.support.images import MIB
from tests.support.upstream import Upstream

LAYERS: Final = 5
BLOBS: Final = LAYERS + 1
CLIENTS: Final = 200
AT_ONCE: Final = 64
ELSEWHERE: Final = "http://cache.example.net/blobs"
CHUNK_BYTES: Final = 32 << 10
AFTERWARDS_S: Final = 6.0
# Speeds in Mbit/s of home lines, with their share. Our assumption, within the 20 to 500 that providers sell.
LINES: Final = {20.0: 0.1, 50.0: 0.25, 100.0: 0.3, 250.0: 0.2, 500.0: 0.15}
SLOWED: Final = 10  # loopback and two cores do not carry 200 real lines
GB: Final = 1e9
# What a start of 1,000 nodes costs: prices per GB sent, and per hour of a core. Our assumption.
DOLLARS_PER_GB: Final = 0.05
DOLLARS_PER_OTHER_GB: Final = {Delivery.STORE: 0.05, Delivery.EDGE: 0.002}
DOLLARS_PER_CORE_HOUR: Final = 0.04
FLEETS: Final = {1_000: 60.0, 100_000: 600.0, 1_000_000: 3600.0}
GBIT_PER_S: Final = 1000 * MBIT_PER_S
SITE: Final = Site(8, 10 * GBIT_PER_S, 100 * GBIT_PER_S, edges=20, edge_uplink=10 * GBIT_PER_S)


@dataclass(frozen=True)
class Start:
    """One node that starts the image, with its token."""

    node: Node
    token: PullToken


class Worker:
    """A server with one worker, and the clients of its nodes."""

    def __init__(
        self, server: CrisperServer, http: ClientSession, organization: Organization, group: str
    ) -> None:
        self._server = server
        self._http = http
        self._organization = organization
        self._group = group
        self._url = f"{server.url}/v2/{organization.name}/default/{group}"
        self._process = psutil.Process(server.process.pid)

    async def mint(self, count: int, encryption: str) -> list[Start]:
        """Create nodes with a token each."""
        key = KeyPair.p256().public

        def one(_: int) -> Start:
            operator = self._server.operator
            node = operator.create_node(encryption_key=key, runtime="containerd")
            return Start(node, operator.mint(self._organization, self._group, node, encryption=encryption))

        return list(await asyncio.gather(*(asyncio.to_thread(one, number) for number in range(count))))

    async def redeem(self, start: Start) -> str:
        """Exchange a token for a bearer token."""
        scope = f"repository:{self._organization.name}/default/{self._group}:pull"
        login = {"Authorization": basic(start.node.node_id, start.token.password(start.node))}
        url = f"{self._server.url}/token?service=crisper&scope={scope}"
        async with self._http.get(url, headers=login) as answer:
            answer.raise_for_status()
            return str((await answer.json())["token"])

    async def manifest(self, bearer: str) -> list[str]:
        """Return the digests of the image's blobs."""
        headers = {"Authorization": f"Bearer {bearer}", "Accept": "*/*"}
        async with self._http.get(f"{self._url}/manifests/latest", headers=headers) as answer:
            answer.raise_for_status()
            manifest = await answer.json(content_type=None)
        return [each["digest"] for each in (manifest["config"], *manifest["layers"])]

    async def blob(self, bearer: str, digest: str, line: float = 0.0) -> int:
        """Request a blob, and read it no faster than the line (bytes per second). Returns its bytes."""
        headers = {"Authorization": f"Bearer {bearer}"}
        url, began, size = f"{self._url}/blobs/{digest}", time.monotonic(), 0
        async with self._http.get(url, headers=headers, allow_redirects=False) as answer:
            answer.raise_for_status()
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                size += len(chunk)
                if line and (early := began + size / line - time.monotonic()) > 0:
                    await asyncio.sleep(early)
        return size

    async def cpu_s(self, starts: Sequence[Start], work: Callable[[Start], Awaitable[object]]) -> float:
        """Return the worker's CPU time for one of several pieces of work, which run side by side.

        Includes what the work leaves to be done afterwards (events, states of instances), but not what the
        worker always does in this time.
        """
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(start: Start) -> None:
            async with limit:
                await work(start)

        began, before = time.monotonic(), self._used_s()
        await asyncio.gather(*map(one, starts))
        await asyncio.sleep(AFTERWARDS_S)
        took_s, spent_s = time.monotonic() - began, self._used_s() - before
        before = self._used_s()
        await asyncio.sleep(AFTERWARDS_S)
        always = (self._used_s() - before) / AFTERWARDS_S
        return (spent_s - always * took_s) / len(starts)

    def _used_s(self) -> float:
        return sum(self._process.cpu_times()[:2])


async def measure_costs(worker: Worker, count: int, byte_s: Mapping[Delivery, float]) -> tuple[Costs, float]:
    """Return the costs of each step alone, and the CPU time of complete starts at full speed."""
    starts = await worker.mint(count, "required")
    bearers: dict[str, str] = {}
    blobs: dict[str, list[str]] = {}

    async def redeem(start: Start) -> None:
        bearers[start.token.token_id] = await worker.redeem(start)

    async def manifest(start: Start) -> None:
        blobs[start.token.token_id] = await worker.manifest(bearers[start.token.token_id])

    async def layers(start: Start) -> None:
        for digest in blobs[start.token.token_id]:
            await worker.blob(bearers[start.token.token_id], digest)

    async def whole(start: Start) -> None:
        bearer = await worker.redeem(start)
        for digest in await worker.manifest(bearer):
            await worker.blob(bearer, digest)

    redemption_s = await worker.cpu_s(starts, redeem)
    manifest_s = await worker.cpu_s(starts, manifest)
    blob_s = await worker.cpu_s(starts, layers) / BLOBS
    complete_s = await worker.cpu_s(await worker.mint(count, "required"), whole)
    return Costs(redemption_s, manifest_s, blob_s, byte_s), complete_s


async def real_starts(worker: Worker, fleet: Fleet) -> dict[float, float]:
    """Start an image on real clients with slow lines; return the time of each quantile."""
    starts = await worker.mint(fleet.nodes, "none")
    lines = [line for line, share in fleet.lines.items() for _ in range(round(share * fleet.nodes))]
    order = sorted(range(fleet.nodes), key=lambda number: (number * 7919) % fleet.nodes)  # lines are mixed
    began = time.monotonic()

    async def one(number: int, start: Start) -> float:
        due = began + number * fleet.window_s / fleet.nodes
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        bearer = await worker.redeem(start)
        for digest in await worker.manifest(bearer):
            await worker.blob(bearer, digest, lines[order[number]])
        return time.monotonic() - due

    took = sorted(await asyncio.gather(*(one(*each) for each in enumerate(starts))))
    return {quantile: took[round(quantile * len(took)) - 1] for quantile in QUANTILES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=400, help="starts by which the costs are measured")
    options = parser.parse_args()
    figures = asyncio.run(measure(options.starts))
    print(f"written to {results.write('fleet', 'starts of an image on a fleet', figures)}")


async def measure(starts: int) -> dict[str, object]:
    """Measure, check and simulate; return all figures."""
    with TemporaryDirectory(prefix="crisper-bench-") as name, ExitStack() as stack:
        upstream = stack.enter_context(Upstream.anonymous(Path(name) / "upstream"))
        image = images.random_layers(LAYERS, MIB, "bench/fleet")
        upstream.push(image)
        env = {"CRISPER_DELIVERY": "redirect", "CRISPER_BLOB_REDIRECT": ELSEWHERE}
        server = CrisperServer(Path(name) / "crisper", insecure_registries=[upstream.host], env=env)
        stack.enter_context(server)
        organization = server.operator.create_organization()
        group = server.customer(organization).import_image(upstream.reference(image))
        async with ClientSession(connector=TCPConnector(limit=0)) as http:
            worker = Worker(server, http, organization, group)
            costs, complete_s = await measure_costs(worker, starts, byte_costs())
            size_bytes = sum(map(len, image.blobs.values()))
            lines = {speed / SLOWED * MBIT_PER_S: share for speed, share in LINES.items()}
            fleet = Fleet(CLIENTS, 20.0, lines, size_bytes, BLOBS)
            real = await real_starts(worker, fleet)
    print(f"CPU of a start: model {costs.start_s(BLOBS)}, measured {complete_s}; {costs}; real {real}")
    model = simulate(fleet, Site(1, 10 * GBIT_PER_S), costs, Delivery.PLAINTEXT).after_s
    return {
        "costs": asdict(costs),
        "start_cpu_s": {"model": costs.start_s(BLOBS), "measured": complete_s},
        "clients_after_s": {"model": model, "measured": real},
        "rows": list(table(costs)),
    }


def byte_costs() -> dict[Delivery, float]:
    """Return the CPU time per byte with one client over TLS, from the newest result of `bench.pull`."""
    result = newest("pull")
    if result is None:
        raise SystemExit("there is no result of bench.pull: run `python -m bench.pull --tls` first")
    (row,) = (row for row in result["rows"] if row["transport"] == "tls" and row["clients"] == 1)
    plain = row["medians"]["crisper"]["server_cpu_s_per_gib"] / (1 << 30)
    encrypted = row["medians"].get("encrypted", row["medians"]["crisper"])["server_cpu_s_per_gib"] / (1 << 30)
    return {Delivery.PLAINTEXT: plain, Delivery.ENCRYPTED: encrypted}


def table(costs: Costs) -> Iterable[dict[str, object]]:
    """Simulate and print all fleets; return their rows."""
    lines = {speed * MBIT_PER_S: share for speed, share in LINES.items()}
    for nodes, window_s in FLEETS.items():
        fleet = Fleet(nodes, window_s, lines, 5 * GB, BLOBS)
        for delivery in Delivery:
            outcome = simulate(fleet, SITE, costs, delivery)
            row = {
                "nodes": nodes,
                "window_s": window_s,
                "delivery": delivery.value,
                **shown(fleet, outcome, delivery),
            }
            print(row, flush=True)
            yield row


def shown(fleet: Fleet, outcome: Outcome, delivery: Delivery) -> dict[str, object]:
    """Return the figures of an outcome, and its costs for 1,000 starts."""
    dollars = (
        outcome.egress_bytes / GB * DOLLARS_PER_GB
        + outcome.other_egress_bytes / GB * DOLLARS_PER_OTHER_GB.get(delivery, 0.0)
        + outcome.cpu_s / 3600 * DOLLARS_PER_CORE_HOUR
    )
    return {
        "after_s": {str(quantile): round(after_s) for quantile, after_s in outcome.after_s.items()},
        "all_s": round(outcome.all_s),
        "egress_gb": round(outcome.egress_bytes / GB),
        "other_egress_gb": round(outcome.other_egress_bytes / GB),
        "cpu_s": round(outcome.cpu_s, 1),
        "dollars_per_1000": round(dollars / fleet.nodes * 1000, 2),
    }


if __name__ == "__main__":
    main()
