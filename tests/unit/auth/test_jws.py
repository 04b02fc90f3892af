import base64
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from auth.claims import read_pull_claims, read_session_claims
from auth.errors import Cause, RefusedError
from auth.jws import TokenType, sign, verify
from auth.signing_keys import LocalSigningKeys

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ISSUER, SERVICE = "https://registry.test", "registry.test"
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "sub": "node-1",
    "aud": SERVICE,
    "jti": "A" * 22,
    "iat": int(NOW.timestamp()),
    "nbf": int(NOW.timestamp()),
    "exp": int(NOW.timestamp()) + 600,
    "access": [{"type": "repository", "name": "acme/factory/camera", "actions": ["pull"]}],
    "img": "sha256:" + "0" * 64,
    "org": "acme",
}
Forge = Callable[[LocalSigningKeys, LocalSigningKeys], str]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> LocalSigningKeys:
    return LocalSigningKeys.create(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> LocalSigningKeys:
    return LocalSigningKeys.create(tmp_path_factory.mktemp("foreign"))


def read(keys: LocalSigningKeys, token: str, now: datetime = NOW) -> object:
    payload = verify(
        keys.verification_keys, token, type_=TokenType.PULL, issuer=ISSUER, audience=SERVICE, now=now
    )
    return read_pull_claims(payload)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def kid(keys: LocalSigningKeys) -> str:
    return keys.verification_keys.jwks()["keys"][0]["kid"]


def said(**changes: object) -> Forge:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    return lambda keys, _: sign(keys, TokenType.PULL, claims).reveal()


def headed(**changes: object) -> Forge:
    """Sign honestly under a header that says more, or something else."""

    def forge(keys: LocalSigningKeys, _: LocalSigningKeys) -> str:
        header = {"alg": "ES256", "typ": "pull+jwt", "kid": kid(keys), **changes}
        signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(CLAIMS).encode())}"
        signature = ECAlgorithm(ECAlgorithm.SHA256).sign(signed.encode(), keys.keys[-1].private)
        return f"{signed}.{b64(signature)}"

    return forge


def raw(payload: str) -> Forge:
    return lambda keys, _: keys.sign({"alg": "ES256", "typ": "pull+jwt"}, payload.encode())


def unsigned(keys: LocalSigningKeys, _: LocalSigningKeys) -> str:
    header = {"alg": "none", "typ": "pull+jwt", "kid": kid(keys)}
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(CLAIMS).encode())}."


def hmac_with_the_public_key(keys: LocalSigningKeys, _: LocalSigningKeys) -> str:
    public = keys.verification_keys.get(kid(keys))
    assert public is not None
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": "HS256", "typ": "pull+jwt", "kid": kid(keys)}
    signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(CLAIMS).encode())}"
    return f"{signed}.{b64(hmac.digest(pem, signed.encode(), 'sha256'))}"


def foreign_kid(_: LocalSigningKeys, foreign: LocalSigningKeys) -> str:
    return sign(foreign, TokenType.PULL, CLAIMS).reveal()


def own_kid_foreign_key(keys: LocalSigningKeys, foreign: LocalSigningKeys) -> str:
    honest = sign(keys, TokenType.PULL, CLAIMS).reveal().split(".")
    return ".".join([*honest[:2], sign(foreign, TokenType.PULL, CLAIMS).reveal().split(".")[2]])


def own_kid_attacker_jwk(keys: LocalSigningKeys, foreign: LocalSigningKeys) -> str:
    jwk = foreign.verification_keys.jwks()["keys"][0]
    header = {"alg": "ES256", "typ": "pull+jwt", "jwk": jwk, "kid": kid(keys)}
    parts = foreign.sign({"alg": "ES256", "typ": "pull+jwt"}, json.dumps(CLAIMS).encode()).split(".")
    return ".".join([b64(json.dumps(header).encode()), *parts[1:]])


def tampered_payload(keys: LocalSigningKeys, _: LocalSigningKeys) -> str:
    header, _payload, signature = sign(keys, TokenType.PULL, CLAIMS).reveal().split(".")
    return f"{header}.{b64(json.dumps({**CLAIMS, 'sub': 'node-2'}).encode())}.{signature}"


def tampered_signature(keys: LocalSigningKeys, _: LocalSigningKeys) -> str:
    token = sign(keys, TokenType.PULL, CLAIMS).reveal()
    return token[:-10] + ("A" if token[-10] != "A" else "B") + token[-9:]


