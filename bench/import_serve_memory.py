"""Resident memory of `crisper serve` while it imports a huge image and serves it to one node.

    python -m bench.import_serve_memory --size-gb 6

The upstream generates incompressible layers while they are read (`random_upstream.py`). The node is a plain
HTTP client that pulls three blobs in parallel, as Docker does, and verifies every digest. Prints a table,
writes `bench/results/<date>-<commit>-memory.json`, and exits with 1 if a server process used more than the
limit.
"""

import argparse
import asyncio
import hashlib
import json
import re
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

import aiohttp

from bench import results
from bench.rss import MIB, Phase, TreeSampler
from tests.support.crisper import CrisperServer, Node, PullToken
from tests.support.processes import Process

CONCURRENT_BLOBS = 3
CHUNK_BYTES = 1 << 20
IDLE_S = 2.0
SECONDS_PER_GB = 60


def main() -> None:
    options = _options()
    with TemporaryDirectory(dir=options.folder, prefix="crisper-bench-") as folder:
        phases, image = measure(Path(folder), options.size_gb, options.layers)
    path = write(phases, image, options)
    show(phases, image, options.limit_mib)
    print(f"written to {path.relative_to(results.ROOT)}")
    over = [phase.name for phase in phases if _server_peak(phase) > options.limit_mib * MIB]
    if over:
        sys.exit(f"over {options.limit_mib} MiB while: {', '.join(over)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size-gb", type=float, default=6.0, help="size of the image, in 10^9 bytes")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--limit-mib", type=int, default=256)
    parser.add_argument("--folder", type=Path, help="ciphertext folder; default: the system's temporary one")
    return parser.parse_args()


def measure(folder: Path, size_gb: float, layers: int) -> tuple[list[Phase], dict[str, object]]:
    """Import and serve one image; return the phases and the upstream's description of the image."""
    log = folder / "upstream.log"
    argv = [sys.executable, "-m", "bench.random_upstream", f"--size-gb={size_gb}", f"--layers={layers}"]
    timeout_s = 30 + SECONDS_PER_GB * size_gb
    with Process(argv, log, ready=lambda: "digest" in log.read_text(), timeout_s=timeout_s):
        image = json.loads(log.read_text().splitlines()[0])
        server = CrisperServer(folder / "crisper", insecure_registries=[f"127.0.0.1:{image['port']}"])
        with server:
            return _phases(server, image, timeout_s), image


def _phases(server: CrisperServer, image: dict[str, object], timeout_s: float) -> list[Phase]:
    organization = server.operator.create_organization()
    node = server.operator.create_node()
    customer = server.customer(organization)
    sampler = TreeSampler(server.process.pid)
    with sampler.phase("idle") as idle:
        time.sleep(IDLE_S)
    with sampler.phase("import") as importing:
        group = customer.create_group(str(image["reference"]))
        state = customer.wait_settled(group, timeout_s=timeout_s)["current_state"]
    if state["status"] != "stopped":
        sys.exit(f"the import ended {state['status']}: {state.get('description')}\n{server.log.read_text()}")
    token = server.operator.mint(organization, group, node)
    if token.digest != image["digest"]:
        sys.exit(f"imported {token.digest}, the upstream has {image['digest']}")
    with sampler.phase("serve") as serving:
        asyncio.run(pull(server.url, token, node, timeout_s))
    return [idle, importing, serving]


async def pull(url: str, token: PullToken, node: Node, timeout_s: float) -> None:
    """Pull the whole image over HTTP and verify every digest; store nothing."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        repository = token.reference.split("/", 1)[1].split("@")[0].split(":")[0]
        bearer = await _exchange(session, url, repository, token, node)
        session.headers["Authorization"] = f"Bearer {bearer}"
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        async with session.get(f"{url}/v2/{repository}/manifests/{token.digest}", headers=accept) as answer:
            answer.raise_for_status()
            manifest = await answer.json(content_type=None)
        turns = asyncio.Semaphore(CONCURRENT_BLOBS)
        async with asyncio.TaskGroup() as group:
            for blob in (manifest["config"], *manifest["layers"]):
                group.create_task(_fetch(session, f"{url}/v2/{repository}/blobs/", blob, turns))


async def _exchange(
    session: aiohttp.ClientSession, url: str, repository: str, token: PullToken, node: Node
) -> str:
    """Follow the challenge of `/v2/` to the realm, as clients do; return the bearer."""
    async with session.get(f"{url}/v2/") as refused:
        challenge = dict(re.findall(r'(\w+)="([^"]*)"', refused.headers["WWW-Authenticate"]))
    query = urlencode({"service": challenge["service"], "scope": f"repository:{repository}:pull"})
    auth = aiohttp.encode_basic_auth(token.username, token.password(node))
    headers = {"Authorization": auth}
    async with session.get(f"{challenge['realm']}?{query}", headers=headers) as answer:
        answer.raise_for_status()
        return str((await answer.json())["token"])


async def _fetch(
    session: aiohttp.ClientSession, base: str, blob: dict[str, object], turns: asyncio.Semaphore
) -> None:
    hasher, received = hashlib.sha256(), 0
    async with turns, session.get(f"{base}{blob['digest']}") as answer:
        answer.raise_for_status()
        async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
            await asyncio.to_thread(hasher.update, chunk)
            received += len(chunk)
    if (received, f"sha256:{hasher.hexdigest()}") != (blob["size"], blob["digest"]):
        sys.exit(f"{blob['digest']}: wrong content, {received} of {blob['size']} bytes")


def _server_peak(phase: Phase) -> int:
    return max(peak for name, peak in phase.peaks.items() if name not in {"ledger", "total"})


def show(phases: list[Phase], image: dict[str, object], limit_mib: int) -> None:
    names = [*sorted({name for phase in phases for name in phase.peaks} - {"total"}), "total"]
    print(f"\n{int(str(image['size_bytes'])) / 1e9:.1f} GB image; peak resident MiB; limit {limit_mib}\n")
    print(f"| phase | seconds | {' | '.join(names)} |")
    print(f"|---|---|{'---|' * len(names)}")
    for phase in phases:
        cells = [f"{phase.peaks.get(name, 0) / MIB:.0f}" for name in names]
        print(f"| {phase.name} | {phase.duration_s:.1f} | {' | '.join(cells)} |")
    print()


def write(phases: list[Phase], image: dict[str, object], options: argparse.Namespace) -> Path:
    figures = {
        "image": {"size_bytes": image["size_bytes"], "layers": options.layers},
        "limit_mib": options.limit_mib,
        "phases": {phase.name: phase.as_json() for phase in phases},
    }
    return results.write("memory", "resident memory while importing and serving one image", figures)


if __name__ == "__main__":
    main()
