"""The command blocks of README, tutorial and how-tos: run in order on a real server, or marked with a reason.

A block that is not run has `<!-- not run: REASON -->` before its fence.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.clients import Docker
from tests.support.crisper import CRISPER, CrisperServer
from tests.support.documented import blocks, script
from tests.support.processes import run
from tests.support.upstream import Upstream

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README, TUTORIAL = ROOT / "README.md", DOCS / "tutorial.md"
FIRST_HOURS = sorted(DOCS.glob("first-hour-*.md"))  # tests/e2e/test_first_hour.py
PAGES = [README, TUTORIAL, *FIRST_HOURS, *sorted((DOCS / "how-to").glob("*.md"))]
RUN = ("leaked-token.md", "leaked-api-key.md", "leaked-key.md", "production.md", "rotate-keys.md")
RUN_ELSEWHERE = {README.name, TUTORIAL.name, *(page.name for page in FIRST_HOURS)}
OTHERS_CHANGE = {"upgrade.md", "offload-delivery.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_block_is_run_or_says_why_not(page: Path) -> None:
    run_here = [block.commands for block in blocks(page) if block.reason is None]
    if page.name in RUN:
        assert len(run_here) == len(blocks(page))
    if page.name in {*RUN, *RUN_ELSEWHERE}:
        assert run_here, "lists a page without commands that are run"
    elif page.name not in OTHERS_CHANGE:
        assert run_here == []


@pytest.fixture(scope="module")
def documented(workdir: Path, upstream: Upstream) -> Iterator[dict[str, str]]:
    """Environment of commands on a server of their own: the pages rotate its keys."""
    with CrisperServer(workdir / "documented", insecure_registries=[upstream.host]) as server:
        env = {**_environment(server), "URL": server.url, "KEY": server.operator_key}

        def crisper(*argv: str, stdin: str = "") -> str:
            done = run([str(CRISPER), *argv], env=env, stdin=stdin.encode()).check()
            return done.output

        access = ("--username", str(upstream.username), "--password-stdin")
        image = upstream.reference(images.runnable())
        crisper("image", "import", image, "--name", "app", *access, stdin=str(upstream.password))
        crisper("node", "create", "pc-7")
        crisper("organization", "create", "acme")
        token = json.loads(crisper("token", "mint", "app", "--node", "pc-7", "--json"))
        (key,) = json.loads(crisper("organization", "key", "list", "acme", "--json"))
        yield {**env, "TOKEN_ID": token["token_id"], "KEY_ID": key["key_id"]}


@pytest.mark.parametrize("name", RUN)
def test_commands_of_a_page_run_in_order(name: str, documented: dict[str, str], tmp_path: Path) -> None:
    page = next(page for page in PAGES if page.name == name)
    typed = script(page, {"curl -s ": "curl -sf "})
    typed = re.sub(r"(?<!\$)\b(TOKEN_ID|KEY_ID)\b", r"$\1", typed)
    _run(typed, documented, tmp_path)


def test_the_readme_runs_as_written(own_folder: Path, upstream: Upstream, docker: Docker) -> None:
    with CrisperServer(own_folder / "crisper", insecure_registries=[upstream.host]) as server:
        replaced = {
            "registry.example.com": server.host,
            "ghcr.io/acme/app:1.2": upstream.reference(images.runnable()),
            "--username acme": f"--username {upstream.username}",
        }
        env = {
            **docker.environment(own_folder / "docker"),
            **_environment(server),
            "PASSWORD": str(upstream.password),
        }
        output = _run(script(README, replaced), env, own_folder)
    assert f"Downloaded newer image for {server.host}/default/default/app:v1" in output


def test_the_tutorial_runs_as_written(own_folder: Path, docker: Docker) -> None:
    with (
        Upstream.anonymous(own_folder / "hub") as hub,
        CrisperServer(own_folder / "crisper", insecure_registries=[hub.host]) as server,
    ):
        hub.push(images.runnable())
        replaced = {
            "127.0.0.1:5000": server.host,
            "docker.io/library/alpine:3": hub.reference(images.runnable()),
            "crisper-data": str(server.data_dir),
            "curl -s ": "curl -sf ",
        }
        env = {**docker.environment(own_folder / "docker"), **_environment(server)}
        output = _run(script(TUTORIAL, replaced), env, own_folder)
    assert '"cause":"replayed"' in output.replace(" ", ""), "the last command shows why the pull was refused"


def _environment(server: CrisperServer) -> dict[str, str]:
    return {"PATH": f"{CRISPER.parent}:{os.environ['PATH']}", "CRISPER_DATA_DIR": str(server.data_dir)}


def _run(typed: str, env: dict[str, str], folder: Path) -> str:
    done = run(["bash", "-c", f"set -euxo pipefail\ncd {folder}\n{typed}\n"], env=env, timeout_s=120)
    return done.check().output
