"""Field types and the base class of the public API's documents.

The members are those of SaladCloud's public reference; the quoted names in docstrings are its schemas. The
fields that Crisper uses (name, image, credentials, replicas, autostart) have the reference's limits. Only the
scheduler uses the other fields: any value of the right JSON type is stored and returned as sent, with limits
that protect this server.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Secret,
    StringConstraints,
    WithJsonSchema,
)

from registry.api.validation import read_json

T = TypeVar("T")

NAME_PATTERN: Final = r"^[a-z][a-z0-9-]{0,61}[a-z0-9]$"
MAX_TEXT_LENGTH: Final = 131_072
"""Maximum length of an argument or environment value on Linux (`MAX_ARG_STRLEN`)."""
MAX_ITEMS: Final = 1000

_INT64_MAX: Final = (1 << 63) - 1
_LINE_PATTERN: Final = r"^.*$"


class Shape(BaseModel):
    """Base class of the public API's documents: strict types and members; errors and reprs omit values."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        """Return nothing: members contain secrets of customers."""
        return ()

    @classmethod
    def read(cls, body: str) -> Self:
        """Parse JSON.

        Raises:
            InvalidInputError: A field is invalid. The error names all such fields, without their values.
        """
        return read_json(cls, body)


Omittable = Annotated[T | None, Field(exclude_if=lambda value: value is None)]
"""A member that may be omitted or null. A null is neither stored nor returned."""

Name = Annotated[str, StringConstraints(min_length=2, max_length=63, pattern=NAME_PATTERN)]
"""Name of a group, project or organization ("ContainerGroupName" and similar schemas)."""

Image = Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=_LINE_PATTERN)]
NewImage = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=_LINE_PATTERN)]
"""An image in a patch, whose limit in the reference is lower than in a new group."""

Replicas = Annotated[int, Field(ge=0, le=500)]
Count = Annotated[int, Field(ge=0)]

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_LENGTH)]
Items = Annotated[list[T], Field(max_length=MAX_ITEMS)]


def _whole(value: object) -> object:
    """Read 4.0 as 4, because they are the same number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, BeforeValidator(_whole), Field(ge=-_INT64_MAX, le=_INT64_MAX)]

Uuid = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"
    ),
    WithJsonSchema({"type": "string", "format": "uuid"}),
]

_HIDDEN: Final = Field(json_schema_extra={"writeOnly": True})

SecretText = Annotated[Secret[Text], _HIDDEN]
"""A secret. It is serialized as asterisks, so that documents are safe to store and send."""

Credential = Annotated[Secret[Annotated[str, StringConstraints(min_length=1, max_length=10000)]], _HIDDEN]
"""A secret as sent; `registry.upstream.credentials` strips surrounding whitespace."""
