import asyncio
import logging
from collections.abc import Awaitable
from ipaddress import ip_network

import pytest
from structlog.testing import capture_logs

from auth.errors import Cause, MintRefusedError, RefusedError, TtlOutOfRangeError
from auth.jws import TokenType, sign
from auth.ports import Binding
from auth.records import LEDGER_EXCHANGES, TokenState
from auth.secret import Secret
from tests.support.authorities import PULL, REPOSITORY, AuthStack
from tests.support.ledgers import IMAGE, new_token, some_id


async def refused(attempt: Awaitable[object]) -> Cause:
    with pytest.raises(RefusedError) as refusal:
        await attempt
    return refusal.value.cause


async def state(stack: AuthStack, token_id: str) -> TokenState:
    return (await stack.authority.show(token_id)).state


async def test_a_token_is_redeemed_once_and_answered_again_to_its_node(stack: AuthStack) -> None:
    minted = await stack.mint()
    first = await stack.realm.exchange(stack.request(minted.token))
    second = await stack.realm.exchange(stack.request(minted.token))
    assert (first.opened, second.opened) == (True, False)
    assert first.session_id == second.session_id
    assert 599 <= first.expires_in_s <= 600
    assert [(a.name, a.actions) for a in first.access] == [(REPOSITORY, ("pull",))]
    assert stack.types() == ["token.minted"]
    events = await stack.recorded(minted.token_id)
    assert [event.type for event in events] == ["token.redeemed", "token.exchanged"]
    assert {(event.node_id, event.organization, event.source) for event in events} == {
        ("node-1", "acme", "192.0.2.7")
    }
    assert events[0].detail == {"repository": REPOSITORY}
    claims = stack.verifier.verify(second.token.reveal())
    assert (claims.session_id, claims.token_id) == (first.session_id, minted.token_id)
    assert (claims.node_id, claims.image_digest, claims.organization) == ("node-1", IMAGE.digest, "acme")


async def test_a_login_checks_everything_and_redeems_nothing(stack: AuthStack) -> None:
    minted = await stack.mint()
    login = await stack.realm.exchange(stack.request(minted.token, scopes=[]))
    assert (login.access, login.session_id, login.opened) == ((), None, False)
    assert await state(stack, minted.token_id) is TokenState.MINTED
    claims = stack.verifier.verify(login.token.reveal())
    attempt = stack.verifier.begin(
        claims, repository=REPOSITORY, digest=None, length_bytes=0, blob=False, source="192.0.2.7"
    )
    assert await refused(attempt) is Cause.OUTSIDE_SCOPE
    await stack.authority.revoke(minted.token_id)
    assert await refused(stack.realm.exchange(stack.request(minted.token, scopes=[""]))) is Cause.REVOKED


@pytest.mark.parametrize(
    "scope", ["repository:acme/factory/other:pull", f"repository:{REPOSITORY}:push", "junk"]
)
async def test_a_scope_without_the_image_burns_nothing(stack: AuthStack, scope: str) -> None:
    minted = await stack.mint()
    grant = await stack.realm.exchange(stack.request(minted.token, scopes=[scope]))
    assert (grant.access, grant.session_id, grant.opened) == ((), None, False)
    assert await state(stack, minted.token_id) is TokenState.MINTED
    assert stack.causes() == ["outside_scope"]


async def test_more_than_the_image_is_asked_for_in_vain(stack: AuthStack) -> None:
    minted = await stack.mint()
    scopes = ["repository:acme/other/x:pull", f"repository:{REPOSITORY}:pull,push"]
    grant = await stack.realm.exchange(stack.request(minted.token, scopes=scopes))
    assert [(a.name, a.actions) for a in grant.access] == [(REPOSITORY, ("pull",))]


