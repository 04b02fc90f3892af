"""Configuration of a node's container runtime for encrypted layers."""

import re
import sys
import tomllib
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization

from registry.cli.encryption_keys import RUNTIME_FOLDERS
from registry.datadir import write_atomically
from registry.decoder.containerd import stream_processors_toml
from registry.model.nodes import Runtime

_CONFIG: Final = Path("etc/containerd/config.toml")
_DROP_IN: Final = Path("etc/containerd/conf.d/crisper.toml")
_IMPORTS: Final = 'imports = ["/etc/containerd/conf.d/*.toml"]'
_CONTENT: Final = "io.containerd.content.v1.content"
_DECODER: Final = "crisper-layer-decoder"
_INSTALLED: Final = Path("/usr/local/bin") / _DECODER
_MAX_KEY_BYTES: Final = 64 << 10
_PKCS8: Final = re.compile(rb"\s*-----BEGIN (ENCRYPTED )?PRIVATE KEY-----")


def configure_runtime(root: Path, runtime: Runtime, links: Sequence[Path]) -> list[str]:
    """Configure a runtime to decrypt layers with the installed keys.

    Args:
        root: `/`, or the root of a file system image.
        runtime: The runtime.
        links: Paths of the keys for `--decryption-key`, below the root.

    Returns:
        What is left to the machine's operator, a sentence each.
    """
    notes = [
        f"Remove {path} from the folder, or convert it to PKCS8: with it, {runtime} fails every pull of an "
        "encrypted image."
        for path in _foreign_files(root, runtime)
    ]
    if runtime is Runtime.CONTAINERD:
        notes += _configure_containerd(root)
    elif runtime is Runtime.DOCKER:
        notes.append(
            "Docker cannot decrypt layers: its pull tokens are for unencrypted images. To pull encrypted "
            "images, enroll with `--runtime proxy` and run `crisper node proxy`."
        )
    elif runtime is Runtime.PROXY:
        notes.append("Start the proxy: `systemctl enable --now crisper-node-proxy` (docs/how-to/docker.md).")
    elif runtime in {Runtime.PODMAN, Runtime.SKOPEO}:
        options = " ".join(f"--decryption-key /{link}" for link in links)
        pull = "podman pull (4.4 or later) or skopeo copy" if runtime is Runtime.PODMAN else "skopeo copy"
        notes.append(f"Pull with these options of {pull}: {options}")
    return notes


def _configure_containerd(root: Path) -> list[str]:
    """Write a file for containerd's `imports`. An existing main configuration is never changed."""
    config, notes = _read_config(root / _CONFIG), []
    decoder = _decoder(root)
    if decoder is None:
        notes.append(f"Install {_DECODER} as {_INSTALLED}: containerd runs it to decrypt layers.")
    store = (
        Path(str(config.get("root", "/var/lib/containerd") if config else "/var/lib/containerd")) / _CONTENT
    )
    keys = f"/{RUNTIME_FOLDERS[Runtime.CONTAINERD]}"
    drop_in = stream_processors_toml(str(decoder or _INSTALLED), str(store), keys)
    changed = _write(root / _DROP_IN, drop_in)
    if not (root / _CONFIG).exists():
        changed |= _write(root / _CONFIG, f"version = 2\n{_IMPORTS}\n")
    elif config is None or not _imports(config):
        notes.append(
            f"Add this line at the top of /{_CONFIG}, or its folder to the list `imports` that is there: "
            f"{_IMPORTS}"
        )
    if changed:
        notes.append("Restart containerd, which reads its configuration only at the start.")
    return notes


def _read_config(path: Path) -> dict[str, Any] | None:
    """Return containerd's configuration; empty if there is none, None if it is invalid."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        return None


def _imports(config: dict[str, Any]) -> bool:
    """Return whether containerd reads the drop-in. Patterns are relative to its working directory."""
    listed = config.get("imports")
    paths = [path for path in listed if isinstance(path, str)] if isinstance(listed, list) else []
    return any(
        fnmatch(f"/{_DROP_IN}", path if "*" in path else str(Path("/", _CONFIG.parent, path)))
        for path in paths
    )


def _decoder(root: Path) -> Path | None:
    """Return the path of the decoder as the configured system sees it."""
    candidates = [Path(sys.executable).with_name(_DECODER), _INSTALLED, Path("/usr/bin") / _DECODER]
    return next((path for path in candidates if (root / path.relative_to("/")).is_file()), None)


def _foreign_files(root: Path, runtime: Runtime) -> list[Path]:
    """Return the files in the runtime's key folder that are not private keys in PKCS8."""
    folder = RUNTIME_FOLDERS.get(runtime)
    if folder is None:
        return []
    files = sorted(path for path in (root / folder).rglob("*") if not path.is_dir())
    return [path for path in files if path.is_symlink() or not path.is_file() or not _is_pkcs8(path)]


def _is_pkcs8(path: Path) -> bool:
    with path.open("rb") as file:
        content = file.read(_MAX_KEY_BYTES)
    if _PKCS8.match(content):
        return True
    try:
        serialization.load_der_private_key(content, None)
    except (ValueError, TypeError):
        return False
    return True


def _write(path: Path, text: str) -> bool:
    """Write a world-readable file if it differs. Returns whether it did."""
    if path.is_file() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.parent.with_name(f".{path.parent.name}-{path.name}.new")
    write_atomically(path, text.encode(), mode=0o644, staged=staged)
    return True
