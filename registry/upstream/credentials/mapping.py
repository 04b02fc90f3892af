"""Parser for the public API's `registry_authentication`, with one kind per registry provider.

GHCR, Quay, ACR, GitLab, Harbor and self-hosted registries use `basic`: the names of robots and tokens are
passed on unchanged. Only AWS access keys must be exchanged before they can be used with HTTP Basic (`ecr`).

Credentials are often pasted, so whitespace around them, and within base64, is removed.
"""

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Final

from auth.secret import Secret
from registry.errors import InvalidInputError
from registry.model.imports import CredentialKind, UpstreamCredential

FIELD: Final = "registry_authentication"
MAX_SECRET_LENGTH: Final = 16 << 10
JSON_KEY_USER: Final = "_json_key"
BASE64_KEY_USER: Final = "_json_key_base64"
_ACCESS_KEY_ID: Final = re.compile(r"[A-Za-z0-9_]{1,128}", re.ASCII)
#: Invisible characters that editors and web pages add; no registry uses them in credentials.
_INVISIBLE: Final = "\ufeff\u200b\u2060"


def from_registry_authentication(value: Mapping[str, object] | None) -> UpstreamCredential | None:
    """Convert a container's `registry_authentication` into a credential; None if there is none.

    Raises:
        InvalidInputError: There is not exactly one kind, the kind is not supported, or a field is missing or
            malformed. Field paths start at `registry_authentication`; the message contains no values.
    """
    given = {kind: fields for kind, fields in (value or {}).items() if fields is not None}
    if not given:
        return None
    if len(given) > 1:
        raise _invalid("", "give exactly one kind of credentials")
    ((kind, fields),) = given.items()
    reader = _READERS.get(kind)
    if reader is None:
        raise _invalid("", f"give one of {', '.join(_READERS)}")
    if not isinstance(fields, Mapping):
        raise _invalid(kind, "must be an object")
    return reader(kind, fields)


def _basic(kind: str, fields: Mapping[str, object]) -> UpstreamCredential:
    return _pair(kind, fields, "username", "password")


def _docker_hub(kind: str, fields: Mapping[str, object]) -> UpstreamCredential:
    return _pair(kind, fields, "username", "personal_access_token")


def _aws_ecr(kind: str, fields: Mapping[str, object]) -> UpstreamCredential:
    key = _line(kind, fields, "access_key_id")
    if not _ACCESS_KEY_ID.fullmatch(key):
        raise _invalid(f"{kind}.access_key_id", "must be letters and digits, such as AKIA...")
    secret = _line(kind, fields, "secret_access_key")
    if any(character.isspace() for character in secret):
        raise _invalid(f"{kind}.secret_access_key", "must not contain blanks: copy the key again")
    return UpstreamCredential(key, Secret(secret), CredentialKind.AWS_ACCESS_KEY)


def _google(kind: str, fields: Mapping[str, object]) -> UpstreamCredential:
    key = _text(kind, fields, "service_key")
    user = _google_user(key)
    if user is None:
        raise _invalid(
            f"{kind}.service_key",
            "must be a service account's key file: JSON, or that as base64; or an access token",
        )
    secret = key if user == JSON_KEY_USER else "".join(key.split())
    return UpstreamCredential(user, Secret(secret), CredentialKind.GOOGLE_KEY)


def _google_user(key: str) -> str | None:
    """Return the user name that Google requires for this form of key; None if it is not a key."""
    if _is_json_object(key):
        return JSON_KEY_USER
    joined = "".join(key.split())
    if joined.startswith("ya29."):
        return "oauth2accesstoken"
    try:
        decoded = base64.b64decode(joined, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return BASE64_KEY_USER if _is_json_object(decoded) else None


def _pair(kind: str, fields: Mapping[str, object], name: str, secret: str) -> UpstreamCredential:
    username = _line(kind, fields, name)
    if ":" in username:
        raise _invalid(f"{kind}.{name}", "must not contain a colon")
    password = _text(kind, fields, secret)
    if username == BASE64_KEY_USER:
        password = "".join(password.split())
    elif username != JSON_KEY_USER or not _is_json_object(password):
        password = _line(kind, fields, secret)
    return UpstreamCredential(username, Secret(password))


def _line(kind: str, fields: Mapping[str, object], name: str) -> str:
    """Read a single-line value."""
    value = _text(kind, fields, name)
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in value):
        reason = "contains a line break or another control character: copy it again, as one line"
        raise _invalid(f"{kind}.{name}", reason)
    return value


def _text(kind: str, fields: Mapping[str, object], name: str) -> str:
    """Read a value without surrounding whitespace and invisible characters."""
    value = fields.get(name)
    if not isinstance(value, str) or not (value := _stripped(value)):
        raise _invalid(f"{kind}.{name}", "is required")
    if len(value) > MAX_SECRET_LENGTH:
        raise _invalid(f"{kind}.{name}", f"has more than {MAX_SECRET_LENGTH} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _invalid(f"{kind}.{name}", "is not valid Unicode") from None
    return value


def _stripped(value: str) -> str:
    while (shorter := value.strip().strip(_INVISIBLE)) != value:
        value = shorter
    return value


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _invalid(path: str, reason: str) -> InvalidInputError:
    name = f"{FIELD}.{path}" if path else FIELD
    return InvalidInputError(f"{name}: {reason}", {name: [reason]})


_READERS: Final[Mapping[str, Callable[[str, Mapping[str, object]], UpstreamCredential]]] = {
    "basic": _basic,
    "docker_hub": _docker_hub,
    "aws_ecr": _aws_ecr,
    "gcp_gar": _google,
    "gcp_gcr": _google,
}