async def test_every_wrong_proof_is_refused_for_its_true_cause_and_burns_nothing(stack: AuthStack) -> None:
    minted = await stack.mint()
    token = minted.token
    wrong_secret = Secret(f"{token.reveal()}~{stack.secrets['node-2'].reveal()}")
    attempts = [
        (stack.request(token, "node-2"), Cause.WRONG_NODE),
        (stack.request(token, username="node-2"), Cause.WRONG_NODE),
        (stack.request(token, password=wrong_secret), Cause.WRONG_SECRET),
        (stack.request(token, password=token), Cause.WRONG_SECRET),
        (stack.request(token, password=Secret(f"{token.reveal()}~")), Cause.WRONG_SECRET),
        (stack.request(token, password=None), Cause.MALFORMED),
        (stack.request(token, password=Secret("hunter2")), Cause.MALFORMED),
        (stack.request(token, service="other"), Cause.MALFORMED),
    ]
    for request, cause in attempts:
        assert await refused(stack.realm.exchange(request)) is cause
    assert stack.causes() == [cause.value for _, cause in attempts]
    owners = [event.organization for event in stack.audit.events if event.type == "token.refused"]
    assert owners == 5 * ["acme"] + 3 * [None], "whose token it is, once its signature is good"
    assert await state(stack, minted.token_id) is TokenState.MINTED


async def test_nodes_that_are_bound_otherwise_are_refused(stack: AuthStack) -> None:
    for node_id, changes, cause in (
        ("certified", {"binding": Binding.CERTIFICATE, "secret_hash": None}, Cause.WRONG_PEER),
        ("unhashed", {"secret_hash": None}, Cause.WRONG_SECRET),
    ):
        stack.secrets[node_id] = stack.enrol(node_id, **changes)
        minted = await stack.mint(node_id)
        assert await refused(stack.realm.exchange(stack.request(minted.token, node_id))) is cause
        assert await state(stack, minted.token_id) is TokenState.MINTED


async def test_a_token_without_a_binding_is_refused(stack: AuthStack) -> None:
    token_id = some_id()
    await stack.ledger.mint(new_token(token_id=token_id, repository=REPOSITORY))
    for scopes in ([PULL], []):
        request = stack.request(signed_pull(stack, token_id, "acme"), scopes=scopes)
        assert await refused(stack.realm.exchange(request)) is Cause.NODE_UNKNOWN
    assert await state(stack, token_id) is TokenState.MINTED


async def test_a_deleted_node_loses_its_tokens_and_gets_no_new_ones(stack: AuthStack) -> None:
    stack.secrets["deleted"] = stack.enrol("deleted")
    waiting, active = await stack.mint("deleted"), await stack.mint("deleted")
    await stack.realm.exchange(stack.request(active.token, "deleted"))
    assert await stack.authority.revoke_node("deleted") == 2
    for minted in (waiting, active):
        assert await refused(stack.realm.exchange(stack.request(minted.token, "deleted"))) is Cause.REVOKED
    with pytest.raises(MintRefusedError):
        await stack.mint("deleted")


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fe80::1%eth0", True),
        ("febf:ffff::1", True),
        ("fec0::1", False),
        ("10.2.0.1", False),
        ("172.31.255.255", True),
        ("172.32.0.0", False),
        ("192.0.2.8", True),
        ("192.0.2.9", False),
        ("junk", False),
    ],
)
async def test_a_node_may_be_held_to_its_networks(stack: AuthStack, source: str, allowed: bool) -> None:  # noqa: FBT001
    networks = tuple(map(ip_network, ("10.1.0.0/16", "fe80::/10", "172.16.0.0/12", "192.0.2.8/32")))
    stack.secrets["node-3"] = stack.enrol("node-3", networks=networks)
    minted = await stack.mint("node-3")
    attempt = stack.realm.exchange(stack.request(minted.token, "node-3", source=source))
    if allowed:
        bearer = (await attempt).token.reveal()
        await stack.verifier.admit(bearer, source=source)
        with pytest.raises(RefusedError) as elsewhere:
            await stack.verifier.admit(bearer, source="192.0.2.1")
        assert elsewhere.value.cause is Cause.WRONG_NETWORK
    else:
        assert await refused(attempt) is Cause.WRONG_NETWORK


async def test_a_server_whose_clock_is_ahead_leaves_a_tokens_end_to_the_ledger(stack: AuthStack) -> None:
    minted = await stack.mint(ttl_s=60)
    stack.clock.advance(3600)
    grant = await stack.realm.exchange(stack.request(minted.token))
    assert grant.opened
    again = await stack.realm.exchange(stack.request(minted.token))
    assert (again.session_id, again.opened) == (grant.session_id, False)


