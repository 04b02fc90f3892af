import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import ReferenceFormatError
from registry.hosts import split_host
from registry.oci.reference import Reference

HEX = "a" * 64

WORD = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
COMPONENT = st.lists(WORD, min_size=1, max_size=3).flatmap(
    lambda words: st.sampled_from([".", "_", "__", "-", "---"]).map(lambda glue: glue.join(words))
)
REPOSITORY = st.lists(COMPONENT, min_size=1, max_size=4).map("/".join)
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
REGISTRY = st.one_of(
    st.builds("{}.{}".format, LABEL, LABEL),
    st.builds("{}.{}:{}".format, LABEL, LABEL, st.integers(1, 65535)),
    st.builds("localhost:{}".format, st.integers(1, 65535)),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map("[{}]:5000".format),
)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
DIGEST = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("alpine", "docker.io", "library/alpine", "latest"),
        ("alpine:3.20", "docker.io", "library/alpine", "3.20"),
        ("acme/web", "docker.io", "acme/web", "latest"),
        ("docker.io/alpine", "docker.io", "library/alpine", "latest"),
        ("index.docker.io/acme/web:1", "docker.io", "acme/web", "1"),
        ("ghcr.io/acme/web:1", "ghcr.io", "acme/web", "1"),
        ("GHCR.io/acme/web", "ghcr.io", "acme/web", "latest"),
        ("localhost/web", "localhost", "web", "latest"),
        ("localhost:5000/web:1", "localhost:5000", "web", "1"),
        ("10.0.0.1:5000/a/b/c", "10.0.0.1:5000", "a/b/c", "latest"),
        ("[2001:db8::1]:5000/web:1", "[2001:db8::1]:5000", "web", "1"),
        ("[2001:DB8:0::1]/web", "[2001:db8::1]", "web", "latest"),
        ("quay.io/a_b/c__d/e---f.g", "quay.io", "a_b/c__d/e---f.g", "latest"),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(text: str, registry: str, repository: str, tag: str) -> None:
    reference = Reference.parse(text)
    assert (reference.registry, reference.repository, reference.tag) == (registry, repository, tag)
    assert reference.digest is None
    assert reference.identifier == tag


def test_a_digest_goes_before_a_tag_and_no_tag_is_made_up_beside_it() -> None:
    tagged = Reference.parse(f"ghcr.io/acme/web:1@sha256:{HEX}")
    bare = Reference.parse(f"ghcr.io/acme/web@sha256:{HEX}")
    assert tagged.identifier == bare.identifier == f"sha256:{HEX}"
    assert (tagged.tag, bare.tag) == ("1", None)


def test_docker_hub_is_spoken_to_at_its_registry_host() -> None:
    assert Reference.parse("alpine").host == "registry-1.docker.io"
    assert Reference.parse("ghcr.io/a/b").host == "ghcr.io"


@pytest.mark.parametrize("scheme", ["https://", "http://", "HTTPS://", "docker://", "oci://"])
def test_a_scheme_is_refused_with_the_advice_to_drop_it(scheme: str) -> None:
    with pytest.raises(ReferenceFormatError, match="remove "):
        Reference.parse(f"{scheme}ghcr.io/acme/web")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " alpine",
        "alpine ",
        "al\npine",
        "älpine",
        "Alpine",
        "acme/Web",
        "acme//web",
        "/web",
        "web/",
        "ghcr.io/",
        "ghcr.io/../web",
        "ghcr.io/acme/./web",
        "a..b/web/c.",
        "web:",
        "web:-1",
        "web:" + "x" * 129,
        "web:1:2",
        "web@sha256:short",
        f"web@md5:{HEX}",
        f"web@sha256:{HEX.upper()}",
        f"web@sha256:{HEX}@sha256:{HEX}",
        "web@",
        HEX,
        "ghcr.io:0/web",
        "ghcr.io:65536/web",
        "ghcr.io:/web",
        "ghcr.io:5000:1/web",
        "-bad.io/web",
        "bad-.io/web",
        "user@ghcr.io/web",
        "user:pass@ghcr.io/web",
        "[::1/web",
        "[::1]x/web",
        "[1:2]/web",
        "[fe80::1%eth0]/web",
        "ghcr.io/web?x=1",
        "ghcr.io/web#f",
        "ghcr.io/%2e%2e/web",
        "ghcr.io\\web",
        "a.io/" + "x" * 256,
        "x" * 2000,
        ("a" * 64) + ".io/web",
    ],
)
def test_what_docker_would_not_read_is_refused(text: str) -> None:
    with pytest.raises(ReferenceFormatError):
        Reference.parse(text)


@given(REGISTRY, REPOSITORY, st.none() | TAG, st.none() | DIGEST)
def test_every_well_formed_reference_comes_back_from_its_own_text(
    registry: str, repository: str, tag: str | None, digest: str | None
) -> None:
    text = f"{registry}/{repository}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    reference = Reference.parse(text)
    assert reference.repository == repository
    assert Reference.parse(str(reference)) == reference
    split_host(reference.host)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_never_anything_else(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ReferenceFormatError:
        return
    assert Reference.parse(str(reference)) == reference
    assert not set("?#%@\\ ") & set(reference.repository + reference.host)
