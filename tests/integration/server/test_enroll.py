"""`crisper node enroll` and `renew`, as a node's own programs."""

import json
import stat
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from auth.nodes.ca import NodeCA
from registry.cli.identity import NodeIdentity
from registry.cli.platforms import this_platform
from tests.support.certificates import CertificateFiles
from tests.support.certified import Certified
from tests.support.crisper import CRISPER, Node
from tests.support.processes import Result, run


@pytest.fixture
def site(certified: Certified) -> Certified:
    return certified


def enroll(site: Certified, root: Path, node_id: str, secret: str) -> Result:
    argv = [str(CRISPER), "node", "enroll", site.url, node_id, "--ca", str(site.tls.ca), "--root", str(root)]
    return run(argv, env={"CRISPER_ENROLMENT_SECRET": secret})


def renew(root: Path, *options: str) -> Result:
    return run([str(CRISPER), "node", "renew", "--root", str(root), *options])


def as_docker_reads(site: Certified, root: Path) -> CertificateFiles:
    folder = root / "etc/docker/certs.d" / site.server.host
    return CertificateFiles(folder / "client.cert", folder / "client.key", folder / "ca.crt")


def serial(files: CertificateFiles) -> int:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes()).serial_number


def test_a_machine_enrols_and_renews_when_it_is_due(site: Certified, tmp_path: Path) -> None:
    node_id, secret = site.server.operator.create_certified_node()
    assert node_id in enroll(site, tmp_path, node_id, secret).check().output
    shown = as_docker_reads(site, tmp_path)
    assert stat.S_IMODE(shown.key.stat().st_mode) == 0o600
    token = site.mint(Node(node_id, ""))
    bearer = site.exchange(token, shown).expect(200).json()["token"]
    hosts = (tmp_path / "etc/containerd/certs.d" / site.server.host / "hosts.toml").read_text()
    assert f'server = "{site.url}"' in hosts
    assert "node.key" in hosts

    first, key = serial(shown), shown.key.read_bytes()
    renew(tmp_path).check()
    assert serial(shown) == first  # not due yet
    authority = NodeCA.load(site.server.data_dir / "node-ca")
    half_gone = authority.issue(
        x509.load_pem_x509_certificate(shown.certificate.read_bytes()).public_key(),  # type: ignore[arg-type]
        node_id,
        datetime.now(UTC) - timedelta(hours=13),
    )
    resolved = shown.certificate.resolve()
    resolved.write_bytes(half_gone.public_bytes(serialization.Encoding.PEM))
    told = json.loads(renew(tmp_path, "--json").check().output)
    assert told["node_id"] == node_id
    assert serial(shown) not in {first, half_gone.serial_number}
    assert shown.key.read_bytes() == key
    site.manifest(bearer, shown).expect(200)
    assert secret not in "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("options", "platform"), [([], None), (["--platform", "linux/armhf"], "linux/arm/v7")]
)
def test_a_machine_reports_its_platform_when_it_enrolls(
    options: list[str], platform: str | None, site: Certified, tmp_path: Path
) -> None:
    node_id, secret = site.server.operator.create_certified_node()
    argv = [str(CRISPER), "node", "enroll", site.url, node_id, "--ca", str(site.tls.ca), *options]
    run([*argv, "--root", str(tmp_path)], env={"CRISPER_ENROLMENT_SECRET": secret}).check()
    expected = platform or str(this_platform())
    node = site.server.operator.call("GET", f"/nodes/{node_id}").expect(200).json()
    assert node["platform"] == expected
    (identity,) = NodeIdentity.enrolled(tmp_path)
    assert identity.platform == expected
    renew(tmp_path, "--force").check()


