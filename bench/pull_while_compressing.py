"""Compare pulls of one client during an import with compression with the same pulls alone, alternately.

    python -m bench.pull_while_compressing --rounds 5

Each round pulls a blob several times alone. Then it imports a new image with compressible layers, and
repeats the pull until this import ends. Every pull reads the whole blob over a new connection.
"""

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import results
from bench.servers import repository_of, single_layer
from bench.whole_pull import compressible_layer
from tests.support import images
from tests.support.crisper import CrisperServer, Customer, Node, Organization
from tests.support.http import basic, request
from tests.support.images import MIB
from tests.support.upstream import Upstream

ALONE = 10


class Puller:
    """Pulls the largest blob of one image, each time with a new token."""

    def __init__(
        self, server: CrisperServer, organization: Organization, node: Node, group: str, image: images.Image
    ) -> None:
        self._server, self._organization, self._node, self._group = server, organization, node, group
        self._digest, self._blob = max(image.blobs.items(), key=lambda blob: len(blob[1]))

    def pull(self) -> float:
        """Return the speed in MB/s."""
        token = self._server.operator.mint(self._organization, self._group, self._node)
        repository = repository_of(token)
        url = f"{self._server.url}/token?service=crisper&scope=repository:{repository}:pull"
        login = {"Authorization": basic(self._node.node_id, token.password(self._node))}
        bearer = request("GET", url, headers=login).expect(200).json()["token"]
        began = time.monotonic()
        url = f"{self._server.url}/v2/{repository}/blobs/{self._digest}"
        body = request("GET", url, headers={"Authorization": f"Bearer {bearer}"}).expect(200).body
        took_s = time.monotonic() - began
        if len(body) != len(self._blob):
            raise SystemExit(f"received {len(body)} of {len(self._blob)} bytes")
        return len(body) / 1e6 / took_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--blob-mib", type=int, default=64)
    parser.add_argument("--image-mib", type=int, default=256, help="unpacked size of the imported image")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="crisper-bench-") as folder:
        figures = measure(Path(folder), options)
    path = results.write("pull-while-compressing", "pulls while an import compresses", figures)
    print(f"written to {path}")


def measure(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    blob = single_layer(options.blob_mib * MIB)
    with Upstream.anonymous(folder / "upstream") as upstream:
        upstream.push(blob)
        with CrisperServer(folder / "crisper", insecure_registries=[upstream.host]) as server:
            organization = server.operator.create_organization()
            customer, node = server.customer(organization), server.operator.create_node()
            group = customer.import_image(upstream.reference(blob))
            puller = Puller(server, organization, node, group, blob)
            puller.pull()  # fills the caches
            rounds = []
            for number in range(options.rounds):
                image = images.build(f"bench/new-{number}", [compressible_layer(number, options.image_mib)])
                upstream.push(image)
                rounds.append(one_round(puller, customer, upstream.reference(image)))
    alone, beside, pulls = zip(*rounds, strict=True)
    figures = {
        "alone_mb_s": round(statistics.median(alone), 1),
        "while_compressing_mb_s": round(statistics.median(beside), 1),
        "ratio": round(statistics.median(b / a for a, b in zip(alone, beside, strict=True)), 2),
        "slowest_round_ratio": round(min(b / a for a, b in zip(alone, beside, strict=True)), 2),
        "pulls_beside": sum(pulls),
    }
    print(
        f"alone {figures['alone_mb_s']} MB/s, while compressing {figures['while_compressing_mb_s']} MB/s: "
        f"{figures['ratio']} of it, over {figures['pulls_beside']} pulls"
    )
    return {"blob_bytes": options.blob_mib * MIB, "image_bytes": options.image_mib * MIB, **figures}


def one_round(puller: Puller, customer: Customer, reference: str) -> tuple[float, float, int]:
    """Return the median speeds alone and during an import, and the number of pulls during it."""
    alone = [puller.pull() for _ in range(ALONE)]
    group, beside = customer.create_group(reference), []
    while customer.group(group)["current_state"]["status"] == "pending":
        beside.append(puller.pull())
    state = customer.wait_settled(group)["current_state"]
    if state["status"] != "stopped" or not beside:
        raise SystemExit(f"no pull ran during the import, or the import failed: {state}")
    return statistics.median(alone), statistics.median(beside), len(beside)


if __name__ == "__main__":
    main()
