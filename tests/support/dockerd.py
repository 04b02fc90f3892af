"""Container engines of the tests' own: each daemon with its own root, socket and log.

They share nothing with engines that the machine may run, touch no firewall rules, make no bridge, and
reach nothing but 127.0.0.1, which both daemons accept as a plain HTTP registry.
"""

import json
import os
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from registry.decoder.containerd import stream_processors_toml
from tests.support.built_programs import go_program
from tests.support.processes import Process, run

ImageStore = Literal["graph driver", "containerd"]

CONTAINERD_CONFIG = """\
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
{disabled}
[grpc]
address = "{socket}"
[ttrpc]
address = "{socket}.ttrpc"
"""
CONTAINERD_2_CONFIG = """\
version = 3
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
{disabled}
[grpc]
address = "{socket}"
[ttrpc]
address = "{socket}.ttrpc"
[plugins."io.containerd.transfer.v1.local"]
max_concurrent_downloads = 8
concurrent_layer_fetch_buffer = {chunk_bytes}
"""
CRI_CONFIG = """\
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
stream_server_port = "0"
restrict_oom_score_adj = true
"""
CRI_2_CONFIG = """\
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
"""
NO_CRI = 'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"]'


class Containerd(Process):
    """containerd under `folder`; dockerd uses it too, in a namespace of its own.

    Args:
        chunk_bytes: Runs containerd 2, which reads each layer in chunks of this size, several at a time; each
            chunk is a request for the rest of the layer that it ends early. None runs Debian's containerd.
        keys: Folder of private keys, with which Crisper's layer decoder decrypts layers.
        pause: Reference of the image that holds a pod's namespaces. With it, containerd serves CRI too.
    """

    def __init__(
        self,
        folder: Path,
        *,
        chunk_bytes: int | None = None,
        keys: Path | None = None,
        pause: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.socket = folder / "containerd.sock"
        config = folder / "containerd.toml"
        text, cri, daemon, self.ctr = CONTAINERD_CONFIG, CRI_CONFIG, "containerd", "ctr"
        env: dict[str, str] = {}
        if chunk_bytes is not None:
            text, cri, daemon, self.ctr = (
                CONTAINERD_2_CONFIG,
                CRI_2_CONFIG,
                str(go_program("containerd")),
                str(go_program("ctr")),
            )
            shim = go_program("containerd-shim-runc-v2").parent
            env = {"PATH": f"{shim}{os.pathsep}{os.environ['PATH']}"}
        disabled = NO_CRI if pause is None else ""
        text = text.format(folder=folder, socket=self.socket, chunk_bytes=chunk_bytes, disabled=disabled)
        if pause is not None:
            text += cri.format(pause=pause)
        if keys is not None:
            (folder / "decoder.toml").write_text(_decoder_config(folder, keys))
            text = 'imports = ["decoder.toml"]\n' + text
        config.write_text(text)
        super().__init__(
            [daemon, "--config", str(config)],
            folder / "containerd.log",
            env=env,
            ready=lambda: run([self.ctr, "--address", str(self.socket), "version"], timeout_s=5).ok,
        )


def _decoder_config(folder: Path, keys: Path) -> str:
    content_store = folder / "containerd/root/io.containerd.content.v1.content"
    decoder = Path(sysconfig.get_path("scripts")) / "crisper-layer-decoder"
    return stream_processors_toml(str(decoder), str(content_store), str(keys))


class Dockerd(Process):
    """dockerd under `folder`, on the given containerd.

    Args:
        network: A network namespace to run in; the machine's own by default.
        program: The daemon; Debian's (20.10) by default.
        store: Where the daemon keeps images: in containerd, or by its graph driver, as 20.10 always does.
        options: Further arguments.
    """

    def __init__(
        self,
        folder: Path,
        containerd: Containerd,
        *,
        network: str | None = None,
        program: str = "dockerd",
        store: ImageStore = "graph driver",
        options: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.socket = folder / "docker.sock"
        config = folder / "daemon.json"
        # Debian's runc knows no time namespaces.
        features = {"containerd-snapshotter": store == "containerd", "time-namespaces": False}
        config.write_text(json.dumps({"features": features}))
        argv = [
            *(["nsenter", f"--net=/run/netns/{network}"] if network else []),
            program,
            f"--config-file={config}",
            f"--containerd={containerd.socket}",
            f"--data-root={folder / 'data'}",
            f"--exec-root={folder / 'exec'}",
            f"--host=unix://{self.socket}",
            f"--pidfile={folder / 'dockerd.pid'}",
            "--iptables=false",
            "--ip6tables=false",
            "--bridge=none",
            *options,
        ]
        super().__init__(
            argv,
            folder / "dockerd.log",
            env={"DOCKER_MIN_API_VERSION": "1.41"},  # Debian's client with a newer daemon
            ready=lambda: run(["docker", "--host", f"unix://{self.socket}", "version"], timeout_s=5).ok,
            timeout_s=60,
        )
