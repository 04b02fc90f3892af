"""Rolling restarts under pulling clients: how many pulls fail, and how evenly workers share the clients.

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
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from bench import results
from tests.support import images
from tests.support.crisper import CrisperServer, Node, Organization
from tests.support.processes import wait_until
from tests.support.pulling import Puller, PullFailedError
from tests.support.upstream import Upstream


class Clients:
    """Pulls again and again, every client with connections of its own."""

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
            if number % 2:  # every other one keeps its connection
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


def workers_of(server: CrisperServer) -> set[psutil.Process]:
    children = psutil.Process(server.process.pid).children()
    return {child for child in children if "registry.server.workers" in child.cmdline()}


def replace(server: CrisperServer) -> None:
    before = workers_of(server)
    os.kill(server.process.pid, signal.SIGHUP)
    wait_until(lambda: not workers_of(server) & before, timeout_s=120, what="both workers are others")


def share(server: CrisperServer) -> list[float]:
    """Return each worker's share of the connections, over a second."""
    counts: Counter[int] = Counter()
    for _ in range(20):
        for worker in workers_of(server):
            open_now = [c for c in worker.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]
            counts[worker.pid] += len(open_now)
        time.sleep(0.05)
    total = max(1, sum(counts.values()))
    return [round(count / total, 2) for count in counts.values()]


if __name__ == "__main__":
    main()
