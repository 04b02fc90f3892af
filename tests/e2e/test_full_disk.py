"""A server whose blob folder is a small disk of its own."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.crisper import CrisperServer
from tests.support.processes import run, wait_until
from tests.support.upstream import Upstream

pytestmark = pytest.mark.e2e


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]).check()
    yield folder
    run(["umount", "--lazy", str(folder)]).check()


def test_a_full_or_read_only_disk_fails_imports_and_loses_nothing(disk: Path, tmp_path: Path) -> None:
    env = {"CRISPER_STORAGE_URL": f"file://{disk}"}
    with Upstream(tmp_path / "upstream") as upstream:
        for image in (images.random_layers(), images.multi_platform()):
            upstream.push(image)
        reference = upstream.reference(images.random_layers())
        another = upstream.reference(images.multi_platform())
        known = upstream.login
        with CrisperServer(tmp_path / "crisper", insecure_registries=[upstream.host], env=env) as server:
            customer = server.customer(server.operator.create_organization())

            def outcome() -> str:
                group = customer.create_group(reference, **known)
                return json.dumps(customer.wait_settled(group)["current_state"])

            assert "failed to store" in outcome()
            assert list((disk / "incoming").iterdir()) == []
            run(["mount", "-o", "remount,size=512m", str(disk)]).check()
            customer.import_image(reference, **known)
            kept = sorted(path.name for path in (disk / "objects").rglob("*") if path.is_file())
            assert kept
            other = server.customer(server.operator.create_organization())
            run(["mount", "-o", "remount,ro", str(disk)]).check()
            wait_until(lambda: not server.ready(), timeout_s=10, what="the server is not ready")
            group = other.create_group(another, **known)
            assert "failed to store" in json.dumps(other.wait_settled(group)["current_state"])
            run(["mount", "-o", "remount,rw", str(disk)]).check()
            wait_until(server.ready, timeout_s=10, what="the server is ready again")
            other.import_image(another, **known)
            assert set(kept) < {path.name for path in (disk / "objects").rglob("*") if path.is_file()}
