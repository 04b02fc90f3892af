"""Control characters in every text that operations take, on PostgreSQL; and the headers of all responses."""

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.certified import Certified
from tests.support.crisper import CrisperServer
from tests.support.http import Response, basic, request
from tests.support.portal import PortalVisitor
from tests.support.postgres import another_database

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CHARACTERS = ["\x00", "\x01", "\x1b", "\x7f"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, migrated_url: str) -> Iterator[CrisperServer]:
    env = {"CRISPER_DATABASE_URL": another_database(migrated_url, like="crisper")}
    with CrisperServer(tmp_path_factory.mktemp("edge") / "server", env=env) as server:
        server.operator.create_organization("acme-corp")
        yield server


def ask(server: CrisperServer, method: str, path: str, body: bytes | None = None, **headers: str) -> Response:
    key = server.operator_key
    sent = {"Authorization": f"Bearer {key}", "Salad-Api-Key": key}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return request(method, f"{server.url}{path}", headers=sent, body=body)


def refused(answer: Response) -> bool:
    return answer.status == 400 and b"control character" in answer.body


def strings(schema: Mapping[str, Any], document: Mapping[str, Any], depth: int = 0) -> Iterator[object]:
    """Generate values of a schema, each of which has one string, `<>`, or such a member name."""
    if depth > 8:
        return
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for choice in [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]:
        yield from strings(choice, document, depth + 1)
    for name, member in schema.get("properties", {}).items():
        yield from ({name: value} for value in strings(member, document, depth + 1))
    if isinstance(schema.get("additionalProperties"), dict):
        yield {"<>": "value"}
        yield from ({"name": value} for value in strings(schema["additionalProperties"], document, depth + 1))
    if isinstance(schema.get("items"), dict):
        yield from ([value] for value in strings(schema["items"], document, depth + 1))
    if schema.get("type") == "string" or "const" in schema or "enum" in schema:
        yield "<>"


def test_no_operation_takes_control_characters(server: CrisperServer) -> None:
    document = request("GET", f"{server.url}/openapi.json").expect(200).json()
    sent, taken = 0, []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            given = operation.get("parameters", [])
            words = {each["name"]: "acme-corp" for each in given if each["in"] == "path"}
            plain = path.format(**words)
            targets = [path.format(**words | {name: "acme%00corp"}) for name in words]
            queries = [each["name"] for each in given if each["in"] == "query"]
            targets += [f"{plain}?{name}=a%00b" for name in queries] + [f"{plain}?a%00b=c"]
            content = operation.get("requestBody", {}).get("content", {})
            bodies = [
                (media_type, json.dumps(value).replace("<>", "a\\u0000b").encode())
                for media_type, described in content.items()
                for value in strings(described["schema"], document)
            ]
            answers = [(target, ask(server, method.upper(), target)) for target in targets]
            answers += [
                (f"{plain} {body!r}", ask(server, method.upper(), plain, body, Content_Type=media_type))
                for media_type, body in bodies
            ]
            sent += len(answers)
            taken += [(method, what, each.status) for what, each in answers if not refused(each)]
    assert taken == []
    assert sent > 400


@pytest.mark.parametrize("character", CHARACTERS, ids=repr)
def test_addresses_forms_and_logins_are_refused_alike(server: CrisperServer, character: str) -> None:
    written = quote(character)
    visitor = PortalVisitor.signed_in(server.url, server.operator_key)
    answers = [
        request("GET", f"{server.url}/v2/acme/default/a{written}b/manifests/latest"),
        request("GET", f"{server.url}/v2/acme/default/group/manifests/a{written}b"),
        request("GET", f"{server.url}/token?service=crisper&scope=a{written}b"),
        request("GET", f"{server.url}/token", headers={"Authorization": basic(f"a{character}b", "c")}),
        request("GET", f"{server.url}/token", headers={"Authorization": basic("a", f"b{character}c")}),
        request("POST", f"{server.url}/token", headers=FORM, body=f"username=a{written}b".encode()),
        request("GET", f"{server.url}/audit?node=a{written}b"),
        visitor.get(f"/audit?node=a{written}b"),
        visitor.get(f"/groups/acme{written}corp/default/group"),
        visitor.post("/sign-in", {"key": f"a{character}b"}),
    ]
    assert [answer.status for answer in answers] == [400] * len(answers)


def test_bytes_that_are_not_utf_8_are_refused_in_addresses(server: CrisperServer) -> None:
    for path in (b"/api/v1/nodes/a\xffb", b"/api/v1/events?type=a\xffb", b"/v2/\xff/manifests/latest"):
        head = b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "
        assert raw(server, head + server.operator_key.encode() + b"\r\nConnection: close\r\n\r\n")[:12] in {
            b"HTTP/1.1 400",
            b"HTTP/1.0 400",
        }


def test_a_credential_that_is_not_utf_8_is_unknown(server: CrisperServer) -> None:
    body = json.dumps({"csr": "junk"}).encode()
    for sent in (
        b"POST /api/v1/nodes/nobody/certificate HTTP/1.1\r\nAuthorization: Bearer \xff\xfe",
        b"GET /api/v1/nodes HTTP/1.1\r\nAuthorization: Bearer \xff\xfe",
        b"GET /api/public/organizations/acme-corp/quotas HTTP/1.1\r\nSalad-Api-Key: \xff\xfe",
        b"GET /token HTTP/1.1\r\nAuthorization: Basic \xff\xfe",
        b"GET /v2/ HTTP/1.1\r\nAuthorization: Bearer \xff\xfe",
    ):
        kind = b"\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\n"
        kind += b"Content-Length: %d\r\n\r\n"
        content = body if sent.startswith(b"POST") else b""
        assert raw(server, sent + kind % len(content) + content)[:12] == b"HTTP/1.1 401"


def test_line_breaks_are_text(server: CrisperServer) -> None:
    body = json.dumps({"name": "no\nname\t"}).encode()
    answer = ask(server, "POST", "/api/v1/organizations", body, Content_Type="application/json")
    assert b"control character" not in answer.expect(400).body


def test_no_response_names_a_version_of_the_server(server: CrisperServer) -> None:
    for path in ("/v2/", "/healthz", "/sign-in", "/nothing"):
        assert request("GET", f"{server.url}{path}").headers.get_all("Server") == ["Crisper"]
    malformed = raw(server, b"GET / HTTP/9.9\r\n\x00\r\n\r\n")
    assert b"Server: Crisper\r\n" in malformed
    assert b"Python" not in malformed


def test_responses_over_tls_demand_tls_and_others_do_not(certified: Certified, server: CrisperServer) -> None:
    for path in ("/v2/", "/token", "/sign-in", "/api/v1/nodes", "/nothing", "/static/none"):
        demanded = certified.send("GET", path).headers.get_all("Strict-Transport-Security")
        assert demanded == ["max-age=31536000"], path
        assert "Strict-Transport-Security" not in request("GET", f"{server.url}{path}").headers


def raw(server: CrisperServer, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
            if b"\r\n\r\n" in received and b"\r\nConnection: close" not in received:
                break
        return received
