"""Rolling restarts during pulls: how many pulls fail, and how evenly workers share the clients.

python -m bench.rolling_restart --clients 32 --restarts 3
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from bench import results
from tests.support import images
from tests.support.crisper import CrisperServer, Node, Organization
from tests.support.processes import wait_until
from tests.support.pulling import Puller, PullFailedError
from tests.support.upstream import Upstream
from tests.support.workers import workers_of


class Clients:
    """Repeats pulls; every client has its own connections."""

    def __init__(self, server: CrisperServer, organization: Organization, group: str, node: Node) -> None:
        self._server = server
        self._what = (organization, group, node)
        self.done = threading.Event()
        self.pulls = 0
        self.failures: list[str] = []

    def run(self, number: int) -> None:
        puller = Puller(self._server.url)
        while not self.done.is_set():
            token = self._server.operator.mint(*self._what)
            try:
                puller.pull(token, self._what[2])
                self.pulls += 1
            except PullFailedError as error:
                self.failures.append(str(error))
            if number % 2:  # every second client keeps its connection
                puller.close()
        puller.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--restarts", type=int, default=3)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="crisper-bench-") as name:
        folder = Path(name)
        image = images.random_layers()
        with Upstream.anonymous(folder / "upstream") as upstream:
            upstream.push(image)
            env = {"CRISPER_WORKERS": "2"}
            server = CrisperServer(folder / "crisper", insecure_registries=[upstream.host], env=env)
            with server:
                figures = restart(server, upstream.reference(image), options)
    print(f"written to {results.write('restart', 'rolling restarts under pulling clients', figures)}")
    if figures["failed_pulls"]:
        sys.exit("pulls failed")


def restart(server: CrisperServer, reference: str, options: argparse.Namespace) -> dict[str, object]:
    operator = server.operator
    organization, node = operator.create_organization(), operator.create_node()
    group = server.customer(organization).import_image(reference)
    clients = Clients(server, organization, group, node)
    shares = []
    with ThreadPoolExecutor(options.clients) as threads:
        running = [threads.submit(clients.run, number) for number in range(options.clients)]
        try:
            for _ in range(options.restarts):
                seen = clients.pulls
                wait_until(lambda: clients.pulls >= seen + options.clients, timeout_s=180, what="pulls")  # noqa: B023
                shares.append(share(server))
                replace(server)
            seen = clients.pulls
            wait_until(lambda: clients.pulls >= seen + options.clients, timeout_s=180, what="pulls")
        finally:
            clients.done.set()
        for each in running:
            each.result()
    print(f"{clients.pulls} pulls, {len(clients.failures)} failed {clients.failures[:3]}; shares {shares}")
    return {
        "clients": options.clients,
        "restarts": options.restarts,
        "pulls": clients.pulls,
        "failed_pulls": len(clients.failures),
        "connections_by_worker": shares,
    }


def replace(server: CrisperServer) -> None:
    before = workers_of(server.process.pid)
    os.kill(server.process.pid, signal.SIGHUP)
    wait_until(
        lambda: not workers_of(server.process.pid) & before, timeout_s=120, what="both workers are others"
    )


def share(server: CrisperServer) -> list[float]:
    """Return each worker's share of the connections during one second."""
    counts: Counter[int] = Counter()
    for _ in range(20):
        for worker in workers_of(server.process.pid):
            with suppress(psutil.NoSuchProcess):
                found = worker.net_connections("tcp")
                counts[worker.pid] += sum(c.status == psutil.CONN_ESTABLISHED for c in found)
        time.sleep(0.05)
    total = max(1, sum(counts.values()))
    return [round(count / total, 2) for count in counts.values()]


if __name__ == "__main__":
    main()
