"""Log providers of a container.

Tokens, passwords and header values are secrets. They are dropped, because Crisper ships no logs
(docs/adr/0012-drop-log-provider-secrets.md). Stored documents and responses contain asterisks instead.
"""

from typing import Annotated

from pydantic import Field

from registry.api.public.shapes import Integer, Items, Omittable, SecretText, Shape, Text


class Axiom(Shape):
    """Axiom, a log provider."""

    host: Text
    api_token: SecretText
    dataset: Text


class DatadogTag(Shape):
    """A tag of all lines."""

    name: Text
    value: Text


class Datadog(Shape):
    """Datadog, a log provider."""

    host: Text
    api_key: SecretText
    tags: Items[DatadogTag] | None = None


class LogHeader(Shape):
    """A header of log requests; its value is often a credential."""

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
    """New Relic, a log provider."""

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
    """The provider of a container's logs ("CreateContainerLogging")."""

    axiom: Omittable[Axiom] = None
    datadog: Omittable[Datadog] = None
    http: Omittable[HttpLogs] = None
    new_relic: Omittable[NewRelic] = None
    splunk: Omittable[Splunk] = None
    tcp: Omittable[TcpLogs] = None
