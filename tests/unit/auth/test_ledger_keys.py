"""The ledger's keys: on a cluster a token and its stream share a hash slot."""

import secrets

from redis.crc import key_slot

from auth.ledger.keys import SHARDS, LedgerKeys


def test_a_token_and_its_stream_share_a_slot_and_tokens_use_every_shard() -> None:
    keys = LedgerKeys(sharded=True)
    used = set()
    for _ in range(5000):
        token_id = secrets.token_urlsafe(16)
        token, stream = keys.token(token_id), keys.stream(token_id)
        assert key_slot(token.encode()) == key_slot(stream.encode())
        assert token.endswith(token_id)
        used.add(stream)
    assert used == set(keys.streams)


def test_the_slots_of_a_cluster_are_spread_evenly() -> None:
    slots = sorted(key_slot(name.encode()) for name in LedgerKeys(sharded=True).streams)
    assert [slot * SHARDS // 16384 for slot in slots] == list(range(SHARDS))


def test_one_server_has_one_stream() -> None:
    keys = LedgerKeys(sharded=False)
    assert (keys.token("abc"), keys.stream("abc"), keys.streams) == ("pt:{abc}", "pte", ("pte",))
