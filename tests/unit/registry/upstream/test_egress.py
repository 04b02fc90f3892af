import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from registry.errors import EgressRefusedError, ReferenceFormatError
from registry.upstream.egress import EgressGuard, authority, bracketed_host, is_public, origin_of, parse_url

PRIVATE_V4 = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
    "168.63.129.16", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.192",
    "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
]  # fmt: skip
PUBLIC_V4 = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "172.15.0.1", "172.32.0.1", "192.167.1.1", "198.17.0.1"]


def wrapped(address: str) -> list[IPv6Address]:
    """Give an IPv4 address in every form that leads to it."""
    number = int(IPv4Address(address))
    return [
        IPv6Address((0xFFFF << 32) | number),
        IPv6Address(number),
        IPv6Address((0x64FF9B << 96) | number),
        IPv6Address((0x2002 << 112) | (number << 80) | 1),
    ]


@pytest.mark.parametrize("address", PRIVATE_V4)
def test_a_private_address_is_refused_in_every_form(address: str) -> None:
    assert not is_public(IPv4Address(address))
    assert not any(is_public(form) for form in wrapped(address))


@pytest.mark.parametrize("address", PUBLIC_V4)
def test_a_public_address_is_allowed_in_every_form(address: str) -> None:
    assert is_public(IPv4Address(address))
    assert all(is_public(form) for form in wrapped(address))


@pytest.mark.parametrize(
    "address",
    [
        "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "100::1",
        "64:ff9b:1::a00:1",
        "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2001:20::1", "2001:db8::1",
        "2620:4f:8000::1", "3fff::1", "5f00::1", "4000::1", "::ffff:0:127.0.0.1",
    ],
)  # fmt: skip
def test_an_ipv6_address_outside_the_public_internet_is_refused(address: str) -> None:
    assert not is_public(IPv6Address(address))


def test_an_ipv6_address_of_the_public_internet_is_allowed() -> None:
    assert is_public(IPv6Address("2606:4700:4700::1111"))
    assert is_public(IPv6Address("2a00:1450:4001::1"))


@given(st.ip_addresses())
def test_loopback_link_local_private_and_multicast_are_refused(
    address: IPv4Address | IPv6Address,
) -> None:
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        assert not is_public(address)
    if isinstance(address, IPv4Address) and address.is_private:
        assert not is_public(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1%lo", "::ffff:169.254.169.254"])
def test_no_socket_is_made_to_a_refused_address(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(EgressRefusedError, match="not on the public internet"):
        EgressGuard().open_socket((family, socket.SOCK_STREAM, 6, "", (address, 443)))


def test_a_socket_is_made_to_a_public_address() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("1.1.1.1", 443))
    with EgressGuard().open_socket(info) as made:
        assert made.family == socket.AF_INET


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://u:p@example.com/",
        "https://u@example.com/",
        "/v2/",
    ],
)
def test_a_url_in_the_clear_or_with_credentials_is_refused(url: str) -> None:
    with pytest.raises(EgressRefusedError):
        EgressGuard().vet(URL(url))


def test_a_listed_host_is_excepted_at_exactly_its_port() -> None:
    guard = EgressGuard(["Registry.lan:5000", "[fd00::1]:5000"], private=["harbor.lan"])
    guard.vet(URL("http://registry.lan:5000/v2/"))
    guard.vet(URL("http://[fd00::1]:5000/v2/"))
    assert guard.allows_private(URL("https://registry.lan:5000/"))
    assert guard.allows_private(URL("https://harbor.lan/"))
    for url in (
        "http://registry.lan/",
        "http://registry.lan:5001/",
        "http://harbor.lan/",
        "http://x.lan:5000/",
    ):
        assert not guard.allows_private(URL(url))
        with pytest.raises(EgressRefusedError, match="does not use TLS"):
            guard.vet(URL(url))


def test_a_listed_host_without_a_port_means_the_usual_two() -> None:
    guard = EgressGuard(["registry.lan"])
    guard.vet(URL("http://registry.lan/v2/"))
    assert guard.allows_private(URL("https://registry.lan/"))
    assert not guard.allows_private(URL("https://registry.lan:5000/"))


def test_what_is_no_host_cannot_be_listed() -> None:
    for entry in ("http://registry.lan", "registry.lan/path", "registry.lan:0", ""):
        with pytest.raises(ReferenceFormatError):
            EgressGuard([entry])


def test_the_table_reads_addresses_as_text_gives_them() -> None:
    assert not is_public(ip_address("::ffff:7f00:1"))


def test_an_isatap_address_is_refused_in_whatever_network_it_is() -> None:
    for interface in ("0:5efe:a00:1", "200:5efe:a00:1", "0:5efe:808:808"):
        assert not is_public(IPv6Address(f"2606:4700:0:0:{interface}"))


def test_a_network_is_opened_for_every_name_over_tls_only() -> None:
    guard = EgressGuard(networks=[ip_network("10.20.0.0/16"), ip_network("fd00:20::/32")])
    for address in ("10.20.0.1", "::ffff:10.20.0.1", "64:ff9b::a14:1", "fd00:20::1", "1.1.1.1"):
        assert guard.permits(address)
    for address in ("10.21.0.1", "::ffff:10.21.0.1", "fd00:21::1", "fd00:20::1%lo", "nonsense"):
        assert not guard.permits(address)
    with pytest.raises(EgressRefusedError, match="does not use TLS"):
        guard.vet(URL("http://registry.lan/"))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "169.254.169.254", "0.0.0.0", "100.100.100.200", "168.63.129.16", "192.0.0.192",
     "224.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1",
     "64:ff9b::7f00:1"],
)  # fmt: skip
def test_no_network_opens_this_machine_or_a_clouds_own_services(address: str) -> None:
    everything = [ip_network("0.0.0.0/0"), ip_network("::/0")]
    assert not EgressGuard(networks=everything).permits(address)


PIECES = (
    "http:// https:// // / a.lan xn-- :5000 :99999 :-1 : @ [ ] ::1 127.0.0.1 % %zz \udc80 é 。 ? # x .. \\"
)
PIECE = st.sampled_from([*PIECES.split(), " ", "\t"])


@given(st.lists(PIECE, max_size=8).map("".join) | st.text(max_size=30), st.booleans())
def test_any_realm_or_redirect_is_read_and_vetted_or_refused(text: str, relative: bool) -> None:  # noqa: FBT001
    guard = EgressGuard(["a.lan:5000"])
    try:
        url = parse_url(text, URL("https://registry.example.com/v2/") if relative else None)
        guard.vet(url)
    except EgressRefusedError:
        return
    assert url.scheme == "https" or authority(url) == "a.lan:5000"
    assert bracketed_host(url) in text.lower() or relative
    assert str(url).isascii()


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://registry.example.com:443/v2/", "https://registry.example.com"),
        ("https://Registry.Example.com./v2/", "https://registry.example.com"),
        ("https://registry.example.com:8443", "https://registry.example.com:8443"),
        ("http://registry.example.com:80/", "http://registry.example.com"),
        ("http://registry.example.com:443/", "http://registry.example.com:443"),
        ("https://[2001:DB8::1]:443/", "https://[2001:db8::1]"),
    ],
)
def test_an_origin_has_one_form(url: str, origin: str) -> None:
    assert origin_of(URL(url)) == origin
