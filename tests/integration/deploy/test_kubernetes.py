"""The Helm chart on a real API server: installed, upgraded from 0.1.0 and rolled back."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.crisper import unique
from tests.support.kubernetes import Cluster, api_server
from tests.support.old_version import COMMIT

pytestmark = [pytest.mark.full, pytest.mark.timeout(2400)]  # the API server takes minutes to build

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "crisper"
VALUES = CHART / "example-values.yaml"
PROXY = CHART / "accel-values.yaml"
ROLES = ("pull", "api", "import")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with api_server(tmp_path_factory.mktemp("kubernetes")) as running:
        yield running


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    name = unique("test")
    cluster.create_namespace(name)
    return name


def deployments(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """Return the Deployments by their component, as the server has them."""
    listed = cluster.get(f"/apis/apps/v1/namespaces/{namespace}/deployments")["items"]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in listed}


def install(cluster: Cluster, namespace: str, *values: Path, chart: Path = CHART) -> None:
    """Install the chart or upgrade to it."""
    files = [word for path in values or (VALUES,) for word in ("--values", str(path))]
    cluster.helm(namespace, "upgrade", "--install", "crisper", str(chart), *files).check()


def test_everything_is_admitted_and_the_pods_meet_the_restricted_standard(
    cluster: Cluster, namespace: str
) -> None:
    install(cluster, namespace, VALUES, PROXY)
    found = deployments(cluster, namespace)
    assert found.keys() == {*ROLES, "proxy"}
    for component, deployment in found.items():
        pod = {"metadata": {"name": component}, "spec": deployment["spec"]["template"]["spec"]}
        made = cluster.call("POST", f"/api/v1/namespaces/{namespace}/pods", pod).expect(201).json()
        assert "automountServiceAccountToken" in made["spec"]
        mounted = [
            mount["mountPath"] for each in made["spec"]["containers"] for mount in each["volumeMounts"]
        ]
        assert not any("serviceaccount" in path for path in mounted)
        spread = {each["topologyKey"] for each in made["spec"]["topologySpreadConstraints"]}
        assert spread == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    for group, kind, count in (
        ("policy/v1", "poddisruptionbudgets", 4),
        ("networking.k8s.io/v1", "networkpolicies", 4),
        ("autoscaling/v2", "horizontalpodautoscalers", 1),
    ):
        assert len(cluster.get(f"/apis/{group}/namespaces/{namespace}/{kind}")["items"]) == count, kind


def test_a_pod_that_is_not_confined_is_refused_there(cluster: Cluster, namespace: str) -> None:
    install(cluster, namespace)
    spec = deployments(cluster, namespace)["pull"]["spec"]["template"]["spec"]
    spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    pod = {"metadata": {"name": "loose"}, "spec": spec}
    refused = cluster.call("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
    assert refused.status == 403
    assert "allowPrivilegeEscalation" in refused.json()["message"]


def test_the_same_values_change_nothing_and_the_autoscaler_keeps_its_replicas(
    cluster: Cluster, namespace: str
) -> None:
    install(cluster, namespace)
    pull = f"/apis/apps/v1/namespaces/{namespace}/deployments/crisper-pull"
    patch = {"spec": {"replicas": 7}}  # as the HorizontalPodAutoscaler does
    cluster.call("PATCH", f"{pull}/scale", patch, "application/merge-patch+json").expect(200)
    before = {name: each["metadata"]["generation"] for name, each in deployments(cluster, namespace).items()}
    install(cluster, namespace)
    after = deployments(cluster, namespace)
    assert {name: each["metadata"]["generation"] for name, each in after.items()} == before
    assert after["pull"]["spec"]["replicas"] == 7


def test_the_chart_of_version_0_1_0_is_upgraded_and_rolled_back(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", COMMIT, "deploy/helm"], capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(tmp_path)  # noqa: S202 (an archive of this repository)
    old = tmp_path / "deploy" / "helm" / "crisper"
    install(cluster, namespace, old / "example-values.yaml", chart=old)
    before = {name: each["spec"]["template"] for name, each in deployments(cluster, namespace).items()}
    install(cluster, namespace)
    after = deployments(cluster, namespace)
    assert after.keys() == before.keys()
    assert all(after[name]["spec"]["template"] != before[name] for name in before)
    cluster.helm(namespace, "rollback", "crisper", "1").check()
    back = {name: each["spec"]["template"] for name, each in deployments(cluster, namespace).items()}
    assert back == before


@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_secrets_of_its_own(cluster: Cluster, namespace: str, role: str) -> None:
    own = [f"roles.{role}.{name}Secret={role}-{name}" for name in ("redis", "database", "storage")]
    settings = [word for setting in own for word in ("--set", setting)]
    cluster.helm(namespace, "install", "crisper", str(CHART), "--values", str(VALUES), *settings).check()
    for name, deployment in deployments(cluster, namespace).items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        named = {
            each["valueFrom"]["secretKeyRef"]["name"] for each in container["env"] if "valueFrom" in each
        } | {each["secretRef"]["name"] for each in container["envFrom"]}
        wanted = {f"{role}-{each}" for each in ("redis", "database", "storage")}
        assert (named == wanted) is (name == role)
        assert (named == {"crisper-redis", "crisper-database", "crisper-storage"}) is (name != role)
        volumes = deployment["spec"]["template"]["spec"]["volumes"]
        (keys,) = (each["secret"] for each in volumes if each["name"] == "keys")
        assert [item["key"] for item in keys["items"]] == [f"{name}.tar"]


def test_the_helm_release_is_deleted_with_all_it_made(cluster: Cluster, namespace: str) -> None:
    install(cluster, namespace, VALUES, PROXY)
    cluster.helm(namespace, "uninstall", "crisper").check()
    assert deployments(cluster, namespace) == {}
    for kind in ("services", "configmaps", "secrets"):
        left = [
            each["metadata"]["name"]
            for each in cluster.get(f"/api/v1/namespaces/{namespace}/{kind}")["items"]
        ]
        assert not [name for name in left if "crisper" in name], kind
