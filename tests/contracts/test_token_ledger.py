"""What any token ledger does, run against every server that we support."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from auth.errors import Cause, MintRefusedError, OutsideScopeError, RefusedError, TokenNotFoundError
from auth.ledger import LedgerLimits, RedisTokenLedger, connect
from auth.ports import TokenLedger
from auth.records import ImageGrant, NewToken, TokenState, blob_key
from tests.support.ledgers import CONFIG, IMAGE, LAYER, MIB, SHORT, digest_of, new_token, some_id
from tests.support.redis_server import RedisServer, running_server, server_programs

PROGRAMS = server_programs()


@pytest.fixture(scope="module", params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with running_server(PROGRAMS[request.param]) as server:
        yield server


@pytest.fixture
async def make(server: RedisServer) -> AsyncIterator[Callable[[LedgerLimits], TokenLedger]]:
    redis = connect(server.url)
    yield lambda limits: RedisTokenLedger(redis, limits)
    await redis.aclose()


@pytest.fixture
def ledger(make: Callable[[LedgerLimits], TokenLedger]) -> TokenLedger:
    return make(LedgerLimits())


@pytest.fixture
def short(make: Callable[[LedgerLimits], TokenLedger]) -> TokenLedger:
    return make(SHORT)


async def opened(ledger: TokenLedger, **changes: object) -> tuple[NewToken, str]:
    token = new_token(**changes)
    await ledger.mint(token)
    session = await ledger.redeem(token.token_id, token.node_id, some_id())
    return token, session.session_id


async def deliver(ledger: TokenLedger, token: NewToken, sid: str, blob: str, span: tuple[int, int]) -> None:
    start, length = span
    response = some_id()
    await ledger.begin(token.token_id, sid, response, blob=blob, length_bytes=length)
    await ledger.report(
        token.token_id, response, blob=blob, start=start, sent=length, length=length, ended=True
    )


async def cause_of(attempt: Awaitable[object]) -> Cause:
    with pytest.raises(RefusedError) as refusal:
        await attempt
    return refusal.value.cause


async def test_a_minted_token_shows_what_it_was_minted_for(ledger: TokenLedger) -> None:
    token = new_token()
    await ledger.mint(token)
    view = await ledger.show(token.token_id)
    assert (view.state, view.node_id, view.organization) == (TokenState.MINTED, "node-1", "acme")
    assert (view.group_id, view.repository) == ("group-1", "acme/factory/camera")
    assert (view.image_digest, view.image_size, view.session) == (IMAGE.digest, 1000, None)
    assert (view.expires_at - view.minted_at).total_seconds() == 60


async def test_a_repeated_redemption_gets_the_answer_of_the_first(
    ledger: TokenLedger,
) -> None:
    token = new_token()
    await ledger.mint(token)
    first = await ledger.redeem(token.token_id, "node-1", "sid-1")
    again = await ledger.redeem(token.token_id, "node-1", "sid-2")
    assert (first.session_id, first.opened, first.exchanges) == ("sid-1", True, 1)
    assert (again.session_id, again.opened, again.exchanges) == ("sid-1", False, 2)
    assert 599 < first.announce_s <= 601
    assert 86_399 < first.hard_end_s <= 86_400


async def test_a_redemption_repeated_after_a_lost_answer_is_the_opening(
    ledger: TokenLedger,
) -> None:
    token = new_token()
    await ledger.mint(token)
    await ledger.redeem(token.token_id, "node-1", "sid-1")
    assert (await ledger.redeem(token.token_id, "node-1", "sid-1")).opened


async def test_another_node_is_refused_before_and_after_the_redemption(ledger: TokenLedger) -> None:
    token = new_token()
    await ledger.mint(token)
    assert await cause_of(ledger.redeem(token.token_id, "node-2", "x")) is Cause.WRONG_NODE
    await ledger.redeem(token.token_id, "node-1", "sid-1")
    assert await cause_of(ledger.redeem(token.token_id, "node-2", "x")) is Cause.WRONG_NODE


async def test_a_session_shows_which_blobs_were_requested_and_which_to_their_end(ledger: TokenLedger) -> None:
    token, sid = await opened(ledger)

    async def layer() -> tuple[int, bool, bool]:
        view = await ledger.show(token.token_id)
        assert view.session is not None
        blob = view.session.blobs[blob_key(LAYER)]
        return blob.delivered_bytes, blob.requested, blob.reached_end

    seen = [await layer()]
    await ledger.begin(token.token_id, sid, "response", blob=LAYER, length_bytes=900)
    seen.append(await layer())
    for span in ((0, 100), (600, 300), (100, 500)):
        await deliver(ledger, token, sid, LAYER, span)
        seen.append(await layer())
    assert seen == [
        (0, False, False),
        (0, True, False),
        (100, True, False),
        (400, True, True),
        (900, True, True),
    ]


async def test_what_is_not_in_the_ledger_is_refused(ledger: TokenLedger) -> None:
    assert await cause_of(ledger.redeem("nobody", "node-1", "x")) is Cause.UNKNOWN
    assert await cause_of(ledger.begin("nobody", "x", "r", blob=None, length_bytes=0)) is Cause.UNKNOWN
    with pytest.raises(TokenNotFoundError):
        await ledger.show("nobody")
    with pytest.raises(TokenNotFoundError):
        await ledger.end("nobody", TokenState.DONE)


async def test_a_token_that_waited_too_long_is_expired(short: TokenLedger) -> None:
    token = new_token(ttl_s=0.05)
    await short.mint(token)
    await asyncio.sleep(0.15)
    assert await cause_of(short.redeem(token.token_id, "node-1", "x")) is Cause.EXPIRED
    assert (await short.show(token.token_id)).state is TokenState.EXPIRED


async def test_a_lapsed_token_opens_nothing_but_its_own_session(short: TokenLedger) -> None:
    lapsed, opened_in_time = new_token(ttl_s=0.2), new_token(ttl_s=0.2)
    for token in (lapsed, opened_in_time):
        await short.mint(token)
    await short.redeem(opened_in_time.token_id, "node-1", "sid-1")
    await asyncio.sleep(0.3)
    assert await cause_of(short.redeem(lapsed.token_id, "node-1", "x")) is Cause.EXPIRED
    assert (await short.redeem(opened_in_time.token_id, "node-1", "x")).session_id == "sid-1"


async def test_a_thousand_nodes_at_once_open_one_session(ledger: TokenLedger) -> None:
    token = new_token(node_id="node-7")
    await ledger.mint(token)
    attempts = (ledger.redeem(token.token_id, f"node-{i}", f"sid-{i}") for i in range(1000))
    results = await asyncio.gather(*attempts, return_exceptions=True)
    refused = [r for r in results if isinstance(r, RefusedError)]
    assert {r.cause for r in refused} == {Cause.WRONG_NODE}
    assert [r.opened for r in results if not isinstance(r, BaseException)] == [True]
    assert len(refused) == 999


async def test_one_node_a_thousand_times_at_once_opens_one_session(ledger: TokenLedger) -> None:
    token = new_token()
    await ledger.mint(token)
    attempts = (ledger.redeem(token.token_id, "node-1", f"sid-{i}") for i in range(1000))
    results = await asyncio.gather(*attempts)
    assert sum(r.opened for r in results) == 1
    assert len({r.session_id for r in results}) == 1
    assert max(r.exchanges for r in results) == 1000


async def test_only_the_session_that_the_bearer_names_may_begin(ledger: TokenLedger) -> None:
    token, sid = await opened(ledger)
    assert await ledger.begin(token.token_id, sid, "r1", blob=None, length_bytes=0) == 0
    assert await ledger.begin(token.token_id, sid, "r2", blob=LAYER, length_bytes=900) == 900
    other = ledger.begin(token.token_id, "other", "r3", blob=None, length_bytes=0)
    assert await cause_of(other) is Cause.SESSION_OVER


async def test_a_blob_outside_the_image_is_outside_scope(ledger: TokenLedger) -> None:
    token, sid = await opened(ledger)
    with pytest.raises(OutsideScopeError):
        await ledger.begin(token.token_id, sid, "r", blob=digest_of("other"), length_bytes=10)


async def test_a_blob_is_whole_once_overlapping_ranges_in_any_order_cover_it(ledger: TokenLedger) -> None:
    token, sid = await opened(ledger)
    for start, length in ((600, 300), (0, 100), (50, 300), (340, 100)):
        await deliver(ledger, token, sid, LAYER, (start, length))
    session = (await ledger.show(token.token_id)).session
    assert session is not None
    assert session.blobs[blob_key(LAYER)].delivered_bytes == 740
    assert (session.blobs_complete, session.blobs_total) == (0, 2)
    await deliver(ledger, token, sid, LAYER, (440, 160))
    session = (await ledger.show(token.token_id)).session
    assert session is not None
    assert session.blobs[blob_key(LAYER)].whole
    assert (session.bytes_covered, session.bytes_delivered, session.blobs_complete) == (900, 960, 1)


async def test_a_repeated_report_changes_nothing(ledger: TokenLedger) -> None:
    token, sid = await opened(ledger)
    await ledger.begin(token.token_id, sid, "r", blob=LAYER, length_bytes=900)
    await ledger.begin(token.token_id, sid, "r", blob=LAYER, length_bytes=900)
    for sent, ended in ((500, False), (500, False), (900, True), (900, True)):
        await ledger.report(token.token_id, "r", blob=LAYER, start=0, sent=sent, length=900, ended=ended)
    session = (await ledger.show(token.token_id)).session
    assert session is not None
    assert (session.bytes_delivered, session.running) == (900, 0)


async def test_the_budget_is_counted_to_the_byte(make: Callable[[LedgerLimits], TokenLedger]) -> None:
    ledger = make(LedgerLimits(budget_factor=2, budget_slack_bytes=1))
    token, sid = await opened(ledger)
    await deliver(ledger, token, sid, LAYER, (0, 900))
    await deliver(ledger, token, sid, LAYER, (0, 900))
    await deliver(ledger, token, sid, CONFIG, (0, 100))
    await deliver(ledger, token, sid, LAYER, (0, 101))
    last = ledger.begin(token.token_id, sid, "r", blob=CONFIG, length_bytes=1)
    assert await cause_of(last) is Cause.OVER_BUDGET


async def test_what_a_cut_response_did_not_send_is_given_back(
    make: Callable[[LedgerLimits], TokenLedger],
) -> None:
    ledger = make(LedgerLimits(budget_factor=1, budget_slack_bytes=0))
    token, sid = await opened(ledger)
    await ledger.begin(token.token_id, sid, "r", blob=LAYER, length_bytes=900)
    await ledger.report(token.token_id, "r", blob=LAYER, start=0, sent=10, length=900, ended=True)
    await deliver(ledger, token, sid, LAYER, (10, 890))
    await deliver(ledger, token, sid, CONFIG, (0, 100))
    assert (
        await cause_of(ledger.begin(token.token_id, sid, "x", blob=LAYER, length_bytes=1))
        is Cause.OVER_BUDGET
    )


async def test_documents_count_against_the_budget(ledger: TokenLedger) -> None:
    token, sid = await opened(ledger)
    budget = 3 * token.image.size_bytes + 16 * MIB
    assert await ledger.begin(token.token_id, sid, "m1", blob=None, length_bytes=budget) == 0
    more = ledger.begin(token.token_id, sid, "m2", blob=None, length_bytes=1)
    assert await cause_of(more) is Cause.OVER_BUDGET
    assert await ledger.begin(token.token_id, sid, "head", blob=None, length_bytes=0) == 0


async def test_responses_side_by_side_cannot_outrun_the_budget(
    make: Callable[[LedgerLimits], TokenLedger],
) -> None:
    size = 8 * MIB
    ledger = make(LedgerLimits(budget_factor=1, budget_slack_bytes=0))
    token, sid = await opened(ledger, image=ImageGrant(IMAGE.digest, size, {LAYER: size}))
    granted = [
        await ledger.begin(token.token_id, sid, f"r{i}", blob=LAYER, length_bytes=size) for i in range(8)
    ]
    assert granted == [MIB] * 8
    ninth = ledger.begin(token.token_id, sid, "r8", blob=LAYER, length_bytes=size)
    assert await cause_of(ninth) is Cause.OVER_BUDGET
    more = ledger.report(token.token_id, "r0", blob=LAYER, start=0, sent=MIB, length=size, ended=False)
    assert await cause_of(more) is Cause.OVER_BUDGET


async def test_a_response_is_granted_as_much_again_as_it_delivered(ledger: TokenLedger) -> None:
    size = 200 * MIB
    token, sid = await opened(ledger, image=ImageGrant(IMAGE.digest, size, {LAYER: size}))
    granted = [await ledger.begin(token.token_id, sid, "r", blob=LAYER, length_bytes=size)]
    while granted[-1] < size:
        granted.append(
            await ledger.report(
                token.token_id, "r", blob=LAYER, start=0, sent=granted[-1], length=size, ended=False
            )
        )
    assert granted == [MIB * n for n in (1, 2, 4, 8, 16, 32, 64, 128, 200)]


async def test_a_whole_image_ends_the_session_after_the_grace(short: TokenLedger) -> None:
    token, sid = await opened(short)
    await deliver(short, token, sid, CONFIG, (0, 100))
    for span in ((300, 300), (0, 300), (600, 300)):
        await deliver(short, token, sid, LAYER, span)
    assert await short.begin(token.token_id, sid, "r", blob=None, length_bytes=0) == 0
    await asyncio.sleep(0.4)
    assert (await short.show(token.token_id)).state is TokenState.DONE
    assert (
        await cause_of(short.begin(token.token_id, sid, "x", blob=None, length_bytes=0)) is Cause.SESSION_OVER
    )
    assert await cause_of(short.redeem(token.token_id, "node-1", "x")) is Cause.REPLAYED


async def test_one_of_several_platforms_is_the_whole_image(short: TokenLedger) -> None:
    other = digest_of("other")
    blobs = {CONFIG: 100, LAYER: 900, other: 500}
    image = ImageGrant(IMAGE.digest, 1000, blobs, [{CONFIG, LAYER}, {other, LAYER}])
    token, sid = await opened(short, image=image)
    await deliver(short, token, sid, LAYER, (0, 900))
    await deliver(short, token, sid, other, (0, 100))
    session = (await short.show(token.token_id)).session
    assert session is not None
    assert (session.blobs_complete, session.blobs_total) == (1, 2)
    assert (session.bytes_covered, session.bytes_total) == (900, 1000)
    await deliver(short, token, sid, other, (0, 500))
    session = (await short.show(token.token_id)).session
    assert session is not None
    assert (session.blobs_complete, session.blobs_total) == (2, 2)
    assert (session.bytes_covered, session.bytes_total) == (1400, 1400)
    assert (await short.show(token.token_id)).state is TokenState.ACTIVE
    await asyncio.sleep(0.4)
    assert (await short.show(token.token_id)).state is TokenState.DONE


async def test_empty_blobs_need_no_delivery(short: TokenLedger) -> None:
    image = ImageGrant(IMAGE.digest, 100, {CONFIG: 100, LAYER: 0})
    token, sid = await opened(short, image=image)
    await deliver(short, token, sid, CONFIG, (0, 100))
    await asyncio.sleep(0.4)
    assert (await short.show(token.token_id)).state is TokenState.DONE


async def test_an_idle_session_ends(short: TokenLedger) -> None:
    token, sid = await opened(short)
    await asyncio.sleep(0.7)
    assert (
        await cause_of(short.begin(token.token_id, sid, "r", blob=None, length_bytes=0)) is Cause.SESSION_OVER
    )
    assert (await short.show(token.token_id)).state is TokenState.EXPIRED
    assert await cause_of(short.redeem(token.token_id, "node-1", "x")) is Cause.REPLAYED


async def test_no_session_ends_while_a_response_runs(short: TokenLedger) -> None:
    token, sid = await opened(short)
    await deliver(short, token, sid, CONFIG, (0, 100))
    await short.begin(token.token_id, sid, "r", blob=LAYER, length_bytes=900)
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        await asyncio.sleep(0.1)
        await short.report(token.token_id, "r", blob=LAYER, start=0, sent=1, length=900, ended=False)
    assert (await short.show(token.token_id)).state is TokenState.ACTIVE
    await short.report(token.token_id, "r", blob=LAYER, start=0, sent=900, length=900, ended=True)
    assert (await short.show(token.token_id)).state is TokenState.ACTIVE


async def test_the_response_of_a_server_that_died_does_not_hold_its_session_open(short: TokenLedger) -> None:
    token, sid = await opened(short)
    await short.begin(token.token_id, sid, "r", blob=LAYER, length_bytes=900)
    await asyncio.sleep(0.3)
    assert (await short.show(token.token_id)).state is TokenState.ACTIVE
    await asyncio.sleep(0.4)
    assert (await short.show(token.token_id)).state is TokenState.EXPIRED


async def test_the_deadline_moves_on_while_bytes_flow_but_not_past_the_cap(short: TokenLedger) -> None:
    token, sid = await opened(short)
    began = time.monotonic()
    cause = None
    while cause is None and time.monotonic() < began + 4:
        await asyncio.sleep(0.05)
        try:
            await deliver(short, token, sid, LAYER, (0, 1))
        except RefusedError as refusal:
            cause = refusal.cause
    assert cause is Cause.SESSION_OVER
    assert 1.7 < time.monotonic() - began < 2.7


async def test_what_runs_past_the_end_is_still_counted(short: TokenLedger) -> None:
    token, sid = await opened(short)
    await short.begin(token.token_id, sid, "r", blob=LAYER, length_bytes=900)
    await short.end(token.token_id, TokenState.DONE)
    granted = await short.report(token.token_id, "r", blob=LAYER, start=0, sent=500, length=900, ended=False)
    assert granted == 900
    view = await short.show(token.token_id)
    assert view.session is not None
    assert (view.state, view.session.bytes_delivered) == (TokenState.DONE, 500)


async def test_a_completed_token_opens_nothing(ledger: TokenLedger) -> None:
    token, sid = await opened(ledger)
    assert await ledger.end(token.token_id, TokenState.DONE) is TokenState.ACTIVE
    assert await ledger.end(token.token_id, TokenState.DONE) is TokenState.DONE
    assert await cause_of(ledger.redeem(token.token_id, "node-1", "x")) is Cause.REPLAYED
    assert (
        await cause_of(ledger.begin(token.token_id, sid, "r", blob=None, length_bytes=0))
        is Cause.SESSION_OVER
    )


async def test_a_revoked_token_is_refused_at_once_and_its_responses_stop(ledger: TokenLedger) -> None:
    token, sid = await opened(ledger)
    await ledger.begin(token.token_id, sid, "r", blob=LAYER, length_bytes=900)
    await ledger.end(token.token_id, TokenState.REVOKED)
    assert await cause_of(ledger.begin(token.token_id, sid, "x", blob=None, length_bytes=0)) is Cause.REVOKED
    assert await cause_of(ledger.redeem(token.token_id, "node-1", "x")) is Cause.REVOKED
    more = ledger.report(token.token_id, "r", blob=LAYER, start=0, sent=5, length=900, ended=False)
    assert await cause_of(more) is Cause.REVOKED


async def test_revoking_what_is_over_leaves_its_end_as_it_was(ledger: TokenLedger) -> None:
    token, _ = await opened(ledger)
    await ledger.end(token.token_id, TokenState.DONE)
    assert await ledger.end(token.token_id, TokenState.REVOKED) is TokenState.DONE
    assert (await ledger.show(token.token_id)).state is TokenState.DONE


@pytest.mark.parametrize("scope", ["node", "group", "organization"])
async def test_tokens_are_revoked_by_node_by_group_and_by_organization(
    ledger: TokenLedger, scope: str
) -> None:
    mine = {"node_id": some_id(), "group_id": some_id(), "organization": some_id()}
    first, sid = await opened(ledger, **mine)
    second = new_token(**mine)
    await ledger.mint(second)
    bystander = new_token()
    await ledger.mint(bystander)
    revoke = {
        "node": ledger.revoke_node(mine["node_id"]),
        "group": ledger.revoke_group(mine["group_id"]),
        "organization": ledger.revoke_organization(mine["organization"]),
    }
    assert await revoke.pop(scope) == 2
    for unused in revoke.values():
        unused.close()
    assert await cause_of(ledger.begin(first.token_id, sid, "r", blob=None, length_bytes=0)) is Cause.REVOKED
    assert (await ledger.show(second.token_id)).state is TokenState.REVOKED
    assert (await ledger.show(bystander.token_id)).state is TokenState.MINTED


async def test_a_revoked_group_gets_no_tokens_until_its_barrier_falls(short: TokenLedger) -> None:
    token = new_token(group_id=some_id())
    await short.revoke_group(token.group_id)
    with pytest.raises(MintRefusedError):
        await short.mint(token)
    await asyncio.sleep(0.5)
    await short.mint(token)
    assert (await short.show(token.token_id)).state is TokenState.MINTED


async def test_a_mint_that_races_a_revocation_never_survives_it(ledger: TokenLedger) -> None:
    """Every token minted by a call that began before the revocation is revoked, or was never made."""
    for _ in range(10):
        group_id, organization = some_id(), some_id()
        tokens = [new_token(group_id=group_id, organization=organization) for _ in range(40)]
        mints = [asyncio.create_task(ledger.mint(token)) for token in tokens]
        await asyncio.sleep(0.002)
        await ledger.revoke_organization(organization)
        outcomes = await asyncio.gather(*mints, return_exceptions=True)
        assert all(outcome is None or isinstance(outcome, MintRefusedError) for outcome in outcomes)
        for token in tokens:
            assert await cause_of(ledger.redeem(token.token_id, "node-1", "x")) in {
                Cause.REVOKED,
                Cause.UNKNOWN,
            }


async def test_a_sweep_of_more_tokens_than_a_page_misses_none(ledger: TokenLedger) -> None:
    node_id = some_id()
    tokens = [new_token(node_id=node_id, group_id=some_id()) for _ in range(450)]
    await asyncio.gather(*(ledger.mint(token) for token in tokens))
    assert await ledger.revoke_node(node_id) == 450
