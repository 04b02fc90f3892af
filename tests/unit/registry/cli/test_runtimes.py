"""Configuration of container runtimes by `crisper node enroll --runtime`, read by the real containerd."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from registry.cli.runtimes import configure_runtime
from registry.model.nodes import Runtime
from tests.support.processes import run

LINKS = (Path("etc/crisper/decryption/r.example.com.pem"), Path("etc/crisper/decryption/old.pem"))
RESTART = "Restart containerd, which reads its configuration only at the start."
DROP_IN = Path("etc/containerd/conf.d/crisper.toml")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    decoder = tmp_path / "usr/local/bin/crisper-layer-decoder"
    decoder.parent.mkdir(parents=True)
    decoder.touch()
    return tmp_path


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_containerd_without_a_configuration_gets_one(root: Path) -> None:
    assert configure_runtime(root, Runtime.CONTAINERD, LINKS) == [RESTART]
    config = (root / "etc/containerd/config.toml").read_text()
    assert config == 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n'
    drop_in = (root / DROP_IN).read_text()
    assert '"/usr/local/bin/crisper-layer-decoder"' in drop_in
    assert '"/var/lib/containerd/io.containerd.content.v1.content"' in drop_in
    assert '"/etc/containerd/ocicrypt/keys"' in drop_in
    assert (root / DROP_IN).stat().st_mode & 0o777 == 0o644
    assert configure_runtime(root, Runtime.CONTAINERD, LINKS) == []
    assert sorted(path.name for path in (root / "etc/containerd").rglob("*") if path.is_file()) == [
        "config.toml",
        "crisper.toml",
    ]


@pytest.mark.parametrize(
    ("config", "is_imported"),
    [
        ('version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n', True),
        ('version = 3\nimports = ["/other/*", "conf.d/crisper.toml"]\n', True),
        ('version = 2\nimports = ["conf.d/*.toml"]\n', False),
        ('imports = ["/etc/containerd/conf.d/crisper.toml"]\n', True),
        ('version = 2\nimports = ["/etc/containerd/other.d/*.toml"]\n', False),
        ("version = 2\n", False),
        ('version = 2\nimports = "*"\n', False),
        ("version = 2\nimports = 7\n", False),
        ("version = [\n", False),
        ("", False),
    ],
)
def test_an_existing_configuration_of_containerd_is_never_changed(
    root: Path,
    config: str,
    is_imported: bool,  # noqa: FBT001
) -> None:
    path = write(root / "etc/containerd/config.toml", config)
    notes = configure_runtime(root, Runtime.CONTAINERD, LINKS)
    assert notes[-1] == RESTART
    assert (len(notes) == 1) is is_imported
    assert is_imported or 'imports = ["/etc/containerd/conf.d/*.toml"]' in notes[0]
    assert path.read_text() == config


def test_containerd_reads_the_file(root: Path) -> None:
    config = write(
        root / "etc/containerd/config.toml",
        'version = 2\nroot = "/data/ctd"\nimports = ["conf.d/crisper.toml"]\n',
    )
    configure_runtime(root, Runtime.CONTAINERD, LINKS)
    dumped = run(["containerd", "--config", str(config), "config", "dump"]).check().output
    processor = dumped.partition('"io.containerd.ocicrypt.decoder.v1.tar.gzip"')[2]
    assert 'path = "/usr/local/bin/crisper-layer-decoder"' in processor
    assert (
        'args = ["/data/ctd/io.containerd.content.v1.content", "/etc/containerd/ocicrypt/keys"]' in processor
    )


def test_a_missing_decoder_is_reported(tmp_path: Path) -> None:
    (note, _) = configure_runtime(tmp_path, Runtime.CONTAINERD, LINKS)
    assert "/usr/local/bin/crisper-layer-decoder" in note


def pem(form: serialization.PrivateFormat, password: bytes = b"") -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(serialization.Encoding.PEM, form, encryption)


@pytest.mark.parametrize(
    ("runtime", "folder"),
    [(Runtime.CONTAINERD, "etc/containerd/ocicrypt/keys"), (Runtime.CRI_O, "etc/crio/keys")],
)
def test_files_that_break_all_pulls_are_reported(root: Path, runtime: Runtime, folder: str) -> None:
    keys = root / folder
    write(keys / "good.pem", pem(serialization.PrivateFormat.PKCS8))
    write(keys / "with-password.pem", pem(serialization.PrivateFormat.PKCS8, b"secret"))
    bad = [
        write(keys / "a-sec1.pem", pem(serialization.PrivateFormat.TraditionalOpenSSL)),
        write(keys / "b.json", "{}"),
        write(keys / "c-empty", ""),
        write(keys / "sub/d.txt", b"\xff" * 100_000),
    ]
    link = keys / "e-link.pem"
    link.symlink_to("good.pem")
    os.mkfifo(keys / "f-fifo")
    notes = configure_runtime(root, runtime, LINKS)
    for path in [*bad, link, keys / "f-fifo"]:
        assert any(f"Remove {path} " in note for note in notes), path
    assert not any("good.pem" in note or "with-password" in note for note in notes if "e-link" not in note)


@pytest.mark.parametrize("runtime", [Runtime.PODMAN, Runtime.SKOPEO])
def test_podman_and_skopeo_get_their_options(root: Path, runtime: Runtime) -> None:
    (note,) = configure_runtime(root, runtime, LINKS)
    for link in LINKS:
        assert f"--decryption-key /{link}" in note


def test_docker_cannot_decrypt(root: Path) -> None:
    (note,) = configure_runtime(root, Runtime.DOCKER, LINKS)
    assert "Docker cannot decrypt" in note
