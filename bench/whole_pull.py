"""Whole pulls with `docker` and `ctr`: a multi-layer image from Crisper and from Distribution, alternately.

    python -m bench.whole_pull --rounds 9        (as root)

Every pull starts with an empty client. A pull from Crisper uses a single-use token and includes challenge,
exchange, ledger and decryption. A pull from Distribution is anonymous and in plaintext. There are two
images: one whose bytes are half random, and one with this machine's `/usr`, in gzip at level 6 as container
engines push it. Distribution serves the gzip layers of both. Crisper also serves the second image's zstd
variant, to `ctr` (Docker before 23 does not support it), as plaintext and encrypted for the node.
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
from bench.pull import cpu_s
from tests.support import images
from tests.support.clients import Client, Ctr, Docker
from tests.support.crisper import CrisperServer, PullToken
from tests.support.dockerd import Containerd, Dockerd
from tests.support.encrypted import KeyPair
from tests.support.images import MIB
from tests.support.upstream import Upstream

LAYERS_MIB = (96, 48, 24, 12, 6, 3, 1)
SYSTEM_MIB = {
    "/usr/lib/x86_64-linux-gnu": 96,
    "/usr/bin": 64,
    "/usr/lib/python3": 48,
    "/usr/share/doc": 16,
    "/usr/share/perl": 16,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    if os.geteuid():
        raise SystemExit("run this benchmark as root: container engines need it")
    with TemporaryDirectory(prefix="crisper-bench-") as folder:
        rows = measure(Path(folder), realistic(), system(), options.rounds)
    figures = {"image_bytes": rows[0]["image_bytes"], "layers": rows[0]["image_layers"], "rows": rows}
    print(f"written to {results.write('whole-pull', 'whole pulls of a multi-layer image', figures)}")


def realistic() -> images.Image:
    """Build an image whose layers compress to about half, like the layers of real images."""
    return images.build("bench/whole", [compressible_layer(n, size) for n, size in enumerate(LAYERS_MIB)])


def compressible_layer(number: int, size_mib: int) -> images.Layer:
    """Build a layer of files, half of whose content compresses to almost nothing."""
    noise, sink = Random(number), io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for part in range(size_mib * 2):
            entry = tarfile.TarInfo(f"layer-{number}/file-{part}")
            content = noise.randbytes(MIB // 4) + b"text that repeats itself\n" * (MIB // 4 // 25)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    tar_bytes = sink.getvalue()
    return images.Layer(tar_bytes, gzip.compress(tar_bytes, 1, mtime=0))


def system() -> images.Image:
    """Build an image of this machine's programs, libraries, documents and Python modules."""
    layers = []
    for top, limit_mib in SYSTEM_MIB.items():
        sink, left = io.BytesIO(), limit_mib * MIB
        with tarfile.open(fileobj=sink, mode="w") as tar:
            for path in sorted(Path(top).rglob("*")):
                if path.is_file() and not path.is_symlink() and path.stat().st_size <= left:
                    left -= path.stat().st_size
                    tar.add(path, str(path)[1:], recursive=False)
        tar_bytes = sink.getvalue()
        layers.append(images.Layer(tar_bytes, gzip.compress(tar_bytes, 6, mtime=0)))
    return images.build("bench/system", layers)


def measure(
    folder: Path, image: images.Image, packages: images.Image, rounds: int
) -> list[dict[str, object]]:
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream.anonymous(folder / "upstream"))
        for each in (image, packages):
            upstream.push(each)
        server = CrisperServer(folder / "crisper", insecure_registries=[upstream.host])
        stack.enter_context(server)
        keys, key_folder = KeyPair.p256(), folder / "keys"
        key_folder.mkdir()
        (key_folder / "node.pem").write_bytes(keys.private)
        containerd = stack.enter_context(Containerd(folder / "containerd", keys=key_folder))
        daemon = stack.enter_context(Dockerd(folder / "dockerd", containerd))
        operator = server.operator
        organization = operator.create_organization()
        node = operator.create_node(encryption_key=keys.public, runtime="containerd")
        customer = server.customer(organization)
        group = {each.name: customer.import_image(upstream.reference(each)) for each in (image, packages)}

        def compared(
            client: Client, of: images.Image, variant: str, encryption: str = "none"
        ) -> dict[str, object]:
            def mint() -> PullToken:
                return operator.mint(
                    organization, group[of.name], node, variant=variant, encryption=encryption
                )

            def ours(client: Client) -> float:
                token = mint()
                if token.variant != variant:
                    raise SystemExit(f"{of.name} has no {variant} variant")
                return timed(client, token.reference, token.username, token.password(node))

            def theirs(client: Client) -> float:
                return timed(client, upstream.reference(of), "nobody", "nothing")

            token = mint()
            size = operator.call("GET", f"/pull-tokens/{token.token_id}").json()["image"]["size"]
            about = {"image": of.name, "image_layers": len(of.layers)}
            about |= {"image_bytes": sum(map(len, of.blobs.values())), "crisper_bytes": size}
            about["layers"] = "zstd" if variant == "zstd" else "gzip"
            about["encryption"] = encryption
            print(f"{of.name}, {variant}, encryption {encryption}: ", end="", flush=True)
            servers = (server.process.pid, upstream.pid)
            return about | row(client, ours, theirs, servers, rounds)

        docker, ctr = Docker(daemon, folder / "docker"), Ctr(containerd)
        return [
            compared(docker, image, "original"),
            compared(ctr, image, "original"),
            compared(docker, packages, "original"),
            compared(ctr, packages, "original"),
            compared(ctr, packages, "zstd"),
            compared(ctr, packages, "zstd", "required"),
        ]


def timed(client: Client, reference: str, username: str, password: str) -> float:
    client.forget()
    began = time.monotonic()
    client.pull(reference, username, password).check()
    return time.monotonic() - began


def row(
    client: Client,
    ours: Callable[[Client], float],
    theirs: Callable[[Client], float],
    servers: tuple[int, int],
    rounds: int,
) -> dict[str, object]:
    ours(client), theirs(client)  # fills the caches
    took, cpu = [], []
    for _ in range(rounds):
        before = [cpu_s(pid) for pid in servers]
        took.append((ours(client), theirs(client)))
        cpu.append([cpu_s(pid) - already for pid, already in zip(servers, before, strict=True)])
    medians = [round(statistics.median(times), 3) for times in zip(*took, strict=True)]
    spent = [round(statistics.median(times), 2) for times in zip(*cpu, strict=True)]
    ratio = round(medians[0] / medians[1], 2)
    print(
        f"{client.name}: ours {medians[0]} s, distribution {medians[1]} s, ours / distribution {ratio}; "
        f"servers' CPU {spent[0]} s and {spent[1]} s"
    )
    client.forget()
    return {
        "client": client.name,
        "crisper_s": medians[0],
        "distribution_s": medians[1],
        "ours_to_distribution": ratio,
        "crisper_cpu_s": spent[0],
        "distribution_cpu_s": spent[1],
    }


if __name__ == "__main__":
    main()
