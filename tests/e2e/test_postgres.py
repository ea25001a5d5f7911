"""The PostgreSQL protocol with the clients that people use: psql, psycopg, asyncpg and pgjdbc, over a real Kafka."""

import asyncio
import contextlib
import csv
import datetime
import decimal
import io
import math
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

import asyncpg
import psycopg
import pytest
from definitions import stream
from harness.producer import Production
from harness.thalweg import free_port
from harness.wait import until

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
FAST = dict(epoch_interval="200ms", mark_interval="400ms", batch_interval="500ms")
VIEW = """CREATE MATERIALIZED VIEW per_device AS
  SELECT device, count(*) AS readings, max(temperature) AS peak FROM sensor_data GROUP BY device"""
ENDLESS = "SELECT a.value, repeat('x', 100) FROM generate_series(1, 1000000000) a"
SLOW = "SELECT max(sin(value)) FROM generate_series(1, 4000000000)"


class Door:
    """A server, and how its PostgreSQL door is reached."""

    def __init__(self, server, port, password=None):
        self.server = server
        self.port = port
        self.password = password

    @property
    def conninfo(self):
        return f"host=127.0.0.1 port={self.port} user=me dbname=thalweg"

    def psql(self, *arguments, sql=None, sslmode="disable", timeout=60):
        environment = {**os.environ, "PGSSLMODE": sslmode, "PGPASSWORD": self.password or ""}
        command = ["psql", "--no-psqlrc", "-v", "ON_ERROR_STOP=0", self.conninfo, *arguments]
        return subprocess.run(command, input=sql, capture_output=True, text=True, timeout=timeout, env=environment)

    def connect(self, **options):
        return psycopg.connect(self.conninfo, autocommit=True, password=self.password, **options)

    def running(self):
        return self.server.json("/v1/process")["queries_running"]


def door(thalweg, environment=None, **options):
    port = free_port()
    environment = {"THALWEG_POSTGRES_ADDR": f"127.0.0.1:{port}", **(environment or {})}
    server = thalweg(environment=environment, **FAST, **options).start(ready=False)
    server.listening()
    return Door(server, port)


@pytest.fixture
def filled(thalweg, kafka, topic):
    """A door over a stream of 5,000 readings and a view of it."""
    one = door(thalweg)
    one.server.ddl(stream(kafka, topic))
    one.server.ddl(VIEW)
    production = Production(kafka, topic, seed=5, weights=(1, 1)).send(5000)
    one.server.reached("sensor_data", production.record.ends())
    return one


def test_psql_asks_defines_copies_and_shows_the_place_of_an_error(filled, tmp_path):
    expect = {row[0]: row[1] for row in filled.server.sql("SELECT device, readings FROM per_device WHERE device IS NOT NULL").rows}
    told = filled.psql("-At", "-F", ",", "-c", "SELECT device, readings FROM per_device WHERE device IS NOT NULL ORDER BY 1")
    assert dict(line.split(",") for line in told.stdout.splitlines()) == {k: str(v) for k, v in expect.items()}, told
    wrong = filled.psql("-c", "SELECT device,\n  colour FROM per_device")
    assert "colour" in wrong.stderr and "LINE 2:   colour FROM" in wrong.stderr and "^" in wrong.stderr, wrong.stderr
    script = """
        BEGIN;
        DECLARE c CURSOR FOR SELECT device FROM per_device ORDER BY device;
        FETCH 2 FROM c;
        CLOSE c;
        COMMIT;
        SHOW thalweg.frontier;
        CREATE MATERIALIZED VIEW peaks AS SELECT max(temperature) AS peak FROM sensor_data;
        DROP MATERIALIZED VIEW peaks;
    """
    told = filled.psql("-e", sql=script)
    assert not told.stderr, told.stderr
    for part in ("DECLARE CURSOR", "(2 rows)", '{"sensor_data":', "CREATE MATERIALIZED VIEW", "DROP MATERIALIZED VIEW"):
        assert part in told.stdout, told.stdout
    file = tmp_path / "out.csv"
    copied = filled.psql("-c", f"\\copy (SELECT device, readings FROM per_device WHERE device IS NOT NULL) TO '{file}' CSV HEADER")
    assert copied.stdout.strip() == f"COPY {len(expect)}", copied
    with file.open() as lines:
        assert {row["device"]: int(row["readings"]) for row in csv.DictReader(lines)} == expect
    refused = filled.psql("-c", "COPY per_device FROM STDIN", sql="")
    assert "COPY FROM STDIN is not supported" in refused.stderr, refused


