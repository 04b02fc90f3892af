import asyncio
from collections.abc import Awaitable
from datetime import timedelta

import pytest

from auth.claims import SessionClaims
from auth.delivery import MeteredDelivery
from auth.errors import Cause, OutsideScopeError, RefusedError
from auth.jws import TokenType, sign
from auth.peer import Fault, PeerCertificate, RejectedCertificate, ShownCertificate
from auth.ports import Binding
from auth.records import ImageGrant, TokenState
from tests.support.authorities import REPOSITORY, AuthStack
from tests.support.ledgers import CONFIG, IMAGE, LAYER, MIB, digest_of


async def session(stack: AuthStack, **changes: object) -> SessionClaims:
    minted = await stack.mint("node-1", **changes)
    grant = await stack.realm.exchange(stack.request(minted.token))
    return stack.verifier.verify(grant.token.reveal())


async def begin(
    stack: AuthStack, claims: SessionClaims, blob: str, length: int, repository: str = REPOSITORY
) -> MeteredDelivery:
    return await stack.verifier.begin(
        claims, repository=repository, digest=blob, length_bytes=length, blob=True, source="192.0.2.7"
    )


async def refused(attempt: Awaitable[object]) -> Cause:
    with pytest.raises(RefusedError) as refusal:
        await attempt
    return refusal.value.cause


async def test_a_delivery_is_metered_from_start_to_end(stack: AuthStack) -> None:
    claims = await session(stack)
    delivery = await begin(stack, claims, LAYER, 900)
    assert not delivery.sent(0, 400)
    assert not delivery.sent(400, 500)
    await delivery.finish()
    await delivery.finish()
    view = (await stack.authority.show(claims.token_id)).session
    assert view is not None
    assert (view.bytes_delivered, view.blobs_complete, view.running) == (900, 1, 0)


