"""Every operation of the OpenAPI document, called by every kind of caller: who gets in, and what they see."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.server.conftest import Shop
from tests.support.certificates import new_key, public_pem, signing_request
from tests.support.crisper import CrisperServer, unique
from tests.support.group_documents import MINIMAL
from tests.support.http import Response, basic, request
from tests.support.tenancy import Tenant, send
from tests.support.upstream import Upstream

#: Parameters of every operation on groups; others name one object.
PLACES = {"organization_name", "project_name"}
REFUSED = 401
HIDDEN = 404
FORBIDDEN = 403
THREADS = 4
HOOK = {"url": "https://hooks.example.com/in"}
#: Valid bodies, by operation id, so that a caller who is let in by mistake changes something; else `{}`.
BODIES: Mapping[str, Mapping[str, Any]] = {
    "create_container_group": {**MINIMAL, "name": "intruder"},
    "update_container_group": {"replicas": 7},
    "roll_back_container_group": {"version": 1},
    "update_container_group_instance": {"deletion_cost": 7},
    "query_log_entries": {
        "query": "*",
        "start_time": "2026-01-01T00:00:00Z",
        "end_time": "2026-01-02T00:00:00Z",
    },
    "create_customer_webhook": HOOK,
    "create_webhook": HOOK,
    "get_gpu_availability": {"gpu_classes": []},
    "create_organization": {"name": "intruder"},
    "create_api_key": {"name": "intruder"},
    "set_quotas": {"groups": 7},
    "create_node": {"node_id": "intruder", "binding": "secret"},
    "issue_certificate": {"csr": signing_request(new_key())},
    "set_encryption_key": {"public_key": public_pem(new_key().public_key())},
    "report_instance": {"state": "running"},
    "set_organization_platforms": {"platforms": ["linux/arm64"]},
    "set_group_platforms": {"platforms": ["linux/arm64"]},
}


@dataclass(frozen=True)
class Operation:
    """An operation of the document.

    Attributes:
        schemes: Security schemes that it accepts, each of them alone.
        statuses: Documented statuses of its answers.
    """

    id: str
    method: str
    path: str
    schemes: frozenset[str]
    statuses: Sequence[int]
    has_body: bool

    @property
    def objects(self) -> set[str]:
        """Parameters that name an object of a tenant, in addition to its organization and project."""
        return set(re.findall(r"{(\w+)}", self.path)) - PLACES

    @property
    def success(self) -> int:
        """Status of its success; of operations that are out of scope, 501."""
        if self.id == "download_sbom":
            return HIDDEN  # the tenants' images have none
        return min((status for status in self.statuses if status < 300), default=501)

    def at(self, parameters: Mapping[str, str]) -> str:
        return re.sub(r"{(\w+)}", lambda found: parameters.get(found[1], "canary-unknown"), self.path)

    def body(self, tenant: Tenant) -> Mapping[str, Any] | None:
        if self.id == "mint_pull_token":
            names = ("organization_name", "project_name", "container_group_name")
            return {**{name: tenant.parameters[name] for name in names}, "node_id": tenant.node.node_id}
        return BODIES.get(self.id, {}) if self.has_body else None


@dataclass(frozen=True)
class Caller:
    """Somebody with a credential.

    Attributes:
        accepted: Security schemes that the credential satisfies for objects of the tenant that is called for.
        foreign: Whether it is the API key of another tenant.
    """

    name: str
    credential: str
    accepted: frozenset[str] = frozenset()
    foreign: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The credential in each place that an API reads."""
        if not self.credential:
            return {}
        return {"Authorization": f"Bearer {self.credential}", "Salad-Api-Key": self.credential}

    def is_let_in(self, operation: Operation) -> bool:
        return bool(self.accepted & operation.schemes)

    def refusal(self, operation: Operation) -> int:
        """Return the status by which an operation refuses this caller."""
        if self.foreign and "api_key" in operation.schemes:
            return HIDDEN if operation.method == "GET" else FORBIDDEN
        return REFUSED


