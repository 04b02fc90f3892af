"""Finds what must not be at rest: windows of layers and secrets, in every file of a folder."""

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

WINDOW_BYTES = 64
# Every window of 64 bytes holds a whole aligned block of 32, wherever the window begins.
BLOCK_BYTES = WINDOW_BYTES // 2
# A block of few distinct bytes (tar padding, tables of zeros) says nothing about where it is from.
DISTINCT_BYTES = 12


def windows_found(folders: Iterable[Path], plaintexts: Mapping[str, bytes]) -> list[str]:
    """Return `file holds plaintext at offset` for files that share a window with any plaintext.

    Args:
        folders: Searched whole; a file may be given too.
        plaintexts: What to look for, by the name it is reported under.
    """
    blocks = {
        block: (name, at)
        for name, plaintext in plaintexts.items()
        for at, block in _aligned_blocks(plaintext)
        if len(set(block)) >= DISTINCT_BYTES
    }
    return [
        f"{path} holds {name} from its byte {at} on"
        for path in _files(folders)
        for name, at in _first_hit(path.read_bytes(), blocks, plaintexts)
    ]


def _aligned_blocks(plaintext: bytes) -> Iterator[tuple[int, bytes]]:
    for at in range(0, len(plaintext) - BLOCK_BYTES + 1, BLOCK_BYTES):
        yield at, plaintext[at : at + BLOCK_BYTES]


def _first_hit(
    content: bytes, blocks: Mapping[bytes, tuple[str, int]], plaintexts: Mapping[str, bytes]
) -> Iterator[tuple[str, int]]:
    for offset in range(len(content) - BLOCK_BYTES + 1):
        hit = blocks.get(content[offset : offset + BLOCK_BYTES])
        if hit is not None and _shared(content, offset, plaintexts[hit[0]], hit[1]) >= WINDOW_BYTES:
            yield hit
            return


def _shared(content: bytes, offset: int, plaintext: bytes, at: int) -> int:
    """Return how long the run of equal bytes around the two positions is, `WINDOW_BYTES` at most."""
    back = 0
    while back < min(offset, at, WINDOW_BYTES) and content[offset - back - 1] == plaintext[at - back - 1]:
        back += 1
    ahead = 0
    while (
        ahead < WINDOW_BYTES
        and offset + ahead < len(content)
        and at + ahead < len(plaintext)
        and content[offset + ahead] == plaintext[at + ahead]
    ):
        ahead += 1
    return min(back + ahead, WINDOW_BYTES)


def secrets_found(folders: Iterable[Path], secrets: Mapping[str, str]) -> list[str]:
    """Return `file holds secret` for files with a secret in the clear, in base64, hex or a URL's form."""
    wanted = {(name, form) for name, secret in secrets.items() for form in _forms(secret.encode())}
    return sorted(
        {
            f"{path} holds {name}"
            for path in _files(folders)
            for name, form in wanted
            if form in _content(path)
        }
    )


def _forms(secret: bytes) -> Iterator[bytes]:
    yield secret
    yield secret.hex().encode()
    yield quote(secret, safe="").encode()
    for lead in range(3):  # a secret inside a longer text may begin at each of three phases of base64
        for encode in (b64encode, urlsafe_b64encode):
            encoded = encode(b"\0" * lead + secret)
            yield encoded[(0, 2, 3)[lead] : -4]


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())


def _content(path: Path) -> bytes:
    """Return a file's content; nothing if a running server has removed it meanwhile."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
