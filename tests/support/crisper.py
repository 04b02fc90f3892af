"""`crisper serve` as a process of its own, and what customers and operators say to it over HTTP."""

import os
import ssl
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import psutil

from tests.support.certificates import CertificateFiles
from tests.support.http import Response, request
from tests.support.postgres import another_database
from tests.support.processes import Process, free_port, wait_until

CRISPER = Path(sys.executable).with_name("crisper")
PROJECT = "default"
HTTPS_PORT = 443
IMPORT_TIMEOUT_S = 60
POSTGRES = "CRISPER_TEST_POSTGRES"
"""Names the PostgreSQL server that servers under test keep their catalogs on, instead of SQLite."""

START_S = float(os.environ.get("CRISPER_TEST_START_S", "90"))


@dataclass(frozen=True)
class Organization:
    name: str
    api_key: str = field(repr=False)


@dataclass(frozen=True)
class Node:
    """An enrolled node, bound by a secret."""

    node_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class PullToken:
    """A minted token and the image that it is for.

    Attributes:
        reference: What to give `docker pull`.
        digest: Of the manifest or index that the token is for.
        variant: Which of the image's encodings.
        key_thumbprint: The node's key for which the layers are encrypted; None for plaintext.
    """

    token_id: str
    token: str = field(repr=False)
    username: str
    reference: str
    digest: str
    variant: str
    key_thumbprint: str | None = None

    def password(self, node: Node) -> str:
        """Return what `node` gives as its password."""
        return f"{self.token}~{node.secret}"


