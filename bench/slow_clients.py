"""Resident memory of the server while 1,000 clients read one blob slowly, or not at all.

    python -m bench.slow_clients --clients 1000

Half of them read 10 kB/s, half read nothing after the headers. Writes
`bench/results/<date>-<commit>-slow.json` and exits with 1 if the server used more than the limit.
"""

import argparse
import asyncio
import resource
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import results
from bench.rss import MIB, TreeSampler
from bench.servers import repository_of, single_layer
from tests.support.crisper import CrisperServer
from tests.support.http import basic, request
from tests.support.slow_readers import SlowReaders, Target
from tests.support.upstream import Upstream

READERS_PER_TOKEN = 4  # a token's budget is three times its image plus 16 MiB
RATE_BYTES_S = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=45)
    parser.add_argument("--size-mib", type=int, default=64)
    parser.add_argument("--limit-mib", type=int, default=400)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with TemporaryDirectory(prefix="crisper-bench-") as folder:
        figures = measure(Path(folder), options)
    print(f"written to {results.write('slow', 'resident memory with slow clients held', figures)}")
    if figures["peak_rss_mib"] > options.limit_mib:
        sys.exit(f"over {options.limit_mib} MiB")


def measure(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    image = single_layer(options.size_mib * MIB)
    digest = max(image.blobs, key=lambda name: len(image.blobs[name]))
    env = {"CRISPER_NODE_CONNECTIONS": str(options.clients)}
    with Upstream.anonymous(folder / "upstream") as upstream:
        upstream.push(image)
        server = CrisperServer(folder / "crisper", insecure_registries=[upstream.host], env=env)
        with server:
            path, bearers = sessions(server, upstream.reference(image), options.clients // READERS_PER_TOKEN)
            target = Target(server.port, f"{path}/blobs/{digest}", bearers)
            return hold(server, target, options)


def sessions(server: CrisperServer, reference: str, count: int) -> tuple[str, tuple[str, ...]]:
    """Open sessions of one node; return the image's location and the bearers."""
    operator = server.operator
    organization, node = operator.create_organization(), operator.create_node()
    group = server.customer(organization).import_image(reference)
    bearers, repository = [], ""
    for _ in range(count):
        token = operator.mint(organization, group, node)
        repository = repository_of(token)
        url = f"{server.url}/token?service=crisper&scope=repository:{repository}:pull"
        login = {"Authorization": basic(node.node_id, token.password(node))}
        bearers.append(str(request("GET", url, headers=login).expect(200).json()["token"]))
    return f"/v2/{repository}", tuple(bearers)


def hold(server: CrisperServer, target: Target, options: argparse.Namespace) -> dict[str, float]:
    sampler = TreeSampler(server.process.pid)
    slow = SlowReaders(target, options.clients // 2, RATE_BYTES_S)
    idle = SlowReaders(target, options.clients - options.clients // 2, 0)

    async def both() -> None:
        await asyncio.gather(slow.hold(options.seconds), idle.hold(options.seconds))

    with sampler.phase("held") as phase:
        asyncio.run(both())
    begun, lost = slow.begun + idle.begun, slow.lost
    if begun < options.clients or lost:
        sys.exit(f"{begun} of {options.clients} responses started, {lost} were lost")
    peak = round(phase.peaks["server"] / MIB, 1)
    rate = round(slow.received / slow.begun / options.seconds)
    print(f"{begun} clients held for {options.seconds} s, {rate} B/s for each slow client; peak {peak} MiB")
    return {
        "clients": begun,
        "seconds": options.seconds,
        "bytes_per_s_of_a_slow_one": rate,
        "peak_rss_mib": peak,
        "limit_mib": options.limit_mib,
    }


if __name__ == "__main__":
    main()
