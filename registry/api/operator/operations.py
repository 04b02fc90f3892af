"""What the operator API's addresses do (`registry.api.openapi`)."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

from pydantic import BaseModel

from registry.api.openapi import OPERATOR_KEY, Operations
from registry.api.operations import Answer, Operation, Parameter, Schema
from registry.api.operator import answers, requests

_ORGANIZATION: Final = "/organizations/{organization_name}"
_GROUP: Final = _ORGANIZATION + "/projects/{project_name}/containers/{container_group_name}"
_WORD: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 999_999_999_999_999_999}

WORDS: Final[Mapping[str, Schema]] = {
    name: {"type": "string", "minLength": 1, "examples": [example]}
    for name, example in {
        "organization_name": "acme-corp",
        "project_name": "dev-env",
        "container_group_name": "mandelbrot",
        "node_id": "node-7",
        "token_id": "Yk3n0m0bWJzq1vXh2Q9C1g",
        "key_id": "0b7c9a52-6f0e-4f5c-9a55-1f5a0f0f8c11",
        "webhook_id": "6a1f6f5e-0f0b-4d55-8c5b-0a3f1f6b7c22",
        "instance_id": "db3a4591-efc3-46c0-b06a-3d820c0ec100",
    }.items()
}

_MISSING: Final = (HTTPStatus.NOT_FOUND,)
_CLASH: Final = (HTTPStatus.CONFLICT,)
_FILTERS: Final = (
    Parameter("after", "The cursor behind which to begin.", _NUMBER),
    Parameter("type", "Only events of this type.", _WORD),
    Parameter("organization_name", "Only events of this organization.", _WORD),
    Parameter("token_id", "Only events of this token.", _WORD),
)


def _made(model: type[BaseModel], description: str) -> Answer:
    return Answer(HTTPStatus.CREATED, description, model)


def _shown(model: type[BaseModel], description: str) -> Answer:
    return Answer(HTTPStatus.OK, description, model)


_GONE: Final = Answer(HTTPStatus.NO_CONTENT, "Done.")


def _operator(  # noqa: PLR0917 (a table, whose columns these are)
    id_: str,
    tag: str,
    summary: str,
    answer: Answer,
    errors: Sequence[HTTPStatus] = (),
    body: type[BaseModel] | None = None,
    parameters: Sequence[Parameter] = (),
) -> Operation:
    return Operation(
        id_,
        summary,
        answer,
        body=body,
        parameters=parameters,
        errors=errors,
        tag=tag,
        security=(OPERATOR_KEY,),
    )


_CUSTOMERS: Final[Operations] = {
    ("POST", "/organizations"): _operator(
        "create_organization",
        "organizations",
        "Create an organization",
        _made(answers.CreatedOrganization, "The organization, and its first API key."),
        _CLASH,
        requests.NewOrganization,
    ),
    ("GET", "/organizations"): _operator(
        "list_organizations",
        "organizations",
        "List organizations",
        _shown(answers.Organizations, "All organizations."),
    ),
    ("GET", _ORGANIZATION): _operator(
        "get_organization",
        "organizations",
        "Get an organization",
        _shown(answers.Organization, "The organization."),
        _MISSING,
    ),
    ("POST", f"{_ORGANIZATION}/api-keys"): _operator(
        "create_api_key",
        "organizations",
        "Make an API key",
        _made(answers.CreatedApiKey, "The key, shown this once."),
        (*_MISSING, *_CLASH),
        requests.NewApiKey,
    ),
    ("GET", f"{_ORGANIZATION}/api-keys"): _operator(
        "list_api_keys",
        "organizations",
        "List API keys",
        _shown(answers.ApiKeys, "The organization's keys, revoked ones included."),
        _MISSING,
    ),
    ("DELETE", f"{_ORGANIZATION}/api-keys/{{key_id}}"): _operator(
        "revoke_api_key", "organizations", "Revoke an API key", _GONE, _MISSING
    ),
    ("POST", f"{_ORGANIZATION}/webhooks"): _operator(
        "create_webhook",
        "webhooks",
        "Register a webhook",
        _made(answers.CreatedWebhook, "The webhook, and its signing secret, shown this once."),
        (*_MISSING, *_CLASH),
        requests.NewWebhook,
    ),
    ("GET", f"{_ORGANIZATION}/webhooks"): _operator(
        "list_webhooks",
        "webhooks",
        "List webhooks",
        _shown(answers.Webhooks, "The organization's webhooks, and how they do."),
        _MISSING,
    ),
    ("GET", f"{_ORGANIZATION}/webhooks/{{webhook_id}}"): _operator(
        "get_webhook", "webhooks", "Get a webhook", _shown(answers.Webhook, "The webhook."), _MISSING
    ),
    ("DELETE", f"{_ORGANIZATION}/webhooks/{{webhook_id}}"): _operator(
        "delete_webhook", "webhooks", "Remove a webhook", _GONE, _MISSING
    ),
    ("POST", f"{_ORGANIZATION}/webhooks/{{webhook_id}}/enable"): _operator(
        "enable_webhook",
        "webhooks",
        "Enable a webhook that was given up",
        _shown(answers.Webhook, "The webhook."),
        _MISSING,
    ),
}

_FLEET: Final[Operations] = {
    ("POST", "/nodes"): _operator(
        "create_node",
        "nodes",
        "Create a node",
        _made(answers.CreatedNode, "The node's secret, or what it enrols with; shown this once."),
        _CLASH,
        requests.NewNode,
    ),
    ("GET", "/nodes"): _operator("list_nodes", "nodes", "List nodes", _shown(answers.Nodes, "All nodes.")),
    ("GET", "/nodes/{node_id}"): _operator(
        "get_node", "nodes", "Get a node", _shown(answers.Node, "The node."), _MISSING
    ),
    ("DELETE", "/nodes/{node_id}"): _operator("revoke_node", "nodes", "Strike a node off", _GONE, _MISSING),
    ("POST", "/nodes/{node_id}/enrolment"): _operator(
        "offer_enrolment",
        "nodes",
        "Offer a node another enrolment",
        _made(answers.Enrolment, "What it enrols with, shown this once."),
        (*_MISSING, *_CLASH),
    ),
    ("POST", "/nodes/{node_id}/certificate"): _operator(
        "issue_certificate",
        "nodes",
        "Enrol a node, or renew its certificate",
        _shown(answers.Certificate, "The certificate."),
        _CLASH,
        requests.NewCertificate,
    ),
    ("GET", f"{_GROUP}/instances"): _operator(
        "list_instances",
        "instances",
        "List a group's instances",
        _shown(answers.Instances, "The nodes designated for the group, with their tokens."),
        _MISSING,
    ),
    ("POST", f"{_GROUP}/instances/{{instance_id}}/report"): _operator(
        "report_instance",
        "instances",
        "Report the state of an instance's container",
        _shown(answers.Instance, "The instance."),
        _MISSING,
        requests.InstanceReport,
    ),
}

_TOKENS: Final[Operations] = {
    ("POST", "/pull-tokens"): _operator(
        "mint_pull_token",
        "pull tokens",
        "Designate a node: mint its pull token",
        _made(answers.CreatedPullToken, "The token, shown this once."),
        (*_MISSING, *_CLASH),
        requests.NewPullToken,
    ),
    ("GET", "/pull-tokens/{token_id}"): _operator(
        "get_pull_token",
        "pull tokens",
        "Get a pull token",
        _shown(answers.PullToken, "The token, and its session."),
        _MISSING,
    ),
    ("DELETE", "/pull-tokens/{token_id}"): _operator(
        "revoke_pull_token", "pull tokens", "Revoke a pull token", _GONE, _MISSING
    ),
    ("POST", "/pull-tokens/{token_id}/complete"): _operator(
        "complete_pull_token",
        "pull tokens",
        "Report a pull complete",
        _shown(answers.PullToken, "The token, and its session."),
        (HTTPStatus.FORBIDDEN, *_MISSING),
    ),
    ("GET", "/images"): _operator(
        "list_images",
        "images",
        "List stored images",
        _shown(answers.Images, "The newest images, and what their variants gain."),
        (HTTPStatus.BAD_REQUEST,),
        parameters=(
            Parameter("organization_name", "Only images of this organization.", _WORD),
            Parameter("limit", "How many at most, up to 1000.", _NUMBER),
        ),
    ),
    ("GET", "/events"): _operator(
        "list_events",
        "audit trail",
        "List the audit trail",
        _shown(answers.Events, "Events behind the cursor, oldest first."),
        (HTTPStatus.BAD_REQUEST,),
        parameters=(*_FILTERS, Parameter("limit", "How many at most, up to 1000.", _NUMBER)),
    ),
    ("GET", "/events/stream"): _operator(
        "stream_events",
        "audit trail",
        "Follow the audit trail",
        Answer(HTTPStatus.OK, "Server-sent events, without an end.", media_type="text/event-stream"),
        (HTTPStatus.BAD_REQUEST,),
        parameters=_FILTERS,
    ),
}

OPERATIONS: Final[Operations] = {**_CUSTOMERS, **_FLEET, **_TOKENS}