def test_psql_cancels(filled):
    process = subprocess.Popen(
        ["psql", "--no-psqlrc", filled.conninfo, "-c", SLOW],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PGSSLMODE": "disable"},
    )
    until(lambda: filled.running() > 0, "the query to run")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert "canceling statement due to user request" in err, (out, err)
    until(lambda: filled.running() == 0, "the query to end")


def test_psycopg_reads_and_binds_every_type(filled):
    with filled.connect() as connection:
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            cursor.execute(
                """SELECT true, CAST(1 AS INT), 5, CAST(1.5 AS DOUBLE), CAST('-0.50' AS DECIMAL(5, 2)), 'ü', X'00ff',
                     DATE '0001-01-01', TIMESTAMP '9999-12-31 23:59:59.999999', make_array(1, NULL),
                     make_array('a b', 'c'), make_array(make_array(1), make_array(2, 3)), named_struct('a', 1), NULL"""
            )
            row = cursor.fetchone()
            assert row[:6] == (True, 1, 5, 1.5, decimal.Decimal("-0.50"), "ü")
            assert bytes(row[6]) == b"\0\xff" and str(row[7]) == "0001-01-01"
            assert str(row[8]) == "9999-12-31 23:59:59.999999"
            assert row[9:] == ([1, None], ["a b", "c"], [[1], [2, 3]], {"a": 1}, None)
        one = connection.execute("SELECT readings FROM per_device WHERE device = %s", ("d1",)).fetchall()
        same = connection.execute("SELECT readings FROM per_device WHERE device = 'd1'").fetchall()
        assert one == same
        bound = connection.execute(
            "SELECT %s + 1, %b + 1, upper(%s), %s::decimal(10, 3) + 0", (1, 2, "x", decimal.Decimal("1.125"))
        )
        assert bound.fetchone() == (2, 3, "X", decimal.Decimal("1.125"))
        for _ in range(8):  # psycopg prepares a statement that it sees five times
            assert connection.execute("SELECT %s || '!'", ("x",)).fetchone() == ("x!",)


def test_values_mean_what_they_mean_in_postgresql(filled):
    rows = """(VALUES (CAST('1.01' AS DECIMAL(10, 2)), 1, TIMESTAMP '2026-01-31 10:00:00', DATE '2026-01-31'))
      AS t (amount, n, at, day)"""
    close, large = decimal.Decimal("1.005"), decimal.Decimal("123456789012345.5")
    cases = [
        ("amount = {}", close, 0),
        ("amount > {}", close, 1),
        ("amount IN ({})", close, 0),
        ("amount < {}", large, 1),
        ("n = {}", close, 0),
        ("n < {}", close, 1),
        ("amount = {}", decimal.Decimal("1.010"), 1),
    ]
    texts = [
        ("at = {}", "2026-01-31 10:00:00+05:30", 1),
        ("day = {}", "2026-01-31 +01", 1),
        ("day = {}", "2026-01-31 23:00:00", 1),
        ("amount = {}", "1.005", 0),
        ("amount = {}", "1.010", 1),
        ("array_length(CAST({} AS TEXT[])) = 2", '{"a", "b"}', 1),
    ]
    lists = [("amount = ANY({})", [decimal.Decimal("1.01"), decimal.Decimal(2)], 1), ("CAST(n AS TEXT) = ANY({})", ["1", "a b"], 1)]
    with filled.connect() as connection:
        for condition, value, expect in cases + texts + lists:
            sql = f"SELECT count(*) FROM {rows} WHERE {condition.format('%s')}"
            assert connection.execute(sql, [value]).fetchone() == (expect,), (condition, value)
        for condition, value, expect in cases:
            sql = f"SELECT count(*) FROM {rows} WHERE {condition.format('%b')}"
            assert connection.execute(sql, [value]).fetchone() == (expect,), (condition, value)

    async def ask():
        connection = await asyncpg.connect(host="127.0.0.1", port=filled.port, user="me", database="thalweg", ssl=False)
        for condition, value, expect in cases + lists[1:]:
            if not condition.startswith("n "):
                sql = f"SELECT count(*) FROM {rows} WHERE {condition.format('$1')}"
                assert await connection.fetchval(sql, value) == expect, (condition, value)
        await connection.close()

    asyncio.run(ask())


