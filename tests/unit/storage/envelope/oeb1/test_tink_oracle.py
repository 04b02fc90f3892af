import io

import pytest
import tink
from tink import cleartext_keyset_handle, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from storage.envelope.oeb1.header import HEADER_BYTES, Codec
from storage.envelope.oeb1.payload import SegmentLayout
from tests.support.containers import CAPACITY, FIRST_CAPACITY, KEY, SEGMENT_LOG2, noise, seal


def tink_stream(key: bytes) -> streaming_aead.StreamingAead:
    streaming_aead.register()
    proto = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(
        version=0,
        params=aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
            ciphertext_segment_size=1 << SEGMENT_LOG2, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
        ),
        key_value=key,
    )
    data = tink_pb2.KeyData(
        type_url="type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
        value=proto.SerializeToString(),
        key_material_type=tink_pb2.KeyData.SYMMETRIC,
    )
    entry = tink_pb2.Keyset.Key(
        key_data=data, status=tink_pb2.ENABLED, key_id=1, output_prefix_type=tink_pb2.RAW
    )
    keyset = tink_pb2.Keyset(primary_key_id=1, key=[entry]).SerializeToString()
    handle = cleartext_keyset_handle.read(tink.BinaryKeysetReader(keyset))
    return handle.primitive(streaming_aead.StreamingAead)


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        FIRST_CAPACITY - 1,
        FIRST_CAPACITY,
        FIRST_CAPACITY + 1,
        FIRST_CAPACITY + CAPACITY,
        FIRST_CAPACITY + CAPACITY + 1,
        FIRST_CAPACITY + 2 * CAPACITY - 1,
    ],
)
def test_tink_decrypts_every_payload_that_we_write(size: int) -> None:
    plaintext = noise(size)
    container = seal(plaintext)
    payload = container[HEADER_BYTES:][: SegmentLayout(1 << SEGMENT_LOG2, size).ciphertext_bytes]
    stream = tink_stream(KEY.reveal())
    with stream.new_decrypting_stream(io.BytesIO(payload), container[:HEADER_BYTES]) as opened:
        assert opened.read() == plaintext


def test_tink_decrypts_a_compressed_payload_to_its_frames() -> None:
    plaintext = noise(70_000)
    raw = seal(plaintext, codec=Codec.ZSTD)
    payload = raw[HEADER_BYTES:][: SegmentLayout(1 << SEGMENT_LOG2, len(plaintext)).ciphertext_bytes]
    stream = tink_stream(KEY.reveal())
    with stream.new_decrypting_stream(io.BytesIO(payload), raw[:HEADER_BYTES]) as opened:
        assert opened.read() == plaintext


def test_tink_refuses_a_payload_under_another_header() -> None:
    container = seal(b"short")
    payload = container[HEADER_BYTES : HEADER_BYTES + 40 + 5 + 16]
    other = bytes(HEADER_BYTES)
    with (
        tink_stream(KEY.reveal()).new_decrypting_stream(io.BytesIO(payload), other) as opened,
        pytest.raises(tink.TinkError),
    ):
        opened.read()
