"""A release is reproducible, complete and signed, and its files agree on the version."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.built_programs import go_program
from tests.support.processes import Result, run
from tools.sbom import ROOT
from tools.versions import VersionError, agreed

VERSIONED = ("pyproject.toml", "uv.lock", "CHANGELOG.md", "deploy/helm/crisper/Chart.yaml")


def test_two_builds_in_different_folders_are_identical(tmp_path: Path) -> None:
    first, second = _build(tmp_path / "a", 0o755), _build(tmp_path / "b", 0o700)
    assert [Path(name).suffix for name in sorted(first)] == [".whl", ".gz"]
    assert first == second


def test_all_files_have_the_same_version() -> None:
    assert agreed(ROOT)


@pytest.mark.parametrize("name", VERSIONED)
def test_a_file_with_another_version_is_named(tmp_path: Path, name: str) -> None:
    _copy_versioned(tmp_path)
    changed = (tmp_path / name).read_text().replace(agreed(ROOT), "9.9.9")
    (tmp_path / name).write_text(changed)
    with pytest.raises(VersionError, match=name.rpartition("/")[2]):
        agreed(tmp_path)


def test_a_release_needs_a_date(tmp_path: Path) -> None:
    _copy_versioned(tmp_path)
    _set_date(tmp_path, "unreleased")
    assert agreed(tmp_path) == agreed(ROOT)
    with pytest.raises(VersionError, match="no date"):
        agreed(tmp_path, dated=True)
    _set_date(tmp_path, "2026-12-01")
    assert agreed(tmp_path, dated=True) == agreed(ROOT)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_make_release_signs_all_files_but_only_with_a_date(tmp_path: Path) -> None:
    folder, key, public = tmp_path / "clone", tmp_path / "release.key", tmp_path / "release.pub"
    run(["git", "clone", "--quiet", str(ROOT), str(folder)]).check()
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key)]).check()
    run(["openssl", "ec", "-in", str(key), "-pubout", "-out", str(public)]).check()
    _set_date(folder, "unreleased")
    refused = _release(folder, key)
    assert not refused.ok
    assert "no date" in refused.output
    assert not (folder / "dist").exists()

    _set_date(folder, "2026-12-01")
    _release(folder, key).check()
    dist, version = folder / "dist", agreed(folder)
    checked = run(["sh", "-c", f"cd {dist} && sha256sum --check SHA256SUMS"]).check().output
    wanted = {f"crisper_registry-{version}.tar.gz", f"crisper-{version}.tgz", "crisper.cdx.json"}
    assert wanted <= {line.partition(":")[0] for line in checked.splitlines()}
    assert f"crisper_registry-{version}-py3-none-any.whl: OK" in checked
    shown = run([str(go_program("helm")), "show", "chart", str(dist / f"crisper-{version}.tgz")]).check()
    assert f"version: {version}" in shown.output

    assert _verifies(dist, public)
    (dist / "SHA256SUMS").write_text(checked)
    assert not _verifies(dist, public)


def _release(folder: Path, key: Path) -> Result:
    """Run `make release` where no Docker answers; the image has a test of its own."""
    command = ["make", "-C", str(folder), "release", f"SIGNING_KEY={key}"]
    return run(command, env={**os.environ, "DOCKER_HOST": f"unix://{folder}/none.sock"}, timeout_s=500)


def _verifies(dist: Path, public: Path) -> bool:
    """Return whether cosign accepts the signature."""
    options = ["--key", str(public), "--signature", str(dist / "SHA256SUMS.sig"), "--insecure-ignore-tlog"]
    return run([str(go_program("cosign2")), "verify-blob", *options, str(dist / "SHA256SUMS")]).ok


def _copy_versioned(folder: Path) -> None:
    for name in VERSIONED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)


def _set_date(folder: Path, date: str) -> None:
    """Write the date of the newest version in CHANGELOG.md."""
    path = folder / "CHANGELOG.md"
    newest = re.compile(r"^(## \S+) \([^)]+\)", re.MULTILINE)
    path.write_text(newest.sub(rf"\1 ({date})", path.read_text(), count=1))


def _build(folder: Path, mode: int) -> dict[str, str]:
    """Copy the source with other permissions and times, build it, and hash the results by name."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in listed.stdout.split("\0")[:-1]:
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True, mode=mode)
        shutil.copyfile(ROOT / name, copy)
        copy.chmod(mode & 0o666)
    uv, constraints = ROOT / ".venv/bootstrap/bin/uv", ROOT / "tools/build-constraints.txt"
    subprocess.run(
        [uv, "build", "--quiet", "--no-build-logs", "--require-hashes", "--build-constraints", constraints],
        cwd=folder,
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
    )
    built = [each for each in (folder / "dist").iterdir() if each.name != ".gitignore"]
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in built}