def test_what_a_connection_keeps_is_limited(filled):
    with filled.connect() as connection:
        with pytest.raises(psycopg.errors.OutOfMemory):
            for number in range(100):
                connection.execute(f"DECLARE c{number} CURSOR WITH HOLD FOR SELECT '{'x' * 1_000_000}'")
        connection.execute("CLOSE ALL")
        assert connection.execute("SELECT pg_backend_pid()").fetchone() == (connection.info.backend_pid,)
        with connection.transaction():
            connection.execute("SET application_name = 'before'")
            with contextlib.suppress(psycopg.errors.DivisionByZero), connection.transaction():
                connection.execute("SET application_name = 'within'")
                connection.execute("SELECT 1 / 0")
            assert connection.execute("SHOW application_name").fetchone() == ("before",)


def test_psycopg_blocks_server_cursors_and_copy(filled):
    with psycopg.connect(filled.conninfo) as connection:
        with connection.cursor(name="rows") as cursor:
            cursor.itersize = 700
            cursor.execute("SELECT value FROM generate_series(1, 5000) WHERE value > %s", (10,))
            assert [row[0] for row in cursor] == list(range(11, 5001))
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nowhere")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        connection.execute("SET LOCAL thalweg.stale = 'allow'")
        assert connection.execute("SHOW thalweg.stale").fetchone() == ("allow",)
        connection.commit()
        assert connection.execute("SHOW thalweg.stale").fetchone() == ("refuse",)
        with connection.cursor().copy("COPY (SELECT value, NULL FROM generate_series(1, 100000)) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["int8", "text"])
            assert sum(row[0] for row in copy.rows()) == 5000050000


def test_asyncpg_prepares_and_reads_in_parts(filled):
    async def talk():
        connection = await asyncpg.connect(
            host="127.0.0.1", port=filled.port, user="me", database="thalweg", ssl=False, server_settings={"search_path": "public"}
        )
        try:
            statement = await connection.prepare("SELECT value + $1 AS v FROM generate_series(1, 5000)")
            assert [record["v"] for record in await statement.fetch(1)] == list(range(2, 5002))
            async with connection.transaction():
                seen = [record["value"] async for record in connection.cursor("SELECT value FROM generate_series(1, 5000)", prefetch=300)]
            assert seen == list(range(1, 5001))
            out = io.BytesIO()
            assert await connection.copy_from_query("SELECT 1, 'x'", output=out, format="csv") == "COPY 1"
            assert out.getvalue() == b"1,x\n"
            with pytest.raises(asyncpg.exceptions.QueryCanceledError):
                await connection.execute("SET statement_timeout = 100")
                await connection.execute(SLOW)
            await connection.execute("RESET ALL")
            with pytest.raises(asyncio.TimeoutError):
                await connection.fetch(SLOW, timeout=0.3)
            assert await connection.fetchval("SELECT 7") == 7
        finally:
            await connection.close()

    asyncio.run(talk())
    until(lambda: filled.running() == 0, "all queries to end")


ASYNCPG_VALUES = [
    # The driver looks up the types of arrays before it reads the first one.
    ("ARRAY['a', NULL, 'b c']", ["a", None, "b c"]),
    ("ARRAY[1, NULL, 9223372036854775807]", [1, None, 9223372036854775807]),
    ("ARRAY[CAST(1.5 AS REAL)]", [1.5]),
    ("ARRAY[1.5e0, 'NaN'::DOUBLE]", [1.5, math.nan]),
    ("ARRAY[true, false]", [True, False]),
    ("ARRAY[CAST('12345678901234567890.12' AS DECIMAL(22, 2))]", [decimal.Decimal("12345678901234567890.12")]),
    ("ARRAY[TIMESTAMP '2026-11-30 12:00:00.000001']", [datetime.datetime(2026, 11, 30, 12, 0, 0, 1)]),
    ("ARRAY[DATE '2026-11-30']", [datetime.date(2026, 11, 30)]),
    ("ARRAY[CAST('x' AS BYTEA)]", [b"x"]),
    ("CAST(ARRAY[] AS BIGINT[])", []),
    ("CAST(NULL AS BIGINT[])", None),
    ("ARRAY[ARRAY[1], ARRAY[2, 3]]", "[[1],[2,3]]"),
    ("named_struct('a', 1, 'b', ARRAY['x'])", '{"a":1,"b":["x"]}'),
    ("ARRAY[named_struct('a', 1)]", '[{"a":1}]'),
    ("CAST(1.10 AS DECIMAL(5, 2))", decimal.Decimal("1.10")),
    ("TIMESTAMP '2026-11-30 12:00:00'", datetime.datetime(2026, 11, 30, 12)),
    ("to_timestamp(0) AT TIME ZONE 'UTC'", datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)),
    ("INTERVAL '1 day 2 seconds'", datetime.timedelta(days=1, seconds=2)),
]


