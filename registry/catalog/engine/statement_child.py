"""The process in which SQLite executes one statement (`registry.catalog.engine.statement_process`).

    statement_child.py FILE STATEMENT [PRAGMA ...]

A program by itself, of the standard library alone, so that it starts in 20 ms and has 5 MB to itself. A
line of input is the statement's one parameter, JSON. The line that answers it is a list of rows in JSON,
bytes as hexadecimal digits; or a string, the name of the driver's error, whose message may hold a row's
values. It ends when its input does.
"""

import json
import signal
import sqlite3
import sys
from collections.abc import Sequence


def main() -> None:
    """Answer until the input ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, who has work for us while it ends
        signal.signal(number, signal.SIG_IGN)
    path, sql, *pragmas = sys.argv[1:]
    connection: sqlite3.Connection | None = None
    answer: object
    with open(1, "wb", buffering=0) as output:
        for line in sys.stdin.buffer:
            try:
                connection = connection or _connect(path, pragmas)
                answer = connection.execute(sql, (line.decode(),)).fetchall()
            except sqlite3.Error as error:
                answer = type(error).__name__
                if connection is not None:
                    connection.close()
                    connection = None
            try:
                output.write(json.dumps(answer, default=bytes.hex).encode() + b"\n")
            except BrokenPipeError:  # the parent is gone
                return


def _connect(path: str, pragmas: Sequence[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in pragmas:
        connection.execute(pragma).close()
    return connection


if __name__ == "__main__":
    main()
