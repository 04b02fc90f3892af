"""What the operator API is sent."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal, Self, TypedDict

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auth.ports import Binding
from auth.records import MAX_TTL_S
from registry.api.http.bodies import read_text
from registry.errors import InvalidInputError
from registry.model.images import WantedVariant
from registry.model.webhooks import FAMILIES

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,61}[a-z0-9]$")]
EventType = Annotated[str, Field(pattern=rf"^({'|'.join(FAMILIES)})\.([a-z_]{{1,32}}|\*)$")]
NodeId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    async def read(cls, request: web.Request) -> Self:
        """Read a JSON body. Raises InvalidInputError, with a reason by field."""
        body = await read_text(request)
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            fields: dict[str, list[str]] = {}
            for found in error.errors(include_input=False, include_url=False, include_context=False):
                fields.setdefault(".".join(map(str, found["loc"])) or "body", []).append(found["msg"])
            raise InvalidInputError("The request does not validate; see errors.", fields) from None


class NewOrganization(_Request):
    """A customer to be created."""

    name: Name


class NewApiKey(_Request):
    """A further key of an organization.

    Attributes:
        name: What its owner calls it.
    """

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[^\x00-\x1f\x7f]+$")]


class NewWebhook(_Request):
    """An endpoint that is told about an organization's events.

    Attributes:
        url: https, at a public address.
        types: Event types, or their families: `group.*`, `instance.*`, `token.*`; everything when empty.
    """

    url: Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^https?://[\x21-\x7e]+$")]
    types: Annotated[tuple[EventType, ...], Field(max_length=64)] = ()


class InstanceReport(_Request):
    """What a scheduler knows of an instance's container."""

    state: Literal["creating", "running", "stopping"]


class NewNode(_Request):
    """A machine to be enrolled.

    Attributes:
        networks: Where it may come from; anywhere when empty.
        zstd: Whether its engine reads layers in zstd, as far as that is known.
    """

    node_id: NodeId
    binding: Binding
    networks: Annotated[tuple[IPv4Network | IPv6Network, ...], Field(max_length=32)] = ()
    zstd: bool | None = None


class NewCertificate(_Request):
    """A node's signing request, PEM (RFC 2986)."""

    csr: Annotated[str, Field(min_length=1, max_length=16 << 10)]


class NewPullToken(_Request):
    """A designation: this node shall pull this group's image."""

    organization_name: Name
    project_name: Name
    container_group_name: Name
    node_id: NodeId
    ttl_s: Annotated[int, Field(ge=1, le=MAX_TTL_S)] | None = None
    variant: WantedVariant = WantedVariant.AUTO


class EventFilters(TypedDict):
    """Which events of the audit trail are wanted; None means any."""

    type_: str | None
    organization: str | None
    token_id: str | None


def event_filters(request: web.Request) -> EventFilters:
    """Read the filters of the audit trail from a query."""
    query = request.query
    return EventFilters(
        type_=query.get("type"), organization=query.get("organization_name"), token_id=query.get("token_id")
    )


def whole_number(text: str | None, name: str, default: int) -> int:
    """Read a number that may be left out. Raises InvalidInputError: it is none."""
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18:  # noqa: PLR2004 (what 64 bits hold)
        raise InvalidInputError("The query does not validate.", {name: ["send a whole number, 0 or more"]})
    return int(text)
