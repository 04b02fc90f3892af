"""Whole pulls by `docker` and `ctr`: a multi-layer image from Crisper and from Distribution, in turns.

    python -m bench.whole_pull --rounds 5        (as root)

Every pull starts from nothing. Crisper's is over its single-use token: challenge, exchange, ledger and
decryption included. Distribution's is anonymous and in plaintext. Rows with zstd layers follow once imports
recompress.
"""

import argparse
import gzip
import io
import os
import statistics
import tarfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from bench import results
from tests.support import images
from tests.support.clients import Client, Ctr, Docker
from tests.support.crisper import CrisperServer
from tests.support.dockerd import Containerd, Dockerd
from tests.support.images import MIB
from tests.support.upstream import Upstream

LAYERS_MIB = (96, 48, 24, 12, 6, 3, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if os.geteuid():
        raise SystemExit("container engines need root")
    image = realistic()
    with TemporaryDirectory(prefix="crisper-bench-") as folder:
        rows = measure(Path(folder), image, options.rounds)
    size = sum(map(len, image.blobs.values()))
    figures = {"image_bytes": size, "layers": len(image.layers), "rows": rows}
    print(f"written to {results.write('whole-pull', 'whole pulls of a multi-layer image', figures)}")


def realistic() -> images.Image:
    """Make an image whose layers compress about as much as those of real ones, to a half."""
    return images.build("bench/whole", [_layer(n, size) for n, size in enumerate(LAYERS_MIB)])


def _layer(number: int, size_mib: int) -> images.Layer:
    noise, sink = Random(number), io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for part in range(size_mib * 2):
            entry = tarfile.TarInfo(f"layer-{number}/file-{part}")
            content = noise.randbytes(MIB // 4) + b"text that repeats itself\n" * (MIB // 4 // 25)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    tar_bytes = sink.getvalue()
    return images.Layer(tar_bytes, gzip.compress(tar_bytes, 1, mtime=0))


def measure(folder: Path, image: images.Image, rounds: int) -> list[dict[str, object]]:
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream.anonymous(folder / "upstream"))
        upstream.push(image)
        server = CrisperServer(folder / "crisper", insecure_registries=[upstream.host])
        stack.enter_context(server)
        containerd = stack.enter_context(Containerd(folder / "containerd"))
        daemon = stack.enter_context(Dockerd(folder / "dockerd", containerd))
        operator = server.operator
        organization, node = operator.create_organization(), operator.create_node()
        group = server.customer(organization).import_image(upstream.reference(image))

        def ours(client: Client) -> float:
            token = operator.mint(organization, group, node)
            return timed(client, token.reference, token.username, token.password(node))

        def theirs(client: Client) -> float:
            return timed(client, upstream.reference(image), "nobody", "nothing")

        clients: list[Client] = [Docker(daemon, folder / "docker"), Ctr(containerd)]
        return [row(client, ours, theirs, rounds) for client in clients]


def timed(client: Client, reference: str, username: str, password: str) -> float:
    client.forget()
    began = time.monotonic()
    client.pull(reference, username, password).check()
    return time.monotonic() - began


def row(
    client: Client, ours: Callable[[Client], float], theirs: Callable[[Client], float], rounds: int
) -> dict[str, object]:
    ours(client), theirs(client)  # for caches
    took = [(ours(client), theirs(client)) for _ in range(rounds)]
    medians = [round(statistics.median(times), 3) for times in zip(*took, strict=True)]
    ratio = round(medians[0] / medians[1], 2)
    print(f"{client.name}: ours {medians[0]} s, distribution {medians[1]} s, ours / distribution {ratio}")
    client.forget()
    return {
        "client": client.name,
        "layers": "gzip",
        "crisper_s": medians[0],
        "distribution_s": medians[1],
        "ours_to_distribution": ratio,
    }


if __name__ == "__main__":
    main()