def test_asyncpg_reads_and_binds_every_type(filled):
    async def talk():
        connection = await asyncpg.connect(host="127.0.0.1", port=filled.port, user="me", database="thalweg", ssl=False)
        try:
            for sql, expect in ASYNCPG_VALUES:
                assert repr(await connection.fetchval(f"SELECT {sql} AS v")) == repr(expect), sql
            counts = await connection.fetch("SELECT device, array_agg(readings) AS all FROM per_device GROUP BY device")
            assert all(len(record["all"]) == 1 and record["all"][0] > 0 for record in counts) and len(counts) > 1
            devices = [record["device"] for record in counts if record["device"]]
            for condition, value, expect in [
                ("device = ANY($1)", devices[:3], 3),
                ("device = ANY($1::TEXT[])", [devices[0], None], 1),
                ("device = ANY($1)", [], 0),
                ("readings = ANY($1)", [-1, None], 0),
                ("device = $1", devices[0], 1),
                ("peak > $1::DOUBLE", -1e300, None),
                ("peak > CAST($1 AS DECIMAL(10, 2))", decimal.Decimal("-100.55"), None),
                ("TIMESTAMP '2026-01-01 00:00:00' = $1", datetime.datetime(2026, 1, 1), None),
            ]:
                statement = await connection.prepare(f"SELECT count(*) FROM per_device WHERE {condition}")
                for _ in range(2):
                    assert await statement.fetchval(value) == expect or expect is None, (condition, value)
            # Names and types of the catalog, asked for with arrays.
            sql = "SELECT typname FROM pg_type WHERE oid = ANY({}) ORDER BY 1"
            for cast in ["$1", "$1::oid[]", "($1::oid[])"]:
                assert await connection.fetch(sql.format(cast), [25, 1009]) == [("_text",), ("text",)], cast
            names = await connection.fetch("SELECT relname FROM pg_class WHERE relname = ANY($1)", ["per_device", "nothing"])
            assert {record["relname"] for record in names} == {"per_device"}
        finally:
            await connection.close()

    asyncio.run(talk())


def test_statements_of_a_replaced_view_are_prepared_anew(filled):
    """A row is never read with the columns of an earlier definition, also if their types are the same."""

    async def talk():
        connection = await asyncpg.connect(host="127.0.0.1", port=filled.port, user="me", database="thalweg", ssl=False)
        query = "SELECT * FROM per_device LIMIT 1"
        statement = await connection.prepare(query)
        assert list((await statement.fetchrow()).keys()) == ["device", "readings", "peak"]
        assert list((await connection.fetchrow(query)).keys()) == ["device", "readings", "peak"]
        for columns in ["count(*) AS events, min(temperature) AS least", "array_agg(temperature) AS all, count(*) AS n, 1 AS one"]:
            filled.server.ddl(f"CREATE OR REPLACE MATERIALIZED VIEW per_device AS SELECT device, {columns} FROM sensor_data GROUP BY device")
            names = ["device", *(column.split()[-1] for column in columns.split(", "))]
            until(lambda: filled.server.sql(query).names == names, "the view")
            for _ in range(3):
                with pytest.raises(asyncpg.exceptions.InvalidCachedStatementError):
                    await statement.fetchrow()
                # A query without a statement of its own is prepared anew by the driver.
                assert list((await connection.fetchrow(query)).keys()) == names
        await connection.close()

    asyncio.run(talk())


@pytest.mark.parametrize("options", ["", "&preferQueryMode=simple", "&binaryTransfer=false"])
def test_pgjdbc_reads_and_binds(filled, options):
    jar = subprocess.run([ROOT / "infra/pgjdbc/jar"], capture_output=True, text=True, check=True).stdout.strip()
    url = f"jdbc:postgresql://127.0.0.1:{filled.port}/thalweg?user=me&sslmode=disable{options}"
    program = HERE / "jdbc/Postgres.java"
    # The simple mode writes values into the text, where the engine reads them: an offset is added there.
    zone = "UTC" if "simple" in options else "Asia/Kolkata"
    command = ["java", f"-Duser.timezone={zone}", "-cp", jar, program, url]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert told.stdout == "done\n", told.stdout + told.stderr
    until(lambda: filled.running() == 0, "all queries to end")


