"""Updates, pages and instances as they look over HTTP."""

import pytest
from multidict import CIMultiDict

from registry.model.groups import GroupKey
from tests.integration.public_api.conftest import API_KEYS, Service
from tests.integration.public_api.test_http import DOCUMENT, GROUPS
from tests.unit.registry.services.test_changes import end_import

KEY = GroupKey("acme-corp", "dev-env", "app")
APP = f"{GROUPS}/app"
SOMEWHERE = f"{APP}/instances/db3a4591-efc3-46c0-b06a-3d820c0ec100"


async def test_an_update_with_an_etag_is_taken_while_the_group_is_as_it_was_read(service: Service) -> None:
    created = await service.call("POST", GROUPS, json=DOCUMENT)
    etag = created.headers["ETag"]
    assert (await service.call("GET", APP)).headers["ETag"] == etag
    first = await service.call("PATCH", APP, json={"replicas": 2}, if_match=etag)
    assert first.status == 200
    assert first.headers["ETag"] != etag
    for stale in (etag, f"W/{first.headers['ETag']}", "not a tag", '"a", "b"'):
        refused = await service.call("PATCH", APP, json={"replicas": 3}, if_match=stale)
        assert (refused.status, refused.content_type) == (412, "application/problem+json")
    for fresh in (f'"other", {first.headers["ETag"]}', "*"):
        assert (await service.call("PATCH", APP, json={"replicas": 2}, if_match=fresh)).status in {200, 412}
    assert (await (await service.call("GET", APP)).json())["replicas"] == 2


@pytest.mark.parametrize(
    "lines",
    [
        [""],
        ['"*"'],
        ["**"],
        ["*", "*"],
        ["*", '"other"'],
        ['"other"', "*"],
        ['*, "other"'],
        ["ETAG"],
        ["W/ETAG"],
        ['"other'],
        [",,,"],
        ['"' * 4000],
        ['"a",' * 1500],
        ["\u00e9"],
    ],
)
async def test_an_if_match_that_names_no_etag_of_the_group_changes_nothing(
    service: Service, lines: list[str]
) -> None:
    etag = (await service.call("POST", GROUPS, json=DOCUMENT)).headers["ETag"]
    bare = {"ETAG": etag.strip('"'), "W/ETAG": f"W/{etag}"}
    headers = CIMultiDict({"Salad-Api-Key": API_KEYS["acme-corp"]})
    for line in lines:
        headers.add("If-Match", bare.get(line, line))
    url = service.base_url + APP
    async with service.session.patch(url, headers=headers, json={"replicas": 3}) as refused:
        assert refused.status == 412
    assert (await (await service.call("GET", APP)).json())["replicas"] == DOCUMENT["replicas"]


async def test_a_patch_comes_in_both_media_types_and_no_other(service: Service) -> None:
    await service.call("POST", GROUPS, json=DOCUMENT)
    for media_type, status in (("application/merge-patch+json", 200), ("text/plain", 415)):
        answer = await service.call("PATCH", APP, data=b'{"replicas": 4}', content_type=media_type)
        assert answer.status == status


async def test_pulling_again_is_asked_for_in_the_query(service: Service) -> None:
    await service.call("POST", GROUPS, json=DOCUMENT)
    await end_import(service.world)
    same = await service.call("PATCH", APP, json={"container": {"image": DOCUMENT["container"]["image"]}})
    assert (await same.json())["version"] == 1
    again = await service.call("PATCH", f"{APP}?pull=always", json={})
    document = await again.json()
    assert (document["version"], document["current_state"]["status"]) == (2, "pending")
    assert (await service.call("PATCH", f"{APP}?pull=sometimes", json={})).status == 400


async def test_pages_lead_from_one_to_the_next(service: Service) -> None:
    for n in range(5):
        await service.call("POST", GROUPS, json={**DOCUMENT, "name": f"app-{n}"})
    seen, path = [], f"{GROUPS}?page_size=2"
    for _ in range(3):
        page = await service.call("GET", path)
        seen += [group["name"] for group in (await page.json())["items"]]
        link = page.headers.get("Link")
        path = link.partition(">")[0].removeprefix("</api/public") if link else ""
    assert seen == [f"app-{n}" for n in range(5)]
    assert path == ""
    assert (await service.call("GET", f"{GROUPS}?after=made-up")).status == 400


