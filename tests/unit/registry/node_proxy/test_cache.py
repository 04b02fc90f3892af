"""The proxy's folder: chunks that continue, and a limit that always holds."""

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from registry.errors import CacheTooSmallError, ConfigError
from registry.node_proxy.cache import CHUNK_BYTES, LayerCache
from storage.digest import Digest

FIRST, SECOND, THIRD = (Digest.of(text) for text in (b"1", b"2", b"3"))


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def store(cache: LayerCache, digest: Digest, size_bytes: int) -> None:
    async with cache.reserve(digest, size_bytes) as layer:
        layer.write(0, 0, bytes(size_bytes))


async def test_what_has_arrived_is_known_after_a_restart(tmp_path: Path) -> None:
    size = CHUNK_BYTES + 10
    cache = LayerCache(tmp_path, 2 * size)
    async with cache.reserve(FIRST, size) as layer:
        layer.write(CHUNK_BYTES, 0, b"01234")
        layer.write(0, 0, b"abc")
        layer.write(0, 3, b"def")
        layer.mark_served()
    cache.close()
    again = LayerCache(tmp_path, 2 * size)
    assert again.was_served(FIRST)
    assert not again.was_served(SECOND)
    async with again.reserve(FIRST, size) as layer:
        assert [layer.received(offset) for offset in (0, CHUNK_BYTES)] == [6, 5]
        assert layer.chunk_size(CHUNK_BYTES) == 10
        assert layer.read(2, 100) == b"cdef"
        assert layer.read(CHUNK_BYTES + 1, 2) == b"12"
        layer.discard()
        assert layer.received(0) == 0
    again.close()


async def test_the_least_recently_used_layers_make_room(tmp_path: Path) -> None:
    cache = LayerCache(tmp_path, 250)
    for digest in (FIRST, SECOND, FIRST, THIRD):
        await store(cache, digest, 100)
    assert sorted(path.name for path in (tmp_path / "layers").iterdir()) == sorted([FIRST.hex, THIRD.hex])
    assert used(tmp_path) == 200
    cache.close()


async def test_unknown_folders_go_first_and_a_smaller_limit_holds_at_once(tmp_path: Path) -> None:
    cache = LayerCache(tmp_path, 1000)
    await store(cache, FIRST, 400)
    (tmp_path / "layers" / "other").mkdir()
    (tmp_path / "layers" / "other" / "file").write_bytes(bytes(300))
    await store(cache, SECOND, 400)
    assert used(tmp_path) == 800
    cache.close()
    with closing(LayerCache(tmp_path, 500)) as smaller:
        await store(smaller, THIRD, 100)
    assert used(tmp_path) == 500


async def test_a_layer_in_use_is_never_removed_and_others_wait(tmp_path: Path) -> None:
    cache = LayerCache(tmp_path, 150)
    async with cache.reserve(FIRST, 100) as layer:
        layer.write(0, 0, bytes(100))
        waiting = asyncio.create_task(store(cache, SECOND, 100))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        assert layer.received(0) == 100
    await waiting
    assert used(tmp_path) == 100
    cache.close()


async def test_a_layer_over_the_limit_is_refused(tmp_path: Path) -> None:
    with closing(LayerCache(tmp_path, 99)) as cache, pytest.raises(CacheTooSmallError, match="--cache-size"):
        await store(cache, FIRST, 100)


def test_two_proxies_never_share_a_folder(tmp_path: Path) -> None:
    with closing(LayerCache(tmp_path, 1)), pytest.raises(ConfigError, match="another proxy"):
        LayerCache(tmp_path, 1)
    LayerCache(tmp_path, 1).close()
