"""The dashboard: every query is one that Prometheus reads, of metrics that a server has."""

import json
import re
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from registry.observe import Metrics
from tests.support.processes import run

DASHBOARD = Path(__file__).parents[3] / "deploy" / "grafana" / "crisper.json"


def queries() -> list[str]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in document["panels"] for target in panel.get("targets", ())]
    assert len(found) >= 10
    return found


def test_every_metric_that_the_dashboard_names_exists() -> None:
    metrics = Metrics()
    for metric in vars(metrics).values():
        if names := getattr(metric, "_labelnames", ()):
            metric.labels(*names)
    rendered = text_string_to_metric_families(metrics.render().decode())
    samples = {sample.name for family in rendered for sample in family.samples}
    named = {name for query in queries() for name in re.findall(r"crisper_[a-z_]+", query)}
    assert named
    assert named <= samples


def test_prometheus_reads_every_query(tmp_path: Path) -> None:
    chosen = [query.replace("$__rate_interval", "5m").replace("$job", ".*") for query in queries()]
    assert not any("$" in query for query in chosen)
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(chosen)]
    file = tmp_path / "rules.yaml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    run(["promtool", "check", "rules", str(file)]).check()
