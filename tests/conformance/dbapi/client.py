"""Drives flightsql-dbapi, its DB-API and its SQLAlchemy dialect, through every case of reading or of changing.

Prints one JSON line for each: {"case": …, "value": …} or {"case": …, "error": …}. It judges nothing; the test compares.
It runs in an environment of its own, without anything of the server's.

Arguments: host, port, user, password, and ``reading`` or ``changing``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, time
from typing import Any

import pandas
import sqlalchemy as sa
from flightsql import FlightSQLCallOptions, FlightSQLClient, connect
from flightsql import sqlalchemy as dialect

Case = Callable[[], Any]

assert dialect.DataFusionDialect.name == "datafusion"  # its import makes the dialect known
HOST, PORT, USER, PASSWORD, WHAT = sys.argv[1:]
WITH_KEYS = "&feature-sqlalchemy-primary-keys=on"
WITH_PARAMETERS = "&feature-sqlalchemy-prepared-statements=on"
# Values are else written into the text, which SQLAlchemy would keep for the next statement of the same shape.
UNCACHED = {"compiled_cache": None}
TYPES = """
SELECT * FROM (VALUES
    (true, 2::TINYINT, -3::SMALLINT, 4::INTEGER, 9007199254740993::BIGINT, 1.5::REAL, 0.1::DOUBLE,
     12345678901234567890.12345678::DECIMAL(28, 8), 'Grüße', '\\x00\\xFF'::BLOB, DATE '2026-03-29',
     TIME '01:02:03.000004', TIMESTAMP '2026-01-02 03:04:05.000006', TIMESTAMPTZ '2026-01-02 03:04:05.000006+01:00'),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
) AS t (yes, i8, i16, i32, i64, f32, f64, price, text, bytes, day, at, stamp, zoned)
"""


def report(name: str, case: Case) -> None:
    line: dict[str, Any] = {"case": name}
    try:
        line["value"] = case()
    except Exception as error:
        line["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(line, default=plain), flush=True)


def plain(value: Any) -> Any:
    """A value that JSON doesn't know, as text; numbers of numpy as numbers."""
    if isinstance(value, (datetime, time)):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "item"):
        return value.item()
    return str(value)


def rows(found: Iterable[Any]) -> list[list[Any]]:
    """The rows as lists. The client leaves nulls to pandas, which has three words for them: here they are null."""
    return [[None if pandas.isna(value) else value for value in row] for row in found]


def logged_in(password: str = PASSWORD) -> FlightSQLClient:
    return FlightSQLClient(host=HOST, port=int(PORT), user=USER, password=password, insecure=True)


def engine(features: str = "") -> sa.engine.Engine:
    return sa.create_engine(f"datafusion+flightsql://{USER}:{PASSWORD}@{HOST}:{PORT}?insecure=True{features}")


# ---- reading


def by_cursor() -> None:
    connection = connect(logged_in())

    def asked(sql: str, *values: Any) -> Any:
        return connection.cursor().execute(sql, values)

    report("login", lambda: rows(asked("SELECT current_user AS who").fetchall()))
    report("wrong password", lambda: logged_in("wrong"))
    report("types", lambda: rows(asked(TYPES).fetchall()))
    report("description", lambda: [[name, kind.__name__] for name, kind in asked(TYPES).description])
    sql = "SELECT symbol, bid_price, ask_price, last_price, volume, timestamp FROM market_data ORDER BY symbol"
    report("select", lambda: rows(asked(sql).fetchall()))
    report("million", lambda: summed(asked("SELECT range AS n FROM range(1000000)")))
    report("in parts", lambda: in_parts(asked("SELECT range AS n FROM range(10)")))
    report("no rows", lambda: asked("SELECT symbol FROM market_data WHERE false").fetchall())
    report("bad sql", lambda: asked("SELEC 1"))
    report("unknown table", lambda: asked("SELECT * FROM nope"))
    report("after errors", lambda: rows(asked("SELECT 1 AS n").fetchall()))
    sql = "SELECT count(*) AS n FROM market_data WHERE volume > ? AND symbol <> ?"
    report("bound", lambda: rows(asked(sql, 10, "ADG").fetchall()))
    given = (9007199254740993, 0.1, "Grüße", True, b"\0\xff")
    report("bound types", lambda: rows(asked("SELECT ? AS a, ? AS b, ? AS c, ? AS d, ? AS e", *given).fetchall()))
    report("bound null", lambda: asked("SELECT ? AS a", None))


def summed(cursor: Any) -> list[int]:
    found = cursor.fetchall()
    return [len(found), sum(row[0] for row in found)]


def in_parts(cursor: Any) -> list[Any]:
    return [cursor.fetchone(), cursor.fetchmany(3), len(cursor.fetchall()), cursor.fetchone()]


