import re
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from registry.config import Settings
from registry.errors import ReferenceFormatError
from registry.hosts import RegistryAddress, asked_host, reference_host
from registry.oci.reference import Reference

ADDRESSES = [
    ("https://registry.example.com", "https://registry.example.com", "registry.example.com"),
    ("https://registry.example.com/", "https://registry.example.com", "registry.example.com"),
    ("https://registry.example.com:443", "https://registry.example.com", "registry.example.com"),
    ("https://registry.example.com:0443/", "https://registry.example.com", "registry.example.com"),
    ("https://registry.example.com:80", "https://registry.example.com:80", "registry.example.com:80"),
    ("https://registry.example.com:5000", "https://registry.example.com:5000", "registry.example.com:5000"),
    ("http://registry.example.com", "http://registry.example.com", "registry.example.com"),
    ("http://registry.example.com:80/", "http://registry.example.com", "registry.example.com"),
    ("http://registry.example.com:443", "http://registry.example.com:443", "registry.example.com:443"),
    ("HTTPS://Registry.EXAMPLE.com:443", "https://registry.example.com", "registry.example.com"),
    ("https://registry.example.com.", "https://registry.example.com", "registry.example.com"),
    ("https://registry.example.com.:443/", "https://registry.example.com", "registry.example.com"),
    ("https://registry.example.com.:5000", "https://registry.example.com:5000", "registry.example.com:5000"),
    ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example", "xn--bcher-kva.example"),
    ("https://192.0.2.7:443", "https://192.0.2.7", "192.0.2.7"),
    ("https://[2001:db8::7]", "https://[2001:db8::7]", "[2001:db8::7]"),
    ("https://[2001:db8::7]:443", "https://[2001:db8::7]", "[2001:db8::7]"),
    ("https://[2001:DB8:0:0::7]:5000/", "https://[2001:db8::7]:5000", "[2001:db8::7]:5000"),
    ("http://[::1]:80", "http://[::1]", "[::1]"),
    ("https://localhost", "https://localhost", "localhost"),
    ("https://registry:5000", "https://registry:5000", "registry:5000"),
]

REFUSED = [
    ("", "scheme"),
    ("registry.example.com", "scheme"),
    ("registry.example.com:443", "scheme"),
    ("//registry.example.com", "scheme"),
    ("https:registry.example.com", "scheme"),
    ("ftp://registry.example.com", "scheme"),
    ("unix:///run/crisper.sock", "scheme"),
    ("https://", "name the host"),
    ("https:///", "name the host"),
    ("https://:443", "host name or an address"),
    ("https://user@registry.example.com", "user name"),
    ("https://user:hunter2@registry.example.com", "user name"),
    ("https://@registry.example.com", "user name"),
    ("https://registry.example.com/crisper", "path"),
    ("https://registry.example.com//", "path"),
    ("https://registry.example.com/v2/", "path"),
    ("https://registry.example.com?", "query"),
    ("https://registry.example.com/?token=hunter2", "query"),
    ("https://registry.example.com#top", "fragment"),
    ("https://registry.example.com/#", "fragment"),
    ("https://registry.example.com:", "port"),
    ("https://registry.example.com:0", "port"),
    ("https://registry.example.com:65536", "port"),
    ("https://registry.example.com:999999", "port"),
    ("https://registry.example.com:https", "port"),
    ("https://registry.example.com:443:443", "port"),
    ("https://registry.example.com:-1", "port"),
    ("https://registry..example.com", "host name"),
    ("https://registry.example.com..", "host name"),
    ("https://.example.com", "host name"),
    ("https://registry_1.example.com", "host name"),
    ("https://*.example.com", "host name"),
    ("https://registry.example.com\\evil.example", "host name"),
    ("https://bücher.example", "xn--"),
    ("https://2001:db8::7", "in brackets"),
    ("https://[2001:db8::7", "in brackets"),
    ("https://[registry.example.com]", "in brackets"),
    ("https://[::1.:2]", "in brackets"),
    ("https://[1:2]", "IPv6"),
    ("https://[fe80::1%25eth0]", "in brackets"),
    (" https://registry.example.com", "spaces"),
    ("https://registry.example.com\n", "control"),
    ("https://reg\tistry.example.com", "control"),
]


