"""A release build is reproducible."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tools.sbom import ROOT


def test_two_builds_in_different_folders_are_identical(tmp_path: Path) -> None:
    first, second = _build(tmp_path / "a", 0o755), _build(tmp_path / "b", 0o700)
    assert [Path(name).suffix for name in sorted(first)] == [".whl", ".gz"]
    assert first == second


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
