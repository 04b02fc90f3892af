"""The first hours of an operator, a customer and the owner of a node: their pages are run as they stand.

The pages share one folder and one server, which the operator's page starts.
"""

import os
import re
from pathlib import Path

import pytest

from tests.support import images
from tests.support.clients import Ctr, Docker
from tests.support.crisper import CRISPER
from tests.support.documented import script
from tests.support.processes import free_port, run
from tests.support.upstream import Upstream

DOCS = Path(__file__).parents[2] / "docs"
SHELL = "set -euxo pipefail\ntrap 'kill $(jobs -p); wait' EXIT"  # the servers end with it


@pytest.mark.full  # about a hundred processes, one after another
def test_first_hours_run_as_written(own_folder: Path, upstream: Upstream, docker: Docker, ctr: Ctr) -> None:
    port, restored = free_port(), free_port()
    machine = own_folder / "machine"
    replaced = {
        "registry.example.com PORT=443": f"localhost PORT={port}",
        "https://registry.example.com": f"https://localhost:{port}",
        "0.0.0.0": "127.0.0.1",
        "--port 5001": f"--port {restored}",
        "127.0.0.1:5001": f"127.0.0.1:{restored}",
        "CRISPER_API_KEY=...": 'CRISPER_API_KEY="$(jq -r .api_key acme-2027.json)"',
        "ghcr.io/acme/app:1.0": upstream.reference(images.runnable()),
        "ghcr.io/acme/app:1.1": upstream.reference(images.random_layers()),
        "--username robot": f"--username {upstream.username}",
        "crisper node enroll": f"crisper node enroll --root {machine}",
        "/etc/containerd/certs.d": f"{machine}/etc/containerd/certs.d",
    }
    operator, customer, node = (
        script(DOCS / f"first-hour-{role}.md", replaced) for role in ("operator", "customer", "node")
    )
    before, backup, restore = operator.partition("crisper backup")  # when there are images to restore
    steps = [SHELL, f"cd {own_folder}", before, f"( {customer}\n)", backup + restore, node]
    env = {
        **docker.environment(own_folder / "docker"),
        **ctr.environment(),
        "PATH": f"{CRISPER.parent}:{os.environ['PATH']}",
        "CRISPER_INSECURE_REGISTRIES": upstream.host,
        "PASSWORD": str(upstream.password),
    }
    done = run(["bash", "-c", "\n".join(steps)], env=env, timeout_s=600).check()
    assert re.search(r"^read [1-9]\d* objects .*: 0 damaged", done.output, re.MULTILINE)
    assert f"Downloaded newer image for localhost:{port}/acme/default/app" in done.output
