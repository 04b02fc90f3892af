"""The command blocks of README, tutorial and how-tos: run in order on a real server, or marked with a reason.

A block that is not run has `<!-- not run: REASON -->` before its fence.
"""

import json
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer
from tests.support.processes import run
from tests.support.upstream import Upstream

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs/tutorial.md", *sorted((ROOT / "docs/how-to").glob("*.md"))]
RUN = ("leaked-token.md", "leaked-api-key.md", "leaked-key.md", "production.md", "rotate-keys.md")
_FENCE = re.compile(
    r"(?:^ *<!-- not run: (?P<reason>[^>]+) -->\n\n?)?"
    r"^ *```(?:bash|sh|console)\b.*\n(?P<body>(?s:.*?))^ *```",
    re.MULTILINE,
)
OTHERS_CHANGE = {"upgrade.md", "offload-delivery.md"}


class Block(NamedTuple):
    reason: str | None
    commands: str


def _commands(body: str) -> str:
    """Return what to type: in a console block, the lines after `$ ` and their continuations."""
    lines = textwrap.dedent(body).splitlines()
    if not any(line.startswith("$ ") for line in lines):
        return "\n".join(lines)
    typed: list[str] = []
    for line in lines:
        if line.startswith("$ ") or (typed and typed[-1].endswith("\\")):
            typed.append(line.removeprefix("$ "))
    return "\n".join(typed)


def blocks(page: Path) -> list[Block]:
    return [Block(found["reason"], _commands(found["body"])) for found in _FENCE.finditer(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_block_is_run_or_says_why_not(page: Path) -> None:
    if page.name in RUN:
        assert blocks(page), "lists a page without commands"
        assert all(block.reason is None for block in blocks(page))
    elif page.name not in OTHERS_CHANGE:
        assert [block.commands for block in blocks(page) if block.reason is None] == []


@pytest.fixture(scope="module")
def documented(workdir: Path, upstream: Upstream) -> Iterator[dict[str, str]]:
    """Environment of commands on a server of their own: the pages rotate its keys."""
    with CrisperServer(workdir / "documented", insecure_registries=[upstream.host]) as server:
        env = {
            "PATH": f"{CRISPER.parent}:{os.environ['PATH']}",
            "CRISPER_DATA_DIR": str(server.data_dir),
            "URL": server.url,
            "KEY": server.operator_key,
        }

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
    typed = "\n".join(block.commands for block in blocks(page))
    typed = re.sub(r"(?<!\$)\b(TOKEN_ID|KEY_ID)\b", r"$\1", typed).replace("curl -s ", "curl -sf ")
    script = f"set -euxo pipefail\ncd {tmp_path}\n{typed}\n"
    run(["bash", "-c", script], env=documented, timeout_s=120).check()
