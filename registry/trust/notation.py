"""Signatures of the Notary Project: envelopes in JWS and COSE, and their verification.

Source: notaryproject/specifications, signature-specification.md, signature-envelope-jws.md and
signature-envelope-cose.md. There is no time-stamping authority in a policy, so certificates must be valid
now, and signatures of the scheme `notary.x509.signingAuthority` are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Final, Never

import cbor2
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

from registry.errors import DocumentError, SignatureError
from registry.oci.strict_json import parse_object
from registry.trust.certificates import (
    algorithm_of,
    check_chain,
    has_identity,
    load_certificates,
    parse_chain,
    parse_identity,
    subject_of,
)
from registry.trust.encoding import decode_base64, decode_base64url
from registry.trust.keys import FOREIGN
from registry.trust.policy import NotationRule
from registry.trust.signatures import OF_ANOTHER_KIND, NotationEnvelope, Signature, Subject

JWS: Final = "application/jose+json"
COSE: Final = "application/cose"

_PAYLOAD: Final = "application/vnd.cncf.notary.payload.v1+json"
_PREFIX: Final = "io.cncf.notary."
_SCHEME: Final = f"{_PREFIX}signingScheme"
_EXPIRY: Final = f"{_PREFIX}expiry"
_SIGNING_TIME: Final = f"{_PREFIX}signingTime"
_SIGN1: Final = 18
_ALGORITHM_LABEL, _CRITICAL_LABEL, _TYPE_LABEL, _CHAIN_LABEL = 1, 2, 3, 33
_COSE_ALGORITHMS: Final = {-7: "ES256", -35: "ES384", -36: "ES512", -37: "PS256", -38: "PS384", -39: "PS512"}


def _refuse_tag(_decoder: object, _immutable: bool) -> Never:  # noqa: FBT001 (the library's)
    raise ValueError("no other tags")


_MAX_DEPTH: Final = 8
#: All tags that the library decodes, except times (1): regular expressions, big numbers, shared values ...
_TAGS: Final = (
    0,
    *range(2, 6),
    25,
    28,
    29,
    30,
    35,
    36,
    37,
    52,
    54,
    100,
    256,
    258,
    260,
    261,
    1004,
    43000,
    55799,
)
_NO_TAGS: Final = dict.fromkeys(_TAGS, _refuse_tag)


@dataclass(frozen=True, slots=True)
class _Envelope:
    """An envelope, decoded but not verified.

    Attributes:
        signed: The bytes that the signature covers.
        headers: The protected headers, except those that have attributes of their own.
        chain: DER certificates, leaf first.
    """

    algorithm: object
    payload_type: object
    critical: object
    headers: Mapping[Any, Any]
    chain: object
    payload: bytes
    signed: bytes
    signature: bytes


class NotationVerifier:
    """Verifies signatures of the Notary Project against trusted certificates.

    Args:
        now: Time at which certificates must be valid.
    """

    def __init__(self, rule: NotationRule, now: datetime) -> None:
        self._trusted = load_certificates(rule.certificate)
        self._identity = None if rule.identity in {None, "*"} else parse_identity(rule.identity)
        self._now = now
        self.name = f"notation certificate {rule.identity or subject_of(self._trusted[0])}"

    def verify(self, signature: Signature, subject: Subject) -> str:
        """Return the signer's subject. Raises SignatureError."""
        if not isinstance(signature, NotationEnvelope):
            raise SignatureError(OF_ANOTHER_KIND)
        envelope = _decode(signature)
        chain = parse_chain(envelope.chain)
        algorithm = algorithm_of(chain[0])
        if envelope.algorithm != algorithm:
            raise SignatureError("with an algorithm that its key may not be used with")
        try:
            verifier, key = get_default_algorithms()[algorithm], chain[0].public_key()
            if not verifier.verify(envelope.signed, key, envelope.signature):
                raise SignatureError(FOREIGN)
        except (PyJWTError, ValueError):
            raise SignatureError(FOREIGN) from None
        check_chain(chain, self._trusted, self._now)
        named = subject_of(chain[0])
        if self._identity is not None and not has_identity(chain[0], self._identity):
            raise SignatureError("by a certificate of another identity")
        self._check_headers(envelope)
        _check_target(envelope.payload, subject)
        return f"notation certificate {named}"

    def _check_headers(self, envelope: _Envelope) -> None:
        headers, critical = envelope.headers, envelope.critical
        if envelope.payload_type != _PAYLOAD:
            raise SignatureError("with a payload of another type than notation's")
        if headers.get(_SCHEME) != "notary.x509":
            raise SignatureError("of a signing scheme that is not supported: use notary.x509")
        if not isinstance(critical, list) or _SCHEME not in critical:
            raise SignatureError("without its required critical headers")
        if not all(header in (_SCHEME, _EXPIRY) and header in headers for header in critical):
            raise SignatureError("with critical headers that are not supported")
        _time(headers.get(_SIGNING_TIME))
        if _EXPIRY in headers:
            if _EXPIRY not in critical:
                raise SignatureError("without its required critical headers")
            if self._now >= _time(headers[_EXPIRY]):
                raise SignatureError("which has expired")


