"""Signed statements: in-toto statements (spec/v1/statement.md) in DSSE envelopes (protocol.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.errors import DocumentError, SignatureError
from registry.oci.strict_json import parse_object
from registry.trust.encoding import decode_base64
from registry.trust.keys import PublicKey, verify_signature
from registry.trust.signatures import Subject

MAX_SUBJECTS: Final = 128
IN_TOTO: Final = "application/vnd.in-toto+json"
OTHER_IMAGE: Final = "for another image"

_STATEMENTS: Final = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")


@dataclass(frozen=True, slots=True)
class Statement:
    """What an in-toto statement says about its subjects.

    Attributes:
        fields: The whole statement. Its subjects are not checked yet.
    """

    predicate_type: str
    predicate: Any
    fields: Mapping[str, Any]

    def check_subject(self, subject: Subject) -> None:
        """Check that the statement is about a document of the image. Raises SignatureError."""
        subjects = self.fields.get("subject")
        if not isinstance(subjects, list) or len(subjects) > MAX_SUBJECTS:
            raise SignatureError(f"with a statement that does not have 1 to {MAX_SUBJECTS} subjects")
        digests = [entry.get("digest") for entry in subjects if isinstance(entry, dict)]
        name, value = subject.digest.algorithm, subject.digest.hex
        if not any(isinstance(digest, dict) and digest.get(name) == value for digest in digests):
            raise SignatureError(OTHER_IMAGE)


def open_envelope(envelope: Mapping[str, Any], key: PublicKey) -> Statement:
    """Verify an envelope with exactly one signature by a key. Raises SignatureError."""
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise SignatureError("with an envelope that does not have exactly one signature")
    payload = decode_base64(envelope.get("payload"), "a payload")
    signature = decode_base64(signatures[0].get("sig"), "a signature")
    verify_signature(key, signature, _pre_authentication(envelope.get("payloadType"), payload))
    return read_statement(envelope.get("payloadType"), payload)


def read_statement(payload_type: object, payload: bytes) -> Statement:
    """Read the verified payload of an envelope. Raises SignatureError: it is not an in-toto statement."""
    if payload_type != IN_TOTO:
        raise SignatureError("with a payload of another type than in-toto's")
    statement = parse(payload, "the statement")
    if statement.get("_type") not in _STATEMENTS:
        raise SignatureError("with a statement of another type than in-toto's")
    predicate_type = statement.get("predicateType")
    named = predicate_type if isinstance(predicate_type, str) else ""
    return Statement(named, statement.get("predicate"), statement)


def parse(data: bytes, what: str) -> Mapping[str, Any]:
    """Parse a signed document. Raises SignatureError."""
    try:
        return parse_object(data, what)
    except DocumentError as error:
        raise SignatureError(f"unreadable: {error}") from None


def member(fields: Mapping[str, Any], name: str, what: str) -> Mapping[str, Any]:
    """Return an object in an object. Raises SignatureError."""
    value = fields.get(name)
    if not isinstance(value, dict):
        raise SignatureError(f"unreadable: {what} has no {name}")
    return value


def _pre_authentication(payload_type: object, payload: bytes) -> bytes:
    """Return the bytes that a DSSE signature covers (DSSE, protocol.md, "PAE")."""
    if not isinstance(payload_type, str):
        raise SignatureError("with a payload of another type than in-toto's")
    kind = payload_type.encode(errors="replace")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
