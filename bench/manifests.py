"""Manifest requests per second with a bearer: Crisper compared with Distribution with token authorization.

    python -m bench.manifests --rounds 5

`wrk` requests one manifest by digest over persistent connections, alternately from both servers. Crisper
checks the session in its ledger at every request; Distribution only verifies the token's signature.
"""

import argparse
import asyncio
import re
import shutil
import statistics
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import results
from bench.servers import repository_of, session, single_layer
from tests.support import images
from tests.support.crisper import CrisperServer
from tests.support.distribution import Image, TokenServer, docker_registry, push
from tests.support.upstream import Upstream

Rates = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed: apt-get install wrk")
    rows = []
    with TemporaryDirectory(prefix="crisper-bench-") as folder:
        for workers in (1, 2):
            rates = asyncio.run(measure(Path(folder) / str(workers), options, workers))
            rows.append(row(rates, workers))
    what = "manifest requests per second with a bearer, one machine, loopback"
    figures = {"connections": options.connections, "rows": rows}
    print(f"written to {results.write('manifests', what, figures)}")


async def measure(folder: Path, options: argparse.Namespace, workers: int) -> Rates:
    """Measure both servers alternately; return their rates."""
    image = single_layer(1 << 20)
    folder.mkdir()  # noqa: ASYNC240
    realm = TokenServer(folder, "user", "password")
    realm.realm = "http://127.0.0.1:1/token"  # never called: the benchmark creates the tokens
    plain = Image(
        image.digest,
        {image.digest: (image.media_type, image.manifest)},
        dict(image.blobs),
    )
    rates: Rates = {"crisper": [], "distribution": []}
    async with docker_registry(folder, realm.auth) as peer:
        writer = realm.token("bench/blob", ["pull", "push"], 3600)
        await push(peer, "bench/blob", "latest", plain, {"Authorization": f"Bearer {writer}"})
        theirs = (f"http://{peer}/v2/bench/blob/manifests/{image.digest}", writer)
        with Upstream.anonymous(folder / "upstream") as upstream:
            upstream.push(image)
            env = {"CRISPER_WORKERS": str(workers)}
            insecure = [upstream.host]
            with CrisperServer(folder / "crisper", insecure_registries=insecure, env=env) as server:
                token, bearer = session(server, upstream.reference(image))
                ours = (f"{server.url}/v2/{repository_of(token)}/manifests/{image.digest}", bearer)
                for turn in range(options.rounds + 1):
                    for name, (url, with_bearer) in (("crisper", ours), ("distribution", theirs)):
                        rate = await asyncio.to_thread(wrk, url, with_bearer, options)
                        if turn:  # the first round fills the caches
                            rates[name].append(rate)
    return rates


def wrk(url: str, bearer: str, options: argparse.Namespace) -> float:
    """Return the requests per second. Any response except 2xx ends the benchmark."""
    argv = ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s"]
    argv += ["-H", f"Authorization: Bearer {bearer}", "-H", f"Accept: {images.OCI_MANIFEST}", url]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        raise SystemExit(f"a request to {url} was refused: {said}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found, said
    return float(found[1])


def row(rates: Rates, workers: int) -> dict[str, object]:
    medians = {name: round(statistics.median(values)) for name, values in rates.items()}
    ratio = round(medians["crisper"] / medians["distribution"], 2)
    print(f"{workers} worker(s): {medians}, ours / distribution {ratio}")
    return {"workers": workers, "requests_per_s": medians, "ours_to_distribution": ratio}


if __name__ == "__main__":
    main()
