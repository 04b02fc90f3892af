"""Blob throughput of Crisper, which decrypts or sends ciphertext, beside plaintext servers.

    python -m bench.pull --size-mib 1024 --rounds 5 [--tls]

All servers are measured alternately. `encrypted` is Crisper's encrypted delivery of the same blob. Peers:
CNCF Distribution from Debian, and nginx with sendfile, the practical limit. With `--tls`, it measures both
without TLS and with TLS, which each server terminates itself with the same certificate. Each server has
the blob in the page cache; curl reads it over loopback and discards it. Over TLS, curl offers only the
cipher suite that Docker and containerd negotiate with every server here (Go's first choice). Prints medians
and ratios of medians, and writes `bench/results/<date>-<commit>-pull.json`. If nginx is not installed, its
row says so.
"""

import argparse
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from bench import results
from bench.servers import single_layer
from tests.support import images
from tests.support.certificates import SERVER, CertificateFiles, TestCa
from tests.support.crisper import CrisperServer
from tests.support.encrypted import KeyPair
from tests.support.http import basic, request
from tests.support.images import MIB
from tests.support.processes import Process, free_port, listening
from tests.support.upstream import Upstream

GIB = 1 << 30
OURS = ("crisper", "encrypted")
READERS_PER_BEARER = 8  # every bearer belongs to another node
SUITE = "TLS_AES_128_GCM_SHA256"


@dataclass
class Contender:
    """A server that serves the blob.

    Attributes:
        aim: Returns curl's arguments for the next read of the blob; called outside of the timing.
    """

    name: str
    pid: int
    aim: Callable[[], list[str]]
    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    fairness: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tls", action="store_true", help="measure over TLS too")
    options = parser.parse_args()
    size, rows = options.size_mib * MIB, []
    with TemporaryDirectory(prefix="crisper-bench-") as name:
        folder = Path(name)
        image = single_layer(size)
        authority = TestCa.create(folder / "ca")
        certificate = authority.issue("server", hosts=["127.0.0.1"], purposes=SERVER)
        for tls in (None, certificate) if options.tls else (None,):
            for clients in (1, options.clients):
                place = folder / f"{clients}-{'tls' if tls else 'plain'}"
                with contenders(place, image, options.workers, tls) as all_of_them:
                    rows.append(row(all_of_them, options.rounds, size, clients, tls=tls is not None))
    what = "blob throughput beside servers of plaintext, one machine, loopback"
    print(f"written to {results.write('pull', what, {'blob_bytes': size, 'rows': rows})}")


@contextmanager
def contenders(
    folder: Path, image: images.Image, workers: int, tls: CertificateFiles | None
) -> Iterator[list[Contender]]:
    """Start every server with the blob."""
    digest = max(image.blobs, key=lambda name: len(image.blobs[name]))
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream.anonymous(folder / "upstream"))
        upstream.push(image)
        env = {"CRISPER_WORKERS": str(workers)}
        crisper = CrisperServer(folder / "crisper", insecure_registries=[upstream.host], env=env, tls=tls)
        stack.enter_context(crisper)
        sessions = Sessions(crisper, upstream, image)
        scheme, peer = ("https" if tls else "http"), upstream
        if tls:
            peer = stack.enter_context(Upstream.over_tls(folder / "upstream", tls))
        theirs = f"{scheme}://{peer.host}/v2/{image.name}/blobs/{digest}"
        everyone = [
            Contender("crisper", crisper.process.pid, lambda: curl_arguments(crisper.url, sessions.plain())),
            Contender(
                "encrypted", crisper.process.pid, lambda: curl_arguments(crisper.url, sessions.encrypted())
            ),
            Contender("distribution", peer.pid, lambda: [theirs]),
        ]
        if shutil.which("nginx"):
            (blob,) = (folder / "upstream").rglob(f"{digest.partition(':')[2]}/data")
            port, nginx = static_nginx(folder, blob.parent, tls)
            stack.enter_context(nginx)
            everyone.append(Contender("nginx", nginx.pid, lambda: [f"{scheme}://127.0.0.1:{port}/data"]))
        yield everyone


class Sessions:
    """Sessions that read the only layer of an image."""

    def __init__(self, server: CrisperServer, upstream: Upstream, image: images.Image) -> None:
        self._server = server
        self._organization = server.operator.create_organization()
        self._group = server.customer(self._organization).import_image(upstream.reference(image))
        self._repository = f"{self._organization.name}/default/{self._group}"
        self._digest = max(image.blobs, key=lambda name: len(image.blobs[name]))
        self._public_key = KeyPair.p256().public

    def plain(self) -> tuple[dict[str, str], str]:
        """Open a session; return its headers and the path of the layer."""
        return self._open("none"), self._path(self._digest)

    def encrypted(self) -> tuple[dict[str, str], str]:
        """Open a session; return its headers and the path of the encrypted layer."""
        headers, server = self._open("required"), self._server
        url = f"{server.url}/v2/{self._repository}/manifests/latest"
        manifest = request("GET", url, headers=headers, tls=server.trust).expect(200).json()
        return headers, self._path(manifest["layers"][0]["digest"])

    def _path(self, digest: str) -> str:
        return f"/v2/{self._repository}/blobs/{digest}"

    def _open(self, encryption: str) -> dict[str, str]:
        operator, server = self._server.operator, self._server
        node = operator.create_node(encryption_key=self._public_key, runtime="containerd")
        token = operator.mint(self._organization, self._group, node, encryption=encryption)
        url = f"{server.url}/token?service=crisper&scope=repository:{self._repository}:pull"
        login = {"Authorization": basic(node.node_id, token.password(node))}
        bearer = request("GET", url, headers=login, tls=server.trust).expect(200).json()["token"]
        return {"Authorization": f"Bearer {bearer}"}