def test_a_machine_names_its_edge_before_the_registry(site: Certified, tmp_path: Path) -> None:
    node_id, secret = site.server.operator.create_certified_node()
    argv = [str(CRISPER), "node", "enroll", site.url, node_id, "--ca", str(site.tls.ca)]
    argv += ["--root", str(tmp_path)]
    env = {"CRISPER_ENROLMENT_SECRET": secret}
    for wrong in (site.url, "edge.example.net", "https://edge.example.net/path", "https://[2001:db8::1]"):
        refused = run([*argv, "--edge", wrong], env=env)
        assert (refused.returncode, "--edge" in refused.output) == (1, True)
    run([*argv, "--edge", "https://EDGE.example.net:443/"], env=env).check()
    (identity,) = NodeIdentity.enrolled(tmp_path)
    assert identity.edge == "https://edge.example.net"
    hosts = tomllib.loads((tmp_path / "etc/containerd/certs.d" / site.server.host / "hosts.toml").read_text())
    assert hosts["server"] == site.url
    assert hosts["header"] == {"Crisper-Edge": ["none"]}
    assert hosts["host"] == {"https://edge.example.net": {"capabilities": ["pull"]}}
    renew(tmp_path, "--force").check()


def test_a_machine_whose_answer_was_lost_enrols_again_with_its_key(site: Certified, tmp_path: Path) -> None:
    node_id, secret = site.server.operator.create_certified_node()
    enroll(site, tmp_path, node_id, secret).check()
    enroll(site, tmp_path, node_id, secret).check()
    other = enroll(site, tmp_path / "other", node_id, secret)
    assert (other.returncode, "401" in other.output) == (1, True)
    assert secret not in other.output


def test_a_machine_that_was_struck_off_is_told_so(site: Certified, tmp_path: Path) -> None:
    node_id, secret = site.server.operator.create_certified_node()
    enroll(site, tmp_path, node_id, secret).check()
    site.server.operator.call("DELETE", f"/nodes/{node_id}").expect(204)
    refused = renew(tmp_path, "--force")
    assert (refused.returncode, "401" in refused.output) == (1, True)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:5000",
        "https://",
        "https://../",
        "https://u@h",
        "junk",
        "https://registry",  # clients take it for a user of Docker Hub
        "https://a.example/crisper",
        "https://a.example?x",
    ],
)
def test_only_a_registry_over_tls_is_enrolled_at(tmp_path: Path, url: str) -> None:
    argv = [str(CRISPER), "node", "enroll", url, "n", "--root", str(tmp_path)]
    refused = run(argv, env={"CRISPER_ENROLMENT_SECRET": "s"})
    assert (refused.returncode, "https://HOST" in refused.output) == (1, True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Registry.Example.com:443/", "registry.example.com"),
        ("https://[2001:DB8::7]:443", "[2001:db8::7]"),
        ("https://[2001:db8::7]:5000", "[2001:db8::7]:5000"),
    ],
)
def test_a_machine_is_configured_under_the_host_that_references_have(
    tmp_path: Path, url: str, host: str
) -> None:
    identity = NodeIdentity.of(tmp_path, url, "camera-17")
    assert (identity.host, identity.url) == (host, f"https://{host}")
    identity.folder.mkdir(parents=True)
    (identity.folder / "node.json").write_text(json.dumps({"url": identity.url, "node_id": "camera-17"}))
    for asked in (host, url.partition("://")[2].rstrip("/")):
        assert NodeIdentity.at(tmp_path, asked) == identity
    assert NodeIdentity.at(tmp_path, "registry.example.com:5000") is None


def test_a_machine_enrolled_with_the_default_port_keeps_its_certificate(tmp_path: Path) -> None:
    folder = tmp_path / "etc/crisper/nodes/Registry.example.com:443"
    folder.mkdir(parents=True)
    kept = {"url": "https://Registry.example.com:443", "node_id": "camera-17"}
    (folder / "node.json").write_text(json.dumps(kept))
    found = NodeIdentity.at(tmp_path, "registry.example.com")
    assert found is not None
    assert (found.folder, found.url) == (folder, kept["url"])


def test_a_machine_that_is_not_enrolled_says_what_to_do(tmp_path: Path) -> None:
    refused = renew(tmp_path)
    assert (refused.returncode, "crisper node enroll" in refused.output) == (1, True)
