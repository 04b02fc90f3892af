"""The types that the public API's documents are made of.

The members are those of SaladCloud's public reference; the names in quotes below are its schemas. What
Crisper acts on (the name, the image, its credentials, replicas, autostart) is held to the reference's limits.
The rest is the scheduler's: any value of the right JSON type is stored and returned as it was sent, and
bounded only to protect this server.
"""

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
"""The longest argument or environment value that Linux takes (`MAX_ARG_STRLEN`)."""
MAX_ITEMS: Final = 1000

_INT64_MAX: Final = (1 << 63) - 1
_LINE_PATTERN: Final = r"^.*$"


class Shape(BaseModel):
    """A document of the public API: strict about types and members, silent about refused values."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def read(cls, body: str) -> Self:
        """Read JSON.

        Raises:
            InvalidInputError: Names every field that does not validate; repeats no value.
        """
        return read_json(cls, body)


Omittable = Annotated[T | None, Field(exclude_if=lambda value: value is None)]
"""A member that may be left out; a null means the same, and is neither stored nor returned."""

Name = Annotated[str, StringConstraints(min_length=2, max_length=63, pattern=NAME_PATTERN)]
"""Of a group, project or organization ("ContainerGroupName" and its like)."""

Image = Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=_LINE_PATTERN)]
NewImage = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=_LINE_PATTERN)]
"""An image in a patch; the reference gives it less room than in a new group."""

Replicas = Annotated[int, Field(ge=0, le=500)]
Count = Annotated[int, Field(ge=0)]

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_LENGTH)]
Items = Annotated[list[T], Field(max_length=MAX_ITEMS)]


def _whole(value: object) -> object:
    """Read 4.0 as 4: JSON does not tell them apart."""
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
"""A secret; written as asterisks, so that a dump of a document is safe to store and send."""

Credential = Annotated[Secret[Annotated[str, StringConstraints(min_length=1, max_length=10000)]], _HIDDEN]
"""As it was pasted; `registry.upstream.credentials` removes blanks and line breaks around it."""
