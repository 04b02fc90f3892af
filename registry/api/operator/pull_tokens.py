"""The operator API's pull tokens."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from auth.authority import Authority
from auth.records import MAX_TTL_S, SessionView, TokenState, TokenView
from registry.api.endpoint import Access, Call, Endpoint
from registry.api.http.origin import Origin
from registry.api.operator.shapes import Body, Count, Document, Instant, Name, NodeId
from registry.api.validation import Query, WholeNumber
from registry.catalog.instances import ListedToken
from registry.model.encryption import Encryption
from registry.model.groups import GroupKey
from registry.model.images import StoredImage, WantedVariant
from registry.services.pull_tokens import Designation, PullTokens

_ONE = "/pull-tokens/{token_id}"
_MAX_PAGE: Final = 1000


class NewPullToken(Body):
    """A pull token to be minted: it assigns the node to the group."""

    organization_name: Name
    project_name: Name
    container_group_name: Name
    node_id: NodeId
    ttl_s: Annotated[int, Field(ge=1, le=MAX_TTL_S)] | None = None
    variant: WantedVariant = WantedVariant.AUTO
    encryption: Encryption | None = None


class TokenImage(Document):
    """The image that a token allows to pull.

    Attributes:
        digest: Digest of the document that the reference names.
        key_thumbprint: Thumbprint of the node's key for which the layers are encrypted; null for plaintext.
    """

    reference: str
    digest: str
    size: Count
    variant: Literal["original", "zstd"] | None
    platforms: list[str] | None
    key_thumbprint: str | None


class MintedImage(TokenImage):
    """The image of a new token.

    Attributes:
        original_digest: Digest of the image as it was imported.
    """

    original_digest: str


class CreatedPullToken(Document):
    """A new pull token; `token` is shown only once."""

    token_id: str
    token: str
    username: str
    expires_at: Instant
    encrypted: bool
    image: MintedImage

    @classmethod
    def of(cls, made: Designation, host: str) -> "CreatedPullToken":
        """Present a minted token with its text, which is shown only this time."""
        return cls(
            token_id=made.minted.token_id,
            token=made.minted.token.reveal(),
            username=made.node_id,
            expires_at=made.minted.expires_at,
            encrypted=made.encrypted is not None,
            image=MintedImage(
                reference=f"{host}/{made.key.repository}:v{made.version}",
                digest=made.digest,
                original_digest=str(made.original_digest),
                size=made.image.size_bytes,
                variant=made.image.variant.value,
                platforms=made.image.platform.split(","),
                key_thumbprint=made.encrypted.key if made.encrypted else None,
            ),
        )


class Blobs(Document):
    """Numbers of the image's blobs: completely delivered in the session, and in total."""

    complete: Count
    total: Count


class Session(Document):
    """Session of a pull."""

    bytes_delivered: Count
    blobs: Blobs
    redeemed_at: Instant
    last_seen: Instant
    deadline: Instant

    @classmethod
    def of(cls, view: SessionView) -> "Session":
        """Present a session."""
        return cls(
            bytes_delivered=view.bytes_delivered,
            blobs=Blobs(complete=view.blobs_complete, total=view.blobs_total),
            redeemed_at=view.redeemed_at,
            last_seen=view.last_seen,
            deadline=view.deadline,
        )


class PullToken(Document):
    """Current state of a pull token."""

    token_id: str
    state: Literal["minted", "active", "done", "expired", "revoked"]
    node_id: str
    organization_name: str
    expires_at: Instant
    encrypted: bool
    image: TokenImage
    session: Session | None

    @classmethod
    def of(cls, view: TokenView, image: StoredImage | None, host: str) -> "PullToken":
        """Present a token's state and its session; `image` is None if it was deleted."""
        digest = view.encrypted.digest if view.encrypted else view.image_digest
        return cls(
            token_id=view.token_id,
            state=view.state.value,
            node_id=view.node_id,
            organization_name=view.organization,
            expires_at=view.expires_at,
            encrypted=view.encrypted is not None,
            image=TokenImage(
                reference=f"{host}/{view.repository}@{digest}",
                digest=digest,
                size=view.image_size,
                variant=image.variant.value if image else None,
                platforms=image.platform.split(",") if image else None,
                key_thumbprint=view.encrypted.key if view.encrypted else None,
            ),
            session=Session.of(view.session) if view.session else None,
        )


