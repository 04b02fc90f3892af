"""What `crane` or `skopeo` pull from a registry with quirks, the importer imports too, except by policy.

What the importer does with each row is checked in tests/integration/upstream/test_quirks.py, by the same
table and the same registry.
"""

import asyncio
import json
import os
import shutil
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.built_programs import go_program
from tests.support.quirks import KINDS
from tests.support.quirks.row import Quirk
from tests.support.quirky_upstream import PASSWORD, USERNAME, quirky_upstream

AT_ONCE = 6
TIMEOUT_S = 60


def crane(reference: str, folder: Path, *, login: bool) -> list[str]:
    if login:
        auth = b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        host = reference.partition("/")[0]
        (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    options = ["--insecure", "--format=oci", "--platform=linux/amd64"]
    return [str(go_program("crane")), "pull", *options, reference, str(folder / "crane")]


def skopeo(reference: str, folder: Path, *, login: bool) -> list[str]:
    options = ["--src-tls-verify=false", *(["--src-creds", f"{USERNAME}:{PASSWORD}"] if login else [])]
    platform = ["--override-os=linux", "--override-arch=amd64"]
    copy = ["copy", *options, f"docker://{reference}", f"dir:{folder / 'skopeo'}"]
    return ["skopeo", "--insecure-policy", *platform, *copy]


async def pulls(argv: Sequence[str], home: Path) -> bool:
    """Run a client, and return whether it pulled the image."""
    env = {**os.environ, "HOME": str(home), "DOCKER_CONFIG": str(home), "XDG_RUNTIME_DIR": str(home)}
    process = await asyncio.create_subprocess_exec(*argv, env=env, stdin=-3, stdout=-3, stderr=-3)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await process.wait() == 0
    except TimeoutError:
        process.kill()
        await process.wait()
        return False


async def takers(quirk: Quirk, folder: Path) -> set[str]:
    """Return the clients that pull from a registry with a quirk, each from one of its own."""
    found = set()
    for client in (crane, skopeo):
        home = folder / client.__name__
        home.mkdir(parents=True)
        async with quirky_upstream(home / "certificates" if quirk.tls else None) as upstream:
            quirk.arrange(upstream)
            argv = client(f"{upstream.host}/app:1", home, login=quirk.login)
            if await pulls(argv, home):
                found.add(client.__name__)
        shutil.rmtree(home)
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_what_others_pull_is_imported(kind: str, tmp_path: Path) -> None:
    slots = asyncio.Semaphore(AT_ONCE)

    async def taken(number: int, quirk: Quirk) -> set[str]:
        async with slots:
            return await takers(quirk, tmp_path / str(number))

    found = await asyncio.gather(*(taken(number, quirk) for number, quirk in enumerate(KINDS[kind])))
    rows = list(zip(KINDS[kind], found, strict=True))
    assert {quirk.name: sorted(by) for quirk, by in rows if quirk.fails and by and not quirk.policy} == {}
    # A policy refuses what others take: a row without takers needs none.
    assert [quirk.name for quirk, by in rows if quirk.policy and not by] == []
