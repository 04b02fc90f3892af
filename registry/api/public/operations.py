"""What the public API's addresses do (`registry.api.openapi`)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from registry.api.openapi import API_KEY, Operations
from registry.api.operations import JSON, MERGE_PATCH, Answer, Operation, Parameter, Schema
from registry.api.public.requests import ContainerGroupPrototype
from registry.api.public.responses import (
    ContainerGroup,
    ContainerGroupCollection,
    ContainerGroupInstance,
    ContainerGroupInstanceCollection,
    ContainerGroupProgress,
)
from registry.api.public.shapes import NAME_PATTERN
from registry.api.public.updates import (
    ContainerGroupInstancePatch,
    ContainerGroupPatch,
    ContainerGroupRollback,
)
from registry.services.groups import MAX_PAGE

_BASE: Final = "/organizations/{organization_name}/projects/{project_name}/containers"
_GROUP: Final = _BASE + "/{container_group_name}"
_INSTANCES: Final = _GROUP + "/instances"
_INSTANCE: Final = _INSTANCES + "/{container_group_instance_id}"
_NAME: Final[Schema] = {"type": "string", "minLength": 2, "maxLength": 63, "pattern": NAME_PATTERN}

WORDS: Final[Mapping[str, Schema]] = {
    "organization_name": {**_NAME, "examples": ["acme-corp"]},
    "project_name": {**_NAME, "examples": ["dev-env"]},
    "container_group_name": {**_NAME, "examples": ["mandelbrot"]},
    "container_group_instance_id": {"type": "string", "format": "uuid"},
}

_READ: Final = (HTTPStatus.NOT_FOUND,)
_WRITE: Final = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
_DONE: Final = Answer(HTTPStatus.ACCEPTED, "Accepted; nothing is in the body.")
_ETAG: Final = {"ETag": "Names what the group's owner has asked for: send it back as If-Match."}
_SHOWN: Final = Answer(HTTPStatus.OK, "The group.", ContainerGroup, headers=_ETAG)
_PAGING: Final = (
    Parameter(
        "page_size", "How many groups at most.", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}
    ),
    Parameter("after", "Where to go on, from the Link header of the page before.", {"type": "string"}),
)
_CHANGING: Final = (
    Parameter(
        "pull",
        "`always` pulls the image again though it is the same.",
        {"type": "string", "enum": ["always"]},
    ),
    Parameter("If-Match", "The ETag that the group has to have still.", {"type": "string"}, place="header"),
)

_GROUPS: Final[Operations] = {
    ("GET", _BASE): Operation(
        "list_container_groups",
        "List container groups",
        Answer(
            HTTPStatus.OK,
            "The project's groups, oldest first.",
            ContainerGroupCollection,
            headers={"Link": 'The next page, as `rel="next"`, where there is one.'},
        ),
        parameters=_PAGING,
        errors=(HTTPStatus.BAD_REQUEST, *_READ),
    ),
    ("POST", _BASE): Operation(
        "create_container_group",
        "Create a container group",
        replace(
            _SHOWN,
            status=HTTPStatus.CREATED,
            headers={**_ETAG, "Location": "The group's address."},
        ),
        "Its image is imported from now on. Repeating the request answers the same group.",
        body=ContainerGroupPrototype,
        errors=_WRITE,
    ),
    ("GET", _GROUP): Operation("get_container_group", "Get a container group", _SHOWN, errors=_READ),
    ("GET", f"{_GROUP}/progress"): Operation(
        "get_container_group_progress",
        "Get how far a group's import is",
        Answer(
            HTTPStatus.OK,
            "The group's status, and its import in figures.",
            ContainerGroupProgress,
            also=("text/event-stream",),
        ),
        "Those who accept `text/event-stream` are told of every change until the import ends.",
        errors=_READ,
    ),
    ("PATCH", _GROUP): Operation(
        "update_container_group",
        "Update a container group",
        _SHOWN,
        "A changed image, or the same one with `registry_authentication`, is imported. The version before is "
        "served until the import succeeds.",
        body=ContainerGroupPatch,
        body_types=(MERGE_PATCH, JSON),
        parameters=_CHANGING,
        errors=(*_WRITE, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED),
    ),
    ("POST", f"{_GROUP}/rollback"): Operation(
        "rollback_container_group",
        "Return a container group to an earlier version",
        _SHOWN,
        "The group's next version has the image, command, environment, probes and networking of a version "
        "that is stored. Nothing is imported.",
        body=ContainerGroupRollback,
        errors=(*_WRITE, HTTPStatus.CONFLICT),
    ),
    ("DELETE", _GROUP): Operation(
        "delete_container_group",
        "Delete a container group",
        _DONE,
        "Its import stops, its pull tokens are revoked at once.",
        errors=_WRITE,
    ),
    ("POST", f"{_GROUP}/start"): Operation(
        "start_container_group",
        "Start a container group",
        _DONE,
        "One that is still pending starts when its image is there.",
        errors=(HTTPStatus.BAD_REQUEST, *_WRITE, HTTPStatus.CONFLICT),
    ),
    ("POST", f"{_GROUP}/stop"): Operation(
        "stop_container_group",
        "Stop a container group",
        _DONE,
        "Its nodes are free, and their pull tokens revoked.",
        errors=(*_WRITE, HTTPStatus.CONFLICT),
    ),
}

_OF_INSTANCES: Final[Operations] = {
    ("GET", _INSTANCES): Operation(
        "list_container_group_instances",
        "List instances",
        Answer(HTTPStatus.OK, "The nodes designated for the group.", ContainerGroupInstanceCollection),
        errors=_READ,
    ),
    ("GET", _INSTANCE): Operation(
        "get_container_group_instance",
        "Get an instance",
        Answer(HTTPStatus.OK, "The instance.", ContainerGroupInstance),
        errors=_READ,
    ),
    ("PATCH", _INSTANCE): Operation(
        "update_container_group_instance",
        "Update an instance",
        Answer(HTTPStatus.OK, "The instance.", ContainerGroupInstance),
        body=ContainerGroupInstancePatch,
        body_types=(MERGE_PATCH, JSON),
        errors=_WRITE,
    ),
    **{
        ("POST", f"{_INSTANCE}/{verb}"): Operation(
            f"{verb}_container_group_instance", summary, _DONE, description, errors=_WRITE
        )
        for verb, summary, description in (
            ("reallocate", "Reallocate an instance", "Its tokens are revoked, and its node is free."),
            ("recreate", "Recreate an instance", "Its container is made anew, with the image it has."),
            ("restart", "Restart an instance", "Its container stops and starts on the same node."),
        )
    },
}


def _customers(operations: Operations) -> Operations:
    def completed(operation: Operation) -> Operation:
        errors: Sequence[HTTPStatus] = (*operation.errors, HTTPStatus.TOO_MANY_REQUESTS)
        return replace(operation, errors=errors, security=(API_KEY,), tag="container groups")

    return {address: completed(operation) for address, operation in operations.items()}


OPERATIONS: Final[Operations] = _customers({**_GROUPS, **_OF_INSTANCES})
