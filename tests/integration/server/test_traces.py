"""Traces of an import and a pull, as a collector receives them (docs/tracing.md)."""

import json
from pathlib import Path

import pytest

from registry import tracing
from registry.api.http.traced import traced
from registry.errors import ConfigError
from tests.integration.server.conftest import open_shop
from tests.support import images
from tests.support.crisper import CrisperServer
from tests.support.otlp import attributes, collector
from tests.support.processes import wait_until
from tests.support.pulling import Puller
from tests.support.upstream import Upstream

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
IMPORT = {"import", "import pulling", "import compressing", "import storing", "upstream"}
STEPS = IMPORT | {"mint", "redeem", "manifest", "blob"}


def test_an_import_and_a_pull_are_traced_without_a_secret(tmp_path: Path, upstream: Upstream) -> None:
    with collector() as collected:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collected.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        with CrisperServer(tmp_path / "crisper", insecure_registries=[upstream.host], env=env) as server:
            shop = open_shop(server, upstream, images.random_layers())
            token = shop.mint()
            puller = Puller(server.url)
            puller.pull(token, shop.node)
            puller.close()
            bearer = shop.bearer(token)
            shop.get("manifests/latest", bearer, traceparent=f"00-{TRACE}-{CALLER}-01").expect(200)
            path = f"manifests/{token.token}?token={token.token}"  # a secret where none belongs
            shop.get(path, bearer).expect(400, 404)
            wait_until(
                lambda: {span.name for span in collected.spans} >= STEPS,
                timeout_s=30,
                what=f"spans of every step, beyond {sorted({span.name for span in collected.spans})}",
            )
            secrets = {
                server.operator_key,
                shop.organization.api_key,
                shop.node.secret,
                token.token,
                bearer,
                str(upstream.password),
                *(json.loads(key.read_text())["private_key"][40:80] for key in _signing_keys(server)),
            }
    (importing,) = collected.named("import")
    inside = [span for span in collected.spans if span.trace_id == importing.trace_id]
    assert {span.name for span in inside} == IMPORT
    assert {attributes(span)["server.address"] for span in collected.named("upstream")} == {"127.0.0.1"}
    (called,) = [span for span in collected.spans if span.trace_id.hex() == TRACE]
    assert (called.name, called.parent_span_id.hex()) == ("manifest", CALLER)
    assert attributes(called)["http.response.status_code"] == 200
    assert attributes(called)["crisper.repository"] == shop.repository
    assert [secret for secret in secrets if secret in collected.text] == []


def _signing_keys(server: CrisperServer) -> list[Path]:
    return list((server.data_dir / "signing-keys").glob("*.json"))


def test_where_no_collector_is_named_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tracing.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    tracing.configure("crisper")
    assert not tracing.enabled()
    assert traced() == []
    with tracing.span("import") as span:
        assert not span.is_recording()


def test_a_share_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "most of them")
    with pytest.raises(ConfigError, match="a number from 0 to 1"):
        tracing.configure("crisper")
    assert not tracing.enabled()