def _decode(signature: NotationEnvelope) -> _Envelope:
    if signature.media_type == JWS:
        return _decode_jws(signature.data)
    if signature.media_type == COSE:
        return _decode_cose(signature.data)
    raise SignatureError("with an envelope that is neither JWS nor COSE")


def _decode_jws(data: bytes) -> _Envelope:
    try:
        fields = parse_object(data, "the envelope")
        protected, payload = fields.get("protected"), fields.get("payload")
        headers = dict(parse_object(decode_base64url(protected, "headers"), "the protected header"))
    except DocumentError as error:
        raise SignatureError(f"unreadable: {error}") from None
    unprotected = fields.get("header")
    chain = unprotected.get("x5c") if isinstance(unprotected, dict) else None
    return _Envelope(
        headers.pop("alg", None),
        headers.pop("cty", None),
        headers.pop("crit", None),
        headers,
        [decode_base64(each, "a certificate") for each in chain[:100]] if isinstance(chain, list) else None,
        decode_base64url(payload, "a payload"),
        f"{protected}.{payload}".encode(),
        decode_base64url(fields.get("signature"), "a signature"),
    )


def _decode_cose(data: bytes) -> _Envelope:
    message = _load_cbor(data)
    value = message.value if isinstance(message, cbor2.CBORTag) and message.tag == _SIGN1 else None
    match value:
        case (bytes(protected), Mapping() as unprotected, bytes(payload), bytes(signature)):
            headers = _load_cbor(protected)
        case _:
            raise SignatureError("unreadable: the envelope is not COSE_Sign1")
    if not isinstance(headers, Mapping):
        raise SignatureError("unreadable: the protected header is not a map")
    texts = {name: None for name in (_SIGNING_TIME, _EXPIRY) if isinstance(headers.get(name), str)}
    algorithm, critical = headers.get(_ALGORITHM_LABEL), headers.get(_CRITICAL_LABEL)
    return _Envelope(
        _COSE_ALGORITHMS.get(algorithm) if isinstance(algorithm, int) else None,
        headers.get(_TYPE_LABEL),
        list(critical) if isinstance(critical, list | tuple) else None,
        {**headers, **texts},  # times are no texts in COSE
        unprotected.get(_CHAIN_LABEL),
        payload,
        cbor2.dumps(["Signature1", protected, b"", payload]),
        signature,
    )


def _load_cbor(data: bytes) -> Any:  # noqa: ANN401 (CBOR)
    stream = BytesIO(data)
    try:
        value = cbor2.CBORDecoder(
            stream,
            semantic_decoders=_NO_TAGS,
            max_depth=_MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        ).decode()
    except (cbor2.CBORError, ValueError, TypeError, MemoryError, OverflowError):
        raise SignatureError("unreadable: the envelope is not valid CBOR") from None
    if stream.read(1):
        raise SignatureError("unreadable: the envelope is not valid CBOR")
    return value


def _time(value: object) -> datetime:
    """Return a time from a header: RFC 3339 in JWS, decoded from its tag in COSE. Raises SignatureError."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(time, datetime) and time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise SignatureError("with a time that is missing or not valid")


def _check_target(payload: bytes, subject: Subject) -> None:
    try:
        target = parse_object(payload, "the payload").get("targetArtifact")
    except DocumentError as error:
        raise SignatureError(f"unreadable: {error}") from None
    if not isinstance(target, dict) or target.get("digest") != str(subject.digest):
        raise SignatureError("for another image")
    if target.get("size") != len(subject.data):
        raise SignatureError("for another image")
