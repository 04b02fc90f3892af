"""Progress of running imports in Redis (implements `registry.model.imports.ProgressStore`)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import structlog
from redis.exceptions import RedisError

from auth.ledger import LedgerClient
from registry.model.imports import Progress, Stage

_TTL_S = 3600
_log = structlog.get_logger(__name__)


class RedisProgressStore:
    """Stores a job's progress in the key `progress:{<job id>}`, until an hour after the last update."""

    def __init__(self, redis: LedgerClient) -> None:
        self._redis = redis

    async def put(self, job_id: str, progress: Progress) -> None:
        """Store the progress of a job. Errors of Redis are logged, not raised."""
        try:
            await self._redis.set(_name(job_id), json.dumps(asdict(progress)), ex=_TTL_S)
        except (RedisError, OSError) as error:
            _log.warning("progress.not_stored", job_id=job_id, error=type(error).__name__)

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Progress]:
        """Return the stored progress by job id. Empty if Redis does not answer."""
        if not job_ids:
            return {}
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for job_id in job_ids:
                    pipeline.get(_name(job_id))
                texts = await pipeline.execute()
        except (RedisError, OSError) as error:
            _log.warning("progress.unavailable", error=type(error).__name__)
            return {}
        return {job_id: _progress(text) for job_id, text in zip(job_ids, texts, strict=True) if text}


def _name(job_id: str) -> str:
    return f"progress:{{{job_id}}}"


def _progress(text: bytes) -> Progress:
    facts = json.loads(text)
    known = {name: facts[name] for name in Progress.__slots__ if name in facts}
    return Progress(**known | {"stage": Stage(facts["stage"])})
