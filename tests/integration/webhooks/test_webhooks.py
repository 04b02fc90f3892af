import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from auth.audit import AuthEventType
from auth.ports import AuditEvent
from registry.errors import (
    InvalidInputError,
    NotFoundError,
    QuotaExceededError,
    WebhookFailedError,
)
from registry.upstream.egress import EgressGuard
from registry.upstream.hooks import HookClient
from tests.integration.webhooks.conftest import MAX_WEBHOOKS, Post


async def test_an_event_arrives_signed_once_and_says_what_happened(post: Post) -> None:
    made = await post.register()
    await post.tell()
    (message,) = await post.carry()
    verifier = Verifier(made.secret.reveal())
    body = verifier.verify(message.body, message.headers)
    assert body == {
        "type": "group.imported",
        "timestamp": post.clock.now().isoformat().replace("+00:00", "Z"),
        "data": {"organization": "acme", "node_id": "pc-1", "group": "web"},
    }
    with pytest.raises(WebhookVerificationError):
        verifier.verify(message.body.replace("web", "hub"), message.headers)
    assert await post.carry() == []
    shown = await post.webhooks.get("acme", made.webhook.webhook_id)
    assert shown.delivered_at == post.clock.now()


async def test_only_what_was_asked_for_of_ones_own_and_from_then_on_is_told(post: Post) -> None:
    await post.tell("group.created")
    await post.register("group.failed", "token.*")
    for type_ in ("group.failed", "group.imported", "token.redeemed", "node.created", "webhook.created"):
        await post.tell(type_)
    await post.tell("group.failed", organization="rival")
    told = [json.loads(message.body)["type"] for message in await post.carry()]
    assert sorted(told) == ["group.failed", "token.redeemed"]


async def test_a_refusal_is_sent_only_to_the_organization_of_the_token(
    post: Post,
) -> None:
    await post.register("token.refused")
    for number, organization in enumerate(("acme", None, "rival")):
        event = AuditEvent(AuthEventType.TOKEN_REFUSED, organization, token_id=f"t{number}", node_id="pc-1")
        await post.events.record(replace(event, cause="replayed", source="192.0.2.7", detail={"at": "realm"}))
    (message,) = await post.carry()
    data = json.loads(message.body)["data"]
    assert data == {
        "organization": "acme",
        "token_id": "t0",
        "node_id": "pc-1",
        "cause": "replayed",
        "at": "realm",
    }


async def test_a_message_is_tried_again_as_itself_and_then_given_up(post: Post) -> None:
    made = await post.register()
    post.endpoint.status = 500
    await post.tell()
    attempts = await post.carry()
    for wait_s in (5, 60, 3600):
        post.clock.later(wait_s - 1)
        assert await post.carry() == []
        post.clock.later(1)
        attempts += await post.carry()
    assert len(attempts) == 4
    assert len({message.headers["webhook-id"] for message in attempts}) == 1
    assert len({message.headers["webhook-timestamp"] for message in attempts}) == 4
    post.clock.later(7 * 3600)
    assert await post.carry() == []
    shown = await post.webhooks.get("acme", made.webhook.webhook_id)
    assert shown.failing_since is not None
    assert shown.last_failure == "it answered 500"


async def test_an_endpoint_that_comes_back_gets_what_waited(post: Post) -> None:
    made = await post.register()
    post.endpoint.status = 503
    post.endpoint.headers = {"Retry-After": "120"}
    for _ in range(3):
        await post.tell()
    assert await post.carry()
    post.endpoint.status = 200
    post.clock.later(119)
    waited = await post.carry()
    post.clock.later(2)
    waited += await post.carry()
    assert len({message.headers["webhook-id"] for message in waited}) == 3
    assert (await post.webhooks.get("acme", made.webhook.webhook_id)).failing_since is None


async def test_an_endpoint_that_fails_for_days_is_given_up_with_an_event(post: Post) -> None:
    made = await post.register()
    post.endpoint.status = 500
    await post.tell()
    await post.carry()
    post.clock.later(23 * 3600)
    await post.tell()
    await post.carry()
    assert (await post.webhooks.get("acme", made.webhook.webhook_id)).disabled_at is None
    post.clock.later(2 * 3600)
    await post.carry()
    given_up = await post.webhooks.get("acme", made.webhook.webhook_id)
    assert given_up.disabled_at is not None
    (told,) = await post.events.page(type_="webhook.disabled")
    assert told.detail == {"webhook_id": made.webhook.webhook_id, "why": "it answered 500"}
    await post.tell()
    assert await post.carry() == []
    post.endpoint.status = 204
    await post.webhooks.enable("acme", made.webhook.webhook_id)
    assert await post.carry() == [], "what came while it was given up is not told"
    await post.tell()
    assert len(await post.carry()) == 1


