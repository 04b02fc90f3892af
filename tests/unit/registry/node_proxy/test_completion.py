"""When a pull through the proxy is reported as complete."""

import asyncio
from contextlib import ExitStack

import pytest

from registry.node_proxy.completion import PullCompletion
from registry.oci.documents import Descriptor, Manifest
from storage.digest import Digest

CONFIG, ONE, TWO = (Digest.of(text) for text in (b"config", b"one", b"two"))
MANIFEST = Manifest("", Descriptor("", CONFIG, 1), (Descriptor("", ONE, 1), Descriptor("", TWO, 1)))


class Client:
    """A client whose requests are followed.

    Attributes:
        reports: How often the pull was reported.
    """

    def __init__(self, *had: Digest, quiet_s: float = 0.0) -> None:
        self.reports = 0
        self.completion = PullCompletion(had.__contains__, self._report, quiet_s)
        self.completion.add_manifest(Digest.of(b""), MANIFEST)

    async def _report(self) -> None:
        self.reports += 1

    def get(self, *digests: Digest, cut: bool = False) -> None:
        for digest in digests:
            with ExitStack() as stack:
                if cut:
                    stack.enter_context(pytest.raises(ConnectionResetError))
                    stack.enter_context(self.completion.response(digest))
                    raise ConnectionResetError
                stack.enter_context(self.completion.response(digest))

    async def reported(self) -> int:
        """Wait for everything that was scheduled."""
        own = asyncio.current_task()
        await asyncio.gather(
            *(task for task in asyncio.all_tasks() if task is not own), return_exceptions=True
        )
        return self.reports


async def test_at_once_after_the_last_blob() -> None:
    client = Client(quiet_s=3600)
    client.get(ONE, CONFIG, TWO)
    assert await client.reported() == 1
    client.get(TWO)
    assert await client.reported() == 1


@pytest.mark.parametrize("requested", [(), (CONFIG,), (CONFIG, TWO)])
async def test_after_a_quiet_time_if_the_rest_was_served_before(requested: tuple[Digest, ...]) -> None:
    client = Client(CONFIG, ONE, TWO)
    client.get(*requested)
    assert await client.reported() == 1


async def test_never_while_a_blob_is_missing() -> None:
    client = Client(ONE)
    client.get(CONFIG)
    assert await client.reported() == 0


async def test_never_if_a_response_was_cut_off_even_of_a_known_blob() -> None:
    client = Client(CONFIG, ONE, TWO)
    client.get(CONFIG, TWO)
    client.get(ONE, cut=True)
    assert await client.reported() == 0
    client.get(ONE)
    assert await client.reported() == 1


async def test_not_while_a_response_is_running() -> None:
    client = Client(CONFIG, ONE, TWO)
    with client.completion.response(TWO):
        assert await client.reported() == 0
    assert await client.reported() == 1
