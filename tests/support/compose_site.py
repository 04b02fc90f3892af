"""deploy/compose.yaml with real containers, in a network namespace of its own.

dockerd runs in the namespace and makes the networks of the compose file there. The published port and the
customers' registry listen at the namespace's address. That registry has no TLS, which production refuses:
the import workers run without CRISPER_ENV=production for that alone.
"""

import json
import os
import secrets
import shutil
import signal
import ssl
from pathlib import Path
from typing import Any

import yaml

from tests.support.built_programs import go_tool
from tests.support.certificates import SERVER, TestCa
from tests.support.container_image import ROOT, Engine
from tests.support.crisper import Customer, Node, Organization, PullToken
from tests.support.network import Network
from tests.support.processes import run, wait_until
from tests.support.upstream import Upstream

_DEPLOY = ROOT / "deploy"
_START_S = 400
_EXTERNAL_S = 120


class ComposeSite:
    """The services of the compose file, running.

    Args:
        folder: Gets a copy of the files that the compose file reads.
        upstream: The registry that the workers may reach without TLS.

    Attributes:
        host: Of the registry, as clients write it.
        ca: Certificate authority of the registry's certificate.
    """

    def __init__(self, folder: Path, engine: Engine, network: Network, upstream: Upstream) -> None:
        self._engine, self.host = engine, network.inside
        self._folder = folder / "deploy"
        self._folder.mkdir(parents=True)
        shutil.copy(_DEPLOY / "compose.yaml", self._folder)
        shutil.copytree(_DEPLOY / "proxy", self._folder / "proxy")
        self.ca = self._certificates(folder)
        worker = {"CRISPER_ENV": "development", "CRISPER_INSECURE_REGISTRIES": upstream.host}
        override = {"services": {f"import-{number}": {"environment": worker} for number in (1, 2)}}
        (self._folder / "override.yaml").write_text(yaml.safe_dump(override))
        self._environment = {
            "DOCKER_HOST": engine.host,
            "CRISPER_HOSTNAME": self.host,
            "CRISPER_LISTEN": self.host,
            **{f"CRISPER_{name}": secrets.token_hex(24) for name in ("LEDGER_PASSWORD", "CATALOG_PASSWORD")},
            "CRISPER_OBJECTS_SECRET": secrets.token_hex(24),
        }

    def _certificates(self, folder: Path) -> Path:
        """Create what the compose file mounts from ./tls; return the public certificate's CA."""
        tls = self._folder / "tls"
        tls.mkdir()
        public = TestCa.create(folder / "public").issue("registry", hosts=[self.host], purposes=SERVER)
        shutil.copy(public.certificate, tls / "registry.crt")
        shutil.copy(public.key, tls / "registry.key")
        run(["sh", str(_DEPLOY / "tls.sh"), str(tls), self.host]).check()
        return public.ca

    def compose(self, *argv: str, timeout_s: float = _EXTERNAL_S) -> str:
        """Run Docker Compose. Returns its output; raises AssertionError if it fails."""
        files = [word for name in ("compose", "override") for word in ("-f", f"{self._folder}/{name}.yaml")]
        command = [str(go_tool("docker-compose")), *files, *argv]
        return run(command, env=self._environment, timeout_s=timeout_s).check().output

    def start(self) -> None:
        self.compose(
            "up", "--no-build", "--detach", "--wait", f"--wait-timeout={_START_S}", timeout_s=_START_S
        )

    def stop(self) -> None:
        self.compose("down", "--volumes", "--timeout", "5")

    def services(self) -> list[str]:
        """List the services that run until they are stopped."""
        return [name for name in self.compose("config", "--services").split() if name != "init"]

    def states(self) -> dict[str, str]:
        """Return the state of each container, or its health if it has a health check."""
        listed = self.compose("ps", "--all", "--format", "json").splitlines()
        return {each["Service"]: each["Health"] or each["State"] for each in map(json.loads, listed)}

    def wait_healthy(self) -> None:
        names = self.services()

        def healthy() -> bool:
            states = self.states()
            return all(states.get(name) in ("healthy", "running") for name in names)

        wait_until(healthy, timeout_s=_EXTERNAL_S, interval_s=1, what="all containers are healthy")

    def kill(self, service: str) -> None:
        """Kill a container's first process as a crash would, so that Docker restarts it."""
        container = self.compose("ps", "--quiet", service).strip()
        os.kill(int(self._engine("inspect", "--format", "{{.State.Pid}}", container)), signal.SIGKILL)

    def crisper(self, *argv: str) -> Any:  # noqa: ANN401 (whatever the command prints)
        """Run an operator's command in the api server's container."""
        said = self.compose("exec", "--no-TTY", "api", "crisper", *argv, "--json")
        return json.loads(said[min(at for at in map(said.find, "[{") if at >= 0) :])

    def create_organization(self, name: str) -> Customer:
        made = self.crisper("organization", "create", name)
        trust = ssl.create_default_context(cafile=self.ca)
        return Customer(f"https://{self.host}", Organization(made["name"], made["api_key"]), trust)

    def create_node(self, node_id: str) -> Node:
        return Node(node_id, self.crisper("node", "create", node_id)["node_secret"])

    def mint(self, organization: str, group: str, node: Node) -> PullToken:
        options = ("--node", node.node_id, "--organization", organization, "--variant", "original")
        made = self.crisper("token", "mint", group, *options)
        keys = ("reference", "digest", "variant")
        return PullToken(
            made["token_id"], made["token"], made["username"], *(made["image"][key] for key in keys)
        )
