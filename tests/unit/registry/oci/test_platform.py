"""Names of platforms are normalized as in containerd (platforms/database.go)."""

import json

import pytest

from registry.errors import ReferenceFormatError
from registry.oci.documents import Descriptor, Index, parse_document
from registry.oci.mediatypes import OCI_INDEX, OCI_MANIFEST
from registry.oci.platform import MAX_PLATFORMS, Platform, parse_platforms
from registry.oci.platform_index import lists_only, platform_index
from storage.digest import Digest


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("Linux/x86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/i386", "linux/386"),
        ("linux/arm64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/arm/5", "linux/arm/v5"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/s390x", "linux/s390x"),
    ],
)
def test_a_platform_has_one_name(text: str, normal: str) -> None:
    assert str(Platform.parse(text)) == normal
    assert Platform.parse(normal) == Platform.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "linux", "amd64", "linux/", "/amd64", "linux/pentium", "beos/amd64", "linux/arm/v7/hard", "a/b c"],
)
def test_what_go_does_not_know_is_no_platform(text: str) -> None:
    with pytest.raises(ReferenceFormatError, match=r"is not a (known )?platform: use"):
        Platform.parse(text)


def test_a_list_of_platforms_counts_each_once_and_is_bounded() -> None:
    assert list(map(str, parse_platforms([" linux/arm64/v8", "linux/arm64", "linux/arm"]))) == [
        "linux/arm64",
        "linux/arm/v7",
    ]
    for listed in ([], [f"linux/amd64/v{n}" for n in range(MAX_PLATFORMS + 2)]):
        with pytest.raises(ReferenceFormatError, match=f"list 1 to {MAX_PLATFORMS} platforms"):
            parse_platforms(listed)


def test_an_index_of_platforms_is_valid_and_always_the_same() -> None:
    manifests = [
        (Descriptor(OCI_MANIFEST, Digest.of(name.encode()), 7), Platform.parse(name))
        for name in ("linux/amd64", "linux/arm/v7")
    ]
    data = platform_index(OCI_INDEX, manifests)
    assert data == platform_index(OCI_INDEX, manifests)
    parsed = parse_document(data, OCI_INDEX)
    assert isinstance(parsed, Index)
    assert [(entry.digest, entry.platform) for entry in parsed.manifests] == [
        (manifest.digest, platform) for manifest, platform in manifests
    ]
    assert "variant" not in json.loads(data)["manifests"][0]["platform"]
    assert lists_only(parsed, [manifest for manifest, _ in manifests])
    assert not lists_only(parsed, [manifests[0][0]])
