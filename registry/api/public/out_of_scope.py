"""SaladCloud's operations on queues and inference endpoints, which Crisper does not have: all answer 501."""

from collections.abc import Awaitable, Callable
from typing import ClassVar, Final

from registry.api.endpoint import Call, Endpoint
from registry.api.public.application import ORGANIZATION
from registry.errors import OutOfScopeError

_QUEUES: Final = ORGANIZATION + "/projects/{project_name}/queues"
_QUEUE: Final = _QUEUES + "/{queue_name}"
_QUEUE_JOB: Final = _QUEUE + "/jobs/{queue_job_id}"
_ENDPOINTS: Final = ORGANIZATION + "/inference-endpoints"
_ENDPOINT: Final = _ENDPOINTS + "/{inference_endpoint_name}"
_ENDPOINT_JOB: Final = _ENDPOINT + "/jobs/{inference_endpoint_job_id}"
_OPERATIONS: Final = {
    "list_queues": ("GET", _QUEUES),
    "create_queue": ("POST", _QUEUES),
    "get_queue": ("GET", _QUEUE),
    "update_queue": ("PATCH", _QUEUE),
    "delete_queue": ("DELETE", _QUEUE),
    "list_queue_jobs": ("GET", f"{_QUEUE}/jobs"),
    "create_queue_job": ("POST", f"{_QUEUE}/jobs"),
    "get_queue_job": ("GET", _QUEUE_JOB),
    "delete_queue_job": ("DELETE", _QUEUE_JOB),
    "list_inference_endpoints": ("GET", _ENDPOINTS),
    "get_inference_endpoint": ("GET", _ENDPOINT),
    "list_inference_endpoint_jobs": ("GET", f"{_ENDPOINT}/jobs"),
    "create_inference_endpoint_job": ("POST", f"{_ENDPOINT}/jobs"),
    "get_inference_endpoint_job": ("GET", _ENDPOINT_JOB),
    "delete_inference_endpoint_job": ("DELETE", _ENDPOINT_JOB),
}


class OutOfScopeApi:
    """The operations of `_OPERATIONS`. Their bodies are not read."""

    tag: ClassVar[str] = "out of scope"


def _refusal(name: str) -> Callable[[OutOfScopeApi, Call[None]], Awaitable[None]]:
    async def refuse(self: OutOfScopeApi, call: Call[None]) -> None:  # noqa: ARG001 (alike for all)
        raise OutOfScopeError

    refuse.__name__ = name
    refuse.__doc__ = f"Out of scope: {name.replace('_', ' ')}."
    return refuse


for _name, (_method, _path) in _OPERATIONS.items():
    _endpoint = Endpoint(_method, _path, "Out of scope.", status=501, errors=(404, 501))
    setattr(OutOfScopeApi, _name, _endpoint(_refusal(_name)))
