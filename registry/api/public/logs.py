"""Where a container's logs go.

Tokens, passwords and header values are secrets: they are dropped, since Crisper ships no
logs (docs/adr/0012-drop-log-provider-secrets.md). What is kept and answered holds asterisks in their place.
"""

from typing import Annotated

from pydantic import Field

from registry.api.public.shapes import Integer, Items, Omittable, SecretText, Shape, Text


class Axiom(Shape):
    """Axiom."""

    host: Text
    api_token: SecretText
    dataset: Text


class DatadogTag(Shape):
    """A tag on every line."""

    name: Text
    value: Text


class Datadog(Shape):
    """Datadog."""

    host: Text
    api_key: SecretText
    tags: Items[DatadogTag] | None = None


class LogHeader(Shape):
    """A header of the requests that carry lines; its value often authenticates."""

    name: Text
    value: SecretText


class HttpLogs(Shape):
    """Any HTTP endpoint."""

    host: Text
    port: Integer
    format: Annotated[Text, Field(examples=["json", "json_lines"])]
    compression: Annotated[Text, Field(examples=["none", "gzip"])]
    headers: Items[LogHeader] | None = None
    user: Omittable[Text] = None
    password: Omittable[SecretText] = None
    path: Omittable[Text] = None


class NewRelic(Shape):
    """New Relic."""

    host: Text
    ingestion_key: SecretText


class Splunk(Shape):
    """Splunk's HTTP event collector."""

    host: Text
    token: SecretText


class TcpLogs(Shape):
    """A TCP endpoint."""

    host: Text
    port: Integer


class Logging(Shape):
    """The provider that takes a container's logs ("CreateContainerLogging")."""

    axiom: Omittable[Axiom] = None
    datadog: Omittable[Datadog] = None
    http: Omittable[HttpLogs] = None
    new_relic: Omittable[NewRelic] = None
    splunk: Omittable[Splunk] = None
    tcp: Omittable[TcpLogs] = None