@dataclass(frozen=True)
class Site:
    server: CrisperServer
    tenant: Tenant
    rival: Tenant

    @property
    def operations(self) -> list[Operation]:
        document = request("GET", f"{self.server.url}/openapi.json").expect(200).json()
        return [
            Operation(
                one["operationId"],
                method.upper(),
                path,
                frozenset(scheme for either in one["security"] for scheme in either),
                [int(status) for status in one["responses"]],
                "requestBody" in one,
            )
            for path, methods in document["paths"].items()
            for method, one in methods.items()
        ]

    @property
    def callers(self) -> list[Caller]:
        """Everyone who may call for an object of `tenant`."""
        own, others = self.tenant.credentials, self.rival.credentials
        return [
            Caller("nobody", ""),
            Caller("a garbage key", unique("garbage")),
            Caller("another organization's API key", others["API key"], foreign=True),
            Caller("its own API key", own["API key"], frozenset({"api_key"})),
            Caller("its revoked API key", own["revoked API key"]),
            Caller("the operator key", self.server.operator_key, frozenset({"api_key", "operator_key"})),
            Caller("the bearer of its own session", own["session's bearer"], frozenset({"session_bearer"})),
            Caller("the bearer of another session", others["session's bearer"]),
            Caller("its enrolment secret", own["enrolment secret"], frozenset({"enrolment_secret"})),
            Caller("another node's enrolment secret", others["enrolment secret"]),
            Caller("its pull token", own["pull token"]),
            Caller("another tenant's pull token", others["pull token"]),
            Caller("its node's secret", own["node's secret"]),
        ]

    def call(self, operation: Operation, caller: Caller, parameters: Mapping[str, str]) -> Response:
        path, body = operation.at(parameters), operation.body(self.tenant)
        return send(self.server, operation.method, path, caller.headers, body)

    def state(self) -> dict[str, Any]:
        """Return what every GET shows to the operator about both tenants, without the audit trail."""
        key = Caller("the operator key", self.server.operator_key)
        reads = [one for one in self.operations if one.method == "GET" and "events" not in one.path]
        asked = [(one, tenant) for one in reads for tenant in (self.tenant, self.rival)]
        with ThreadPoolExecutor(THREADS) as threads:
            answers = threads.map(lambda pair: self.call(pair[0], key, pair[1].parameters), asked)
            return {
                one.at(tenant.parameters): _lasting(answer.expect(one.success))
                for (one, tenant), answer in zip(asked, answers, strict=True)
            }


def _lasting(answer: Response) -> Any:  # noqa: ANN401
    """Return an answer's document without the occurrence that an error's document names."""
    document = answer.json()
    return {name: value for name, value in document.items() if name != "instance"}


@pytest.fixture(scope="module")
def site(shop: Shop, upstream: Upstream) -> Site:
    return Site(shop.server, Tenant.create(shop.server, upstream), Tenant.create(shop.server, upstream))


def shown(answer: Response, tenant: Tenant) -> set[str]:
    """Return what an answer shows of a tenant."""
    text = f"{answer.headers}\n{answer.body.decode(errors='replace')}"
    return {canary for canary in tenant.canaries if canary in text}


def test_every_caller_without_access_is_refused_by_every_operation_and_changes_nothing(site: Site) -> None:
    before = site.state()
    matrix = [
        (operation, caller)
        for operation in site.operations
        for caller in site.callers
        if not caller.is_let_in(operation)
    ]
    assert len(matrix) > 500
    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(lambda pair: site.call(pair[0], pair[1], site.tenant.parameters), matrix))
    wrong = [
        (operation.id, caller.name, answer.status, answer.body[:200])
        for (operation, caller), answer in zip(matrix, answers, strict=True)
        if answer.status != caller.refusal(operation)
    ]
    assert wrong == []
    leaks = [
        (operation.id, caller.name, found)
        for (operation, caller), answer in zip(matrix, answers, strict=True)
        if (found := shown(answer, site.tenant) | shown(answer, site.rival))
    ]
    assert leaks == []
    assert site.state() == before


def test_no_object_of_a_tenant_is_found_below_another_tenants_name(site: Site) -> None:
    """A caller's own organization is in the address, and another tenant's object."""
    before = site.state()
    rival = Caller("another organization's API key", site.rival.credentials["API key"])
    mixed = {**site.tenant.parameters, "organization_name": site.rival.organization.name}
    tried = [one for one in site.operations if "api_key" in one.schemes and one.objects]
    assert len(tried) > 20
    for operation in tried:
        answer = site.call(operation, rival, mixed)
        answer.expect(501 if operation.success == 501 else HIDDEN)
        assert shown(answer, site.tenant) <= set(mixed.values())  # an error may repeat the address
    assert site.state() == before


def contents(tenant: Tenant) -> list[str]:
    """Return the path of everything that a session of the tenant may read."""
    image = tenant.image
    below = ["manifests/latest", f"manifests/{image.digest}", "tags/list", f"referrers/{image.digest}"]
    return [f"/v2/{tenant.repository}/{part}" for part in [*below, *(f"blobs/{d}" for d in image.blobs)]]