@pytest.mark.parametrize(
    ("page_size", "count"),
    {
        "1": 1,
        "002": 2,
        "101": 3,
        "000000001999": 3,
        "0" * 40 + "2": 2,
        "9" * 18: 3,
        "0": None,
        "-1": None,
        "x": None,
        "": None,
        "1.0": None,
        "1e30": None,
        "%D9%A3": None,
        "9" * 19: None,
        "9" * 5000: None,
        "0" * 5000 + "1": None,
    }.items(),
)
async def test_a_page_size_is_a_whole_number(service: Service, page_size: str, count: int | None) -> None:
    for n in range(3):
        await service.call("POST", GROUPS, json={**DOCUMENT, "name": f"app-{n}"})
    answer = await service.call("GET", f"{GROUPS}?page_size={page_size}")
    assert answer.status == (400 if count is None else 200)
    assert count is None or len((await answer.json())["items"]) == count


async def test_a_page_has_at_most_100_groups_and_256_kib_of_them(service: Service) -> None:
    for n in range(103):
        await service.call("POST", GROUPS, json={**DOCUMENT, "name": f"small-{n}"})
    assert len((await (await service.call("GET", GROUPS)).json())["items"]) == 100
    project = GROUPS.replace("dev-env", "large")
    for n in range(5):
        document = {**DOCUMENT, "name": f"large-{n}", "readme": "x" * 32_768, "display_name": "x" * 32_768}
        assert (await service.call("POST", project, json=document)).status == 201
    first = await service.call("GET", project)
    assert len((await first.json())["items"]) == 3
    rest = first.headers["Link"].partition(">")[0].removeprefix("</api/public")
    assert [group["name"] for group in (await (await service.call("GET", rest)).json())["items"]] == [
        "large-3",
        "large-4",
    ]


async def test_starting_what_failed_is_a_400_that_says_what_to_do(service: Service) -> None:
    await service.call("POST", GROUPS, json=DOCUMENT)
    await end_import(service.world, failing=True)
    refused = await service.call("POST", f"{APP}/start")
    assert refused.status == 400
    assert "change its image" in (await refused.json())["detail"]
    assert (await service.call("POST", f"{APP}/stop")).status == 202


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", APP),
        ("POST", f"{APP}/start"),
        ("POST", f"{APP}/stop"),
        ("GET", f"{APP}/instances"),
        ("GET", SOMEWHERE),
        ("PATCH", SOMEWHERE),
        ("POST", f"{SOMEWHERE}/reallocate"),
        ("POST", f"{SOMEWHERE}/recreate"),
        ("POST", f"{SOMEWHERE}/restart"),
    ],
)
async def test_another_organizations_groups_and_instances_are_out_of_reach(
    service: Service, method: str, path: str
) -> None:
    theirs = path.replace("acme-corp", "other-corp")
    await service.call("POST", GROUPS, json=DOCUMENT)
    missing = await service.call(method, path.replace("/app", "/nothing"), json={})
    assert missing.status == 404
    reached = await service.call(method, theirs, json={"replicas": 9})
    assert reached.status == (404 if method == "GET" else 403)


async def test_a_revoked_key_opens_nothing_more_and_the_others_do(service: Service) -> None:
    made = await service.world.keys.create("other-corp", "second")
    path = GROUPS.replace("acme-corp", "other-corp")
    assert (await service.call("GET", path, key=made.secret.reveal())).status == 200
    await service.world.keys.revoke("other-corp", made.key.key_id)
    assert (await service.call("GET", path, key=made.secret.reveal())).status == 401
    assert (await service.call("GET", path, key="key-of-other")).status == 200
    told = await service.world.events.page(organization="other-corp")
    assert [event.type for event in told] == ["api_key.created", "api_key.revoked"]
    assert made.secret.reveal() not in repr((made, told))
