"""What is wrong with a request: as a whole, and by field."""

import difflib
from collections.abc import Collection, Sequence
from typing import Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from registry.errors import InvalidInputError

MAX_FAULTS: Final = 50
MAX_MEMBER_LENGTH: Final = 100
MAX_VALUES: Final = 5000
_FORMS: Final = {
    "name": "must be lower-case letters, digits and hyphens, a letter first and no hyphen last",
    "image": "must be one line: remove the line break",
}
"""What a field's pattern asks for, in words, by the field's name."""


def check_json(body: str) -> None:
    """Check that a body is JSON of at most `MAX_VALUES` values.

    Finding what is wrong with each of 100,000 values would hold up every other request for a second.

    Raises:
        InvalidInputError: It is not JSON, nests too deeply, or holds more values.
    """
    try:
        unvisited = [from_json(body, allow_inf_nan=False)]
    except ValueError:
        raise InvalidInputError("The body is not JSON.") from None
    count = 0
    while unvisited:
        value = unvisited.pop()
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        count += len(children)
        if count > MAX_VALUES:
            raise InvalidInputError(f"The body holds more than {MAX_VALUES} values. Send fewer.")
        unvisited.extend(children)


def invalid_input(error: ValidationError, model: type[BaseModel]) -> InvalidInputError:
    """Name the fields that were refused and why, without their values; the first `MAX_FAULTS` of them."""
    fields: dict[str, list[str]] = {}
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    for fault in faults[:MAX_FAULTS]:
        location = fault["loc"]
        path = ".".join(str(part)[:MAX_MEMBER_LENGTH] for part in location) or "body"
        if fault["type"] == "extra_forbidden":
            reason = _unknown(str(location[-1]), _members(model, location[:-1]))
        elif fault["type"] == "string_pattern_mismatch":
            reason = _FORMS.get(str(location[-1]), "is not of the right form")
        else:
            reason = fault["msg"].removeprefix("Value error, ")
        fields.setdefault(path, []).append(reason)
    return InvalidInputError(f"The request does not validate: {', '.join(fields)}.", fields)


def _unknown(name: str, members: Collection[str]) -> str:
    close = difflib.get_close_matches(name[:MAX_MEMBER_LENGTH].lower(), members, n=1)
    if close:
        return f"is not known here: did you mean {close[0]}?"
    return f"is not known here: remove it, or use one of {', '.join(members)}"


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