def test_a_client_that_is_killed_ends_its_query(filled):
    process = subprocess.Popen(
        ["psql", "--no-psqlrc", "-v", "FETCH_COUNT=0", filled.conninfo, "-c", f"COPY ({ENDLESS}) TO STDOUT"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PGSSLMODE": "disable"},
    )
    assert process.stdout.read(1000)
    assert filled.running() > 0
    process.kill()
    process.wait()
    process.stdout.close()
    until(lambda: filled.running() == 0, "the query to end")


def test_a_client_that_stops_reading_loses_its_connection(thalweg):
    one = door(thalweg, {"THALWEG_HTTP_TIMEOUT": "1s"})
    with socket.create_connection(("127.0.0.1", one.port)) as raw:
        raw.sendall(b"\0\0\0\x10\0\x03\0\0user\0u\0\0")
        text = ENDLESS.encode() + b"\0"
        raw.sendall(b"Q" + (len(text) + 4).to_bytes(4, "big") + text)
        until(lambda: one.running() > 0, "the query to run")
        until(lambda: one.running() == 0, "the query to end")


def test_tokens_are_passwords(thalweg, kafka, topic):
    one = door(thalweg, {"THALWEG_HTTP_TOKEN": "may-query", "THALWEG_HTTP_ADMIN_TOKEN": "may-define"})
    create = stream(kafka, topic)
    for password, asks, defines in (("", False, False), ("guess", False, False), ("may-query", True, False), ("may-define", True, True)):
        one.password = password
        asked = one.psql("-At", "-w", "-c", "SELECT 1")
        assert (asked.stdout == "1\n") == asks, (password, asked)
        assert asks or "token" in asked.stderr or "password" in asked.stderr, asked.stderr
        defined = one.psql("-w", "-c", create)
        assert (defined.stdout == "CREATE EXTERNAL TABLE\n") == defines, (password, defined)


@pytest.mark.parametrize("kind", ["pkcs1", "pkcs8", "sec1"])
def test_tls_with_every_kind_of_key(thalweg, tmp_path, kind):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    openssl = lambda *arguments: subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)  # noqa: E731
    if kind == "sec1":
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    else:
        openssl("genrsa", *(["-traditional"] if kind == "pkcs1" else []), "-out", key, "2048")
    first = key.read_text().splitlines()[0]
    assert {"pkcs1": "BEGIN RSA", "pkcs8": "BEGIN PRIVATE", "sec1": "BEGIN EC"}[kind] in first
    openssl("req", "-x509", "-new", "-key", key, "-out", cert, "-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    one = door(thalweg, {"THALWEG_TLS_CERT": str(cert), "THALWEG_TLS_KEY": str(key)})
    with one.connect(sslmode="verify-full", sslrootcert=str(cert)) as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("SELECT 1").fetchone() == (1,)
    plain = one.psql("-At", "-c", "SELECT 1", sslmode="disable")
    assert plain.stdout == "1\n", plain


def test_thousands_of_idle_clients_are_cheap(thalweg):
    count = 10_000
    one = door(thalweg, {"THALWEG_HTTP_CONNECTIONS": str(count + 10)})
    before = resident(one.server.process.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", one.port)))
            raw.sendall(b"\0\0\0\x10\0\x03\0\0user\0u\0\0")
        with one.connect() as connection:
            started = time.monotonic()
            assert connection.execute("SELECT 1").fetchone() == (1,)
            assert time.monotonic() - started < 1
        grown = resident(one.server.process.pid) - before
        assert grown < count * 32 * 1024, f"{grown / count:.0f} bytes a client"


def resident(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))) * 1024


def test_answers_are_streamed(filled):
    """A long answer takes the memory of a piece, and others are answered meanwhile."""
    before = resident(filled.server.process.pid)
    ended = threading.Event()

    def read():
        with filled.connect() as connection, connection.cursor().copy(f"COPY (SELECT value, repeat('x', 100) FROM generate_series(1, 3000000)) TO STDOUT") as copy:
            assert sum(len(block) for block in copy) > 300_000_000
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    with filled.connect() as connection:
        while not ended.wait(0.2):
            assert connection.execute("SELECT 1").fetchone() == (1,)
            assert resident(filled.server.process.pid) - before < 200 << 20
    reader.join()
