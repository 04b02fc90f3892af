"""The shape of a problem (RFC 9457, section 3.1), as `registry.api.http.problems` writes it."""

from pydantic import BaseModel, ConfigDict, Field


class ProblemDocument(BaseModel):
    """What went wrong.

    Attributes:
        instance: Names this occurrence; for a 5xx the server's log has a line with it.
        errors: Each refused field by its path, with the reasons.
    """

    model_config = ConfigDict(title="Problem")

    type: str
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    instance: str
    errors: dict[str, list[str]] = Field(default_factory=dict)
