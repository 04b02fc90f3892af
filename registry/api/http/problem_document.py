"""The schema of a problem (RFC 9457, section 3.1) that `registry.api.http.problems` writes."""

from pydantic import BaseModel, ConfigDict, Field


class ProblemDocument(BaseModel):
    """An error response.

    Attributes:
        instance: Id of this occurrence; for a 5xx the server's log has a line with it.
        errors: Reasons for each refused field, by its path.
    """

    model_config = ConfigDict(title="Problem")

    type: str
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    instance: str
    errors: dict[str, list[str]] = Field(default_factory=dict)