def signed_pull(stack: AuthStack, token_id: str, organization: str) -> Secret:
    """Sign a token with the authority's own key, past the authority."""
    issued = int(stack.clock.now().timestamp())
    return sign(
        stack.keys,
        TokenType.PULL,
        {
            "iss": "https://registry.test",
            "sub": "node-1",
            "aud": "registry.test",
            "jti": token_id,
            "iat": issued,
            "nbf": issued,
            "exp": issued + 600,
            "access": [{"type": "repository", "name": REPOSITORY, "actions": ["pull"]}],
            "img": IMAGE.digest,
            "org": organization,
        },
    )


async def test_a_token_that_the_ledger_never_saw_is_refused_however_well_signed(stack: AuthStack) -> None:
    token = signed_pull(stack, "Z" * 22, "acme")
    assert await refused(stack.realm.exchange(stack.request(token))) is Cause.UNKNOWN
    assert await refused(stack.realm.exchange(stack.request(token, scopes=[]))) is Cause.UNKNOWN
    assert [event.organization for event in stack.audit.events] == [None, None]


async def test_a_refusal_is_nobodys_when_token_and_ledger_disagree_whose_it_is(stack: AuthStack) -> None:
    minted = await stack.mint()
    token = signed_pull(stack, minted.token_id, "rival")
    assert await refused(stack.realm.exchange(stack.request(token, username="node-2"))) is Cause.WRONG_NODE
    assert stack.audit.events[-1].token_id == minted.token_id
    assert stack.audit.events[-1].organization is None


async def test_a_completed_token_is_a_replay_and_a_revoked_one_is_revoked(stack: AuthStack) -> None:
    done, revoked = await stack.mint(), await stack.mint()
    await stack.realm.exchange(stack.request(done.token))
    assert (await stack.authority.complete(done.token_id)).state is TokenState.DONE
    await stack.authority.complete(done.token_id)
    assert (await stack.authority.revoke(revoked.token_id)).state is TokenState.REVOKED
    assert await refused(stack.realm.exchange(stack.request(done.token))) is Cause.REPLAYED
    assert await refused(stack.realm.exchange(stack.request(revoked.token))) is Cause.REVOKED
    refusals = [event for event in stack.audit.events if event.type == "token.refused"]
    assert [event.token_id for event in refusals] == [done.token_id, revoked.token_id]
    assert [event.organization for event in refusals] == ["acme", "acme"]
    assert stack.types().count("token.completed") == 1


async def test_two_hundred_exchanges_at_once_open_one_session(stack: AuthStack) -> None:
    minted = await stack.mint()
    exchanges = (stack.realm.exchange(stack.request(minted.token)) for _ in range(200))
    with capture_logs() as logs:
        grants = await asyncio.gather(*exchanges)
    assert len({grant.session_id for grant in grants}) == 1
    assert sum(grant.opened for grant in grants) == 1
    types = [event.type for event in await stack.recorded(minted.token_id)] + stack.types()
    assert types.count("token.redeemed") == 1
    assert types.count("token.exchanged") == 199
    assert stack.types().count("token.exchanged") == 200 - LEDGER_EXCHANGES
    alarms = [line for line in logs if line["event"] == "token.exchanged_often"]
    assert len(alarms) == 200 - 32


@pytest.mark.parametrize("ttl_s", [0, -1, 901])
async def test_no_token_outlives_a_quarter_of_an_hour(stack: AuthStack, ttl_s: int) -> None:
    with pytest.raises(TtlOutOfRangeError):
        await stack.mint(ttl_s=ttl_s)
    assert stack.types() == []


async def test_no_secret_appears_in_events_errors_logs_or_reprs(
    stack: AuthStack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    minted = await stack.mint()
    request = stack.request(minted.token)
    swapped = stack.request(minted.token, username=minted.token.reveal())
    with capture_logs() as logs:
        with pytest.raises(RefusedError) as error:
            await stack.realm.exchange(swapped)
        grant = await stack.realm.exchange(request)
    seen = f"{stack.audit.events} {error.value!r} {logs} {caplog.text} {minted} {grant} {request}"
    secret = stack.secrets["node-1"].reveal()
    for kept in (minted.token.reveal(), grant.token.reveal(), secret):
        assert kept not in seen
    assert PULL in repr(request)
