import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientSession, web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

import auth.errors
import registry.errors
import storage.errors
from auth.errors import Cause, LedgerUnavailableError, OutsideScopeError, RefusedError
from registry.api.http.problems import TABLE, errors_as, oci_response, problem_of, problem_response
from registry.errors import ConflictError, InvalidInputError
from storage.errors import BlobRangeError, KeyUnavailableError, StorageUnavailableError


def body(response: web.Response) -> dict[str, Any]:
    assert isinstance(response.body, bytes)
    document = json.loads(response.body)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize(
    "error", [LedgerUnavailableError(), KeyUnavailableError(), StorageUnavailableError()]
)
def test_what_fails_closed_is_a_503_that_may_be_tried_again(error: Exception) -> None:
    for render in (problem_response, oci_response):
        response = render(error)
        assert response.status == 503
        assert response.headers["Retry-After"] == "5"


def test_every_refusal_reads_alike_and_tells_no_cause() -> None:
    texts = set()
    for cause in Cause:
        document = body(problem_response(RefusedError(cause, token_id="t-1", node_id="n-1")))
        del document["instance"]
        texts.add(json.dumps(document))
        assert cause.value not in document["detail"].lower().split()
        assert "t-1" not in json.dumps(document)
    assert len(texts) == 1


def test_a_subclass_is_answered_by_the_nearest_row() -> None:
    assert problem_of(OutsideScopeError(Cause.OUTSIDE_SCOPE)).status == 403
    assert problem_of(RefusedError(Cause.FORGED)).status == 401


def test_every_error_of_the_three_trees_has_an_answer() -> None:
    for tree in (registry.errors, auth.errors, storage.errors):
        for error in vars(tree).values():
            if isinstance(error, type) and issubclass(error, Exception):
                instance = error.__new__(error)
                assert 400 <= problem_of(instance).status <= 503


def test_the_table_names_oci_codes_in_their_own_alphabet() -> None:
    for problem in TABLE.values():
        assert problem.code == problem.code.upper()
        assert problem.kind == problem.kind.lower()


def test_a_problem_names_fields_and_an_oci_error_has_three_members() -> None:
    document = body(problem_response(InvalidInputError("No.", {"container.image": ["drop the scheme"]})))
    assert document["errors"] == {"container.image": ["drop the scheme"]}
    assert document["type"] == "urn:crisper:problem:invalid-input"
    assert document["status"] == 400
    (entry,) = body(oci_response(BlobRangeError("bytes 7-8 of 3")))["errors"]
    assert entry["code"] == "RANGE_INVALID"
    assert entry.keys() == {"code", "message", "detail"}


def test_an_unexpected_error_is_logged_by_its_instance_without_its_message() -> None:
    error = RuntimeError("INSERT ... geheim")
    error.__cause__ = ValueError("Authorization: Basic Z2VoZWlt")
    with capture_logs() as logs:
        response = problem_response(error)
    document = body(response)
    assert document["status"] == 500
    assert logs[0]["instance"] == document["instance"]
    assert logs[0]["error"] == ["RuntimeError", "ValueError"]
    for text in (json.dumps(document), repr(logs)):
        assert "geheim" not in text
        assert "Basic" not in text


def test_a_conflict_is_not_logged_as_a_failure() -> None:
    with capture_logs() as logs:
        problem_response(ConflictError("the group is pending"))
    assert logs == []


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"x" * 10)
        raise StorageUnavailableError

    async def refused(_request: web.Request) -> web.StreamResponse:
        raise RefusedError(Cause.UNKNOWN)

    app = web.Application(middlewares=[errors_as(problem_response, challenge=lambda *_: "Test")])
    app.add_routes([web.get("/half", half), web.get("/refused", refused)])
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def test_a_failure_after_the_first_byte_ends_the_connection(url: str) -> None:
    async with ClientSession() as session, session.get(f"{url}half") as response:
        with pytest.raises(ClientPayloadError):
            await asyncio.wait_for(response.read(), 10)


async def test_a_401_carries_a_challenge(url: str) -> None:
    async with ClientSession() as session, session.get(f"{url}refused") as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Test"
        assert response.content_type == "application/problem+json"


async def test_a_wrong_method_is_a_problem_that_says_which_ones_there_are(url: str) -> None:
    async with ClientSession() as session, session.delete(f"{url}half") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET,HEAD"
        assert (await response.json())["title"] == "Method Not Allowed"
