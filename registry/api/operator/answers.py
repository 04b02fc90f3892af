"""The shapes of what the operator API answers (`registry.api.operator.documents` writes them)."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

Count = Annotated[int, Field(ge=0)]


class Organization(BaseModel):
    """A customer."""

    name: str
    created_at: datetime


class Organizations(BaseModel):
    """All customers, by name."""

    items: list[Organization]


class CreatedOrganization(BaseModel):
    """A new customer; `api_key` is shown this once."""

    name: str
    api_key: str
    key_id: str


class ApiKey(BaseModel):
    """A key to the public API."""

    key_id: str
    name: str
    created_at: datetime
    revoked_at: datetime | None


class ApiKeys(BaseModel):
    """A customer's keys, oldest first."""

    items: list[ApiKey]


class CreatedApiKey(ApiKey):
    """A new key; `api_key` is shown this once."""

    api_key: str


class Webhook(BaseModel):
    """An endpoint, and how it does."""

    webhook_id: str
    url: str
    types: list[str]
    created_at: datetime
    delivered_at: datetime | None
    failing_since: datetime | None
    disabled_at: datetime | None
    last_failure: str | None


class Webhooks(BaseModel):
    """A customer's endpoints, oldest first."""

    items: list[Webhook]


class CreatedWebhook(Webhook):
    """A new endpoint; `secret` is shown this once."""

    secret: str


class Node(BaseModel):
    """A node."""

    node_id: str
    binding: Literal["certificate", "secret"]
    networks: list[str]
    zstd: bool | None
    revoked_at: datetime | None


class Nodes(BaseModel):
    """All nodes, by id."""

    items: list[Node]


class CreatedNode(BaseModel):
    """A new node with what it proves itself with, shown this once."""

    node_id: str
    node_secret: str | None = None
    enrolment_secret: str | None = None
    expires_at: datetime | None = None


class Enrolment(BaseModel):
    """What a node enrols with, shown this once."""

    node_id: str
    enrolment_secret: str
    expires_at: datetime


class Certificate(BaseModel):
    """A node's certificate and its authority's, PEM."""

    certificate: str
    ca: str


class TokenImage(BaseModel):
    """The image that a token is good for."""

    reference: str
    digest: str
    size: Count
    variant: Literal["original", "zstd"] | None


class CreatedPullToken(BaseModel):
    """A new pull token; `token` is shown this once."""

    token_id: str
    token: str
    username: str
    expires_at: datetime
    image: TokenImage


class Blobs(BaseModel):
    """How many of the image's blobs a session has wholly delivered."""

    complete: Count
    total: Count


class Session(BaseModel):
    """A pull."""

    bytes_delivered: Count
    blobs: Blobs
    redeemed_at: datetime
    last_seen: datetime
    deadline: datetime


class PullToken(BaseModel):
    """A pull token as it stands."""

    token_id: str
    state: Literal["minted", "active", "done", "expired", "revoked"]
    node_id: str
    organization_name: str
    expires_at: datetime
    image: TokenImage
    session: Session | None


class Instance(BaseModel):
    """A node's designation for a group."""

    instance_id: str
    organization_name: str
    project_name: str
    container_group_name: str
    node_id: str
    state: Literal["allocating", "downloading", "creating", "running", "stopping"]
    version: Annotated[int, Field(ge=1)]
    token_id: str
    deletion_cost: Count
    pulling_progress: Annotated[float, Field(ge=0, le=100)] | None
    created_at: datetime
    updated_at: datetime


class Instances(BaseModel):
    """A group's instances, oldest first."""

    items: list[Instance]


class ZstdVariant(BaseModel):
    """An image's other encoding."""

    digest: str
    size: Count


class Image(BaseModel):
    """A stored image, and what it gains by its other encoding."""

    organization_name: str
    digest: str
    platform: str
    size: Count
    created_at: datetime
    zstd: ZstdVariant | None
    gain: float


class Images(BaseModel):
    """The newest images."""

    items: list[Image]


class Event(BaseModel):
    """A line of the audit trail."""

    cursor: Count
    time: datetime
    type: str
    organization_name: str | None
    token_id: str | None
    node_id: str | None
    cause: str | None
    source: str | None
    detail: dict[str, object]


class Events(BaseModel):
    """A page of the audit trail, oldest first."""

    items: list[Event]
    next_after: Count | None
