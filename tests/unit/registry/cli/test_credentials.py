"""The credential helpers as the programs that clients start."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.http_server import Handler, HttpServer

API = "credentialprovider.kubelet.k8s.io/v1"
HOST = "registry.test:5000"
IMAGE = f"{HOST}/acme/default/camera:v3"
CREDENTIAL = {"username": "node-1", "password": "a.b.c"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "credentials.json"


def start(config: Path, module: str, *argv: str, said: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"registry.cli.credentials.{module}", *argv],
        input=said,
        capture_output=True,
        text=True,
        env={"CRISPER_CREDENTIALS": str(config), "PATH": "/usr/bin:/bin"},
        timeout=30,
        check=False,
    )


def docker(config: Path, action: str, said: str = HOST) -> subprocess.CompletedProcess[str]:
    return start(config, "docker", action, said=said)


def kubelet(config: Path, image: str = IMAGE, **changes: str) -> subprocess.CompletedProcess[str]:
    request = {"apiVersion": API, "kind": "CredentialProviderRequest", "image": image, **changes}
    return start(config, "kubelet", said=json.dumps(request))


def configure(config: Path, source: Mapping[str, object]) -> None:
    config.write_text(json.dumps({HOST: source}))


def asks_back(tmp_path: Path) -> list[str]:
    """A command that answers with the question in its user name."""
    script = tmp_path / "source.py"
    script.write_text(
        "import json, sys; q = json.load(sys.stdin)\n"
        "print(json.dumps({'username': f\"{q['registry']} {q['image']}\", 'password': 'p'}))\n"
    )
    return [sys.executable, str(script)]


@pytest.mark.parametrize("server", [HOST, f"https://{HOST}", f"https://{HOST}/v2/", "Registry.Test:5000"])
def test_docker_gets_what_the_command_says(config: Path, tmp_path: Path, server: str) -> None:
    configure(config, {"command": asks_back(tmp_path)})
    answer = docker(config, "get", server)
    assert answer.returncode == 0
    assert json.loads(answer.stdout) == {"ServerURL": server, "Username": f"{HOST} None", "Secret": "p"}


NAMES = ("registry.example.com", "registry.example.com:443", "https://registry.example.com/v1/")
LITERALS = ("[2001:db8::7]", "[2001:DB8::7]:443", "https://[2001:db8::7]:443")


@pytest.mark.parametrize("forms", [NAMES, LITERALS], ids=["name", "IPv6"])
def test_the_default_port_and_a_scheme_make_no_difference_on_either_side(
    config: Path, tmp_path: Path, forms: tuple[str, ...]
) -> None:
    for configured in forms:
        source = {"command": asks_back(tmp_path)}
        config.write_text(json.dumps({"other.test": {"file": "/none"}, configured: source}))
        for asked in forms:
            answer = json.loads(docker(config, "get", asked).stdout)
            assert answer == {"ServerURL": asked, "Username": f"{forms[0]} None", "Secret": "p"}
        for host in forms[:2]:  # the kubelet looks the answer up under the image as it asked for it
            answer = json.loads(kubelet(config, f"{host}/acme/default/camera:v3").stdout)
            username = f"{forms[0]} {forms[0]}/acme/default/camera:v3"
            assert answer["auth"] == {f"{host}/acme/default/camera": {"username": username, "password": "p"}}
        for other in ("registry.example.com:5000", "[2001:db8::7]:5000", "http://registry.example.com:443"):
            assert docker(config, "get", other).returncode == 1


def test_a_registry_named_twice_uses_the_source_of_its_plain_name(config: Path, tmp_path: Path) -> None:
    plain, with_port = NAMES[:2]
    for names in ((plain, with_port), (with_port, plain)):
        sources = {plain: {"command": asks_back(tmp_path)}, with_port: {"command": ["false"]}}
        config.write_text(json.dumps({name: sources[name] for name in names}))
        for asked in (plain, with_port):
            assert docker(config, "get", asked).returncode == 0


def test_a_files_images_may_be_named_with_the_default_port(config: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    config.write_text(json.dumps({NAMES[0]: {"file": str(tokens)}}))
    for listed in NAMES[:2]:
        tokens.write_text(json.dumps([{"image": f"{listed}/acme/default/camera:v3", **CREDENTIAL}]))
        for asked in NAMES[:2]:
            (found,) = json.loads(kubelet(config, f"{asked}/acme/default/camera:v3").stdout)["auth"].values()
            assert found == CREDENTIAL
    assert json.loads(kubelet(config, f"{NAMES[0]}:5000/acme/default/camera:v3").stdout)["auth"] == {}


def test_the_kubelet_gets_an_uncached_credential_for_one_image(config: Path, tmp_path: Path) -> None:
    configure(config, {"command": asks_back(tmp_path)})
    assert json.loads(kubelet(config).stdout) == {
        "apiVersion": API,
        "kind": "CredentialProviderResponse",
        "cacheKeyType": "Image",
        "cacheDuration": "0s",
        "auth": {
            f"{HOST}/acme/default/camera": {"username": f"{HOST} {IMAGE}", "password": "p"},
        },
    }


def test_a_file_is_read_anew_each_time_and_tells_images_apart(config: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    configure(config, {"file": str(tokens)})
    tokens.write_text(json.dumps(CREDENTIAL))
    assert json.loads(docker(config, "get").stdout)["Secret"] == "a.b.c"
    other = {"image": f"{HOST}/acme/default/other:v1", "username": "node-1", "password": "other"}
    tokens.write_text(json.dumps([{"image": IMAGE, **CREDENTIAL}, other]))
    assert json.loads(docker(config, "get").stdout)["Secret"] == "other"
    by_digest = f"{HOST}/acme/default/camera@sha256:{'0' * 64}"
    for image in (IMAGE, by_digest):
        (found,) = json.loads(kubelet(config, image).stdout)["auth"].values()
        assert found == CREDENTIAL
    assert json.loads(kubelet(config, f"{HOST}/acme/default/third:v1").stdout)["auth"] == {}


@pytest.fixture
def source() -> Iterator[HttpServer]:
    class Answering(Handler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(200, json.dumps({**CREDENTIAL, "username": asked["image"] or "any"}).encode())

    with HttpServer(Answering) as server:
        yield server


def test_a_url_on_this_machine_is_asked(config: Path, source: HttpServer) -> None:
    configure(config, {"url": f"http://127.0.0.1:{source.port}/token"})
    assert json.loads(docker(config, "get").stdout)["Username"] == "any"
    (found,) = json.loads(kubelet(config).stdout)["auth"].values()
    assert found["username"] == IMAGE


def test_docker_is_told_none_in_the_words_that_it_knows(config: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text("{}")
    configure(config, {"file": str(tokens)})
    for host in (HOST, "elsewhere.test"):
        answer = docker(config, "get", host)
        assert (answer.returncode, answer.stdout) == (1, "credentials not found in native keychain\n")


def test_nothing_is_kept(config: Path) -> None:
    configure(config, {"command": ["false"]})
    assert json.loads(docker(config, "list").stdout) == {}
    assert docker(config, "erase").returncode == 0
    stored = docker(config, "store", json.dumps({"ServerURL": HOST, "Username": "u", "Secret": "hunter2"}))
    assert stored.returncode == 1
    assert "hunter2" not in stored.stdout + stored.stderr
    assert docker(config, "other").returncode == 1


@pytest.mark.parametrize(
    "broken",
    [
        {"command": ["false"]},
        {"command": ["/no/such/program"]},
        {"command": ["echo", "hunter2"]},
        {"command": ["echo", '{"password": "hunter2"}']},
        {"file": "/no/such/file"},
        {"url": "http://registry.test/token"},
        {"url": "file:///etc/passwd"},
        {"url": "http://127.0.0.1:9/"},
        {"elsewhere": 1},
    ],
    ids=lambda source: json.dumps(source)[:40],
)
def test_a_source_that_fails_is_an_error_without_a_secret(config: Path, broken: dict[str, object]) -> None:
    configure(config, broken)
    for answer in (docker(config, "get"), kubelet(config)):
        assert answer.returncode == 1
        said = answer.stdout + answer.stderr
        assert said
        assert "Traceback" not in said
        assert "hunter2" not in said


def test_a_kubelet_of_another_version_is_told_so(config: Path) -> None:
    configure(config, {"command": ["false"]})
    old = kubelet(config, apiVersion="credentialprovider.kubelet.k8s.io/v1alpha1")
    assert old.returncode == 1
    assert API in old.stderr
