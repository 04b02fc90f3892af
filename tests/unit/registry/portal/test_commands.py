import shlex

import pytest

from auth.ports import Binding
from registry.portal.commands import Pull

PULL = Pull(
    origin="https://registry.example.com",
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
    certified = Pull(PULL.origin, PULL.reference, PULL.node_id, PULL.token, Binding.CERTIFICATE)
    assert all("CRISPER_NODE_SECRET" not in command.text for command in certified.commands())


def test_each_client_is_told_where_the_registry_is_spoken_to_in_the_clear() -> None:
    plain = Pull("http://127.0.0.1:5000", PULL.reference, PULL.node_id, PULL.token, PULL.binding)
    texts = {command.client: command.text for command in plain.commands()}
    assert texts["podman"].count("--tls-verify=false") == 2
    assert texts["nerdctl"].count("--insecure-registry") == 2
    assert "--plain-http" in texts["ctr"]
