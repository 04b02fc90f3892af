import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from registry.api.http.origin import Origin


def asked(host: str) -> web.Request:
    return make_mocked_request("GET", "/v2/", headers={"Host": host})


@pytest.mark.parametrize(
    ("public_url", "url", "host", "secure"),
    [
        ("https://registry.example.com", "https://registry.example.com", "registry.example.com", True),
        ("https://registry.example.com:443/", "https://registry.example.com", "registry.example.com", True),
        ("https://[2001:DB8::7]:443", "https://[2001:db8::7]", "[2001:db8::7]", True),
        ("https://[2001:db8::7]:5000", "https://[2001:db8::7]:5000", "[2001:db8::7]:5000", True),
        ("http://registry.example.com:80", "http://registry.example.com", "registry.example.com", False),
    ],
)
def test_the_public_url_counts_whatever_the_request_came_to(
    public_url: str, url: str, host: str, *, secure: bool
) -> None:
    origin = Origin(public_url, "crisper")
    for request in (asked("127.0.0.1:5000"), asked('no"host')):
        assert (origin.url(request), origin.host(request)) == (url, host)
        assert origin.is_secure(request) is secure


@pytest.mark.parametrize(
    ("sent", "host"),
    [
        ("registry.example.com", "registry.example.com"),
        ("registry.example.com:80", "registry.example.com"),
        ("Registry.Example.com.:5000", "registry.example.com:5000"),
        ("[::1]:80", "[::1]"),
        ("[0:0::1]:5000", "[::1]:5000"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
    ],
)
def test_without_one_the_requests_host_is_written_in_the_same_form(sent: str, host: str) -> None:
    origin = Origin(None, "crisper")
    assert (origin.url(asked(sent)), origin.host(asked(sent))) == (f"http://{host}", host)


@pytest.mark.parametrize(
    "sent", ['a",realm="https://b.example', "user@a.example", "a.example/b", "a.example:0", "a b"]
)
def test_a_host_that_is_none_is_a_bad_request(sent: str) -> None:
    for of in (Origin(None, "crisper").url, Origin(None, "crisper").host):
        with pytest.raises(web.HTTPBadRequest) as refused:
            of(asked(sent))
        assert sent not in (refused.value.text or "")


def test_no_reference_begins_with_a_host_that_clients_take_for_docker_hub() -> None:
    origin = Origin(None, "crisper")
    assert origin.url(asked("registry")) == "http://registry"
    with pytest.raises(web.HTTPBadRequest, match="Bad Request") as refused:
        origin.host(asked("registry:80"))
    assert "Docker Hub" in (refused.value.text or "")
