import pytest
from aiohttp import web

from registry.api.endpoint import Call, Endpoint, Part, served_by
from registry.api.openapi import document
from registry.api.operator import operator_app
from registry.api.operator.events import EventsApi
from registry.api.operator.images import ImagesApi
from registry.api.operator.instances import InstancesApi
from registry.api.operator.nodes import NodesApi
from registry.api.operator.organizations import OrganizationsApi
from registry.api.operator.pull_tokens import PullTokensApi
from registry.api.operator.quotas import QuotasApi
from registry.api.operator.webhooks import WebhooksApi
from registry.api.public import PublicServices, public_app


def apps() -> list[web.Application]:
    """Both APIs with nothing behind them: their routes are all that is asked for."""
    nothing = type("Nothing", (), {})()
    parts: list[Part] = [
        OrganizationsApi(nothing, nothing),
        QuotasApi(nothing),
        WebhooksApi(nothing),
        NodesApi(nothing, nothing, nothing),
        InstancesApi(nothing),
        PullTokensApi(nothing, nothing, nothing),
        ImagesApi(nothing, nothing),
    ]
    operator = operator_app(
        parts, EventsApi(nothing), is_operator_key=lambda _: False, refusals=nothing, verifier=nothing
    )
    services = PublicServices(nothing, nothing, nothing, nothing, nothing, nothing)
    return [public_app(services, nothing), operator]


def test_every_route_is_an_operation_of_the_document() -> None:
    found = apps()
    routes = [route for app in found for route in app.router.routes()]
    assert all(served_by(route) for route in routes)
    assert sum(map(len, document(found)["paths"].values())) == len(routes)


def test_the_document_has_each_operation_once_and_every_schema() -> None:
    found = document(apps())
    operations = [told for methods in found["paths"].values() for told in methods.values()]
    ids = [told["operationId"] for told in operations]
    assert len(ids) == len(set(ids))
    assert all(told["security"] and told["summary"] and told["tags"] for told in operations)
    text = str(found)
    referred = {part.partition("'")[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred <= set(found["components"]["schemas"])


def test_secrets_are_written_only_in_the_document() -> None:
    schemas = document(apps())["components"]["schemas"]
    for name in ("UsernamePassword", "DockerHubToken", "AwsAccessKey", "GcpServiceKey"):
        for field, schema in schemas[name]["properties"].items():
            assert field == "username" or schema["writeOnly"], f"{name}.{field}"


def test_without_applications_the_document_is_empty_and_valid() -> None:
    assert document([])["paths"] == {}


def test_an_operation_without_documentation_is_refused() -> None:
    async def silent(_self: object, call: Call[None]) -> None:
        del call

    with pytest.raises(TypeError, match="without documentation"):
        Endpoint("GET", "/silent", "Done.")(silent)


def test_an_operation_without_types_is_refused() -> None:
    async def untyped(_self, call):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        """Do something."""
        del call

    with pytest.raises(TypeError, match="without types"):
        Endpoint("GET", "/untyped", "Done.")(untyped)


@pytest.mark.parametrize("index", [0, 1])
async def test_an_application_with_a_route_that_is_not_declared_does_not_start(index: int) -> None:
    async def plain(_request: web.Request) -> web.Response:
        return web.Response()

    app = apps()[index]
    app.router.add_get("/plain", plain)
    with pytest.raises(RuntimeError, match="/plain has a plain handler"):
        await web.AppRunner(app).setup()
