"""Signatures, SBOMs and attestations come along with an image, and are found by API and by tag."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha512
from pathlib import Path
from typing import Any

import pytest

from tests.integration.server.conftest import Shop
from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer
from tests.support.http import request
from tests.support.images import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, digest_of
from tests.support.static_registry import StaticRegistry

SBOM = "application/spdx+json"
SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"
NAME = "acme/signed"
Answers = dict[str, tuple[str, bytes]]


def dumped(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def described(data: bytes, media_type: str, algorithm: str = "sha256") -> dict[str, Any]:
    digest = digest_of(data) if algorithm == "sha256" else f"sha512:{sha512(data).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def put(answers: Answers, kind: str, reference: str, data: bytes, media_type: str) -> None:
    answers[f"{NAME}/{kind}/{reference}"] = (media_type, data)


def attach(answers: Answers, subject: images.Image, artifact_type: str, payload: bytes) -> dict[str, Any]:
    """Serve an artifact that refers to an image, and return its entry in a list of referrers."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": described(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [described(payload, artifact_type)],
        "subject": described(subject.manifest, subject.media_type),
        "annotations": {"made.by": "the tests"},
    }
    manifest = dumped(document)
    put(answers, "manifests", digest_of(manifest), manifest, OCI_MANIFEST)
    for blob in (b"{}", payload):
        put(answers, "blobs", digest_of(blob), blob, "application/octet-stream")
    entry = described(manifest, OCI_MANIFEST)
    return entry | {"artifactType": artifact_type, "annotations": document["annotations"]}


def listed(*entries: dict[str, Any]) -> bytes:
    return dumped({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)})


def served(image: images.Image) -> Answers:
    answers: Answers = {}
    for each in (image, *image.children):
        put(answers, "manifests", each.digest, each.manifest, each.media_type)
    put(answers, "manifests", "latest", image.manifest, image.media_type)
    for digest, blob in image.blobs.items():
        put(answers, "blobs", digest, blob, "application/octet-stream")
    return answers


@pytest.fixture(scope="module")
def signed() -> Iterator[StaticRegistry]:
    """An index with an SBOM by the referrers API, a signature by cosign's tag, and what must stay behind.

    The index has its list at the referrers API; its first manifest has one under the tag that clients
    keep where there is no API.
    """
    index = images.multi_platform()
    amd64 = index.children[0]
    answers = served(index)
    sbom = attach(answers, index, SBOM, b'{"spdxVersion": "SPDX-2.3"}')
    other = attach(answers, index, "application/vnd.example+json", b"other")
    too_large = attach(answers, index, SBOM, bytes(9 << 20))
    foreign = attach(answers, amd64, SBOM, b"of another subject")
    missing = sbom | {"digest": "sha256:" + "0" * 64}
    referrers = listed(sbom, other, too_large, foreign, missing)
    put(answers, "referrers", index.digest, referrers, OCI_INDEX)

    of_amd64 = attach(answers, amd64, SBOM, b"of the manifest")
    put(answers, "manifests", amd64.digest.replace(":", "-"), listed(of_amd64), OCI_INDEX)

    signature = attach(answers, index, SIGNATURE, b"signed")
    _, data = answers[f"{NAME}/manifests/{signature['digest']}"]
    put(answers, "manifests", index.digest.replace(":", "-") + ".sig", data, OCI_MANIFEST)
    with StaticRegistry(answers) as registry:
        yield registry


@dataclass(frozen=True)
class Wide:
    """An image all of whose digests are sha512, at a registry of its own."""

    host: str
    digest: str


@pytest.fixture(scope="module")
def wide() -> Iterator[Wide]:
    layer = images.runnable().layers[0].gzipped
    config = dumped({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}})
    of_config, of_layer = (
        described(config, OCI_CONFIG, "sha512"),
        described(layer, OCI_LAYER, "sha512"),
    )
    manifest = dumped(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": of_config, "layers": [of_layer]}
    )
    digest = described(manifest, OCI_MANIFEST, "sha512")["digest"]
    answers: Answers = {}
    put(answers, "manifests", digest, manifest, OCI_MANIFEST)
    for each, data in ((of_config, config), (of_layer, layer)):
        put(answers, "blobs", each["digest"], data, "application/octet-stream")
    with StaticRegistry(answers) as registry:
        yield Wide(registry.host, digest)


