import pytest

from storage.digest import Digest
from storage.errors import DigestError

GOOD = "sha256:" + "0f" * 32


def test_a_digest_reads_back_and_tells_its_own_bytes_from_others() -> None:
    digest = Digest.parse(GOOD)
    assert str(digest) == GOOD
    assert Digest.of(b"blob").matches(b"blob")
    assert not Digest.of(b"blob").matches(b"blobs")
    assert len(Digest("sha512", "0f" * 64).hasher().hexdigest()) == 128


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        GOOD[:-1],
        GOOD + "0",
        GOOD.upper(),
        GOOD + "\n",
        " " + GOOD,
        "md5:" + "0f" * 16,
        "sha512:" + "0f" * 32,
        "sha256:" + "\N{ARABIC-INDIC DIGIT ZERO}" * 64,
    ],
)
def test_what_is_not_a_digest_is_refused(text: str) -> None:
    with pytest.raises(DigestError):
        Digest.parse(text)