class CrisperServer:
    """The server with its data folder, port and log; it can be killed and started again on the same.

    Args:
        folder: Holds `data/`, `tmp/` and `crisper.log`.
        insecure_registries: Upstreams, as `host:port`, that may be spoken to over plain HTTP.
        env: Added to the server's environment.
        tls: The server's certificate; it answers over TLS then.
        address: Where it listens.
        port: Likewise; any free one by default.
        prefix: Command that starts the server in its own place, such as `prlimit --nofile=1024:1024`.
        program: The `crisper` to run: another version's, in an upgrade.
    """

    def __init__(
        self,
        folder: Path,
        *,
        insecure_registries: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        tls: CertificateFiles | None = None,
        address: str = "127.0.0.1",
        port: int | None = None,
        prefix: Sequence[str] = (),
        program: Path = CRISPER,
    ) -> None:
        self.program = program
        self.data_dir = folder / "data"
        self.tmp_dir = folder / "tmp"
        self.log = folder / "crisper.log"
        self.tmp_dir.mkdir(parents=True)
        self.port = port or free_port()
        self.address = address
        literal = f"[{address}]" if ":" in address else address
        self.host = literal if tls and self.port == HTTPS_PORT else f"{literal}:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self.tls = tls
        self.trust = tls.trusting() if tls else None
        self._prefix = tuple(prefix)
        self._insecure = tuple(insecure_registries)
        self._env = {"TMPDIR": str(self.tmp_dir), **(env or {})}
        if POSTGRES in os.environ:
            self._env.setdefault("CRISPER_DATABASE_URL", another_database(os.environ[POSTGRES]))
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process

    @property
    def started(self) -> bool:
        return self._process is not None

    def start(self, timeout_s: float = START_S) -> None:
        """Start it and wait until `/readyz` answers 200."""
        argv = [
            *self._prefix,
            str(self.program),
            "serve",
            "--port",
            str(self.port),
            "--data-dir",
            str(self.data_dir),
        ]
        argv += ["--host", self.address]
        if self.tls:
            argv += ["--tls-cert", str(self.tls.certificate), "--tls-key", str(self.tls.key)]
        for registry in self._insecure:
            argv += ["--insecure-registry", registry]
        self._process = Process(argv, self.log, env=self._env, ready=self.ready, timeout_s=timeout_s)

    def ready(self) -> bool:
        try:
            return request("GET", f"{self.url}/readyz", timeout_s=5, tls=self.trust).status == 200
        except OSError:
            return False

    def stop(self) -> int:
        return self.process.stop(timeout_s=45)

    def kill9(self) -> None:
        """Kill the server, not its children, and wait until the children have gone by themselves."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill9()
        wait_until(
            lambda: not any(child.is_running() and child.status() != "zombie" for child in children),
            timeout_s=10,
            what=f"the killed server's children end: {children}",
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """What is added to the server's environment."""
        return self._env

    @property
    def operator_key(self) -> str:
        return (self.data_dir / "operator.key").read_text().strip()

    @property
    def operator(self) -> "Operator":
        return Operator(self.url, self.operator_key, self.trust)

    def customer(self, organization: Organization) -> "Customer":
        return Customer(self.url, organization, self.trust)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Operator:
    """The operator API (`/api/v1`)."""

    def __init__(self, url: str, key: str, tls: ssl.SSLContext | None = None) -> None:
        self._url = f"{url}/api/v1"
        self._tls = tls
        self._headers = {"Authorization": f"Bearer {key}"}

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Response:
        """Send one request and return the answer, whatever its status."""
        return request(method, f"{self._url}{path}", headers=self._headers, body=body, tls=self._tls)

    def create_organization(self, name: str | None = None) -> Organization:
        chosen = name or unique("org")
        made = self.call("POST", "/organizations", {"name": chosen}).expect(201).json()
        return Organization(made["name"], made["api_key"])

    def create_node(
        self,
        node_id: str | None = None,
        *,
        zstd: bool | None = None,
        platform: str | None = None,
        encryption_key: str | None = None,
        runtime: str | None = None,
    ) -> Node:
        body: dict[str, Any] = {
            "node_id": node_id or unique("node"),
            "binding": "secret",
            "zstd": zstd,
            "platform": platform,
        }
        if encryption_key is not None:
            body |= {"encryption_key": encryption_key, "runtime": runtime}
        made = self.call("POST", "/nodes", body).expect(201).json()
        return Node(made["node_id"], made["node_secret"])

    def create_certified_node(
        self, node_id: str | None = None, *, networks: Sequence[str] = ()
    ) -> tuple[str, str]:
        """Create a node bound by certificate; return its id and enrolment secret."""
        body = {"node_id": node_id or unique("node"), "binding": "certificate", "networks": list(networks)}
        made = self.call("POST", "/nodes", body).expect(201).json()
        return made["node_id"], made["enrolment_secret"]

    def mint(
        self,
        organization: Organization,
        group: str,
        node: Node,
        *,
        ttl_s: int | None = None,
        variant: str = "original",
        encryption: str | None = None,
    ) -> PullToken:
        """Mint a token for one node; `original` keeps upstream's digests."""
        body: dict[str, Any] = {
            "organization_name": organization.name,
            "project_name": PROJECT,
            "container_group_name": group,
            "node_id": node.node_id,
            "variant": variant,
        }
        if ttl_s is not None:
            body["ttl_s"] = ttl_s
        if encryption is not None:
            body["encryption"] = encryption
        made = self.call("POST", "/pull-tokens", body).expect(201).json()
        image = made["image"]
        return PullToken(
            made["token_id"],
            made["token"],
            made["username"],
            image["reference"],
            image["digest"],
            image["variant"],
            image.get("key_thumbprint"),  # version 0.1.0 has none
        )

    def token(self, token: PullToken) -> dict[str, Any]:
        shown: dict[str, Any] = self.call("GET", f"/pull-tokens/{token.token_id}").expect(200).json()
        return shown

    def token_state(self, token: PullToken) -> str:
        shown = self.call("GET", f"/pull-tokens/{token.token_id}").expect(200).json()
        return str(shown["state"])

    def complete(self, token: PullToken) -> None:
        self.call("POST", f"/pull-tokens/{token.token_id}/complete").expect(200, 202, 204)

    def revoke(self, token: PullToken) -> None:
        self.call("DELETE", f"/pull-tokens/{token.token_id}").expect(200, 202, 204)

    def instances(self, organization: Organization, group: str) -> dict[str, dict[str, Any]]:
        """Return a group's instances by their nodes' ids."""
        path = f"/organizations/{organization.name}/projects/{PROJECT}/containers/{group}/instances"
        items = self.call("GET", path).expect(200).json()["items"]
        return {each["node_id"]: each for each in items}

    def events(self, **filters: str) -> list[dict[str, Any]]:
        """Return the first page of the audit trail that `type`, `token_id` ... leave."""
        page = self.call("GET", f"/events?{urlencode(filters)}").expect(200).json()
        return list(page["items"])

    def redemptions(self, token: PullToken) -> list[dict[str, Any]]:
        """Wait until the trail has the redemption of a token, and return all that it has."""
        found = {"type": "token.redeemed", "token_id": token.token_id}
        wait_until(lambda: bool(self.events(**found)), timeout_s=10, what="the redemption is in the trail")
        return self.events(**found)


