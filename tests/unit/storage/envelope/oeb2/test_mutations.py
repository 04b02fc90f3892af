"""Every way to damage one of a container's objects that the format has to notice; none may be accepted."""

from collections.abc import Iterator
from random import Random

import pytest

from storage.digest import Digest
from storage.envelope.key import DataKey
from storage.envelope.oeb2.header import HEADER_BYTES
from storage.envelope.oeb2.keys import TAG_BYTES
from storage.envelope.oeb2.sidecar import TRAILER_BYTES
from tests.support.containers import KEY, noise
from tests.support.damage import flip, random_damage
from tests.support.deliverable import SEGMENT, Sealed, refused, seal, unseal

PLAIN = noise(3 * SEGMENT + 9)
GOOD = seal(PLAIN)
EMPTY = seal(b"")
SEGMENTS = 4


def tag_at(index: int) -> slice:
    return slice(HEADER_BYTES + index * TAG_BYTES, HEADER_BYTES + (index + 1) * TAG_BYTES)


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_no_flipped_byte_of_the_sidecar_is_accepted(mask: int) -> None:
    assert unseal(GOOD, Digest.of(PLAIN)) == PLAIN
    for sealed, plaintext in ((GOOD, PLAIN), (EMPTY, b"")):
        for at in range(len(sealed.sidecar)):
            assert refused(sealed.damaged(sidecar=flip(sealed.sidecar, at, mask)), plaintext), at


def test_no_flipped_byte_of_the_ciphertext_is_accepted() -> None:
    size = len(GOOD.ciphertext)
    borders = {at + step for at in range(0, size + 1, SEGMENT) for step in range(-18, 18)}
    for at in {*range(0, size, size // 100), *borders} & set(range(size)):
        assert refused(GOOD.damaged(ciphertext=flip(GOOD.ciphertext, at, 0x10)), PLAIN), at


def test_no_cut_and_no_added_byte_is_accepted() -> None:
    sidecar, ciphertext = GOOD.sidecar, GOOD.ciphertext
    for cut in {0, 1, HEADER_BYTES, HEADER_BYTES + TAG_BYTES, len(sidecar) - TRAILER_BYTES, len(sidecar) - 1}:
        assert refused(GOOD.damaged(sidecar=sidecar[:cut]), PLAIN), cut
        assert refused(GOOD.damaged(sidecar=sidecar[:cut] + sidecar[-TRAILER_BYTES:]), PLAIN) or (
            cut == len(sidecar) - TRAILER_BYTES
        )
    for cut in {0, 1, SEGMENT - 1, SEGMENT, 3 * SEGMENT, len(ciphertext) - 1}:
        assert refused(GOOD.damaged(ciphertext=ciphertext[:cut]), PLAIN), cut
    for extra in (b"\0", sidecar, sidecar[tag_at(0)]):
        assert refused(GOOD.damaged(sidecar=sidecar + extra), PLAIN)
        assert refused(GOOD.damaged(ciphertext=ciphertext + extra), PLAIN)


def test_no_swapped_dropped_or_repeated_segment_is_accepted_with_or_without_its_tag() -> None:
    pieces = [GOOD.ciphertext[at : at + SEGMENT] for at in range(0, len(GOOD.ciphertext), SEGMENT)]
    tags = [GOOD.sidecar[tag_at(index)] for index in range(SEGMENTS)]
    trailer = GOOD.sidecar[-TRAILER_BYTES:]

    def arranged(order: list[int]) -> Iterator[Sealed]:
        ciphertext = b"".join(pieces[index] for index in order)
        sidecar = GOOD.sidecar[:HEADER_BYTES] + b"".join(tags[index] for index in order) + trailer
        yield GOOD.damaged(ciphertext=ciphertext)
        yield GOOD.damaged(sidecar=sidecar)
        yield GOOD.damaged(ciphertext=ciphertext, sidecar=sidecar)

    whole = list(range(SEGMENTS))
    orders = [whole[:one] + whole[one + 1 :] for one in whole]
    orders += [whole[:one] + whole[one:][:1] + whole[one:] for one in whole]
    orders += [[1, 0, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2], [3, 1, 2, 0]]
    for order in orders:
        for sealed in arranged(order):
            assert refused(sealed, PLAIN), order


@pytest.mark.parametrize("same_key", [True, False])
@pytest.mark.parametrize("same_plaintext", [True, False])
def test_no_splice_from_another_container_is_accepted(*, same_key: bool, same_plaintext: bool) -> None:
    other_key = KEY if same_key else DataKey(bytes(32))
    theirs = seal(PLAIN if same_plaintext else PLAIN[::-1], key=other_key, seed=b"another")
    assert refused(GOOD.damaged(ciphertext=theirs.ciphertext), PLAIN)
    assert refused(GOOD.damaged(sidecar=theirs.sidecar), PLAIN)
    for part in (slice(0, 32), slice(32, 64), *map(tag_at, range(SEGMENTS)), slice(128, len(GOOD.sidecar))):
        spliced = bytearray(GOOD.sidecar)
        spliced[part] = theirs.sidecar[part]
        assert refused(GOOD.damaged(sidecar=bytes(spliced)), PLAIN), part
    for at in range(0, len(PLAIN), SEGMENT):
        for changed in (GOOD.sidecar, GOOD.sidecar[: tag_at(at // SEGMENT).start]):
            ciphertext = bytearray(GOOD.ciphertext)
            ciphertext[at : at + SEGMENT] = theirs.ciphertext[at : at + SEGMENT]
            assert refused(GOOD.damaged(ciphertext=bytes(ciphertext), sidecar=changed), PLAIN)


def test_a_whole_container_of_the_same_blob_is_refused_by_the_key_record() -> None:
    theirs = seal(PLAIN, seed=b"another")
    assert unseal(theirs, Digest.of(PLAIN)) == PLAIN
    mixed = Sealed(theirs.ciphertext, theirs.sidecar, GOOD.digest)
    assert refused(mixed, PLAIN)


def test_the_right_container_under_the_wrong_key_or_digest_is_refused() -> None:
    assert refused(GOOD, PLAIN, DataKey(bytes(32)))
    assert refused(GOOD, PLAIN + b"x")


def test_none_of_a_thousand_random_damages_is_accepted() -> None:
    chance = Random("oeb2")
    for count in range(1000):
        ciphertext, sidecar = GOOD.ciphertext, GOOD.sidecar
        if count % 2:
            ciphertext = random_damage(ciphertext, chance)
        else:
            sidecar = random_damage(sidecar, chance)
        damaged = GOOD.damaged(ciphertext=ciphertext, sidecar=sidecar)
        assert damaged == GOOD or refused(damaged, PLAIN), count
