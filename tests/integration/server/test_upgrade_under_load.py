"""A server of version 0.1.0 is replaced by this version, and back, while clients pull from it (SQLite)."""

import json
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.server.test_upgrade import ARCHIVE
from tests.support.crisper import CRISPER, POSTGRES, CrisperServer, Node, Operator, Organization, PullToken
from tests.support.old_version import old_crisper
from tests.support.processes import run, wait_until
from tests.support.pulling import Puller, PullFailedError

pytestmark = pytest.mark.full  # installs version 0.1.0 from the history, which a shallow clone does not have

CLIENTS = 4
PULLS = 20
RETRY_S, RETRY_PAUSE_S = 60, 0.1


class RetryingPuller(Puller):
    """Retries failed connections for `RETRY_S`. A refusal of the server is final."""

    def get(self, path: str, headers: dict[str, str]) -> tuple[str, bytes]:
        deadline = time.monotonic() + RETRY_S
        while True:
            try:
                return super().get(path, headers)
            except PullFailedError as error:
                if error.__cause__ is None or time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_PAUSE_S)


class PausedPuller(RetryingPuller):
    """Has redeemed its token and read the manifest when it waits, before the first blob."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.waits, self.resume = threading.Event(), threading.Event()

    def get(self, path: str, headers: dict[str, str]) -> tuple[str, bytes]:
        if "/blobs/" in path:
            self.waits.set()
            assert self.resume.wait(RETRY_S)
        return super().get(path, headers)


class Load:
    """Clients that mint a token and pull an image, repeatedly until `end`.

    This version refuses tokens that 0.1.0 minted and that were not redeemed (docs/tokens.md). A client whose
    token was minted before `switched` and is refused after it mints one more. Every other failure is raised.
    """

    def __init__(self, url: str, operator: Operator, organization: Organization, nodes: list[Node]) -> None:
        self._url, self._operator, self._organization = url, operator, organization
        self._ends = threading.Event()
        self.pulls = 0
        self.switched = threading.Event()
        self._counting = threading.Lock()
        self._pool = ThreadPoolExecutor(len(nodes))
        self._clients = [self._pool.submit(self._run, node) for node in nodes]

    def wait_for(self, more: int) -> None:
        """Wait until this many more pulls have completed."""
        wanted = self.pulls + more
        wait_until(
            lambda: self.pulls >= wanted or any(client.done() for client in self._clients),
            timeout_s=120,
            what=f"{more} more pulls are complete",
        )

    def end(self) -> None:
        """Stop the clients; raise what one of them failed with."""
        self._ends.set()
        self._pool.shutdown()
        for client in self._clients:
            client.result()

    def _run(self, node: Node) -> None:
        with closing(RetryingPuller(self._url)) as puller:
            while not self._ends.is_set():
                before = not self.switched.is_set()
                try:
                    assert puller.pull(self._mint(node), node) > 0
                except PullFailedError as error:
                    refused = str(error).startswith("GET /token") and ": 401 " in str(error)
                    if not (refused and before and self.switched.is_set()):
                        raise
                    continue
                with self._counting:
                    self.pulls += 1

    def _mint(self, node: Node) -> PullToken:
        deadline = time.monotonic() + RETRY_S
        while True:
            try:
                return self._operator.mint(self._organization, "app", node)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_PAUSE_S)


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CrisperServer]:
    monkeypatch.delenv(POSTGRES, raising=False)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "site")  # noqa: S202 (an archive of this repository)
    with CrisperServer(tmp_path / "site", program=old_crisper()) as server:
        yield server


@pytest.mark.timeout(300)
def test_no_pull_fails_during_an_upgrade_and_the_backup_leads_back(
    old: CrisperServer, tmp_path: Path
) -> None:
    facts = json.loads((tmp_path / "site" / "facts.json").read_text())
    organization = Organization(facts["organization"], facts["api_key"])
    operator = old.operator
    nodes = [_create_node(operator, f"load-{number}") for number in range(CLIENTS + 1)]
    early = operator.mint(organization, "app", nodes[-1])
    begun = operator.mint(organization, "app", nodes[-1])
    paused = PausedPuller(old.url)
    load = Load(old.url, operator, organization, nodes[:-1])
    with closing(paused), ThreadPoolExecutor(1) as pool:
        pulled = pool.submit(paused.pull, begun, nodes[-1])
        assert paused.waits.wait(RETRY_S)
        load.wait_for(PULLS)
        backup = tmp_path / "backup"
        run([str(old.program), "backup", str(backup), "--data-dir", str(old.data_dir)]).check()

        assert old.stop() == 0
        load.switched.set()
        old.program = CRISPER
        old.start()
        paused.resume.set()
        assert pulled.result() > 0, "the pull that began on 0.1.0 ends on this version"
        load.wait_for(PULLS)
        load.end()
    with closing(Puller(old.url)) as puller:
        for unusable in (early, begun):
            with pytest.raises(PullFailedError, match="401"):
                puller.pull(unusable, nodes[-1])
    refusals = operator.events(type="token.refused", token_id=early.token_id)
    assert [event["cause"] for event in refusals] == ["node_unknown"], refusals
    run([str(old.program), "doctor", "--data-dir", str(old.data_dir)]).check()

    _go_back(old, backup)
    with closing(Puller(old.url)) as puller:
        token = operator.mint(organization, "app", nodes[0])
        assert puller.pull(token, nodes[0]) > 0
        for spent in (early, begun):
            with pytest.raises(PullFailedError, match="401"):
                puller.pull(spent, nodes[-1])


def _create_node(operator: Operator, node_id: str) -> Node:
    """Create a node with the fields that 0.1.0 knows."""
    body = {"node_id": node_id, "binding": "secret"}
    made = operator.call("POST", "/nodes", body).expect(201).json()
    return Node(made["node_id"], made["node_secret"])


def _go_back(server: CrisperServer, backup: Path) -> None:
    """Start 0.1.0 on the backup, as docs/how-to/upgrade.md says."""
    assert server.stop() == 0
    server.data_dir.rename(server.data_dir.with_name("data-0.2.0"))
    shutil.copytree(backup, server.data_dir)
    server.program = old_crisper()
    server.start()
