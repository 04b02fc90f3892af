"""The alert rules, as Prometheus itself reads and evaluates them."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from auth.errors import Cause
from registry.observe import Metrics
from tests.support.processes import run

RULES = Path(__file__).parents[3] / "deploy" / "prometheus"


@pytest.mark.parametrize("command", [("check", "rules.yaml"), ("test", "rules_test.yaml")])
def test_prometheus_accepts_the_rules_and_they_fire_when_they_should(command: tuple[str, str]) -> None:
    verb, file = command
    assert "SUCCESS" in run(["promtool", verb, "rules", str(RULES / file)]).check().output


def test_every_metric_and_cause_that_a_rule_names_exists() -> None:
    text = (RULES / "rules.yaml").read_text()
    metrics = Metrics()
    metrics.refusals.labels("replayed").inc()
    metrics.requests.labels("/token", "503").inc()
    rendered = text_string_to_metric_families(metrics.render().decode())
    samples = {sample.name for family in rendered for sample in family.samples}
    named = set(re.findall(r"crisper_[a-z_]+", text))
    assert named <= samples
    causes = {cause for found in re.findall(r'cause=~?"([^"]+)"', text) for cause in found.split("|")}
    assert causes <= {cause.value for cause in Cause}
    assert "replayed" in causes
