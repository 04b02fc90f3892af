"""Which delivery a token gets, by the policies of server and organization and the scheduler's wish."""

import pytest

from registry.errors import ConflictError
from registry.model.encryption import Encryption, choose_encryption, policy_for

NONE, PREFERRED, REQUIRED = Encryption.NONE, Encryption.PREFERRED, Encryption.REQUIRED


@pytest.mark.parametrize(
    ("server", "own", "effective"),
    [
        (NONE, None, NONE),
        (PREFERRED, None, PREFERRED),
        (REQUIRED, None, REQUIRED),
        (NONE, REQUIRED, REQUIRED),
        (NONE, PREFERRED, PREFERRED),
        (PREFERRED, NONE, NONE),
        (PREFERRED, REQUIRED, REQUIRED),
        (REQUIRED, NONE, REQUIRED),
        (REQUIRED, PREFERRED, REQUIRED),
    ],
)
def test_an_organization_chooses_unless_the_server_requires(
    server: Encryption, own: Encryption | None, effective: Encryption
) -> None:
    assert policy_for(server, own) is effective


@pytest.mark.parametrize("policy", [NONE, PREFERRED])
@pytest.mark.parametrize("asked", [None, NONE, PREFERRED, REQUIRED])
def test_the_scheduler_chooses_where_plaintext_is_allowed(
    policy: Encryption, asked: Encryption | None
) -> None:
    assert choose_encryption(policy, asked) is (asked or policy)


@pytest.mark.parametrize("asked", [None, PREFERRED, REQUIRED])
def test_a_required_policy_allows_nothing_else(asked: Encryption | None) -> None:
    assert choose_encryption(REQUIRED, asked) is REQUIRED


def test_plaintext_is_refused_under_a_required_policy() -> None:
    with pytest.raises(ConflictError, match="delivered encrypted only"):
        choose_encryption(REQUIRED, NONE)
