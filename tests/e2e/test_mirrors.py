"""Clients pull each platform through nginx as a mirror, and through Distribution's pull-through cache."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.clients import Ctr
from tests.support.crisper import CrisperServer
from tests.support.fleet import IMPORTED, MADE, Fleet
from tests.support.processes import Process, free_port, listening

HOST = "registry.example.test"

each_platform = pytest.mark.parametrize("platform", IMPORTED)

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
worker_processes 1;
events {{}}
http {{
  log_format with_query '$request $status';
  access_log {folder}/access.txt with_query;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location /v2/ {{
      proxy_pass {url};
      proxy_set_header Host {host};
      proxy_buffering off;
    }}
  }}
}}
"""


@pytest.fixture
def mirror(crisper: CrisperServer, own_folder: Path) -> Iterator[str]:
    """nginx before the server."""
    port, config = free_port(), own_folder / "nginx.conf"
    config.write_text(NGINX.format(folder=own_folder, port=port, url=crisper.url, host=crisper.host))
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    argv = [nginx, "-p", str(own_folder), "-c", str(config)]
    with Process(argv, own_folder / "nginx.log", ready=lambda: listening(port)):
        yield f"127.0.0.1:{port}"


@each_platform
def test_containerd_pulls_through_nginx_as_its_mirror_and_names_the_registry(
    platform: str, mirror: str, fleet: Fleet, ctr: Ctr, own_folder: Path
) -> None:
    hosts = own_folder / "hosts" / HOST / "hosts.toml"
    hosts.parent.mkdir(parents=True)
    hosts.write_text(
        f'server = "http://{mirror}"\n[host."http://{mirror}"]\n  capabilities = ["pull", "resolve"]\n'
    )
    through = Ctr.__new__(Ctr)
    through.__dict__.update(ctr.__dict__)
    through.transport = ["--hosts-dir", str(own_folder / "hosts")]
    node = fleet.operator.create_node()
    token = fleet.mint(node)
    reference = f"{HOST}/{token.reference.partition('/')[2]}"
    through.pull(reference, token.username, token.password(node), platform).check()
    fleet.assert_whole(token, platform)
    requests = (own_folder / "access.txt").read_text().splitlines()
    assert any(f"?ns={HOST} " in request and request.endswith("200") for request in requests), requests


@each_platform
@pytest.mark.parametrize("known", ["known", "unknown"])
def test_a_pull_through_cache_pulls_as_its_node(
    platform: str,
    known: str,
    fleet: Fleet,
    crisper: CrisperServer,
    own_folder: Path,
) -> None:
    node = fleet.operator.create_node(platform=platform if known == "known" else None)
    token = fleet.mint(node)
    port = free_port()
    config = own_folder / "cache.json"
    proxy = {"remoteurl": crisper.url, "username": token.username, "password": token.password(node)}
    storage = {"filesystem": {"rootdirectory": str(own_folder / "cache")}}
    config.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "warn"},
                "storage": storage,
                "http": {"addr": f"127.0.0.1:{port}"},
                "proxy": proxy,
            }
        )
    )
    argv = ["docker-registry", "serve", str(config)]
    with Process(argv, own_folder / "cache.log", ready=lambda: listening(port)):
        cached = replace(token, reference=f"127.0.0.1:{port}/{token.reference.partition('/')[2]}")
        for _ in range(2):
            fleet.clients["skopeo"].pull(cached.reference, "anybody", "nothing", platform).check()
    session = fleet.shown(token)["session"]
    assert session["blobs"]["complete"] == session["blobs"]["total"] == len(MADE[platform].blobs)
