"""Where a container's logs go.

Tokens, passwords and header values are secrets: they are checked and then dropped, since Crisper ships no
logs (docs/adr/0012-drop-log-provider-secrets.md). What is kept and answered holds asterisks in their place.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from registry.api.public.shapes import Line, Omittable, Port, SecretLine, Shape


class Axiom(Shape):
    """Axiom."""

    host: Line
    api_token: SecretLine
    dataset: Line


class DatadogTag(Shape):
    """A tag on every line."""

    name: Line
    value: Line


class Datadog(Shape):
    """Datadog."""

    host: Line
    api_key: SecretLine
    tags: Annotated[list[DatadogTag], Field(max_length=1000)] | None


class LogHeader(Shape):
    """A header of the requests that carry lines; its value often authenticates."""

    name: Line
    value: SecretLine


class HttpLogs(Shape):
    """Any HTTP endpoint."""

    host: Line
    port: Port
    format: Literal["json", "json_lines"]
    compression: Literal["none", "gzip"]
    headers: Annotated[list[LogHeader], Field(max_length=1000)] | None = None
    user: Omittable[Line] = None
    password: Omittable[SecretLine] = None
    path: Omittable[Line] = None


class NewRelic(Shape):
    """New Relic."""

    host: Line
    ingestion_key: SecretLine


class Splunk(Shape):
    """Splunk's HTTP event collector."""

    host: Line
    token: SecretLine


class TcpLogs(Shape):
    """A TCP endpoint."""

    host: Line
    port: Port


class Logging(Shape):
    """One provider that takes a container's logs ("CreateContainerLogging")."""

    axiom: Omittable[Axiom] = None
    datadog: Omittable[Datadog] = None
    http: Omittable[HttpLogs] = None
    new_relic: Omittable[NewRelic] = None
    splunk: Omittable[Splunk] = None
    tcp: Omittable[TcpLogs] = None

    @model_validator(mode="after")
    def _one_at_most(self) -> Self:
        if len(self.model_dump()) > 1:
            raise ValueError("choose one logging provider")
        return self
