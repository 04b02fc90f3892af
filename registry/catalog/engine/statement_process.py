"""A statement that SQLite executes in a process of its own (docs/adr/0050-sqlite-statement-processes.md).

A thread takes the interpreter's lock back after each step of a statement, and waits as long for it as the
event loop is busy. A process needs none of that: it is asked by a line, and answers by a line.
"""

import asyncio
import sqlite3
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import orjson
import structlog

from storage.threads import wait_uncancelled

_PROGRAM = Path(__file__).with_name("statement_child.py")

_log = structlog.get_logger(__name__)

Row = list[Any]


class StatementProcess:
    """One statement's process: started when it is first asked, and anew when it has died.

    Args:
        file: The SQLite file.
        sql: The statement, with one parameter: JSON.
        pragmas: What its connection begins with.
        patience_s: The longest that an answer may take; a process that owes one for longer is killed.
    """

    def __init__(self, file: str, sql: str, pragmas: Sequence[str], *, patience_s: float) -> None:
        self._command = (sys.executable, "-I", "-S", str(_PROGRAM), file, sql, *pragmas)
        self._patience_s = patience_s
        self._starting = asyncio.Lock()
        self._conversation: _Conversation | None = None

    async def execute(self, parameter: bytes) -> list[Row]:
        """Execute the statement; return its rows, values as JSON has them, bytes as hexadecimal digits.

        A caller who is cancelled waits for the answer all the same: the statement cannot be called back.

        Raises:
            sqlite3.Error: As the driver raised it, or the process did not answer: the statement may have
                been executed.
            OSError: The process could not be started.
        """
        answer = (await self._running()).ask(parameter)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            await wait_uncancelled(answer)
            raise

    async def close(self) -> None:
        """End the process; only once nobody waits for it."""
        if self._conversation is not None:
            await self._conversation.close()

    async def _running(self) -> "_Conversation":
        if self._conversation is not None and not self._conversation.over:
            return self._conversation
        async with self._starting:
            if self._conversation is None or self._conversation.over:
                loop = asyncio.get_running_loop()
                # In a session of its own, out of reach of the terminal's Ctrl-C.
                _, self._conversation = await loop.subprocess_exec(
                    lambda: _Conversation(self._patience_s),
                    *self._command,
                    stderr=None,
                    start_new_session=True,
                )
        return self._conversation


class _Conversation(asyncio.SubprocessProtocol):
    """Questions and answers of one process's life, in order."""

    def __init__(self, patience_s: float) -> None:
        self.over = False
        self._closing = False
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._unanswered: deque[asyncio.Future[list[Row]]] = deque()
        self._read = bytearray()
        self._alarm: asyncio.TimerHandle | None = None

    def ask(self, question: bytes) -> asyncio.Future[list[Row]]:
        """Send a line; the caller has to `wait_uncancelled` what is returned."""
        answer: asyncio.Future[list[Row]] = self._loop.create_future()
        self._unanswered.append(answer)
        if self._alarm is None:
            self._alarm = self._loop.call_later(self._patience_s, self._kill)
        self._questions.write(question + b"\n")
        return answer

    async def close(self) -> None:
        """Let the process end, or kill it where it does not."""
        self._closing = True
        self._questions.close()
        alarm = self._loop.call_later(self._patience_s, self._kill)
        await self._ended
        alarm.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._process = cast("asyncio.SubprocessTransport", transport)
        self._questions = cast("asyncio.WriteTransport", self._process.get_pipe_transport(0))

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        del fd
        self._read += cast("bytes", data)
        *lines, rest = self._read.split(b"\n")
        self._read = rest
        for line in lines:
            self._settle(orjson.loads(line))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        del exc
        self.over = True
        while fd == 1 and self._unanswered:  # there may be answers left while only the questions' end is lost
            self._settle("OperationalError")

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self._closing:
            _log.error("catalog.process_died", code=self._process.get_returncode())
        self._process.close()
        self._ended.set_result(None)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    def _settle(self, said: list[Row] | str) -> None:
        answer = self._unanswered.popleft()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._unanswered:
            self._alarm = self._loop.call_later(self._patience_s, self._kill)
        if answer.done():  # cancelled
            return
        if isinstance(said, str):
            answer.set_exception(getattr(sqlite3, said, sqlite3.Error)(said))
        else:
            answer.set_result(said)
