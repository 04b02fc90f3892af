"""The check of an image and its credentials before an import, on a real server and a real registry."""

from tests.integration.portal.conftest import READY, Stage
from tests.support import images
from tests.support.http import Response
from tests.support.portal import PortalVisitor, plain
from tests.support.upstream import PASSWORD

FROM_OWN_PAGE = {"Sec_Fetch_Site": "same-origin"}
NEW = "/groups/new/check"


def fields(stage: Stage, image: str = "", password: str = PASSWORD) -> dict[str, str]:
    return {
        "image": image or stage.upstream.reference(images.runnable()),
        "private": "yes",
        "basic.username": stage.upstream.username or "",
        "basic.password": password,
        "name": "typed-name",
    }


def check(visitor: PortalVisitor, sent: dict[str, str], path: str = NEW) -> Response:
    return visitor.post(path, sent, HX_Request="true", **FROM_OWN_PAGE)


def test_a_check_says_what_an_import_would_store_and_imports_nothing(stage: Stage) -> None:
    visitor, other = stage.visitor(stage.organization), stage.visitor(stage.other)
    for path in (NEW, stage.path(READY, "/image/check")):
        said = plain(check(visitor, fields(stage), path).expect(200))
        assert "This image can be imported." in said
        assert images.runnable().digest.removeprefix("sha256:")[:12] in said
        assert "linux/amd64" in said
        assert "layer" in said
        assert "No policy applies to this image" in said
    assert "typed-name" not in visitor.text("/")
    check(other, fields(stage), stage.path(READY, "/image/check")).expect(404)


def test_a_check_fails_as_an_import_would(stage: Stage) -> None:
    visitor = stage.visitor(stage.organization)
    for sent, said in (
        (fields(stage, password="wrong"), "Failed to authenticate"),
        (fields(stage, stage.upstream.reference(images.runnable(), "none")), "Failed to pull"),
        (fields(stage, "169.254.169.254/latest/meta-data:1"), "private or reserved address"),
        (fields(stage, password="") | {"basic.username": ""}, "Enter the credentials"),
        (fields(stage, "UPPER"), "lower-case"),
    ):
        answer = check(visitor, sent).expect(200)
        assert said in plain(answer), plain(answer)
        assert "can be imported" not in plain(answer)
        assert PASSWORD not in answer.body.decode()


def test_without_script_the_form_comes_back_with_the_result_but_without_credentials(stage: Stage) -> None:
    visitor = stage.visitor(stage.organization)
    page = visitor.post(NEW, fields(stage), **FROM_OWN_PAGE).expect(200).body.decode()
    assert "This image can be imported." in page
    assert 'value="typed-name"' in page
    assert PASSWORD not in page


def test_only_own_pages_and_signed_in_users_check_images(stage: Stage) -> None:
    visitor = stage.visitor(stage.organization)
    sent = {**fields(stage), "form_token": visitor.form_token("/groups/new")}
    visitor.post(NEW, sent).expect(403)
    visitor.post(NEW, sent, Sec_Fetch_Site="cross-site").expect(403)
    stranger = PortalVisitor(stage.server.url)
    assert "session has expired" in plain(check(stranger, fields(stage)).expect(200))
    stranger.post(NEW, fields(stage), **FROM_OWN_PAGE).expect(401)


def test_the_checks_of_an_organization_are_limited(stage: Stage) -> None:
    key = stage.server.operator.create_organization().api_key
    visitor = PortalVisitor.signed_in(stage.server.url, key)
    missing = fields(stage, stage.upstream.reference(images.runnable(), "none"))
    said = [plain(check(visitor, missing).expect(200)) for _ in range(13)]
    assert "Failed to pull" in said[0]
    assert "At most 12 images can be checked per minute. Try again in" in said[-1]
    assert "Failed to pull" in plain(check(stage.visitor(stage.other), missing).expect(200))


def test_the_form_for_the_next_version_is_preset_from_the_last_import(stage: Stage) -> None:
    page = stage.visitor(stage.organization).text(stage.path(READY, "/image"))
    assert f'value="{stage.upstream.reference(images.runnable())}"' in page
    assert 'name="private" value="yes" checked' in page
    assert "Enter them again" in page