@pytest.fixture(scope="module")
def attached(tmp_path_factory: pytest.TempPathFactory, signed: StaticRegistry, wide: Wide) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("attached") / "server"
    with CrisperServer(folder, insecure_registries=[signed.host, wide.host]) as server:
        organization = server.operator.create_organization()
        group = server.customer(organization).import_image(f"{signed.host}/{NAME}:latest")
        node = server.operator.create_node()
        yield Shop(server, organization, node, group, images.multi_platform())


def test_what_refers_to_an_image_is_listed_and_can_be_pulled(attached: Shop) -> None:
    token = attached.mint()
    bearer = attached.bearer(token)
    answer = attached.get(f"referrers/{attached.image.digest}", bearer).expect(200)
    assert answer.headers["Content-Type"] == OCI_INDEX
    assert answer.headers["OCI-Filters-Applied"] is None
    entries = answer.json()["manifests"]
    assert [entry["artifactType"] for entry in entries] == [SBOM, "application/vnd.example+json"]
    assert all(entry["annotations"] == {"made.by": "the tests"} for entry in entries)
    for entry in entries:
        manifest = attached.get(f"manifests/{entry['digest']}", bearer).expect(200)
        assert (digest_of(manifest.body), len(manifest.body)) == (entry["digest"], entry["size"])
        for blob in (manifest.json()["config"], *manifest.json()["layers"]):
            body = attached.get(f"blobs/{blob['digest']}", bearer).expect(200).body
            assert digest_of(body) == blob["digest"]
    assert attached.causes(token) == []
    assert attached.server.operator.token_state(token) == "active"


def test_referrers_are_filtered_by_their_type(attached: Shop) -> None:
    bearer = attached.bearer()
    path = f"referrers/{attached.image.digest}?artifactType="
    one = attached.get(path + "application/spdx%2Bjson", bearer).expect(200)
    assert one.headers["OCI-Filters-Applied"] == "artifactType"
    assert [entry["artifactType"] for entry in one.json()["manifests"]] == [SBOM]
    none = attached.get(path + "application/nothing", bearer).expect(200)
    assert none.json()["manifests"] == []
    head = attached.get(path + "application/spdx%2Bjson", bearer, method="HEAD").expect(200)
    assert (head.body, head.headers["Content-Length"]) == (b"", str(len(one.body)))


def test_the_list_that_clients_keep_under_a_tag_is_taken_for_the_api(attached: Shop) -> None:
    amd64 = attached.image.children[0]
    entries = attached.get(f"referrers/{amd64.digest}", attached.bearer()).expect(200).json()["manifests"]
    assert [entry["artifactType"] for entry in entries] == [SBOM]


def test_a_signature_is_found_by_the_tag_that_cosign_makes(attached: Shop) -> None:
    bearer = attached.bearer()
    tag = attached.image.digest.replace(":", "-")
    signature = attached.get(f"manifests/{tag}.sig", bearer).expect(200)
    assert signature.json()["artifactType"] == SIGNATURE
    attached.get(f"manifests/{tag}.att", bearer).expect(404)


def test_an_unknown_subject_has_no_referrers_and_a_malformed_one_is_400(attached: Shop) -> None:
    bearer = attached.bearer()
    empty = attached.get("referrers/sha256:" + "0" * 64, bearer).expect(200).json()
    assert empty == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    refused = attached.get("referrers/latest", bearer).expect(400).json()
    assert refused["errors"][0]["code"] == "DIGEST_INVALID"
    attached.get(f"referrers/{attached.image.digest}", bearer, repository="rival/default/web").expect(403)
    attached.get(f"referrers/{attached.image.digest}", None).expect(401)


def test_a_session_completes_without_the_images_attachments(attached: Shop) -> None:
    token = attached.mint()
    bearer = attached.bearer(token)
    amd64 = json.loads(attached.image.children[0].manifest)
    for blob in (amd64["config"], *amd64["layers"]):
        attached.get(f"blobs/{blob['digest']}", bearer).expect(200)
    shown = attached.server.operator.call("GET", f"/pull-tokens/{token.token_id}").expect(200).json()
    assert shown["session"]["bytes_delivered"] == sum(
        blob["size"] for blob in (amd64["config"], *amd64["layers"])
    )
    attached.get(f"referrers/{attached.image.digest}", bearer).expect(200)


