"""Validation of request bodies and queries, with errors by field."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Final, Self, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from registry.api.http.edge import require_text
from registry.errors import InvalidInputError

MAX_FAULTS: Final = 50
MAX_MEMBER_LENGTH: Final = 100
MAX_VALUES: Final = 5000
_FORMS: Final = {
    "name": "must be lower-case letters, digits and hyphens, start with a letter, and not end with a hyphen",
    "image": "must be one line: remove the line break",
}
"""Descriptions of the fields' patterns, by the field's name."""

_STRING: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A JSON string, or the rest of the body if it does not end; so the search is linear."""

M = TypeVar("M", bound=BaseModel)

_MAX_DIGITS: Final = 18
"""Digits of a number that fits 64 bits."""
_MAX_LENGTH: Final = 64


class Query(BaseModel):
    """Parameters of a query. Unknown parameters are ignored; of a repeated parameter, the first is used."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """Parse a request's query. Raises InvalidInputError: a parameter is invalid."""
        try:
            return cls.model_validate(dict(query))
        except ValidationError as error:
            raise invalid_input(error, cls, "query") from None


def _whole_number(text: object) -> int:
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= _MAX_LENGTH):
        raise ValueError("send a whole number, 0 or more")
    digits = text.lstrip("0") or "0"
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"send a number of at most {_MAX_DIGITS} digits")
    return int(digits)


FROM_DIGITS: Final = BeforeValidator(_whole_number)
WholeNumber = Annotated[int, Field(ge=0, le=10**_MAX_DIGITS - 1), FROM_DIGITS]
"""A number in a query."""


def read_json(model: type[M], body: str) -> M:
    """Parse JSON.

    Raises:
        InvalidInputError: A field is invalid. The error names all such fields, without their values.
    """
    check_json(body)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid_input(error, model) from None


def check_json(body: str) -> None:
    """Check that a body is JSON with at most `MAX_VALUES` values, and without control characters in strings.

    The limit bounds the time of the validation: with 100,000 invalid values, it would block the event loop
    for a second.

    Raises:
        InvalidInputError: The body is not JSON, is nested too deeply, or has too many values or control
            characters.
    """
    if _separators(body) > 2 * MAX_VALUES + 1 and _separators(_STRING.sub("", body)) > 2 * MAX_VALUES + 1:
        raise _too_many()  # each value has at most one comma and one bracket; to parse them would take long
    try:
        unvisited = [from_json(body, allow_inf_nan=False)]
    except ValueError:
        raise InvalidInputError("The body is not JSON.", {"body": ["is not JSON"]}) from None
    count = 0
    while unvisited:
        value = unvisited.pop()
        if isinstance(value, str):
            require_text(value, "body")
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        count += len(children)
        if count > MAX_VALUES:
            raise _too_many()
        unvisited.extend(children)
        if isinstance(value, dict):
            unvisited.extend(value)


def _separators(body: str) -> int:
    return body.count(",") + body.count("[") + body.count("{")


def _too_many() -> InvalidInputError:
    return InvalidInputError(f"The body holds more than {MAX_VALUES} values. Send fewer.")


def invalid_input(error: ValidationError, model: type[BaseModel], what: str = "request") -> InvalidInputError:
    """Return an error with the first `MAX_FAULTS` refused fields and the reasons, without their values."""
    fields: dict[str, list[str]] = {}
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    for fault in faults[:MAX_FAULTS]:
        location = fault["loc"]
        path = ".".join(str(part)[:MAX_MEMBER_LENGTH] for part in location) or "body"
        if fault["type"] == "extra_forbidden":
            reason = _unknown(str(location[-1]), _members(model, location[:-1]))
        elif fault["type"] == "string_pattern_mismatch":
            reason = _FORMS.get(str(location[-1]), "has the wrong format")
        else:
            reason = fault["msg"].removeprefix("Value error, ")
        fields.setdefault(path, []).append(reason)
    return InvalidInputError(f"The {what} does not validate: {', '.join(fields)}.", fields)


def _unknown(name: str, members: Collection[str]) -> str:
    close = difflib.get_close_matches(name[:MAX_MEMBER_LENGTH].lower(), members, n=1)
    if close:
        return f"is unknown: did you mean {close[0]}?"
    return f"is unknown: remove it, or use one of {', '.join(members)}"


def _members(model: type[BaseModel], location: Sequence[int | str]) -> Collection[str]:
    """Return the members of the object at a location."""
    for part in location:
        for name, field in model.model_fields.items():
            if part == (field.alias or name):
                model = _model_in(field.annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Find the model in an annotation such as `list[ProbeHeader] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
