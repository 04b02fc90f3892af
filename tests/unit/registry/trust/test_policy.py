"""Which policy is for an image, and how its rules are combined."""

import fnmatch
import re
from datetime import UTC, datetime
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.reference import Reference
from registry.trust import glob
from registry.trust.judge import Judge
from registry.trust.policy import CosignKeyRule, Mode, Policy, Require, policy_for
from registry.trust.signatures import SimpleSigning, Subject, UnreadableSignature
from registry.trust.verdict import Verdict
from storage.digest import Digest
from tests.support.signing import PrivateKey, encoded, new_key, public_pem, sign, simple_payload

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "docker.io/library/alpine", True),
        ("ghcr.io/acme/*", "ghcr.io/acme/team/app", True),
        ("ghcr.io/acme/*", "ghcr.io/acme", False),
        ("ghcr.io/acme/*", "evil.io/ghcr.io/acme/app", False),
        ("ghcr.io/acme/app", "ghcr.io/acme/app2", False),
        ("ghcr.io/acme/app?", "ghcr.io/acme/app2", True),
        ("[::1]:5000/*", "[::1]:5000/app", True),
        ("gcr.io/[a-z]*", "gcr.io/app", False),
        ("", "a", False),
        ("**", "", True),
    ],
)
def test_patterns(pattern: str, name: str, *, expected: bool) -> None:
    assert glob.matches(pattern, name) is expected


@given(st.text("ab/*?", max_size=8), st.text("ab/", max_size=8))
def test_patterns_match_as_those_of_shells_without_classes(pattern: str, text: str) -> None:
    assert glob.matches(pattern, text) is fnmatch.fnmatchcase(text, pattern)


@pytest.mark.timeout(5)
def test_a_hostile_pattern_takes_no_long_time() -> None:
    assert not glob.matches("*a" * 256, "a" * 255 + "b" * 1024)


def policy(*keys: str, require: Require = Require.ANY, pattern: str = "*") -> Policy:
    return Policy(pattern, Mode.ENFORCE, require, tuple(map(CosignKeyRule, keys)))


def test_the_first_matching_policy_is_used() -> None:
    first, second = policy(pattern="ghcr.io/*"), policy(pattern="*")
    assert policy_for([first, second], ["ghcr.io/acme/app"]) is first
    assert policy_for([first, second], ["docker.io/library/alpine"]) is second
    assert policy_for([first], ["docker.io/library/alpine"]) is None


@pytest.mark.parametrize(
    ("pattern", "image"),
    [
        ("ghcr.io/acme/*", "ghcr.io:443/acme/app"),
        ("ghcr.io/acme/*", "GHCR.io:0443/acme/app:v1"),
        ("ghcr.io:443/acme/*", "ghcr.io:443/acme/app"),
        ("[::1]/*", "[0:0::1]:443/app"),
        ("docker.io/library/*", "alpine"),
        ("docker.io/library/*", "registry-1.docker.io/library/alpine"),
        ("docker.io/library/*", "index.docker.io:443/library/alpine"),
        ("docker.io/library/*", "registry.hub.docker.com/library/alpine"),
        ("registry-1.docker.io/*", "registry-1.docker.io/library/alpine"),
    ],
)
def test_another_name_of_the_same_registry_has_the_same_policy(pattern: str, image: str) -> None:
    first = policy(pattern=pattern)
    assert policy_for([first], Reference.parse(image).names) is first


@pytest.mark.parametrize("image", ["ghcr.io:8443/acme/app", "ghcr.io:4443/acme/app", "ghcr.io:80/acme/app"])
def test_another_port_is_another_registry(image: str) -> None:
    assert policy_for([policy(pattern="ghcr.io/*")], Reference.parse(image).names) is None


KEYS = [new_key() for _ in range(3)]
ROOT = Subject(Digest.of(b"index"), b"index")
PARTS = [Subject(Digest.of(data), data) for data in (b"amd64", b"arm64")]
DOCUMENTS = [ROOT, *PARTS]


def signature(key: PrivateKey, subject: Subject) -> SimpleSigning:
    payload = simple_payload(str(subject.digest))
    return SimpleSigning(payload, encoded(sign(key, payload)), keyless=False)


@given(
    st.sets(st.sampled_from(list(product(range(3), range(3))))),
    st.sampled_from(list(Require)),
    st.integers(0, 3),
)
def test_verdicts_follow_the_definition(signed: set[tuple[int, int]], require: Require, count: int) -> None:
    """A rule needs the index or all manifests; a policy needs any or all of its rules, and at least one."""
    rules = policy(*map(public_pem, KEYS[:count]), require=require)
    judge = Judge(rules, ROOT.digest, [part.digest for part in PARTS], NOW)
    for number, subject in enumerate(DOCUMENTS):
        judge.consider(subject, [signature(KEYS[key], subject) for key, of in signed if of == number])
    satisfied = [(key, 0) in signed or {(key, 1), (key, 2)} <= signed for key in range(count)]
    expected = bool(satisfied) and (any if require is Require.ANY else all)(satisfied)
    verdict = judge.verdict("acme")
    assert verdict.trusted is judge.accepts is expected
    assert verdict.refuses is not expected
    assert Verdict.load(verdict.dump()) == verdict
    assert len(verdict.signers) == len({key for key, _ in signed if key < count})


def test_a_signature_of_another_document_of_the_image_counts_for_that_document_only() -> None:
    rules = policy(public_pem(KEYS[0]))
    judge = Judge(rules, ROOT.digest, [part.digest for part in PARTS], NOW)
    judge.consider(PARTS[0], [signature(KEYS[0], ROOT)])
    assert not judge.accepts
    assert "1 for another image" in judge.verdict("acme").sentence


def test_an_image_without_documents_is_not_accepted() -> None:
    assert not Judge(policy(public_pem(KEYS[0])), ROOT.digest, [], NOW).accepts


def test_the_sentence_names_the_most_frequent_reasons_only() -> None:
    judge = Judge(policy(public_pem(KEYS[0])), ROOT.digest, [], NOW)
    judge.consider(ROOT, [UnreadableSignature(f"reason {n % 10}") for n in range(25)])
    sentence = judge.verdict("acme").sentence
    assert "(25 signatures found: 3 reason 0; 3 reason 1; 3 reason 2; 3 reason 3; 3 reason 4)" in sentence


def test_the_sentence_enumerates_a_few_names_only() -> None:
    keys = [public_pem(new_key()) for _ in range(7)]
    judge = Judge(policy(*keys, require=Require.ALL), ROOT.digest, [], NOW)
    assert re.search(
        r"missing: (cosign key sha256:\w+, ){4}cosign key sha256:\w+ and 2 more\)",
        judge.verdict("acme").sentence,
    )