def test_only_its_own_session_reads_an_image(site: Site) -> None:
    for caller in site.callers:
        is_own = "session_bearer" in caller.accepted
        foreign = caller.name == "the bearer of another session"
        status = 200 if is_own else FORBIDDEN if foreign else REFUSED
        for path in contents(site.tenant):
            answer = send(site.server, "GET", path, caller.headers).expect(status)
            if not is_own:  # the challenge repeats the address
                assert shown(answer, site.tenant) <= {site.tenant.organization.name, site.tenant.group}
            assert shown(answer, site.rival) == set()
        answer = send(site.server, "GET", "/v2/", caller.headers).expect(
            200 if is_own or foreign else REFUSED
        )
        assert shown(answer, site.tenant) | shown(answer, site.rival) == set()
        for path in ("/v2/_catalog", f"/v2/{site.tenant.repository}", f"/v2/{site.tenant.repository}/blobs/"):
            answer = send(site.server, "GET", path, caller.headers)
            assert answer.status in {REFUSED, FORBIDDEN, HIDDEN}, (path, caller.name)
            assert shown(answer, site.rival) == set()


def test_content_of_another_tenant_is_not_read_through_an_own_session(site: Site) -> None:
    own = {"Authorization": "Bearer " + site.rival.credentials["session's bearer"]}
    repository, image = site.rival.repository, site.tenant.image
    for part in (f"manifests/{image.digest}", *(f"blobs/{digest}" for digest in image.blobs)):
        answer = send(site.server, "GET", f"/v2/{repository}/{part}", own).expect(HIDDEN)
        assert not shown(answer, site.tenant) - {image.digest, *image.blobs}
    answer = send(site.server, "GET", f"/v2/{repository}/referrers/{image.digest}", own).expect(200, HIDDEN)
    assert not shown(answer, site.tenant) - {image.digest}


def test_a_token_is_exchanged_by_its_own_node_for_its_own_image_only(site: Site) -> None:
    node, token = site.tenant.unused
    thief = site.rival.unused[0]
    own, other = site.tenant.repository, site.rival.repository
    credentials = {**site.tenant.credentials, "operator key": site.server.operator_key}
    refused = [
        ("", "", own),
        (node.node_id, token.token, own),
        (node.node_id, f"{token.token}~", own),
        (node.node_id, token.password(thief), own),
        (thief.node_id, token.password(thief), own),
        (thief.node_id, token.password(node), own),
        *((node.node_id, credential, own) for credential in credentials.values()),
        *(
            (node.node_id, f"{credential}~{node.secret}", own)
            for name, credential in credentials.items()
            if name != "pull token"
        ),
    ]
    for username, password, repository in refused:
        answer = _exchange(site, username, password, repository)
        answer.expect(REFUSED, FORBIDDEN)
        assert shown(answer, site.tenant) | shown(answer, site.rival) == set()
    logins = [
        (node.node_id, token.password(node), other),
        (node.node_id, token.password(node), f"{site.tenant.organization.name}/default/other"),
        (thief.node_id, site.rival.unused[1].password(thief), own),
    ]
    for asked in logins:
        login = _exchange(site, *asked).expect(200)
        assert shown(login, site.tenant) | shown(login, site.rival) == set()
        bearer = {"Authorization": f"Bearer {login.json()['token']}"}  # of a login: without any access
        for path in (*contents(site.tenant), *contents(site.rival)):
            send(site.server, "GET", path, bearer).expect(REFUSED, FORBIDDEN)
    granted = _exchange(site, node.node_id, token.password(node), own).expect(200)
    assert shown(granted, site.rival) == set()


def _exchange(site: Site, username: str, password: str, repository: str) -> Response:
    headers = {"Authorization": basic(username, password)} if username else {}
    path = f"/token?service=crisper&scope=repository:{repository}:pull"
    return send(site.server, "GET", path, headers)


def test_callers_with_access_are_let_in_and_see_no_other_tenant(site: Site) -> None:
    """The control of the two tests above, and the last one, because these calls change what they may."""
    methods, schemes = ["GET", "POST", "PUT", "PATCH", "DELETE"], {"api_key", "operator_key"}
    matrix = [(one, caller) for one in site.operations for caller in site.callers if caller.is_let_in(one)]
    # Nodes call before customers, and customers before the operator, who can take credentials away.
    matrix.sort(key=lambda pair: (methods.index(pair[0].method), len(pair[1].accepted & schemes)))
    assert len(matrix) > 100
    for operation, caller in matrix:
        answer = site.call(operation, caller, site.tenant.parameters)
        if operation.method == "GET":
            answer.expect(operation.success)
        else:
            answer.expect(*(set(operation.statuses) - {REFUSED, FORBIDDEN, 429, 500, 503}))
        if caller.name != "the operator key":
            assert shown(answer, site.rival) == set(), (operation.id, caller.name)
