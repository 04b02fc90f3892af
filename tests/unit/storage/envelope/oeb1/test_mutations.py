"""Every way to damage a container that the format has to notice; none may be accepted."""

from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest

from storage.digest import Digest
from storage.envelope.key import DataKey
from storage.envelope.oeb1.header import HEADER_BYTES, Codec
from storage.envelope.oeb1.opener import HEAD_BYTES
from storage.envelope.oeb1.trailer import TRAILER_BYTES
from storage.errors import BlobDamagedError
from tests.support.containers import CAPACITY, KEY, SEGMENT_LOG2, noise, seal, text, unseal
from tests.support.damage import flip, random_damage

SEGMENT = 1 << SEGMENT_LOG2
PLAIN = {Codec.NONE: noise(3 * CAPACITY + 9), Codec.ZSTD: text(200_000) + noise(140_000)}
GOOD = {codec: seal(plaintext, codec=codec) for codec, plaintext in PLAIN.items()}
EMPTY = seal(b"")


def refused(container: bytes, plaintext: bytes, key: DataKey = KEY) -> bool:
    try:
        unseal(container, Digest.of(plaintext), key)
    except BlobDamagedError:
        return True
    return False


def segments(container: bytes) -> list[bytes]:
    """Cut header, then segments at their borders; the last piece holds the rest."""
    return [container[:HEADER_BYTES]] + [
        container[at : at + SEGMENT] for at in range(HEADER_BYTES, len(container), SEGMENT)
    ]


@pytest.mark.parametrize("codec", Codec)
def test_no_flipped_byte_of_header_or_payload_header_is_accepted(codec: Codec) -> None:
    good, plaintext = GOOD[codec], PLAIN[codec]
    assert unseal(good, Digest.of(plaintext)) == plaintext
    for at in range(HEAD_BYTES):
        for mask in (0x01, 0x80, 0xFF):
            assert refused(flip(good, at, mask), plaintext), at


@pytest.mark.parametrize("codec", Codec)
def test_no_flipped_byte_of_index_or_trailer_is_accepted(codec: Codec) -> None:
    good, plaintext = GOOD[codec], PLAIN[codec]
    index_bytes = 0 if codec is Codec.NONE else 4 * 6 + 16
    for at in range(len(good) - TRAILER_BYTES - index_bytes, len(good)):
        for mask in (0x01, 0x80, 0xFF):
            assert refused(flip(good, at, mask), plaintext), at


@pytest.mark.parametrize("codec", Codec)
def test_no_flipped_byte_around_segment_borders_is_accepted(codec: Codec) -> None:
    good, plaintext = GOOD[codec], PLAIN[codec]
    for border in range(HEADER_BYTES + SEGMENT, len(good), SEGMENT):
        for at in range(border - 18, border + 2):
            assert refused(flip(good, at), plaintext), at


@pytest.mark.parametrize("codec", Codec)
def test_no_cut_is_accepted(codec: Codec) -> None:
    good, plaintext = GOOD[codec], PLAIN[codec]
    trailer = good[-TRAILER_BYTES:]
    borders = range(HEADER_BYTES + SEGMENT, len(good), SEGMENT)
    for cut in (0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEAD_BYTES, *borders, len(good) - 1):
        for step in (-1, 0, 1):
            kept = good[: max(0, cut + step)]
            if kept != good:
                assert refused(kept, plaintext), cut
                assert refused(kept + trailer, plaintext), cut
    for extra in (b"\x00", trailer, good):
        assert refused(good + extra, plaintext)


@pytest.mark.parametrize("codec", Codec)
def test_no_swapped_dropped_or_repeated_segment_is_accepted(codec: Codec) -> None:
    pieces, plaintext = segments(GOOD[codec]), PLAIN[codec]
    count = len(pieces)
    assert count > 3
    for one in range(1, count):
        assert refused(b"".join(pieces[:one] + pieces[one + 1 :]), plaintext)
        assert refused(b"".join([*pieces[:one], pieces[one], *pieces[one:]]), plaintext)
        for two in range(one + 1, count):
            swapped = list(pieces)
            swapped[one], swapped[two] = swapped[two], swapped[one]
            assert refused(b"".join(swapped), plaintext)


def splices(ours: bytes, theirs: bytes) -> Iterator[bytes]:
    """Put each part of another container of the same shape in the place of ours."""
    cuts = [0, 16, 32, HEADER_BYTES, HEAD_BYTES, *range(HEADER_BYTES + SEGMENT, len(ours), SEGMENT)]
    cuts += [len(ours) - TRAILER_BYTES - 40, len(ours) - TRAILER_BYTES, len(ours)]
    cuts = sorted({cut for cut in cuts if 0 <= cut <= len(ours)})
    for start, end in pairwise(cuts):
        yield ours[:start] + theirs[start:end] + ours[end:]
        yield theirs[:start] + ours[start:end] + theirs[end:]


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("same_key", [True, False])
@pytest.mark.parametrize("same_plaintext", [True, False])
def test_no_splice_from_another_container_is_accepted(
    codec: Codec,
    *,
    same_key: bool,
    same_plaintext: bool,
) -> None:
    plaintext = PLAIN[codec]
    other_key = KEY if same_key else DataKey(bytes(32))
    other_plaintext = plaintext if same_plaintext else plaintext[::-1]
    theirs = seal(other_plaintext, key=other_key, codec=codec, seed=b"another")
    if not same_plaintext:
        theirs = theirs[: len(GOOD[codec])].ljust(len(GOOD[codec]), b"\0")
    for spliced in splices(GOOD[codec], theirs):
        if spliced not in (GOOD[codec], theirs):
            assert refused(spliced, plaintext)


@pytest.mark.parametrize("codec", Codec)
def test_the_right_container_under_the_wrong_key_or_digest_is_refused(codec: Codec) -> None:
    assert refused(GOOD[codec], PLAIN[codec], DataKey(bytes(32)))
    assert refused(GOOD[codec], PLAIN[codec] + b"x")


def test_every_flipped_byte_of_an_empty_blobs_container_is_refused() -> None:
    assert unseal(EMPTY, Digest.of(b"")) == b""
    for at in range(len(EMPTY)):
        assert refused(flip(EMPTY, at), b""), at


@pytest.mark.parametrize("codec", Codec)
def test_none_of_a_thousand_random_damages_is_accepted(codec: Codec) -> None:
    good, plaintext, chance = GOOD[codec], PLAIN[codec], Random(codec.name)
    for count in range(1000):
        damaged = random_damage(good, chance)
        assert damaged == good or refused(damaged, plaintext), count


@pytest.mark.parametrize("codec", Codec)
def test_no_flipped_byte_in_a_hundred_places_of_the_payload_is_accepted(codec: Codec) -> None:
    good, plaintext = GOOD[codec], PLAIN[codec]
    for at in range(0, len(good), len(good) // 100):
        assert refused(flip(good, at, 0x10), plaintext), at
