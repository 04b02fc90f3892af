import json
import stat
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from auth.errors import KeyMaterialError
from auth.signing_keys import (
    RETENTION_S,
    LocalPublicKeys,
    LocalSigningKeys,
    publish_key,
    read_keys,
    remove_key,
    thumbprint,
    write_public_parts,
)


def test_created_keys_are_private_files_and_load_again(tmp_path: Path) -> None:
    folder = tmp_path / "signing-keys"
    made = LocalSigningKeys.create(folder)
    loaded = LocalSigningKeys.load(folder)
    (path,) = folder.glob("*.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert made.verification_keys.jwks() == loaded.verification_keys.jwks()


def test_the_jwk_set_holds_public_members_only(tmp_path: Path) -> None:
    (key,) = LocalSigningKeys.create(tmp_path).verification_keys.jwks()["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")


def test_a_coordinate_that_begins_with_zeros_keeps_its_length_and_so_the_key_its_id() -> None:
    key = ec.derive_private_key(379, ec.SECP256R1()).public_key()
    assert key.public_numbers().x.bit_length() <= 248
    assert thumbprint(key) == "7Yxe6c_3bAa6kiaK1G-BZmi9EeNsUmlcbdnrtLeuK4E"


def test_keys_are_never_made_over_others(tmp_path: Path) -> None:
    LocalSigningKeys.create(tmp_path)
    with pytest.raises(KeyMaterialError):
        LocalSigningKeys.create(tmp_path)


def kid_of(keys: LocalSigningKeys) -> str:
    return str(jwt.get_unverified_header(keys.sign({"alg": "ES256", "typ": "pull+jwt"}, b"{}"))["kid"])


def test_a_key_is_published_then_signs_then_verifies_and_then_is_gone(tmp_path: Path) -> None:
    clock = [1_000_000.0]
    LocalSigningKeys.create(tmp_path)
    keys = LocalSigningKeys.load(tmp_path, lambda: clock[0])
    first = kid_of(keys)
    second = publish_key(tmp_path, signs_from=clock[0] + 360)
    assert keys.verification_keys.get(second) is None
    assert keys.refresh()
    assert not keys.refresh()

    def now(at: float) -> tuple[str, set[str], list[str]]:
        clock[0] = at
        keys.refresh()
        known = {key["kid"] for key in keys.verification_keys.jwks()["keys"]}
        return kid_of(keys), known, [key.state(at).value for key in read_keys(tmp_path, at)]

    both = {first, second}
    assert now(1_000_359) == (first, both, ["signing", "published"])
    assert now(1_000_360) == (second, both, ["verify-only", "signing"])
    assert now(1_000_360 + RETENTION_S - 1) == (second, both, ["verify-only", "signing"])
    assert now(1_000_360 + RETENTION_S) == (second, {second}, ["signing"])
    assert [path.stem for path in tmp_path.glob("*.json")] == [second]


def test_a_key_set_that_becomes_unsound_is_not_taken_up(tmp_path: Path) -> None:
    keys = LocalSigningKeys.create(tmp_path)
    before = kid_of(keys)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(KeyMaterialError):
        keys.refresh()
    assert kid_of(keys) == before


def test_keys_of_the_first_release_sign_from_the_beginning(tmp_path: Path) -> None:
    LocalSigningKeys.create(tmp_path)
    (path,) = tmp_path.glob("*.json")
    pem = json.loads(path.read_text())["private_key"]
    path.write_text(json.dumps({"state": "signing", "private_key": pem}))
    assert kid_of(LocalSigningKeys.load(tmp_path)) == path.stem


@pytest.mark.parametrize("harm", ["exposed", "renamed", "cut", "no signer", "gone"])
def test_harmed_keys_are_refused(tmp_path: Path, harm: str) -> None:
    LocalSigningKeys.create(tmp_path)
    (path,) = tmp_path.glob("*.json")
    if harm == "exposed":
        path.chmod(0o640)
    elif harm == "renamed":
        path.rename(tmp_path / "other.json")
    elif harm == "cut":
        path.write_text(path.read_text()[:100])
    elif harm == "no signer":
        record = {**json.loads(path.read_text()), "signs_from": 1e11}
        path.write_text(json.dumps(record))
    else:
        path.unlink()
    with pytest.raises(KeyMaterialError):
        LocalSigningKeys.load(tmp_path)


def test_the_public_part_follows_the_private_one(tmp_path: Path) -> None:
    clock = [1_000_000.0]
    LocalSigningKeys.create(tmp_path)
    signing = LocalSigningKeys.load(tmp_path, lambda: clock[0])
    public = LocalPublicKeys(tmp_path, lambda: clock[0])

    def agree() -> bool:
        signing.refresh()
        public.refresh()
        return signing.verification_keys.jwks() == public.verification_keys.jwks()

    first = kid_of(signing)
    assert agree()
    second = publish_key(tmp_path, signs_from=clock[0] + 360)
    assert public.refresh()
    assert agree()
    assert public.verification_keys.get(second) is not None
    clock[0] += 360 + RETENTION_S
    assert public.verification_keys.get(first) is None  # by its times alone
    assert agree()
    assert [path.stem for path in (tmp_path / "public").iterdir()] == [second]
    third = publish_key(tmp_path, signs_from=clock[0])
    remove_key(tmp_path, second)
    assert agree()
    assert [key["kid"] for key in public.verification_keys.jwks()["keys"]] == [third]


def test_no_private_key_is_in_the_public_folder_and_none_is_read_for_it(tmp_path: Path) -> None:
    made = LocalSigningKeys.create(tmp_path)
    (private,) = tmp_path.glob("*.json")
    (public,) = (tmp_path / "public").iterdir()
    assert "PRIVATE" not in public.read_text()
    assert stat.S_IMODE(public.stat().st_mode) == 0o600
    private.unlink()
    assert LocalPublicKeys(tmp_path).verification_keys.jwks() == made.verification_keys.jwks()


def test_missing_public_parts_are_written_and_left_ones_are_removed(tmp_path: Path) -> None:
    LocalSigningKeys.create(tmp_path)
    (public,) = (tmp_path / "public").iterdir()
    content = public.read_bytes()
    public.rename(public.with_name("left.json"))
    write_public_parts(tmp_path)
    assert list((tmp_path / "public").iterdir()) == [public]
    assert public.read_bytes() == content


@pytest.mark.parametrize("harm", ["renamed", "cut", "a private key", "no signer", "gone"])
def test_harmed_public_parts_are_refused(tmp_path: Path, harm: str) -> None:
    LocalSigningKeys.create(tmp_path)
    (private,) = tmp_path.glob("*.json")
    (path,) = (tmp_path / "public").iterdir()
    if harm == "renamed":
        path.rename(path.with_name("other.json"))
    elif harm == "cut":
        path.write_text(path.read_text()[:100])
    elif harm == "a private key":
        pem = json.loads(private.read_text())["private_key"]
        path.write_text(json.dumps({"signs_from": 0, "public_key": pem}))
    elif harm == "no signer":
        path.write_text(json.dumps({**json.loads(path.read_text()), "signs_from": 1e11}))
    else:
        path.unlink()
    with pytest.raises(KeyMaterialError):
        LocalPublicKeys(tmp_path)
