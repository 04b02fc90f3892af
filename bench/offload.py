"""Ciphertext that nginx or an object store sends for Crisper, beside what they send on their own.

    python -m bench.offload --size-mib 1024 --rounds 5

1. `accel`: nginx in front of Crisper ends TLS and sends the stored object (`CRISPER_DELIVERY=accel`), beside
   an nginx with the same number of workers that sends the same file over TLS.
2. `redirect`: Crisper redirects to a presigned URL of an S3 server (`CRISPER_DELIVERY=redirect`), beside the
   same URL requested directly. No TLS.

Both with 1 and 64 clients, alternately; curl reads over loopback and discards. Prints medians and ratios, and
the CPU time of Crisper's processes per GiB without that of mints and redemptions. Writes
`bench/results/<date>-<commit>-offload.json`.
"""

import argparse
import shutil
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import results
from bench.pull import GIB, Contender, Sessions, curl_arguments, read, static_nginx
from bench.servers import single_layer
from tests.support import images
from tests.support.certificates import SERVER, TestCa
from tests.support.crisper import CrisperServer
from tests.support.http import request
from tests.support.images import MIB
from tests.support.object_stores import S3_ENVIRONMENT, s3_server
from tests.support.proxies import nginx
from tests.support.upstream import Upstream

WORKERS = 2


@dataclass
class Pair:
    """Crisper with what sends for it, and the same sender alone.

    Attributes:
        ours: Its CPU time is that of Crisper's processes.
    """

    mode: str
    ours: Contender
    alone: Contender


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=64)
    options = parser.parse_args()
    size, rows = options.size_mib * MIB, []
    image = single_layer(size)
    for start in (accelerated, redirected):
        with TemporaryDirectory(prefix="crisper-bench-") as name:
            folder = Path(name)
            folder.chmod(0o755)
            with Upstream.anonymous(folder / "upstream") as upstream:
                upstream.push(image)
                with start(folder, upstream, image) as pair:
                    rows += [row(pair, options.rounds, size, clients) for clients in (1, options.clients)]
    what = "ciphertext sent by nginx and by an object store, with and without Crisper, one machine, loopback"
    print(f"written to {results.write('offload', what, {'blob_bytes': size, 'rows': rows})}")


@contextmanager
def accelerated(folder: Path, upstream: Upstream, image: images.Image) -> Iterator[Pair]:
    """Start nginx in front of Crisper, and another nginx."""
    tls = TestCa.create(folder / "servers").issue("server", hosts=["127.0.0.1"], purposes=SERVER)
    (folder / "server").mkdir(mode=0o755)
    env = {
        "CRISPER_DELIVERY": "accel",
        "CRISPER_UNIX_SOCKET": str(folder / "proxy.sock"),
        "CRISPER_UNIX_SOCKET_GROUP": "www-data",
        "CRISPER_STORAGE_URL": f"file://{folder}/blobs?group=www-data",
        "CRISPER_WORKERS": str(WORKERS),
    }
    with ExitStack() as stack:
        server = stack.enter_context(
            CrisperServer(folder / "server", insecure_registries=[upstream.host], env=env, tls=tls)
        )
        sessions = Sessions(server, upstream, image)
        shutil.copy(server.data_dir / "node-ca" / "certificate.pem", folder / "node-ca.crt")
        proxy = nginx(folder, tls, blobs=folder / "blobs", workers=WORKERS)
        url = stack.enter_context(proxy)
        stored = max((folder / "blobs" / "objects").glob("*/*"), key=lambda path: path.stat().st_size)
        (folder / "alone").mkdir()
        port, alone = static_nginx(folder / "alone", stored.parent, tls)
        stack.enter_context(alone)
        file = f"https://127.0.0.1:{port}/{stored.name}"
        yield Pair(
            "accel",
            Contender("crisper", server.process.pid, lambda: curl_arguments(url, sessions.encrypted())),
            Contender("nginx", alone.pid, lambda: [file]),
        )


@contextmanager
def redirected(folder: Path, upstream: Upstream, image: images.Image) -> Iterator[Pair]:
    """Start Crisper on an S3 server."""
    (folder / "s3").mkdir()
    with s3_server(folder / "s3") as store:
        env = {
            **S3_ENVIRONMENT,
            "CRISPER_STORAGE_URL": store.url("crisper"),
            "CRISPER_DELIVERY": "redirect",
            "CRISPER_WORKERS": str(WORKERS),
        }
        with CrisperServer(folder / "server", insecure_registries=[upstream.host], env=env) as server:
            sessions = Sessions(server, upstream, image)

            def presigned() -> list[str]:
                headers, path = sessions.encrypted()
                answer = request("GET", f"{server.url}{path}", headers=headers).expect(307)
                return [str(answer.headers["Location"])]

            def ours() -> list[str]:
                return ["--location", *curl_arguments(server.url, sessions.encrypted())]

            yield Pair(
                "redirect",
                Contender("crisper", server.process.pid, ours),
                Contender("s3", store.pid, presigned),
            )


def row(pair: Pair, rounds: int, size: int, clients: int) -> dict[str, object]:
    """Measure both alternately; print and return medians and ratios."""
    both = (pair.ours, pair.alone)
    for contender in both:  # one round is not counted: it fills the caches
        read(contender, clients, size, count=False)
        contender.seconds.clear()
        contender.cpu_s.clear()
    for _ in range(rounds):
        for contender in both:
            read(contender, clients, size, count=True)
    ours_s, alone_s = (statistics.median(each.seconds) for each in both)
    figures = {
        "mode": pair.mode,
        "clients": clients,
        "alone": pair.alone.name,
        "ours_gb_per_s": round(size / ours_s / 1e9, 3),
        "alone_gb_per_s": round(size / alone_s / 1e9, 3),
        "time_ratio": round(ours_s / alone_s, 3),
        "crisper_cpu_s_per_gib": round(statistics.median(pair.ours.cpu_s) * GIB / size, 3),
    }
    print(figures)
    return figures


if __name__ == "__main__":
    main()
