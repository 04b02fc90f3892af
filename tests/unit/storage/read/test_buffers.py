import pytest

from storage.blobs import BlobStore
from storage.read.buffers import BufferPool
from tests.support.blobs import put
from tests.support.containers import noise


def test_a_buffer_is_reused_only_when_no_view_of_it_is_held() -> None:
    pool = BufferPool(100)
    buffer = pool.take(80)
    view = memoryview(buffer)[:80]
    pool.give_back(buffer)
    other = pool.take(80)
    assert other is not buffer
    view.release()
    assert pool.take(100) is buffer
    assert len(buffer) == 100


def test_the_pool_keeps_so_many_buffers_of_its_own_size_and_no_others() -> None:
    pool = BufferPool(100, capacity=2)
    assert len(pool.take(101)) == 101
    pool.give_back(bytearray(101))
    buffers = [bytearray(100) for _ in range(3)]
    for buffer in buffers:
        pool.give_back(buffer)
    assert [pool.take(1) is buffer for buffer in buffers] == [True, True, False]


@pytest.mark.parametrize("keeps", [True, False])
async def test_chunks_that_a_consumer_keeps_are_never_written_over(store: BlobStore, *, keeps: bool) -> None:
    data = noise(9_000_000)
    record = await put(store, "acme", data)
    for _ in range(2):
        async with await store.open("acme", record.digest) as reader:
            kept = [chunk if keeps else bytes(chunk) async for chunk in reader.stream()]
        assert b"".join(kept) == data
