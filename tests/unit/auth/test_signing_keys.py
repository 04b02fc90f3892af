import json
import stat
from pathlib import Path

import pytest

from auth.errors import KeyMaterialError
from auth.signing_keys import LocalSigningKeys


def test_created_keys_are_private_files_and_load_again(tmp_path: Path) -> None:
    folder = tmp_path / "signing-keys"
    made = LocalSigningKeys.create(folder)
    loaded = LocalSigningKeys.load(folder)
    (path,) = folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert made.verification_keys.jwks() == loaded.verification_keys.jwks()


def test_the_jwk_set_holds_public_members_only(tmp_path: Path) -> None:
    (key,) = LocalSigningKeys.create(tmp_path).verification_keys.jwks()["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")


def test_keys_are_never_made_over_others(tmp_path: Path) -> None:
    LocalSigningKeys.create(tmp_path)
    with pytest.raises(KeyMaterialError):
        LocalSigningKeys.create(tmp_path)


def test_every_state_verifies_and_one_key_signs(tmp_path: Path) -> None:
    for number, state in enumerate(("published", "signing", "verifying")):
        LocalSigningKeys.create(tmp_path / str(number))
        (path,) = (tmp_path / str(number)).iterdir()
        record = {**json.loads(path.read_text()), "state": state}
        path.write_text(json.dumps(record))
        (tmp_path / "all").mkdir(exist_ok=True)
        path.rename(tmp_path / "all" / path.name)
    keys = LocalSigningKeys.load(tmp_path / "all")
    assert len(keys.verification_keys.jwks()["keys"]) == 3


@pytest.mark.parametrize("harm", ["exposed", "renamed", "cut", "no signer", "two signers", "gone"])
def test_harmed_keys_are_refused(tmp_path: Path, harm: str) -> None:
    LocalSigningKeys.create(tmp_path)
    (path,) = tmp_path.iterdir()
    if harm == "exposed":
        path.chmod(0o640)
    elif harm == "renamed":
        path.rename(tmp_path / "other.json")
    elif harm == "cut":
        path.write_text(path.read_text()[:100])
    elif harm == "no signer":
        path.write_text(path.read_text().replace("signing", "verifying"))
    elif harm == "two signers":
        LocalSigningKeys.create(tmp_path / "more")
        (other,) = (tmp_path / "more").iterdir()
        other.rename(tmp_path / other.name)
    else:
        path.unlink()
    with pytest.raises(KeyMaterialError):
        LocalSigningKeys.load(tmp_path)