class Customer:
    """The public API, as one organization's customer."""

    def __init__(self, url: str, organization: Organization, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._url = f"{url}/api/public/organizations/{organization.name}/projects/{PROJECT}/containers"
        self._headers = {"Salad-Api-Key": organization.api_key}

    def create_group(
        self,
        image: str,
        *,
        name: str | None = None,
        username: str | None = None,
        password: str | None = None,
        authentication: Mapping[str, Mapping[str, str]] | None = None,
    ) -> str:
        """Create a stopped group and return its name; `authentication` is any `registry_authentication`."""
        container: dict[str, Any] = {"image": image, "resources": {"cpu": 1, "memory": 1024}}
        if username is not None:
            container["registry_authentication"] = {"basic": {"username": username, "password": password}}
        if authentication is not None:
            container["registry_authentication"] = authentication
        name = name or unique("group")
        body = {
            "name": name,
            "container": container,
            "autostart_policy": False,
            "replicas": 1,
            "restart_policy": "never",
        }
        request("POST", self._url, headers=self._headers, body=body, tls=self._tls).expect(201)
        return name

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Response:
        """Call an operation of the project's groups, by its path below them, if any: `NAME/rollback`."""
        return request(
            method, f"{self._url}/{path}".rstrip("/"), headers=self._headers, body=body, tls=self._tls
        )

    def patch(self, name: str, change: Mapping[str, Any], query: str = "") -> dict[str, Any]:
        """Update a group and return it."""
        return dict(self.call("PATCH", name + query, change).expect(200).json())

    def group(self, name: str) -> dict[str, Any]:
        shown = request("GET", f"{self._url}/{name}", headers=self._headers, tls=self._tls)
        return dict(shown.expect(200).json())

    def status(self, name: str) -> str:
        return str(self.group(name)["current_state"]["status"])

    def wait_settled(self, name: str, *, timeout_s: float = IMPORT_TIMEOUT_S) -> dict[str, Any]:
        """Wait until the group is no longer pending and return it."""
        wait_until(
            lambda: self.status(name) != "pending",
            timeout_s=timeout_s,
            what=f"group {name} is imported: {self.group(name)['current_state']}",
        )
        return self.group(name)

    def import_image(self, image: str, *, username: str | None = None, password: str | None = None) -> str:
        """Create a group, wait until its image is ready, and return the group's name."""
        name = self.create_group(image, username=username, password=password)
        state = self.wait_settled(name)["current_state"]
        if state["status"] != "stopped":
            raise AssertionError(f"import of {image} ended {state['status']}: {state.get('description')}")
        return name

    def delete(self, name: str) -> None:
        request("DELETE", f"{self._url}/{name}", headers=self._headers, tls=self._tls).expect(200, 202, 204)


def unique(prefix: str) -> str:
    """Return a name that no other test uses, valid for groups, nodes and organizations alike."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"
