import shlex
from dataclasses import replace

import pytest

from auth.ports import Binding
from registry.portal.commands import Pull

PULL = Pull(
    reference="registry.example.com/acme/dev/camera:v3",
    node_id="node-7",
    token="eyJ.abc-_.x",
    binding=Binding.SECRET,
)


def words_of(text: str) -> list[str]:
    return shlex.split(text.replace("\\\n", " "), posix=True)


@pytest.mark.parametrize("client", ["docker", "podman", "nerdctl"])
def test_clients_that_can_are_given_the_password_on_standard_input(client: str) -> None:
    text = next(command.text for command in PULL.commands() if command.client == client)
    given, piped = text.split(" |\n")
    assert words_of(given) == ["printf", "%s", "eyJ.abc-_.x~$CRISPER_NODE_SECRET"]
    assert words_of(piped) == [
        *(client, "login", "--username", "node-7", "--password-stdin", "registry.example.com", "&&"),
        *(client, "pull", "registry.example.com/acme/dev/camera:v3"),
    ]


def test_ctr_is_given_the_password_as_the_argument_that_it_takes() -> None:
    text = next(command.text for command in PULL.commands() if command.client == "ctr")
    user = "node-7:eyJ.abc-_.x~$CRISPER_NODE_SECRET"
    assert words_of(text) == ["ctr", "images", "pull", "--user", user, PULL.reference]


def test_a_node_bound_by_certificate_gives_the_token_alone() -> None:
    certified = replace(PULL, binding=Binding.CERTIFICATE)
    assert all("CRISPER_NODE_SECRET" not in command.text for command in certified.commands())


def test_each_client_is_told_where_the_registry_is_spoken_to_in_the_clear() -> None:
    plain = replace(PULL, reference="127.0.0.1:5000/acme/dev/camera:v3", plain_http=True)
    texts = {command.client: command.text for command in plain.commands()}
    assert texts["podman"].count("--tls-verify=false") == 2
    assert texts["nerdctl"].count("--insecure-registry") == 2
    assert "--plain-http" in texts["ctr"]


@pytest.mark.parametrize(
    "host", ["registry.example.com", "[2001:db8::7]", "[2001:db8::7]:5000", "10.1.2.3:8443"]
)
def test_clients_log_in_to_the_very_host_that_the_reference_begins_with(host: str) -> None:
    pull = replace(PULL, reference=f"{host}/acme/dev/camera:v3")
    for command in pull.commands():
        words = words_of(command.text)
        assert words[-1] == pull.reference
        if command.client != "ctr":
            assert words[words.index("--password-stdin") + 1] == host