def by_metadata() -> None:
    client = logged_in()
    connection = connect(client)

    def fetched(info: Any) -> list[list[Any]]:
        return rows(client.do_get(info.endpoints[0].ticket).read_all().to_pandas().values.tolist())

    report("catalogs", lambda: fetched(client.get_catalogs()))
    report("table types", lambda: fetched(client.get_table_types()))
    report("sql info", lambda: sorted(connection.flightsql_get_sql_info([0, 3, 504]).items()))


def by_dialect() -> None:
    made = engine(WITH_KEYS)
    inspector = sa.inspect(made)
    report("schemas", inspector.get_schema_names)
    report("tables", lambda: inspector.get_table_names(schema="main"))
    report("has table", lambda: [inspector.has_table(name, schema="main") for name in ("orders", "nope")])
    report(
        "columns",
        lambda: [
            [column["name"], type(column["type"]).__name__, column["nullable"]]
            for column in inspector.get_columns("positions", schema="main")
        ],
    )
    report("key of a dataset", lambda: inspector.get_pk_constraint("market_data", schema="main"))
    report("text", lambda: rows(made.execute(sa.text("SELECT symbol FROM market_data ORDER BY symbol LIMIT 2"))))
    report("expressions", lambda: expressions(made))
    report("values", lambda: values(made))
    report(
        "dialect",
        lambda: rows(engine("&x-sql-dialect=mysql").execute("SELECT CAST(`n` AS SIGNED) FROM (SELECT '7' AS n) t")),
    )
    report("twice", lambda: twice(engine()))
    report("twice uncached", lambda: twice(engine().execution_options(**UNCACHED)))
    report("twice bound", lambda: twice(engine(WITH_PARAMETERS)))
    report("bound text", lambda: rows(engine(WITH_PARAMETERS).execute(sa.text("SELECT :n + 1 AS n"), n=1)))


def expressions(made: sa.engine.Engine) -> Any:
    """A table that was reflected, in an expression with everything that a dashboard's builder makes of it."""
    table = sa.Table("market_data", sa.MetaData(), schema="main", autoload_with=made)
    letter = sa.func.substr(table.c.symbol, 1, 1)
    found = (
        sa.select(letter.label("letter"), sa.func.count().label("n"), sa.func.max(table.c.last_price).label("highest"))
        .where(table.c.volume > 0, sa.or_(table.c.bid_price.is_(None), table.c.bid_price > 0.5))
        .group_by(letter)
        .having(sa.func.count() > 1)
        .order_by(sa.desc("n"), "letter")
        .limit(3)
        .offset(1)
    )
    with made.connect() as connection:
        return rows(connection.execute(found))


def values(made: sa.engine.Engine) -> Any:
    """Values that the dialect writes into the text, a quote among them.

    Text is said to be String: as Unicode the dialect would decode it, which has been done.
    """
    given = [sa.literal(5), sa.literal(0.25), sa.literal("it's", sa.String), sa.literal(True), sa.literal(None)]
    columns = [value.label(f"c{number}") for number, value in enumerate(given)]
    return rows(made.execute(sa.select(*columns)))


def twice(made: sa.engine.Engine) -> list[list[Any]]:
    """Two statements of one shape, with different values."""
    return [rows(made.execute(sa.select(sa.literal(value).label("n")))) for value in (1, 2)]


def by_pandas() -> None:
    made = engine()
    sql = "SELECT account, symbol, average_price, updated_at FROM positions ORDER BY account, symbol"

    def read() -> Any:
        frame = pandas.read_sql(sql, made, coerce_float=False)
        return {"types": [str(type_) for type_ in frame.dtypes], "rows": rows(frame.values.tolist())}

    def table() -> Any:
        frame = pandas.read_sql_table("positions", made, schema="main", columns=["symbol", "quantity"])
        return [list(frame.columns), len(frame)]

    report("pandas", read)
    report("pandas table", table)


# ---- changing