def duplicate_header(keys: LocalSigningKeys, _: LocalSigningKeys) -> str:
    header, *rest = sign(keys, TokenType.PULL, CLAIMS).reveal().split(".")
    text = base64.urlsafe_b64decode(header + "==").decode()
    return ".".join([b64(text.replace("{", '{"alg":"none",', 1).encode()), *rest])


@pytest.mark.parametrize(
    ("forge", "cause"),
    [
        pytest.param(unsigned, Cause.FORGED, id="alg none"),
        pytest.param(hmac_with_the_public_key, Cause.FORGED, id="HS256 with the public key"),
        pytest.param(foreign_kid, Cause.FORGED, id="foreign kid"),
        pytest.param(own_kid_foreign_key, Cause.FORGED, id="own kid, foreign signature"),
        pytest.param(own_kid_attacker_jwk, Cause.FORGED, id="own kid with attacker jwk"),
        pytest.param(headed(jku="https://evil.test"), Cause.FORGED, id="jku"),
        pytest.param(headed(x5c=["AA"]), Cause.FORGED, id="x5c"),
        pytest.param(headed(x5u="https://evil.test"), Cause.FORGED, id="x5u"),
        pytest.param(headed(crit=["exp"]), Cause.FORGED, id="crit"),
        pytest.param(headed(typ="at+jwt"), Cause.FORGED, id="bearer as password"),
        pytest.param(headed(typ="JWT"), Cause.FORGED, id="plain typ"),
        pytest.param(headed(typ="PULL+JWT"), Cause.FORGED, id="typ in another case"),
        pytest.param(tampered_payload, Cause.FORGED, id="tampered payload"),
        pytest.param(tampered_signature, Cause.FORGED, id="tampered signature"),
        pytest.param(duplicate_header, Cause.MALFORMED, id="duplicate header key"),
        pytest.param(
            raw(json.dumps(CLAIMS)[:-1] + ',"sub":"node-2"}'), Cause.MALFORMED, id="duplicate claim"
        ),
        pytest.param(raw("[]"), Cause.MALFORMED, id="not an object"),
        pytest.param(raw("[" * 3000), Cause.MALFORMED, id="deeply nested"),
        pytest.param(said(iss="https://other.test"), Cause.FORGED, id="wrong iss"),
        pytest.param(said(aud="other.test"), Cause.FORGED, id="wrong aud"),
        pytest.param(said(aud=[SERVICE, "x"]), Cause.FORGED, id="aud is a list"),
        pytest.param(said(iss=None), Cause.FORGED, id="no iss"),
        pytest.param(said(exp=None), Cause.MALFORMED, id="no exp"),
        pytest.param(said(exp=1e12), Cause.MALFORMED, id="exp is no integer"),
        pytest.param(said(exp=CLAIMS["iat"] + 3 * 86_400), Cause.MALFORMED, id="exp too far"),
        pytest.param(said(nbf=CLAIMS["nbf"] + 31), Cause.NOT_YET_VALID, id="not yet valid"),
        pytest.param(said(iat=CLAIMS["iat"] + 31), Cause.NOT_YET_VALID, id="issued in the future"),
        pytest.param(said(sub=None), Cause.MALFORMED, id="no sub"),
        pytest.param(said(sub=7), Cause.MALFORMED, id="sub is no string"),
        pytest.param(said(jti="a b"), Cause.MALFORMED, id="jti outside its alphabet"),
        pytest.param(said(access=[]), Cause.MALFORMED, id="no access"),
        pytest.param(said(access=CLAIMS["access"] * 2), Cause.MALFORMED, id="two repositories"),
        pytest.param(
            said(access=[{**CLAIMS["access"][0], "actions": ["pull", "push"]}]), Cause.MALFORMED, id="push"
        ),
        pytest.param(said(img="latest"), Cause.MALFORMED, id="image is no digest"),
        pytest.param(lambda *_: "A" * 65_536 + ".A.A", Cause.MALFORMED, id="64 KB header"),
        pytest.param(lambda *_: "a.b", Cause.MALFORMED, id="two segments"),
        pytest.param(lambda *_: "a.b.c.d.e", Cause.MALFORMED, id="a JWE"),
        pytest.param(lambda *_: "é.b.c", Cause.MALFORMED, id="not ASCII"),
        pytest.param(lambda *_: "", Cause.MALFORMED, id="nothing"),
    ],
)
def test_forgeries_are_refused_for_their_true_cause(
    keys: LocalSigningKeys, foreign: LocalSigningKeys, forge: Forge, cause: Cause
) -> None:
    with pytest.raises(RefusedError) as refusal:
        read(keys, forge(keys, foreign))
    assert refusal.value.cause is cause