def curl_arguments(url: str, session: tuple[dict[str, str], str]) -> list[str]:
    """Return curl's arguments for the layer of a session."""
    headers, path = session
    return ["--header", f"Authorization: {headers['Authorization']}", f"{url}{path}"]


def static_nginx(folder: Path, root: Path, tls: CertificateFiles | None) -> tuple[int, Process]:
    """Start nginx with the files of a folder. Returns its port."""
    port, config = free_port(), folder / "nginx.conf"
    for place in (folder, *folder.parents):
        place.chmod(place.stat().st_mode | 0o711) if place != Path("/") else None
    ssl = f"ssl_certificate {tls.certificate}; ssl_certificate_key {tls.key};" if tls else ""
    config.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 2; user root;"
        "events {}"
        f"http {{ access_log off; sendfile on; server {{ listen 127.0.0.1:{port}{' ssl' if tls else ''};"
        f" {ssl} root {root}; }} }}"
    )
    argv = ["nginx", "-c", str(config), "-p", str(folder)]
    return port, Process(argv, folder / "nginx.log", ready=lambda: listening(port))


def row(everyone: list[Contender], rounds: int, size: int, clients: int, *, tls: bool) -> dict[str, object]:
    """Measure all servers alternately; print and return their medians and Crisper's ratios to them."""
    for contender in everyone:  # one round is not counted: it fills the caches
        read(contender, clients, size, count=False)
    for _ in range(rounds):
        for contender in everyone:
            read(contender, clients, size, count=True)
    medians = {
        one.name: {
            "gb_per_s": round(size / statistics.median(one.seconds) / 1e9, 3),
            "server_cpu_s_per_gib": round(statistics.median(one.cpu_s) * GIB / size, 3),
            "mean_to_slowest_client": round(statistics.median(one.fairness), 2),
        }
        for one in everyone
    }
    transport = "tls" if tls else "plain"
    print(f"\n{clients} client(s), {transport}\n")
    columns = " | ".join(f"{ours} / this: speed | CPU" for ours in OURS)
    print(f"| server | GB/s | server CPU s/GiB | {columns} |\n|{'---|' * (3 + 2 * len(OURS))}")
    for peer, figures in medians.items():
        cells = [figures["gb_per_s"], figures["server_cpu_s_per_gib"]]
        cells += [cell for ours in OURS for cell in ratios(medians[ours], figures).values()]
        print(f"| {peer} | {' | '.join(map(str, cells))} |")
    if "nginx" not in medians:
        print("| nginx | not installed |")
    to = {ours: {peer: ratios(medians[ours], each) for peer, each in medians.items()} for ours in OURS}
    return {
        "clients": clients,
        "transport": transport,
        "medians": medians,
        "ours_to": to["crisper"],
        "encrypted_to": to["encrypted"],
    }


def ratios(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """Return our speed and CPU time divided by another server's."""
    cpu_s = max(theirs["server_cpu_s_per_gib"], 0.001)
    return {
        "speed": round(ours["gb_per_s"] / theirs["gb_per_s"], 2),
        "cpu": round(ours["server_cpu_s_per_gib"] / cpu_s, 2),
    }


def read(contender: Contender, clients: int, size: int, *, count: bool) -> None:
    """Read the blob with `clients` parallel readers, each its own part, together all of it."""
    part, commands, aimed = size // clients, [], list[str]()
    for n in range(clients):
        span = [] if clients == 1 else ["--range", f"{n * part}-{(n + 1) * part - 1}"]
        if n % READERS_PER_BEARER == 0:
            aimed = contender.aim()
        quiet = ["--silent", "--insecure", "--fail", "--output", "/dev/null", "--write-out", "%{time_total}"]
        commands.append(["curl", *quiet, "--tls13-ciphers", SUITE, *span, *aimed])
    before = cpu_s(contender.pid)
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
    took = [float(reader.communicate()[0]) for reader in readers]
    if any(reader.returncode for reader in readers):
        raise SystemExit(f"{contender.name}: a reader failed")
    if count:
        contender.seconds.append(max(took))
        contender.cpu_s.append(cpu_s(contender.pid) - before)
        contender.fairness.append(statistics.mean(took) / max(took))


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process and its children have used."""
    process = psutil.Process(pid)
    return sum(sum(member.cpu_times()[:2]) for member in (process, *process.children(recursive=True)))


if __name__ == "__main__":
    main()