async def test_an_endpoint_that_is_gone_is_given_up_at_once(post: Post) -> None:
    made = await post.register()
    post.endpoint.status = 410
    await post.tell()
    await post.carry()
    assert (await post.webhooks.get("acme", made.webhook.webhook_id)).disabled_at is not None


async def test_a_redirect_is_not_followed(post: Post) -> None:
    made = await post.register()
    post.endpoint.status = 302
    post.endpoint.headers = {"Location": post.url}
    await post.tell()
    assert len(await post.carry()) == 1
    assert (await post.webhooks.get("acme", made.webhook.webhook_id)).last_failure == "it answered 302"


async def test_two_couriers_carry_each_message_once(post: Post) -> None:
    await post.register()
    for _ in range(40):
        await post.tell()
    await asyncio.gather(post.carry(), post.carry())
    ids = [message.headers["webhook-id"] for message in post.endpoint.messages]
    assert len(ids) == len(set(ids)) == 40


async def test_a_crash_between_sending_and_recording_repeats_the_message(post: Post) -> None:
    await post.register()
    await post.tell()
    assert await post.catalog.collect(10) > 0
    (lost,) = await post.catalog.claim(10, lease_s=60)
    post.clock.later(61)
    (message,) = await post.carry()
    assert message.headers["webhook-id"] == lost.message_id


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "https://10.0.0.1/hook",
        "https://[::1]/hook",
        "https://ann:geheim@example.com/hook",
        "ftp://example.com/",
    ],
)
async def test_nothing_is_told_to_an_address_that_may_not_be_reached(post: Post, url: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        await post.webhooks.register("acme", url, ())
    assert refused.value.fields.keys() == {"url"}
    assert "geheim" not in str(refused.value.fields)


async def test_a_name_of_a_private_address_is_refused_on_connect() -> None:
    client = HookClient(EgressGuard())
    client.vet("https://localhost/hook")
    with pytest.raises(WebhookFailedError, match="private or reserved"):
        await client.post("https://localhost/hook", {}, b"{}")
    await client.close()


async def test_a_secret_is_not_kept_in_the_clear(post: Post) -> None:
    made = await post.register()
    await post.tell()
    await post.carry()
    secret = made.secret.reveal().removeprefix("whsec_")
    assert secret not in repr(made)

    def holding(folder: Path) -> list[str]:
        return [file.name for file in folder.iterdir() if secret.encode() in file.read_bytes()]

    assert await asyncio.to_thread(holding, post.folder) == []


async def test_an_organizations_secret_key_signs_the_messages_of_its_own_webhooks(post: Post) -> None:
    made = await post.webhooks.register("acme", post.url, (), with_organization_key=True)
    for renewed in (False, True):
        if renewed:
            await post.webhooks.renew_secret_key("acme")
        key = await post.webhooks.secret_key("acme")
        await post.tell()
        message = (await post.carry())[-1]
        Verifier(key).verify(message.body, message.headers)
        own = Verifier(made.secret.reveal())
        if renewed:
            with pytest.raises(WebhookVerificationError):
                own.verify(message.body, message.headers)
        else:
            own.verify(message.body, message.headers)
    assert await post.webhooks.secret_key("rival") != await post.webhooks.secret_key("acme")


async def test_an_organizations_webhooks_are_bounded_and_its_own(post: Post) -> None:
    made = await post.register()
    for _ in range(MAX_WEBHOOKS - 1):
        await post.register()
    with pytest.raises(QuotaExceededError):
        await post.register()
    for work in (post.webhooks.get, post.webhooks.enable, post.webhooks.remove):
        with pytest.raises(NotFoundError):
            await work("rival", made.webhook.webhook_id)
    await post.webhooks.remove("acme", made.webhook.webhook_id)
    assert len(await post.webhooks.list("acme")) == MAX_WEBHOOKS - 1
    with pytest.raises(NotFoundError):
        await post.webhooks.register("nobody", post.url, ())