def test_an_image_of_sha512_digests_is_imported_and_served(attached: Shop, wide: Wide) -> None:
    server, organization = attached.server, attached.organization
    group = server.customer(organization).import_image(f"{wide.host}/{NAME}@{wide.digest}")
    shop = Shop(server, organization, attached.node, group, attached.image)
    token = shop.mint()
    bearer = shop.bearer(token)
    assert token.digest == wide.digest
    manifest = shop.get("manifests/latest", bearer).expect(200)
    assert manifest.headers["Docker-Content-Digest"] == wide.digest
    assert f"sha512:{sha512(manifest.body).hexdigest()}" == wide.digest
    assert shop.get(f"manifests/{wide.digest}", bearer).expect(200).body == manifest.body
    for blob in (manifest.json()["config"], *manifest.json()["layers"]):
        answer = shop.get(f"blobs/{blob['digest']}", bearer).expect(200)
        assert f"sha512:{sha512(answer.body).hexdigest()}" == blob["digest"]
        part = shop.get(f"blobs/{blob['digest']}", bearer, Range="bytes=1-5").expect(206)
        assert part.body == answer.body[1:6]


def test_what_is_stated_about_an_image_is_shown_with_each_platform(attached: Shop) -> None:
    shown = attached.server.operator.call("GET", f"/images?digest={attached.image.digest}").expect(200).json()
    [amd64] = shown["items"]
    assert amd64["provenance"] == {
        "builder": images.PROVENANCE["builder"]["id"],  # type: ignore[index]
        "source": "https://github.com/acme/app",
    }
    assert amd64["base_image"] is None
    assert [(each["media_type"], each["attested"]) for each in amd64["sboms"]] == [
        ("application/spdx+json", False),
        ("text/spdx", False),
        ("application/spdx+json", True),
    ]
    text = command(attached, "image", "show", attached.image.digest).stdout
    assert "https://ci.example/builds/7 from https://github.com/acme/app (stated, not verified)" in text
    assert text.count("spdx, ") == 3


def test_an_attestation_of_buildkit_can_be_pulled_as_the_index_names_it(attached: Shop) -> None:
    attestation = attached.image.children[2]
    bearer = attached.bearer()
    pulled = attached.get(f"manifests/{attestation.digest}", bearer).expect(200)
    assert pulled.body == attestation.manifest
    for blob in pulled.json()["layers"]:
        attached.get(f"blobs/{blob['digest']}", bearer).expect(200)


def command(shop: Shop, *argv: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "CRISPER_DATA_DIR": str(shop.server.data_dir)}
    return subprocess.run(
        [str(CRISPER), *argv], capture_output=True, text=True, env=env, timeout=60, check=False
    )


def test_a_bill_of_materials_is_downloaded_by_api_and_by_command(attached: Shop, tmp_path: Path) -> None:
    digest, organization = attached.image.digest, attached.organization.name
    path = f"/images/{digest}/sbom"
    found = attached.server.operator.call("GET", path + "?format=spdx").expect(200)
    assert found.json() == {"spdxVersion": "SPDX-2.3"}
    assert found.headers["Content-Type"] == "application/spdx+json"
    name = digest.removeprefix("sha256:")[:12]
    assert found.headers["Content-Disposition"] == f'attachment; filename="{name}.spdx.json"'
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    written = tmp_path / "bill.json"
    done = command(attached, "image", "sbom", digest, "-o", organization, "--output", str(written))
    assert done.returncode == 0, done.stderr
    assert written.read_bytes() == found.body
    assert command(attached, "image", "sbom", digest).stdout == found.body.decode()


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("{digest}/sbom?format=cyclonedx", 404, "The image has no SBOM in the format cyclonedx."),
        ("{digest}/sbom?organization_name=nobody", 404, "No image has this digest."),
        ("sha256:0/sbom", 404, "This is not a valid digest"),
        ("{digest}/sbom?format=other", 400, ""),
    ],
)
def test_a_bill_that_does_not_exist_is_refused(attached: Shop, path: str, status: int, detail: str) -> None:
    asked = "/images/" + path.format(digest=attached.image.digest)
    refused = attached.server.operator.call("GET", asked).expect(status)
    assert refused.json()["detail"].startswith(detail)


def test_a_bill_of_materials_needs_the_operators_key(attached: Shop) -> None:
    url = f"{attached.server.url}/api/v1/images/{attached.image.digest}/sbom"
    for headers in ({}, {"Authorization": f"Bearer {attached.organization.api_key}"}):
        refused = request("GET", url, headers=headers, tls=attached.server.trust)
        assert refused.status in (401, 403)
