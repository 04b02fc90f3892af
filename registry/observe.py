"""Logs and metrics. They never contain a token, a secret or a credential."""

import logging
import os
import sys

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

# Field names under which a secret might be logged by mistake. Their values are always replaced.
_HIDDEN = frozenset({"password", "token", "secret", "authorization", "api_key", "credential", "operator_key"})


def configure_logging(level: str) -> None:
    """Log to standard error: one JSON object per line, or readable text on a terminal."""
    terminal = sys.stderr.isatty()
    render: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide,
    ]
    threshold = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_errors],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(level=max(threshold, logging.WARNING), handlers=[handler], force=True)


def _hide(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return {key: "(hidden)" if key in _HIDDEN else value for key, value in event.items()}


def _name_errors(
    _logger: object, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    """Log only the class of a library's exception, because its message may quote request headers."""
    raised = event.pop("exc_info", None)
    if isinstance(raised, tuple) and raised[0] is not None:
        event["error"] = raised[0].__qualname__
    return event


class Metrics:
    """Prometheus metrics of the server, in their own collector registry."""

    def __init__(self) -> None:
        gather = self._registry = CollectorRegistry()
        self.requests = Counter(
            "crisper_http_requests",
            "HTTP requests by API surface and status.",
            ["surface", "status"],
            registry=gather,
        )
        self.delivered = Counter(
            "crisper_blob_bytes_delivered", "Blob bytes written to nodes and edge caches.", registry=gather
        )
        self.edge_bytes = Counter(
            "crisper_edge_bytes", "Bytes of ciphertext sent to edge caches.", ["edge"], registry=gather
        )
        self.refusals = Counter(
            "crisper_token_refusals",
            "Refused tokens, secrets and certificates, by actual cause.",
            ["cause"],
            registry=gather,
        )
        self.tokens = Counter(
            "crisper_tokens", "State transitions of pull tokens.", ["transition"], registry=gather
        )
        self.imports = Counter(
            "crisper_imports",
            "Finished imports by registry provider and outcome.",
            ["provider", "outcome"],
            registry=gather,
        )
        self.imported = Counter(
            "crisper_import_bytes",
            "Bytes downloaded from upstream registries.",
            ["provider"],
            registry=gather,
        )
        self.import_time = Histogram(
            "crisper_import_transfer_seconds",
            "Time to download all layers of an image.",
            ["provider"],
            buckets=(1, 3, 10, 30, 100, 300, 1000, 3000),
            registry=gather,
        )
        self.compressed_layers = Counter(
            "crisper_compressed_layers",
            "Layers considered for compression, by outcome.",
            ["outcome"],
            registry=gather,
        )
        self.compression_bytes = Counter(
            "crisper_compression_bytes",
            "Bytes of recompressed layers, before and after.",
            ["side"],
            registry=gather,
        )
        self.compression_seconds = Counter(
            "crisper_compression_seconds", "Time spent on compression during imports.", registry=gather
        )
        self.responses = Gauge(
            "crisper_blob_responses",
            "Blob responses in progress.",
            multiprocess_mode="livesum",
            registry=gather,
        )
        self.latency = Histogram(
            "crisper_http_seconds", "Time until the response headers.", ["surface"], registry=gather
        )

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format, aggregated over all workers."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        gathered = CollectorRegistry()
        multiprocess.MultiProcessCollector(gathered)  # type: ignore[no-untyped-call]
        return generate_latest(gathered)
