"""SIGHUP replaces workers under load; what a worker cannot start with ends the start (docs/adr/0031)."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer
from tests.support.processes import free_port, run, wait_until
from tests.support.pulling import Puller
from tests.support.upstream import Upstream
from tests.support.workers import workers_of

CLIENTS = 8


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("pair")
    env = {"CRISPER_WORKERS": "2"}
    with CrisperServer(folder / "crisper", insecure_registries=[upstream.host], env=env) as server:
        yield open_shop(server, upstream, images.random_layers())


def test_workers_are_replaced_under_pulling_clients_and_no_pull_fails(pair: Shop) -> None:
    before, done, pulls = workers_of(pair.server.process.pid), threading.Event(), []

    def pull_again_and_again() -> None:
        puller = Puller(pair.server.url)
        while not done.is_set():
            pulls.append(puller.pull(pair.mint(), pair.node))
        puller.close()

    with ThreadPoolExecutor(CLIENTS) as threads:
        pulling = [threads.submit(pull_again_and_again) for _ in range(CLIENTS)]
        try:
            wait_until(lambda: len(pulls) >= CLIENTS, timeout_s=60, what="everybody pulls")
            os.kill(pair.server.process.pid, signal.SIGHUP)
            wait_until(
                lambda: (
                    len(workers_of(pair.server.process.pid)) == 2
                    and not workers_of(pair.server.process.pid) & before
                ),
                timeout_s=60,
                what="both workers are others",
            )
            seen = len(pulls)
            wait_until(lambda: len(pulls) >= seen + CLIENTS, timeout_s=60, what="the new ones serve")
        finally:
            done.set()
        for each in pulling:
            each.result()
    assert len(pulls) >= seen + CLIENTS


def test_a_worker_that_cannot_start_ends_the_start(folder: Path) -> None:
    folder.mkdir()
    (folder / "tls.pem").write_text("no certificate\n")
    tls = ["--tls-cert", str(folder / "tls.pem"), "--tls-key", str(folder / "tls.pem")]
    refused = run(
        [str(CRISPER), "serve", "--port", str(free_port()), "--data-dir", str(folder / "data"), *tls],
        env={"CRISPER_WORKERS": "2"},
    )
    assert refused.returncode == 1
    assert "before it was ready" in refused.output
    assert "Crisper listens" not in refused.output
