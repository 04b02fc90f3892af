"""Container engines of the tests' own: each daemon with its own root, socket and log.

They share nothing with engines that the machine may run, touch no firewall rules, make no bridge, and
reach nothing but 127.0.0.1, which both daemons accept as a plain HTTP registry.
"""

from pathlib import Path

from tests.support.processes import Process, run

CONTAINERD_CONFIG = """\
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{socket}"
[ttrpc]
address = "{socket}.ttrpc"
"""


class Containerd(Process):
    """containerd under `folder`; dockerd uses it too, in a namespace of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.socket = folder / "containerd.sock"
        config = folder / "containerd.toml"
        config.write_text(CONTAINERD_CONFIG.format(folder=folder, socket=self.socket))
        super().__init__(
            ["containerd", "--config", str(config)],
            folder / "containerd.log",
            ready=lambda: run(["ctr", "--address", str(self.socket), "version"], timeout_s=5).ok,
        )


class Dockerd(Process):
    """dockerd under `folder`, on the given containerd.

    Args:
        network: A network namespace to run in; the machine's own by default.
    """

    def __init__(self, folder: Path, containerd: Containerd, *, network: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.socket = folder / "docker.sock"
        argv = [
            *(["nsenter", f"--net=/run/netns/{network}"] if network else []),
            "dockerd",
            f"--containerd={containerd.socket}",
            f"--data-root={folder / 'data'}",
            f"--exec-root={folder / 'exec'}",
            f"--host=unix://{self.socket}",
            f"--pidfile={folder / 'dockerd.pid'}",
            "--iptables=false",
            "--ip6tables=false",
            "--bridge=none",
        ]
        super().__init__(
            argv,
            folder / "dockerd.log",
            ready=lambda: run(["docker", "--host", f"unix://{self.socket}", "version"], timeout_s=5).ok,
            timeout_s=60,
        )