class PullTokenQuery(Query):
    """Query of the list of pull tokens."""

    organization_name: str | SkipJsonSchema[None] = Field(
        default=None, description="Only tokens for images of this organization."
    )
    container_group_name: str | SkipJsonSchema[None] = Field(
        default=None, description="Only tokens for groups of this name."
    )
    node_id: str | SkipJsonSchema[None] = Field(default=None, description="Only tokens of this node.")
    limit: WholeNumber = Field(default=100, description=f"Maximum number of tokens, up to {_MAX_PAGE}.")


class ListedPullToken(Document):
    """A pull token in a list.

    Attributes:
        state: `ended` if the ledger no longer has the token, an hour after its end.
    """

    token_id: str
    state: Literal["minted", "active", "done", "expired", "revoked", "ended"]
    node_id: str
    organization_name: str
    project_name: str
    container_group_name: str
    version: Annotated[int, Field(ge=1)]
    minted_at: Instant

    @classmethod
    def of(cls, token: ListedToken, state: TokenState | None) -> "ListedPullToken":
        """Present a token."""
        return cls(
            token_id=token.token_id,
            state=state.value if state else "ended",
            node_id=token.node_id,
            organization_name=token.organization,
            project_name=token.project,
            container_group_name=token.group,
            version=token.version,
            minted_at=token.minted_at,
        )


class PullTokenList(Document):
    """The newest pull tokens."""

    items: list[ListedPullToken]


class PullTokensApi:
    """Operations on pull tokens."""

    tag: ClassVar[str] = "pull tokens"

    def __init__(self, tokens: PullTokens, authority: Authority, origin: Origin) -> None:
        self._tokens = tokens
        self._authority = authority
        self._origin = origin

    @Endpoint("POST", "/pull-tokens", "The token, shown only once.", status=201, errors=(404, 409))
    async def mint_pull_token(self, call: Call[NewPullToken]) -> CreatedPullToken:
        """Mint a pull token for a node."""
        new = call.body
        key = GroupKey(new.organization_name, new.project_name, new.container_group_name)
        host = self._origin.host(call.request)  # first, because a token without a reference is useless
        made = await self._tokens.mint(key, new.node_id, new.ttl_s, new.variant.choice, new.encryption)
        return CreatedPullToken.of(made, host)

    @Endpoint("GET", "/pull-tokens", "The newest tokens.", errors=(400,))
    async def list_pull_tokens(self, call: Call[None], query: PullTokenQuery) -> PullTokenList:  # noqa: ARG002
        """List pull tokens."""
        found = await self._tokens.list(
            min(query.limit, _MAX_PAGE),
            organization=query.organization_name,
            group=query.container_group_name,
            node_id=query.node_id,
        )
        return PullTokenList(items=[ListedPullToken.of(token, state) for token, state in found])

    @Endpoint("GET", _ONE, "The token, and its session.", errors=(404,))
    async def get_pull_token(self, call: Call[None]) -> PullToken:
        """Get a pull token."""
        return await self._shown(call, await self._authority.show(call.path("token_id")))

    @Endpoint("DELETE", _ONE, "Done.", status=204, errors=(404,))
    async def revoke_pull_token(self, call: Call[None]) -> None:
        """Revoke a pull token."""
        await self._authority.revoke(call.path("token_id"))

    @Endpoint(
        "POST", f"{_ONE}/complete", "The token, and its session.", errors=(403, 404), access=Access.SESSION
    )
    async def complete_pull_token(self, call: Call[None]) -> PullToken:
        """Report that a pull is complete."""
        return await self._shown(call, await self._authority.complete(call.path("token_id")))

    async def _shown(self, call: Call[None], view: TokenView) -> PullToken:
        image = await self._tokens.image(view.repository, view.image_digest)
        return PullToken.of(view, image, self._origin.host(call.request))
