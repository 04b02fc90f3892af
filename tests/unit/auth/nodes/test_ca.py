import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from auth.errors import KeyMaterialError
from auth.nodes.ca import NodeCA


def test_a_ca_is_made_once_and_loads_again(tmp_path: Path) -> None:
    made = NodeCA.create(tmp_path / "ca")
    assert NodeCA.load(tmp_path / "ca").certificate == made.certificate
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "ca").iterdir()} == {0o600}
    with pytest.raises(KeyMaterialError):
        NodeCA.create(tmp_path / "ca")


def test_the_certificate_may_sign_leaves_only_for_ten_years(tmp_path: Path) -> None:
    certificate = NodeCA.create(tmp_path).certificate
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc > timedelta(days=3652)
    certificate.verify_directly_issued_by(certificate)


def test_a_key_and_a_certificate_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    NodeCA.create(tmp_path / "a")
    NodeCA.create(tmp_path / "b")
    (tmp_path / "a" / "key.pem").rename(tmp_path / "b" / "key.pem")
    with pytest.raises(KeyMaterialError):
        NodeCA.load(tmp_path / "b")
    with pytest.raises(KeyMaterialError):
        NodeCA.load(tmp_path / "a")
