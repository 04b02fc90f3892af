import json
from typing import Any

import pytest

from registry.errors import DocumentError
from registry.oci.attachments import Attachments, subject_tag
from registry.oci.documents import MAX_ANNOTATIONS_CHARS, MAX_ARTIFACT_BLOBS, parse_artifact
from registry.oci.mediatypes import OCI_INDEX, OCI_MANIFEST
from storage.digest import Digest

SUBJECT = Digest.of(b"subject")
BLOB = {"mediaType": "application/spdx+json", "digest": str(Digest.of(b"sbom")), "size": 4}


def manifest(**fields: Any) -> bytes:  # noqa: ANN401 - whatever a stranger may send
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.example",
        "config": BLOB | {"mediaType": "application/vnd.config"},
        "layers": [BLOB],
        "subject": {"mediaType": OCI_MANIFEST, "digest": str(SUBJECT), "size": 7},
        "annotations": {"a": "b"},
    }
    document |= fields
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


def test_an_artifact_tells_its_type_its_subject_and_its_blobs() -> None:
    artifact = parse_artifact(manifest(), OCI_MANIFEST)
    assert (artifact.artifact_type, artifact.subject) == ("application/vnd.example", SUBJECT)
    assert artifact.annotations == {"a": "b"}
    assert [str(blob.digest) for blob in artifact.blobs] == [BLOB["digest"]]


def test_without_an_artifact_type_the_config_tells_it() -> None:
    assert parse_artifact(manifest(artifactType=None)).artifact_type == "application/vnd.config"


def test_annotations_over_the_limit_are_left_out() -> None:
    assert parse_artifact(manifest(annotations={"a": "b" * MAX_ANNOTATIONS_CHARS})).annotations == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"artifactType": "no type"},
        {"artifactType": 7},
        {"subject": "sha256:0"},
        {"annotations": {"a": 1}},
        {"annotations": []},
        {"layers": None},
        {"layers": [BLOB] * (MAX_ARTIFACT_BLOBS + 1)},
        {"config": None},
        {"mediaType": OCI_INDEX, "manifests": [], "layers": None, "config": None},
    ],
)
def test_what_is_no_artifact_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        parse_artifact(manifest(**fields))


def test_a_record_is_read_as_it_was_written() -> None:
    record = Attachments(tags={subject_tag(SUBJECT, ".sig"): str(SUBJECT)})
    record.refer(parse_artifact(manifest()), Digest.of(b"artifact"), 9)
    again = Attachments.parse(record.dump())
    assert again == record
    assert again.tagged(f"sha256-{SUBJECT.hex}.sig") == SUBJECT
    assert again.tagged("latest") is None
    (entry,) = json.loads(again.index(SUBJECT, "application/vnd.example"))["manifests"]
    assert entry["digest"] == str(Digest.of(b"artifact"))
    assert json.loads(again.index(SUBJECT, "application/other"))["manifests"] == []
    assert json.loads(again.index(Digest.of(b"other"), None))["manifests"] == []


@pytest.mark.parametrize("data", [b"{}", b"[]", b'{"referrers": 1, "tags": {}}'])
def test_anything_else_is_no_record(data: bytes) -> None:
    with pytest.raises(DocumentError):
        Attachments.parse(data)
