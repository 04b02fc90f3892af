"""The process of a statement: crashes, hangs and restarts, and every caller gets its own answer."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path
from textwrap import dedent

import psutil
import pytest
import uvloop
from structlog.testing import capture_logs

from registry.catalog.engine.statement_process import StatementProcess

ECHO = "SELECT value, x'00ff' FROM json_each(?)"
INSERT = "INSERT INTO words SELECT value FROM json_each(?)"
WAL = ("PRAGMA journal_mode = WAL", "PRAGMA busy_timeout = 60000")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "one.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE words (word TEXT NOT NULL UNIQUE)")
    return file


@pytest.fixture
async def echo(file: Path) -> AsyncIterator[StatementProcess]:
    process = StatementProcess(str(file), ECHO, WAL, patience_s=60)
    yield process
    await process.close()


@pytest.fixture
async def words(file: Path) -> AsyncIterator[StatementProcess]:
    process = StatementProcess(str(file), INSERT, WAL, patience_s=60)
    yield process
    await process.close()


def kept(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return [word for (word,) in connection.execute("SELECT word FROM words ORDER BY rowid")]


def children() -> list[psutil.Process]:
    return [
        child for child in psutil.Process().children() if "statement_child.py" in " ".join(child.cmdline())
    ]


async def test_each_concurrent_question_gets_its_own_answer(
    echo: StatementProcess,
) -> None:
    asked = [f'["{n}{"é" * n}"]'.encode() for n in range(200)]
    answers = await asyncio.gather(*map(echo.execute, asked))
    assert answers == [[[f"{n}{'é' * n}", "00ff"]] for n in range(200)]
    assert len(children()) == 1


async def test_an_error_is_the_drivers_and_the_next_question_is_answered(
    words: StatementProcess, file: Path
) -> None:
    await words.execute(b'["one"]')
    with pytest.raises(sqlite3.IntegrityError) as error:
        await words.execute(b'["one"]')
    assert "one" not in str(error.value)  # a driver's message may hold what strangers sent
    await words.execute(b'["two"]')
    assert kept(file) == ["one", "two"]


async def test_a_killed_process_fails_its_callers_and_is_started_again(
    words: StatementProcess, file: Path
) -> None:
    await words.execute(b'["before"]')
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.create_task(words.execute(word)) for word in (b'["lost"]', b'["lost too"]')]
        await asyncio.sleep(0.1)
        (child,) = children()
        with capture_logs() as logs:
            child.kill()
            for error in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(error, sqlite3.OperationalError)
            while not logs:  # noqa: ASYNC110 (a log has no event)
                await asyncio.sleep(0.01)
        assert logs == [{"event": "catalog.process_died", "code": -signal.SIGKILL, "log_level": "error"}]
        other.execute("COMMIT")
    await words.execute(b'["after"]')
    assert kept(file) == ["before", "after"]
    assert [process.pid for process in children()] != [child.pid]


async def test_a_process_that_hangs_is_killed_when_patience_ends(file: Path) -> None:
    process = StatementProcess(str(file), ECHO, WAL, patience_s=0.5)
    assert await process.execute(b'["a"]') == [["a", "00ff"]]
    (child,) = children()
    await asyncio.sleep(0.7)  # without a question it may be silent for as long as it likes
    assert await process.execute(b'["b"]') == [["b", "00ff"]]
    os.kill(child.pid, signal.SIGSTOP)
    async with asyncio.timeout(5):
        with pytest.raises(sqlite3.OperationalError):
            await process.execute(b'["c"]')
        assert await process.execute(b'["d"]') == [["d", "00ff"]]
        (child,) = children()
        os.kill(child.pid, signal.SIGSTOP)
        await process.close()
    assert children() == []


async def test_a_cancelled_callers_answer_is_given_to_no_other(words: StatementProcess, file: Path) -> None:
    await words.execute(b'["first"]')
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        cancelled = asyncio.create_task(words.execute(b'["first"]'))
        behind = asyncio.create_task(words.execute(b'["second"]'))
        await asyncio.sleep(0.1)
        cancelled.cancel()
        await asyncio.sleep(0.1)
        assert not cancelled.done()
        other.execute("COMMIT")
    assert await behind == []
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert kept(file) == ["first", "second"]


async def test_it_works_through_the_signals_that_end_its_parent(echo: StatementProcess) -> None:
    await echo.execute(b"[]")
    (child,) = children()
    for number in (signal.SIGTERM, signal.SIGINT):
        child.send_signal(number)
    assert await echo.execute(b'["still"]') == [["still", "00ff"]]
    assert children() == [child]
    assert os.getsid(child.pid) != os.getsid(0)


async def test_one_that_has_just_been_killed_can_be_closed(file: Path) -> None:
    process = StatementProcess(str(file), ECHO, WAL, patience_s=60)
    await process.execute(b"[]")
    (child,) = children()
    child.kill()
    await process.close()
    assert children() == []


async def test_a_file_that_cannot_be_opened_is_the_drivers_error(tmp_path: Path) -> None:
    process = StatementProcess(str(tmp_path / "none" / "one.db"), ECHO, WAL, patience_s=60)
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError):
            await process.execute(b"[]")
    await process.close()


def test_it_is_killed_hangs_and_ends_the_same_way_on_uvloop(file: Path) -> None:
    async def life() -> None:
        process = StatementProcess(str(file), ECHO, WAL, patience_s=0.5)
        for number in (signal.SIGKILL, signal.SIGSTOP):
            assert await process.execute(b'["one"]') == [["one", "00ff"]]
            (child,) = children()
            child.send_signal(number)
            with pytest.raises(sqlite3.OperationalError):
                await process.execute(b'["two"]')
        assert await process.execute(b'["three"]') == [["three", "00ff"]]
        await process.close()
        assert children() == []

    uvloop.run(life())


def test_it_ends_with_its_parent_even_by_kill_9(file: Path) -> None:
    program = f"""
        import asyncio, os
        from registry.catalog.engine.statement_process import StatementProcess

        async def main():
            await StatementProcess({str(file)!r}, {ECHO!r}, (), patience_s=60).execute(b"[]")
            print("asked", flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
    """
    with subprocess.Popen([sys.executable, "-c", dedent(program)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"asked\n"
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
    with suppress(psutil.NoSuchProcess):
        child.wait(10)
    assert not child.is_running()
