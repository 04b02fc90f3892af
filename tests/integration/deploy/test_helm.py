"""The Helm chart, as Helm itself reads it and as Kubernetes' own schemas have it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from registry.config import Settings
from tests.support.built_programs import go_program
from tests.support.processes import Result, run

DEPLOY = Path(__file__).parents[3] / "deploy"
CHART = DEPLOY / "helm" / "crisper"
KUBERNETES = "1.31.0"
EVERYTHING = (
    *("ingress.enabled=true", "ingress.tlsSecret=public", "nodeCa.existingSecret=nodes"),
    *("tracing.endpoint=http://otel:4318", "settings.CRISPER_LEASE_S=30"),
    *(
        "networkPolicy.state[0].to[0].ipBlock.cidr=10.0.0.0/8",
        "networkPolicy.from[0].podSelector.matchLabels.a=b",
    ),
)


PROXY = ("-f", str(CHART / "accel-values.yaml"))


def helm(verb: str, *arguments: str) -> Result:
    name = ["crisper"] if verb == "template" else []
    values = ("-f", str(CHART / "example-values.yaml"))
    return run([str(go_program("helm")), verb, *name, str(CHART), *values, *arguments])


def rendered(*settings: str, values: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    chosen = [word for setting in settings for word in ("--set", setting)]
    text = helm("template", "--kube-version", KUBERNETES, *values, *chosen).check().output
    return (document for document in yaml.safe_load_all(text) if document)


def test_helm_finds_nothing_to_criticise() -> None:
    said = helm("lint", "--strict", "--kube-version", KUBERNETES).check().output
    assert "1 chart(s) linted, 0 chart(s) failed" in said


@pytest.mark.parametrize("settings", [(), EVERYTHING, ("roles.pull.autoscaling.enabled=false",)])
def test_what_it_makes_is_what_kubernetes_takes(settings: tuple[str, ...]) -> None:
    kinds = []
    for document in rendered(*settings):
        kubernetes_validate.validate(document, "1.31", strict=True)
        kinds.append(document["kind"])
    assert (
        kinds.count("Deployment") == kinds.count("PodDisruptionBudget") == kinds.count("NetworkPolicy") == 3
    )
    assert ("HorizontalPodAutoscaler" in kinds) is (settings[:1] != ("roles.pull.autoscaling.enabled=false",))


def test_every_pod_is_confined_and_every_setting_exists() -> None:
    known = {f"CRISPER_{name.upper()}" for name in Settings.model_fields}
    for deployment in rendered(*EVERYTHING):
        if deployment["kind"] != "Deployment":
            continue
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in (*pod["initContainers"], *pod["containers"]):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        (keys,) = (volume["secret"] for volume in pod["volumes"] if volume["name"] == "keys")
        role = deployment["metadata"]["labels"]["app.kubernetes.io/component"]
        assert keys["items"] == [{"key": f"{role}.tar", "path": "keys.tar"}]
        (server,) = pod["containers"]
        assert {probe for probe in server if probe.endswith("Probe")} == {
            "startupProbe",
            "livenessProbe",
            "readinessProbe",
        }
        named = {each["name"] for each in server["env"] if each["name"].startswith("CRISPER_")}
        assert named <= known
        assert {"CRISPER_ENV", "CRISPER_PROXY_CA", "CRISPER_NODE_CA", "CRISPER_LEASE_S"} <= named


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("publicUrl=http://registry.example.com", "publicUrl"),
        ("keys.url=", "keys"),
        ("tls.existingSecret=", "existingSecret"),
        ("storage.url=file:///blobs", "storage"),
        ("redis.url=redis://:password@redis", "redis"),
        ("settings.OTHER=1", "OTHER"),
        ("proxy.enabled=true", "proxy"),
        ("delivery.mode=accel", "objectsUrl"),
        ("delivery.objectsUrl=https://objects/;", "objectsUrl"),
    ],
)
def test_values_that_cannot_work_are_refused(setting: str, said: str) -> None:
    refused = helm("template", "--kube-version", KUBERNETES, "--set", setting)
    assert not refused.ok
    assert said in refused.output


def test_the_proxy_is_what_kubernetes_takes() -> None:
    made = [each for each in rendered(values=PROXY) if each["metadata"]["name"].endswith("-proxy")]
    for document in made:
        kubernetes_validate.validate(document, "1.31", strict=True)
    kinds = {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "NetworkPolicy"}
    assert {each["kind"] for each in made} == kinds


def test_network_policies_name_the_clients_of_each_role() -> None:
    sources = "networkPolicy.from[0].namespaceSelector.matchLabels.name=ingress"
    monitoring = "networkPolicy.monitoring[0].namespaceSelector.matchLabels.name=monitoring"
    state = "networkPolicy.state[0].to[0].ipBlock.cidr=10.0.0.0/8"
    policies = {
        each["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]: each["spec"]
        for each in rendered(sources, monitoring, state, values=PROXY)
        if each["kind"] == "NetworkPolicy"
    }
    for role in ("pull", "api"):
        https, admin = policies[role]["ingress"]
        assert https["ports"] == [{"port": "https"}]
        assert [sorted(source) for source in https["from"]] == [["namespaceSelector"], ["podSelector"]]
        assert https["from"][1]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "proxy"
        assert admin == {
            "ports": [{"port": "admin"}],
            "from": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        }
    assert [rule["ports"] for rule in policies["import"]["ingress"]] == [[{"port": "admin"}]]
    public = [
        rule["to"][0]["ipBlock"]["cidr"] == "0.0.0.0/0"
        for role in ("pull", "api", "import")
        for rule in policies[role]["egress"]
        if rule.get("to") and rule["to"][0].get("ipBlock", {}).get("cidr") == "0.0.0.0/0"
    ]
    assert public == [True]
    assert all(policy["egress"] != [{}] for policy in policies.values())