def test_an_honest_token_says_what_was_signed(keys: LocalSigningKeys, foreign: LocalSigningKeys) -> None:
    claims = read(keys, said()(keys, foreign), NOW + timedelta(hours=3))
    assert claims == read(keys, said()(keys, foreign))
    payload = verify(
        keys.verification_keys,
        said()(keys, foreign),
        type_=TokenType.PULL,
        issuer=ISSUER,
        audience=SERVICE,
        now=NOW - timedelta(seconds=30),
    )
    pull = read_pull_claims(payload)
    assert (pull.node_id, pull.repository, pull.token_id) == ("node-1", "acme/factory/camera", "A" * 22)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
@pytest.mark.parametrize(("seconds", "cause"), [(29, None), (30, None), (31, Cause.NOT_YET_VALID)])
def test_a_clock_that_is_behind_the_authority_is_forgiven_thirty_seconds(
    keys: LocalSigningKeys, claim: str, seconds: int, cause: Cause | None
) -> None:
    at = {"iat": int(NOW.timestamp()), "nbf": int(NOW.timestamp()), claim: int(NOW.timestamp()) + seconds}
    token = sign(keys, TokenType.PULL, {**CLAIMS, **at, "exp": int(NOW.timestamp()) + 600}).reveal()
    if cause is None:
        read(keys, token)
        return
    with pytest.raises(RefusedError) as refusal:
        read(keys, token)
    assert refusal.value.cause is cause


def test_thirty_seconds_of_clock_skew_are_allowed_to_a_bearer_only(
    keys: LocalSigningKeys,
) -> None:
    end = NOW + timedelta(seconds=600)
    bearer = sign(keys, TokenType.SESSION, {**CLAIMS, "sid": "B" * 22}).reveal()
    payload = verify(
        keys.verification_keys, bearer, type_=TokenType.SESSION, issuer=ISSUER, audience=SERVICE, now=end
    )
    claims = read_session_claims(payload)
    assert not claims.expired(end + timedelta(seconds=30))
    assert claims.expired(end + timedelta(seconds=31))
    pull = sign(keys, TokenType.PULL, CLAIMS).reveal()
    assert read(keys, pull, end + timedelta(days=1)) == read(keys, pull)


def test_a_pull_token_is_no_bearer(keys: LocalSigningKeys) -> None:
    token = sign(keys, TokenType.PULL, {**CLAIMS, "sid": "B" * 22}).reveal()
    with pytest.raises(RefusedError) as refusal:
        verify(
            keys.verification_keys, token, type_=TokenType.SESSION, issuer=ISSUER, audience=SERVICE, now=NOW
        )
    assert refusal.value.cause is Cause.FORGED


def test_a_login_bearer_has_no_access(keys: LocalSigningKeys) -> None:
    login = {**CLAIMS, "access": [], "img": None}
    token = sign(keys, TokenType.SESSION, login).reveal()
    payload = verify(
        keys.verification_keys, token, type_=TokenType.SESSION, issuer=ISSUER, audience=SERVICE, now=NOW
    )
    claims = read_session_claims(payload)
    assert (claims.repository, claims.session_id, claims.image_digest) == (None, None, None)
    with pytest.raises(RefusedError):
        read_session_claims(type(payload)({**payload, "access": CLAIMS["access"]}))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(min_value=0), replacement=st.sampled_from("AZaz09-_.~"))
def test_no_single_changed_character_says_anything_else(
    keys: LocalSigningKeys, position: int, replacement: str
) -> None:
    token = sign(keys, TokenType.PULL, CLAIMS).reveal()
    position %= len(token)
    changed = token[:position] + replacement + token[position + 1 :]
    try:
        claims = read(keys, changed)
    except RefusedError:
        return
    assert claims == read(keys, token)


def test_two_signatures_of_one_token_name_the_same_token(keys: LocalSigningKeys) -> None:
    one, other = (sign(keys, TokenType.PULL, CLAIMS).reveal() for _ in range(2))
    assert one != other
    assert read(keys, one) == read(keys, other)
    assert len(one) < 1024
