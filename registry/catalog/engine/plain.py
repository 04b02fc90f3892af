"""Statements that SQLite's driver executes by itself: the two that every redemption waits for.

SQLAlchemy makes their text and knows their types. Its connection, its cache of statements and its result
around each of them take several times what SQLite needs (docs/adr/0049-synchronous-sqlite-in-threads.md).
Each has one parameter, a JSON list, so that any number of rows is one text and one call; and each is executed
by a process of its own (`registry.catalog.engine.statement_process`).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Column, LargeBinary, String, Table, bindparam, func, insert, literal_column, select
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.types import TypeEngine

_DIALECT = dialect(json_serializer=lambda value: orjson.dumps(value).decode())


class PlainSelect:
    """Selects a table's rows by their keys.

    Args:
        table: Whose columns are read.
        key: The column that is compared; text.

    Attributes:
        elsewhere: The same for another database, with the parameter `keys`.
    """

    def __init__(self, table: Table, key: Column[str]) -> None:
        self.elsewhere = select(table).where(key.in_(bindparam("keys", expanding=True)))
        keys = func.json_each(bindparam("keys", type_=String)).table_valued("value")
        self.sql = str(select(table).where(key.in_(select(keys.c.value))).compile(dialect=_DIALECT))
        self._columns = [(column.name, _read_by(column.type)) for column in table.columns]

    @staticmethod
    def parameter(keys: Collection[str]) -> bytes:
        """Return what `sql` is executed with."""
        return orjson.dumps(list(keys))

    def read(self, row: Sequence[Any]) -> dict[str, Any]:
        """Return a row's values, which came as JSON, as the columns' types read them, by name."""
        return {name: read(value) for (name, read), value in zip(self._columns, row, strict=True)}


class PlainInsert:
    """Inserts rows in their order, by one statement, which is a transaction of its own.

    Args:
        table: Where they go; it numbers its rows itself.
    """

    def __init__(self, table: Table) -> None:
        columns = [column for column in table.columns if not column.primary_key]
        rows = func.json_each(bindparam("rows", type_=String)).table_valued("key", "value")
        values = [func.json_extract(rows.c.value, literal_column(f"'$[{n}]'")) for n in range(len(columns))]
        names = [column.name for column in columns]
        statement = insert(table).from_select(names, select(*values).order_by(rows.c.key))
        self.sql = str(statement.compile(dialect=_DIALECT))
        self._columns = [(column.name, _bound_by(column.type)) for column in columns]

    def parameter(self, rows: Iterable[Mapping[str, Any]]) -> bytes:
        """Return what `sql` is executed with; what the columns' types make of each value is a number or text.

        Text has no NUL: SQLite would cut it off there (`registry.catalog.tables.storable`).
        """
        every = [[bound(row[name]) for name, bound in self._columns] for row in rows]
        return orjson.dumps(every)


def _bound_by(type_: TypeEngine[Any]) -> Callable[[Any], Any]:
    return type_.dialect_impl(_DIALECT).bind_processor(_DIALECT) or _same


def _read_by(type_: TypeEngine[Any]) -> Callable[[Any], Any]:
    if isinstance(type_, LargeBinary):
        return _unhex
    return type_.dialect_impl(_DIALECT).result_processor(_DIALECT, None) or _same


def _unhex(value: str | None) -> bytes | None:
    return None if value is None else bytes.fromhex(value)


def _same(value: Any) -> Any:  # noqa: ANN401
    return value