async def test_a_report_is_due_whenever_the_granted_window_is_spent(stack: AuthStack) -> None:
    size = 8 * MIB
    claims = await session(stack, image=ImageGrant(IMAGE.digest, size, {LAYER: size}))
    delivery = await begin(stack, claims, LAYER, size)
    due = []
    for position in range(0, size, MIB // 2):
        due.append(delivery.sent(position, MIB // 2))
        if due[-1]:
            await delivery.report()
    await delivery.finish()
    assert [i for i, is_due in enumerate(due, 1) if is_due] == [2, 4, 8]
    view = (await stack.authority.show(claims.token_id)).session
    assert view is not None
    assert (view.bytes_delivered, view.blobs_complete) == (size, 1)


async def test_a_response_is_one_contiguous_range(stack: AuthStack) -> None:
    delivery = await begin(stack, await session(stack), LAYER, 900)
    delivery.sent(100, 50)
    with pytest.raises(ValueError, match="contiguous"):
        delivery.sent(200, 50)
    await delivery.finish()


async def test_another_repository_and_another_blob_are_outside_scope(stack: AuthStack) -> None:
    claims = await session(stack)
    with pytest.raises(OutsideScopeError):
        await begin(stack, claims, LAYER, 900, repository="acme/factory/other")
    with pytest.raises(OutsideScopeError):
        await begin(stack, claims, digest_of("other"), 900)
    assert stack.causes() == ["outside_scope", "outside_scope"]
    event = stack.audit.events[-1]
    assert (event.token_id, event.node_id, event.source) == (claims.token_id, "node-1", "192.0.2.7")


async def test_a_session_that_was_completed_or_revoked_begins_nothing(stack: AuthStack) -> None:
    done, revoked = await session(stack), await session(stack)
    await stack.authority.complete(done.token_id)
    await stack.authority.revoke(revoked.token_id)
    assert await refused(begin(stack, done, LAYER, 900)) is Cause.SESSION_OVER
    assert await refused(begin(stack, revoked, LAYER, 900)) is Cause.REVOKED


async def test_a_running_response_survives_completion_but_not_revocation(stack: AuthStack) -> None:
    claims = await session(stack)
    delivery = await begin(stack, claims, LAYER, 900)
    delivery.sent(0, 10)
    await stack.authority.complete(claims.token_id)
    await delivery.report()
    assert (await stack.authority.revoke(claims.token_id)).state is TokenState.REVOKED
    assert await refused(delivery.report()) is Cause.REVOKED
    await delivery.finish()


async def test_the_fourth_copy_of_an_image_is_over_budget(stack: AuthStack) -> None:
    size = 20 * MIB
    claims = await session(stack, image=ImageGrant(IMAGE.digest, size, {LAYER: size, CONFIG: 0}))
    for _ in range(3):
        delivery = await begin(stack, claims, LAYER, size)
        delivery.sent(0, size)
        await delivery.finish()
    assert await refused(begin(stack, claims, LAYER, 17 * MIB)) is Cause.OVER_BUDGET


async def test_manifests_and_heads_are_not_metered(stack: AuthStack) -> None:
    claims = await session(stack)
    delivery = await stack.verifier.begin(
        claims, repository=REPOSITORY, digest=IMAGE.digest, length_bytes=0, blob=False, source="192.0.2.7"
    )
    assert not delivery.sent(0, 5000)
    await delivery.report()
    await delivery.finish()
    view = (await stack.authority.show(claims.token_id)).session
    assert view is not None
    assert view.bytes_delivered == 0


async def test_a_verified_bearer_still_expires_and_every_junk_bearer_is_audited(stack: AuthStack) -> None:
    minted = await stack.mint()
    bearer = (await stack.realm.exchange(stack.request(minted.token))).token.reveal()
    stack.verifier.verify(bearer)
    stack.clock.advance(86_400 + 31)
    assert await refused(stack.verifier.admit(bearer, source="192.0.2.7")) is Cause.EXPIRED
    assert await refused(stack.verifier.admit("junk", source="192.0.2.7")) is Cause.MALFORMED
    assert await refused(stack.verifier.admit(minted.token.reveal(), source="192.0.2.7")) is Cause.FORGED
    assert stack.causes() == ["expired", "malformed", "forged"]


async def test_containerd_s_parallel_open_ended_ranges_fit_the_budget(stack: AuthStack) -> None:
    """Eight ranges to the end of one blob at once, each closed after its eighth."""
    size = 64 * MIB
    claims = await session(stack, image=ImageGrant(IMAGE.digest, size, {LAYER: size}))
    eighth = size // 8

    async def fetch(number: int) -> None:
        start = number * eighth
        delivery = await begin(stack, claims, LAYER, size - start)
        for position in range(start, start + eighth, MIB):
            if delivery.sent(position, MIB):
                await delivery.report()
        await delivery.finish()

    await asyncio.gather(*(fetch(number) for number in range(8)))
    view = (await stack.authority.show(claims.token_id)).session
    assert view is not None
    assert (view.bytes_delivered, view.blobs_complete) == (size, 1)


def certificate(stack: AuthStack, node_id: str, thumbprint: str = "x") -> PeerCertificate:
    now = stack.clock.now()
    return PeerCertificate(node_id, thumbprint, now - timedelta(hours=1), now + timedelta(hours=1))


@pytest.mark.parametrize(
    "shown",
    [
        None,
        RejectedCertificate(Fault.EXPIRED, "x"),
        RejectedCertificate(Fault.FOREIGN, "x"),
        "node-2",
    ],
    ids=["none", "expired", "foreign", "another node's"],
)
async def test_a_certificate_bound_bearer_needs_the_certificate(
    stack: AuthStack, shown: ShownCertificate | str | None
) -> None:
    stack.enrol("node-1", binding=Binding.CERTIFICATE, secret_hash=None)
    peer = certificate(stack, shown) if isinstance(shown, str) else shown
    own = certificate(stack, "node-1")
    minted, waiting = await stack.mint(), await stack.mint()
    attempt = stack.realm.exchange(stack.request(waiting.token, peer=peer))
    assert await refused(attempt) is Cause.WRONG_PEER
    bearer = (await stack.realm.exchange(stack.request(minted.token, peer=own))).token.reveal()
    assert await refused(stack.verifier.admit(bearer, source="192.0.2.7", peer=peer)) is Cause.WRONG_PEER
    renewed = certificate(stack, "node-1", thumbprint="y")
    claims = await stack.verifier.admit(bearer, source="192.0.2.7", peer=renewed)
    begun = stack.verifier.begin(
        claims, repository=REPOSITORY, digest=LAYER, length_bytes=1, blob=True, source="192.0.2.7", peer=peer
    )
    assert await refused(begun) is Cause.WRONG_PEER
    refusals = [event for event in stack.audit.events if event.type == "token.refused"]
    assert [(event.cause, event.organization) for event in refusals] == 3 * [("wrong_peer", "acme")]


@pytest.mark.parametrize(
    "claim",
    [
        *(
            {"cnf": cnf}
            for cnf in (None, {}, "node-1", {"san": "urn:crisper:node:node-2"}, {"x5t#S256": "x"})
        ),
        *({"nets": nets} for nets in (None, "10.0.0.0/8", ["10.0.0.1/8"], ["x"], [10])),
    ],
)
async def test_a_bearer_with_another_confirmation_or_junk_networks_is_malformed(
    stack: AuthStack, claim: dict[str, object]
) -> None:
    issued = int(stack.clock.now().timestamp())
    said = {
        "iss": "https://registry.test",
        "sub": "node-1",
        "aud": "registry.test",
        "jti": "A" * 22,
        "iat": issued,
        "nbf": issued,
        "exp": issued + 600,
        "access": [],
        "org": "acme",
        **claim,
    }
    bearer = sign(stack.keys, TokenType.SESSION, said).reveal()
    peer = certificate(stack, "node-1")
    assert await refused(stack.verifier.admit(bearer, source="192.0.2.7", peer=peer)) is Cause.MALFORMED
