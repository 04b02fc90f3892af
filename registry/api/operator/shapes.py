"""Field types and base classes of the operator API's documents."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from registry.api.validation import Query, WholeNumber
from registry.errors import ReferenceFormatError
from registry.oci.platform import Platform

MAX_PAGE: Final = 5000
GROUP: Final = "/organizations/{organization_name}/projects/{project_name}/containers/{container_group_name}"


class Body(BaseModel):
    """Base class of request bodies."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Document(BaseModel):
    """Base class of response documents; created from an object with attributes of the same names."""

    model_config = ConfigDict(from_attributes=True)


class PageQuery(Query):
    """Query of a page of a list that is ordered by name."""

    after: Annotated[
        str | SkipJsonSchema[None], Field(description="Value of `next_after` in the page before.")
    ] = None
    limit: Annotated[WholeNumber, Field(description=f"Maximum number of items, up to {MAX_PAGE}.")] = MAX_PAGE

    @property
    def size(self) -> int:
        """Maximum number of items in the page."""
        return max(1, min(self.limit, MAX_PAGE))

    def next_after(self, names: Sequence[str]) -> str | None:
        """Return what the next page starts after; None if this page is the last."""
        return names[-1] if len(names) == self.size else None


def _write(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _normalize_platform(text: str) -> str:
    try:
        return str(Platform.parse(text))
    except ReferenceFormatError as error:
        raise ValueError(str(error)) from None


Instant = Annotated[
    datetime,
    PlainSerializer(_write, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""A time in the format of RFC 3339, in UTC, with milliseconds."""


class ImageVerdict(Document):
    """What was found about the signatures of an image (docs/trust.md).

    Attributes:
        trusted: Whether the policy accepts the image.
        pattern: The policy's pattern.
        signers: Keys, identities and certificates whose signatures are valid.
        builds: Builder, source and signer of each accepted attestation of provenance.
        sentence: The result in a sentence.
    """

    trusted: bool
    mode: Literal["enforce", "warn"]
    pattern: str
    signers: list[str]
    builds: list[str] = []
    sentence: str
    checked_at: Instant


Count = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,61}[a-z0-9]$")]
PlatformName = Annotated[
    str, Field(max_length=32, pattern=r"^[A-Za-z0-9._/-]+$"), AfterValidator(_normalize_platform)
]
"""A platform `os/architecture[/variant]`, with the names of Go."""

NodeId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
