"""Archives of a minimal Debian, from which tests make container images."""

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.support.built_programs import CACHE, once
from tests.support.processes import run

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_BUILD_TIMEOUT_S = 900


def debian(name: str, suite: str, packages: str, prepare: Callable[[Path], object] | None = None) -> Path:
    """Return an archive of a root file system. The first call on a machine makes it.

    Args:
        packages: Beside the minimum, separated by commas.
        prepare: Called with the root before it is packed.
    """
    archive = CACHE / f"{name}.tar"
    return once(archive, lambda: _make(archive, suite, packages, prepare))


def _make(archive: Path, suite: str, packages: str, prepare: Callable[[Path], object] | None) -> None:
    root, staged = archive.with_suffix(".root"), archive.with_suffix(".new")
    shutil.rmtree(root, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", suite, str(root)]
    run(command, timeout_s=_BUILD_TIMEOUT_S).check()
    certificates = root / CERTIFICATES.relative_to("/")
    certificates.unlink(missing_ok=True)  # this machine's mirrors may have a CA of their own
    shutil.copyfile(CERTIFICATES, certificates)
    for settings in Path("/etc/apt/apt.conf.d").iterdir():
        if "docker" not in settings.name:
            shutil.copy(settings, root / "etc" / "apt" / "apt.conf.d")
    if prepare is not None:
        prepare(root)
    run(["tar", "--create", f"--file={staged}", f"--directory={root}", "."], timeout_s=300).check()
    staged.rename(archive)
    shutil.rmtree(root)
