"""The container image: built, run without privileges, used, stopped, and started again."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.clients import Skopeo
from tests.support.container_image import BUILD_OPTIONS, IMAGE, ROOT, Engine
from tests.support.crisper import Customer, Operator
from tests.support.dockerd import Containerd, Dockerd
from tests.support.images import MIB
from tests.support.processes import free_port, run, wait_until
from tests.support.upstream import Upstream

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

LIMIT_BYTES = 250_000_000
GRACE_S = 30
CONFINED = (
    *("--read-only", "--tmpfs=/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--network", "host"),
)


@pytest.fixture(scope="module")
def engine(workdir: Path, containerd: Containerd) -> Iterator[Engine]:
    folder = workdir / "image-dockerd"
    with Dockerd(folder, containerd) as daemon:
        engine = Engine(daemon)
        engine.build()
        yield engine
    run(["umount", str(folder / "exec" / "netns" / "default")])  # dockerd leaves it behind


class Container:
    """A running server."""

    def __init__(self, engine: Engine, upstream: Upstream) -> None:
        self.engine, self.port = engine, free_port()
        settings = {
            "CRISPER_HOST": "127.0.0.1",
            "CRISPER_PORT": str(self.port),
            "CRISPER_INSECURE_REGISTRIES": upstream.host,
        }
        options = [word for name, value in settings.items() for word in ("--env", f"{name}={value}")]
        self.id = engine("run", "--detach", *CONFINED, *options, IMAGE)

    def execute(self, *argv: str) -> str:
        return self.engine("exec", self.id, *argv)

    def state(self) -> dict[str, object]:
        return dict(json.loads(self.engine("inspect", "--format", "{{json .State}}", self.id)))

    def wait_healthy(self) -> None:
        def healthy() -> bool:
            state = self.state()
            assert state["Running"], self.engine("logs", self.id)
            health = state["Health"]
            return isinstance(health, dict) and health["Status"] == "healthy"

        wait_until(healthy, timeout_s=90, what="the container is healthy")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def test_the_image_is_small_and_has_no_tools(engine: Engine) -> None:
    (inspected,) = json.loads(engine("image", "inspect", IMAGE))
    assert inspected["Size"] < LIMIT_BYTES, f"{inspected['Size'] / MIB:.0f} MiB"
    assert inspected["Config"]["User"] == "10001:10001"
    tools = ("pip", "pip[0-9]*", "perl", "apt-get", "*.pyx")
    wanted = " -o ".join([*(f"-name '{tool}'" for tool in tools), "-path '*/tests/*'"])
    look = f"find / -xdev -type f \\( {wanted} \\); find /usr /opt -name 'python3*' -type f -perm -1"
    shell = ("run", "--rm", "--user", "0", "--network", "none", "--entrypoint", "sh", IMAGE, "-c")
    found = engine(*shell, look).splitlines()
    assert found == ["/usr/bin/python3.11"]


def test_a_confined_container_serves_pulls_and_keeps_its_data(
    engine: Engine, upstream: Upstream, own_folder: Path
) -> None:
    upstream.push(images.runnable())
    container = Container(engine, upstream)
    container.wait_healthy()
    operator = Operator(container.url, container.execute("cat", "/var/lib/crisper/operator.key"))
    organization = operator.create_organization()
    customer = Customer(container.url, organization)
    group = customer.import_image(upstream.reference(images.runnable()), **upstream.login)
    node = operator.create_node()
    token = operator.mint(organization, group, node)
    skopeo = Skopeo(own_folder / "skopeo")
    skopeo.pull(token.reference, token.username, token.password(node)).check()
    operator.complete(token)
    assert not skopeo.pull(token.reference, token.username, token.password(node)).ok
    container.execute("crisper", "doctor")
    assert container.execute("sh", "-c", "touch /opt/x 2>&1 || true").endswith("Read-only file system")

    began = time.monotonic()
    engine("stop", "--time", str(GRACE_S), container.id)
    assert time.monotonic() - began < GRACE_S
    assert container.state()["ExitCode"] == 0
    engine("start", container.id)
    container.wait_healthy()
    assert customer.status(group) == "stopped"
    engine("rm", "--force", "--volumes", container.id)


def test_make_release_saves_the_image_with_a_bill_of_its_packages(engine: Engine, own_folder: Path) -> None:
    folder = own_folder / "clone"
    run(["git", "clone", "--quiet", str(ROOT), str(folder)]).check()
    environment = {"DOCKER_HOST": engine.host, "BUILD_OPTIONS": " ".join(BUILD_OPTIONS)}
    run(["make", "-C", str(folder), "release"], env=environment, timeout_s=900).check()
    dist = folder / "dist"
    (saved,) = dist.glob("crisper-registry-*-image.tar.gz")
    assert saved.name in (dist / "SHA256SUMS").read_text()
    name = f"crisper-registry:{saved.name.split('-')[2]}"
    engine("image", "rm", name)
    assert engine("load", "--input", str(saved)) == f"Loaded image: {name}"
    bill = json.loads((dist / "crisper-image.cdx.json").read_text())
    assert {"base-files", "aiohttp"} <= {component["name"] for component in bill["components"]}
