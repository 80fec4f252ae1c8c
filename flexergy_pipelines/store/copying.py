"""Moving frames into and out of PostgreSQL: COPY in its binary format for time series, arrays or CSV for the rest.

Rows of time series have only columns of fixed width, so numpy lays them out and reads them without a loop. A null
number travels as NaN, which is no value of ours (see `frames`), and is turned back on the other side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, LiteralString, cast

import numpy as np
import polars as pl
from psycopg import sql

from flexergy_pipelines.store.errors import StoreError

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

_MAGIC: Final = b"PGCOPY\n\xff\r\n\x00"
_HEADER: Final = _MAGIC + bytes(8)
_TRAILER: Final = b"\xff\xff"
_EPOCH_US: Final = 946_684_800_000_000  # PostgreSQL counts microseconds from 2000-01-01
_CHUNK: Final = 1 << 20
_WIDTHS: Final = {"int2": ">i2", "int4": ">i4", "int8": ">i8", "float8": ">f8", "timestamptz": ">i8"}
_FEW_ROWS: Final = 5_000
_ARRAY_TYPES: Final[dict[type, str]] = {pl.String: "text", pl.Float64: "float8", pl.Boolean: "boolean"}


def driver(connection: Connection) -> psycopg.Connection[Any]:
    """The psycopg connection under a SQLAlchemy one."""
    raw = connection.connection.driver_connection
    if raw is None:
        raise StoreError("the database connection is closed")
    return raw


def _text(statement: str) -> sql.SQL:
    """SQL written in this package; values never come in this way."""
    return sql.SQL(cast("LiteralString", statement))


def _layout(fields: dict[str, str]) -> np.dtype:
    parts: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in fields.items():
        parts += [(f"len_{name}", ">i4"), (name, _WIDTHS[kind])]
    return np.dtype(parts)


def binary_rows(frame: pl.DataFrame, fields: dict[str, str]) -> bytes:
    """A frame in PostgreSQL's binary COPY format; `fields` gives the type of each column, all of fixed width."""
    layout = _layout(fields)
    rows = np.empty(frame.height, dtype=layout)
    rows["fields"] = len(fields)
    for name, kind in fields.items():
        rows[f"len_{name}"] = np.dtype(_WIDTHS[kind]).itemsize
        rows[name] = _numbers(frame[name], kind)
    return b"".join((_HEADER, rows.tobytes(), _TRAILER))


def copy_in_binary(connection: Connection, table: str, frame: pl.DataFrame, fields: dict[str, str]) -> None:
    """COPY a frame into `table`; `fields` gives the PostgreSQL type of each column, all of fixed width."""
    target = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, fields))
    )
    body = memoryview(binary_rows(frame, fields))
    with driver(connection).cursor() as cursor, cursor.copy(target) as copy:
        for at in range(0, len(body), _CHUNK):
            copy.write(body[at : at + _CHUNK])


def _numbers(series: pl.Series, kind: str) -> np.ndarray:
    if kind == "timestamptz":
        return series.cast(pl.Datetime("us", "UTC")).to_physical().to_numpy() - _EPOCH_US
    if kind == "float8":
        return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return series.to_numpy()


def copy_out_series(
    connection: Connection, query: str, parameters: dict[str, Any], fields: dict[str, str]
) -> pl.DataFrame:
    """Result of a SELECT of one row a series: its number, then arrays of equal length without nulls.

    A row a series costs neither side anything for each value; a row a value would cost the reader most of its time.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In a transaction.
    query, parameters : str, dict
        The SELECT.
    fields : dict of str
        Column names and PostgreSQL types: the first of the number (int4), the others of the arrays' elements.

    Returns
    -------
    pl.DataFrame
        One row a value; NaN became null.
    """
    key, *names = fields
    parts: list[dict[str, pl.Series]] = []
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(_text(query))
    with driver(connection).cursor() as cursor, cursor.copy(statement, parameters) as copy:
        for block in copy:
            raw = memoryview(block)
            at = len(_HEADER) if raw[: len(_MAGIC)] == _MAGIC else 0
            if len(raw) - at <= len(_TRAILER):
                continue
            number = int.from_bytes(raw[at + 6 : at + 10], "big", signed=True)
            at += 10
            part: dict[str, pl.Series] = {}
            for name in names:
                length = int.from_bytes(raw[at : at + 4], "big")
                part[name] = _elements(raw[at + 4 : at + 4 + length], name, fields[name])
                at += 4 + length
            count = len(part[names[0]])
            parts.append({key: pl.repeat(number, count, dtype=pl.Int32, eager=True).alias(key)} | part)
    empty = {name: _elements(memoryview(bytes(12)), name, kind) for name, kind in fields.items()}
    return pl.concat([pl.DataFrame(list(part.values())) for part in parts or [empty]])


def _elements(raw: memoryview, name: str, kind: str) -> pl.Series:
    """A binary array: header of 20 bytes (12 when empty), then length and value of each element."""
    width = np.dtype(_WIDTHS[kind])
    layout = np.dtype([("length", ">i4"), ("value", width)])
    values = np.frombuffer(raw[20:], dtype=layout)["value"].astype(width.newbyteorder("="))
    if kind == "timestamptz":
        return pl.Series(name, values + _EPOCH_US).cast(pl.Datetime("us", "UTC"))
    series = pl.Series(name, values)
    return series.fill_nan(None) if kind == "float8" else series


def staged_insert(connection: Connection, table: str, frame: pl.DataFrame, conflict: str = "") -> int:
    """INSERT a frame whose columns are named as the table's; few rows as arrays, many through COPY.

    Returns
    -------
    int
        Rows inserted or changed.
    """
    if frame.is_empty():
        return 0
    names = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    into = sql.SQL("INSERT INTO {} ({}) ").format(sql.Identifier(table), names)
    ending = _text(" " + conflict)
    with driver(connection).cursor() as cursor:
        if frame.height <= _FEW_ROWS:
            arrays = sql.SQL(", ").join(
                sql.SQL("{}::{}[]").format(sql.Placeholder(), _text(_array_type(dtype))) for dtype in frame.dtypes
            )
            values = [column.to_list() for column in frame.get_columns()]
            cursor.execute(into + sql.SQL("SELECT * FROM unnest({})").format(arrays) + ending, values)
            return cursor.rowcount
        stage = sql.Identifier(f"staged_{table}")
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS pg_temp.{}").format(stage))
        cursor.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                stage, names, sql.Identifier(table)
            )
        )
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(stage, names)) as copy:
            copy.write(frame.write_csv(include_header=False, quote_style="non_numeric").encode())
        cursor.execute(into + sql.SQL("SELECT {} FROM {}").format(names, stage) + ending)
        return cursor.rowcount


def _array_type(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Datetime):
        return "timestamptz"
    if dtype.is_integer():
        return "bigint"
    return _ARRAY_TYPES[type(dtype)]