def changes_by_cursor() -> None:
    client = logged_in()
    connection = connect(client)

    def asked(sql: str) -> list[list[Any]]:
        return rows(connection.cursor().execute(sql).fetchall())

    def changed(name: str, sql: str) -> None:
        """The case's own answer, and what the table holds then."""
        report(name, lambda: asked(sql))
        report(f"after {name}", lambda: asked("SELECT id, note, price FROM notes ORDER BY id"))

    # Without a key, so a row that went in twice would be there twice.
    report("create", lambda: asked("CREATE TABLE notes (id BIGINT, note VARCHAR, price DECIMAL(18, 4))"))
    changed("insert", "INSERT INTO notes VALUES (1, 'a', 1.5), (2, NULL, 2.25), (3, 'c', NULL)")
    changed("update", "UPDATE notes SET note = 'z' WHERE id >= 2")
    changed("delete", "DELETE FROM notes WHERE id = 1")
    changed("returning", "INSERT INTO notes VALUES (4, 'd', 0.1) RETURNING id, price * 2 AS twice")
    report("row count", lambda: connection.cursor().execute("DELETE FROM notes WHERE id = 4").rowcount)
    report("counted", lambda: client.execute_update("UPDATE notes SET price = 9", FlightSQLCallOptions(timeout=20)))
    report("rolled back", lambda: [asked(sql) for sql in ("BEGIN", "DELETE FROM notes", "ROLLBACK")])
    report("not rolled back", lambda: [asked("INSERT INTO notes VALUES (5, 'e', 0)"), connection.rollback()])
    report("rows", lambda: asked("SELECT id, note, price FROM notes ORDER BY id"))
    report("not granted", lambda: asked("INSERT INTO market_data (symbol, timestamp) VALUES ('X', now())"))
    report("many", lambda: many(connection))


def many(connection: Any) -> list[list[Any]]:
    """A statement run for each row of parameters; the client prepares it once."""
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE many (id BIGINT, note VARCHAR)")
    cursor.executemany("INSERT INTO many VALUES (?, ?)", [(number, f"n{number}") for number in range(20)])
    return rows(cursor.execute("SELECT count(*), count(DISTINCT id), min(note) FROM many").fetchall())


def changes_by_dialect() -> None:
    made = engine(WITH_KEYS).execution_options(**UNCACHED)
    bound = engine(WITH_PARAMETERS)
    table = sa.Table(
        "trades",
        sa.MetaData(),
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("note", sa.String),
        sa.Column("price", sa.Numeric(18, 4)),
    )

    def held() -> Any:
        return rows(made.execute(sa.select(table).order_by(table.c.id)))

    def inserted(*numbers: int) -> None:
        for number in numbers:
            made.execute(table.insert().values(row(number)))

    report("create all", lambda: table.metadata.create_all(made))
    report("create again", lambda: table.metadata.create_all(made))
    report("insert rows", lambda: inserted(1, 2, 3))
    report("update where", lambda: rows(made.execute(table.update().where(table.c.id == 2).values(note=None))))
    report("delete where", lambda: rows(made.execute(table.delete().where(table.c.id == 1))))
    report("held", held)
    report("insert written", lambda: made.execute(table.insert(), [row(4), row(5)]))
    report("insert lists", lambda: made.execute(table.insert().values([row(6), row(7)])))
    report("insert bound", lambda: every_row(table, bound, [row(8), row(9)]))
    report("held again", held)
    report("key", lambda: sa.inspect(made).get_pk_constraint("trades", schema=f"u_{USER}"))
    report("own tables", lambda: sa.inspect(made).get_table_names(schema=f"u_{USER}"))
    report("drop all", lambda: table.metadata.drop_all(made))


def row(number: int) -> dict[str, Any]:
    return {"id": number, "note": f"n{number}", "price": f"{number}.0625"}


def every_row(table: sa.Table, connection: Any, given: list[dict[str, Any]]) -> None:
    """One statement, bound and run for each row."""
    connection.execute(table.insert(), given)


def changes_by_pandas() -> None:
    # In this dialect FLOAT, as pandas calls its numbers, has 64 bits.
    postgres = "&x-sql-dialect=postgres"
    written, bound = engine(postgres).execution_options(**UNCACHED), engine(postgres + WITH_PARAMETERS)
    with_null = pandas.DataFrame({"id": [1, 2], "note": ["it's", None], "price": [0.1, None]})
    without = with_null.fillna({"note": "b", "price": 0.25})

    def one_by_one(table: Any, connection: Any, keys: list[str], given: Iterable[Iterable[Any]]) -> None:
        for found in given:
            connection.execute(table.table.insert().values(dict(zip(keys, found, strict=True))))

    def together(table: Any, connection: Any, keys: list[str], given: Iterable[Iterable[Any]]) -> None:
        every_row(table.table, connection, [dict(zip(keys, found, strict=True)) for found in given])

    report("frame written", lambda: frame(written, with_null, one_by_one))
    report("frame bound", lambda: frame(bound, without, together))
    report("frame bound with null", lambda: frame(bound, with_null, together))
    report("frame by itself", lambda: frame(bound, without, None))


def frame(made: sa.engine.Engine, sent: pandas.DataFrame, method: Any) -> Any:
    """A frame that goes out and comes back."""
    sent.to_sql("frames", made, index=False, method=method, if_exists="replace")
    return rows(pandas.read_sql("SELECT * FROM frames ORDER BY id", made).values.tolist())


def main() -> None:
    if WHAT == "reading":
        by_cursor()
        by_metadata()
        by_dialect()
        by_pandas()
    else:
        changes_by_cursor()
        changes_by_dialect()
        changes_by_pandas()


main()
