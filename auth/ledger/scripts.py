"""The Lua scripts, and how they are run: EVALSHA, any failure translated, a time-out around everything."""

import asyncio
import hashlib
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from auth.errors import LedgerUnavailableError

_FOLDER = files("auth.ledger") / "scripts"


class Script:
    """One transition, as text and hash."""

    def __init__(self, name: str, *, prelude: str = "") -> None:
        parts = [*([prelude] if prelude else []), name]
        self.text = "\n".join((_FOLDER / f"{part}.lua").read_text() for part in parts)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class ScriptRunner:
    """Runs scripts on one Redis; whatever goes wrong is `LedgerUnavailableError`.

    Args:
        redis: A client that answers bytes, with bounded connections and time-outs (`ledger.connect`).
        timeout_s: The longest that one call may take, retries included.
    """

    def __init__(self, redis: "Redis", *, timeout_s: float) -> None:
        self._redis = redis
        self._timeout_s = timeout_s

    async def run(self, script: Script, keys: list[str], *args: bytes | str | float) -> Any:  # noqa: ANN401
        """Run a script and return its reply.

        A server that has lost its scripts (restart, SCRIPT FLUSH, failover) is given the text, which it
        then keeps: one more round trip, on the node of a cluster that holds the keys.

        Raises:
            LedgerUnavailableError: No answer, or not one of a working ledger; nothing may be granted.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._redis.evalsha(script.sha, len(keys), *keys, *args)
                except NoScriptError:
                    return await self._redis.eval(script.text, len(keys), *keys, *args)
        except (RedisError, OSError, RuntimeError) as error:  # TimeoutError is an OSError
            raise LedgerUnavailableError(
                f"the token ledger does not answer ({type(error).__name__})"
            ) from error
