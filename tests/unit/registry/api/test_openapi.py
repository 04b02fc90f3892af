from collections.abc import Iterable

from aiohttp import web

from registry.api.openapi import document
from registry.api.operator import PREFIX as OPERATOR
from registry.api.operator import OperatorApi
from registry.api.operator.instances import InstancesApi
from registry.api.operator.nodes import NodesApi
from registry.api.operator.operations import OPERATIONS as OPERATOR_OPERATIONS
from registry.api.operator.organizations import OrganizationsApi
from registry.api.operator.webhooks import WebhooksApi
from registry.api.public import PREFIX as PUBLIC
from registry.api.public import public_app
from registry.api.public.operations import OPERATIONS as PUBLIC_OPERATIONS
from registry.api.root import apis_document


def apps() -> dict[str, web.Application]:
    """Both APIs with nothing behind them: their routes are all that is asked for."""
    nothing = type("Nothing", (), {})()
    parts = (
        OrganizationsApi(nothing, nothing),
        NodesApi(nothing, nothing, nothing),
        InstancesApi(nothing),
        WebhooksApi(nothing),
    )
    operator = OperatorApi(
        is_operator_key=lambda _: False,
        parts=parts,
        tokens=nothing,
        images=nothing,
        authority=nothing,
        verifier=nothing,
        events=nothing,
        origin=nothing,
    ).app()
    return {PUBLIC: public_app(nothing, nothing, nothing), OPERATOR: operator}


def addresses(routes: Iterable[web.AbstractRoute]) -> set[tuple[str, str]]:
    return {(route.method, route.resource.canonical) for route in routes if route.resource is not None}


def test_every_route_of_both_apis_is_told_about_and_nothing_else_is() -> None:
    found = apps()
    assert addresses(found[PUBLIC].router.routes()) == set(PUBLIC_OPERATIONS)
    assert addresses(found[OPERATOR].router.routes()) == set(OPERATOR_OPERATIONS)


def test_the_document_names_each_operation_once_and_every_schema_that_it_refers_to() -> None:
    found = apis_document(apps())
    operations = [told for methods in found["paths"].values() for told in methods.values()]
    ids = [told["operationId"] for told in operations]
    assert len(ids) == len(set(ids)) == len(PUBLIC_OPERATIONS) + len(OPERATOR_OPERATIONS)
    assert all(told["security"] for told in operations)
    text = str(found)
    referred = {part.partition("'")[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred <= set(found["components"]["schemas"])


def test_secrets_are_written_only_in_the_document() -> None:
    schemas = apis_document(apps())["components"]["schemas"]
    for name in ("UsernamePassword", "DockerHubToken", "AwsAccessKey", "GcpServiceKey"):
        for field, schema in schemas[name]["properties"].items():
            assert field == "username" or schema["writeOnly"], f"{name}.{field}"


def test_without_applications_the_document_is_empty_and_valid() -> None:
    assert document([])["paths"] == {}