@pytest.mark.parametrize(("text", "url", "host"), ADDRESSES)
def test_an_address_is_written_in_one_form(text: str, url: str, host: str) -> None:
    address = RegistryAddress.parse(text).require_referable()
    assert (address.url, address.host) == (url, host)
    assert Settings(public_url=text).public_url == url
    assert Reference.parse(f"{host}/acme/default/camera:v3").registry == host


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_is_no_address_is_refused_with_what_to_change(text: str, said: str) -> None:
    with pytest.raises(ReferenceFormatError, match=re.escape(said)) as refused:
        RegistryAddress.parse(text)
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ValidationError, match="CRISPER_PUBLIC_URL takes"):
        Settings(public_url=text)


@pytest.mark.parametrize(
    "url", ["https://registry", "https://registry:443", "http://registry.", "http://a:80"]
)
def test_a_public_url_that_clients_take_for_docker_hub_is_refused(url: str) -> None:
    assert "." not in RegistryAddress.parse(url).host
    with pytest.raises(ValidationError, match="Docker Hub"):
        Settings(public_url=url)


@pytest.mark.parametrize(
    "server",
    [
        "registry.example.com",
        "registry.example.com:443",  # nerdctl
        "REGISTRY.example.com",
        "registry.example.com.",
        "registry.example.com/",
        "registry.example.com/v1/",
        "https://registry.example.com",
        "https://registry.example.com:443",
        "https://registry.example.com/v1/",  # Docker's older configurations
        "https://registry.example.com:443/v2/acme/camera",
        "http://registry.example.com:80",
    ],
)
def test_clients_ask_for_one_host_in_many_forms(server: str) -> None:
    assert asked_host(server) == "registry.example.com"


@pytest.mark.parametrize(
    ("server", "host"),
    [
        ("registry.example.com:80", "registry.example.com:80"),
        ("http://registry.example.com:443", "registry.example.com:443"),
        ("https://registry.example.com:5000/v1/", "registry.example.com:5000"),
        ("[2001:DB8::7]:443", "[2001:db8::7]"),
        ("https://[2001:db8::7]:5000/v2/", "[2001:db8::7]:5000"),
        ("https://index.docker.io/v1/", "index.docker.io"),
    ],
)
def test_another_port_is_another_registry(server: str, host: str) -> None:
    assert asked_host(server) == host


@pytest.mark.parametrize("server", ["", "https://", "ssh://registry.example.com", "user@a.example", "a b"])
def test_a_client_that_asks_for_no_host_is_refused(server: str) -> None:
    with pytest.raises(ReferenceFormatError):
        asked_host(server)


LABEL = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,20}[A-Za-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=2, max_size=4).map(".".join)
LITERAL = st.ip_addresses(v=6).map(lambda address: f"[{IPv6Address(address).exploded}]")


@given(NAME | LITERAL, st.none() | st.integers(1, 65535), st.sampled_from(["http", "https"]))
def test_the_form_is_a_fixed_point_and_keeps_the_port(name: str, port: int | None, scheme: str) -> None:
    host = reference_host(name if port is None else f"{name}:{port}", scheme)
    assert reference_host(host, scheme) == host == host.lower()
    address = RegistryAddress.parse(f"{scheme}://{host}")
    assert (address.scheme, address.host) == (scheme, host)
    default = {"http": 80, "https": 443}[scheme]
    assert host.endswith(f":{port}") is (port not in {None, default})


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for candidate in (text, f"https://{text}"):
        try:
            address = RegistryAddress.parse(candidate)
        except ReferenceFormatError:
            continue
        assert RegistryAddress.parse(address.url) == address
