"""Arrow Flight SQL with the clients that analysts have: ADBC, pyarrow and the JDBC driver, on events from a real Kafka.

Every type goes through each of them, as a column and as a value for a placeholder; clients that cancel, or are killed,
end their queries; tokens and certificates are asked for.
"""

import datetime
import decimal
import json
import pathlib
import signal
import subprocess
import sys
import textwrap
import warnings

import adbc_driver_flightsql.dbapi as adbc
import pyarrow
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_manager import OperationalError, ProgrammingError
from definitions import DEVICE_MINUTES, STREAM_TOTALS, stream
from harness.producer import Production
from harness.thalweg import ROOT
from harness.wait import until

FAST = dict(epoch_interval="200ms", mark_interval="400ms", batch_interval="500ms")
HERE = pathlib.Path(__file__).parent

# A value of each type that an answer can have: SQL, and what Python and the JDBC driver make of it.
VALUES = {
    "TRUE": (True, "true"),
    "arrow_cast(-7, 'Int8')": (-7, "-7"),
    # The JDBC driver shows the numbers of unsigned types as those of signed ones.
    "arrow_cast(200, 'UInt8')": (200, None),
    "arrow_cast(-7, 'Int16')": (-7, "-7"),
    "arrow_cast(7, 'UInt16')": (7, None),
    "CAST(-7 AS INT)": (-7, "-7"),
    "arrow_cast(7, 'UInt32')": (7, "7"),
    "9223372036854775807": (2**63 - 1, "9223372036854775807"),
    "arrow_cast('18446744073709551615', 'UInt64')": (2**64 - 1, None),
    "arrow_cast(1.5, 'Float16')": (1.5, "1.5"),
    "CAST(1.5 AS REAL)": (1.5, "1.5"),
    "CAST(-0.25 AS DOUBLE)": (-0.25, "-0.25"),
    "CAST(123.45 AS DECIMAL(10, 2))": (decimal.Decimal("123.45"), "123.45"),
    "CAST(1.5 AS DECIMAL(60, 2))": (decimal.Decimal("1.50"), "1.50"),
    "'größe ⛵'": ("größe ⛵", "größe ⛵"),
    "''": ("", ""),
    "arrow_cast('a text that is not kept in its view', 'Utf8View')": ("a text that is not kept in its view",) * 2,
    "arrow_cast('large', 'LargeUtf8')": ("large", "large"),
    "arrow_cast('d', 'Dictionary(Int32, Utf8)')": ("d", "d"),
    "X'00ff'": (b"\x00\xff", "00ff"),
    "arrow_cast(X'00ff', 'BinaryView')": (b"\x00\xff", "00ff"),
    "DATE '2026-01-31'": (datetime.date(2026, 1, 31), "2026-01-31"),
    "TIME '12:34:56'": (datetime.time(12, 34, 56), "12:34:56"),
    "arrow_cast('2026-01-31T12:34:56.000001', 'Timestamp(Microsecond, None)')": (
        datetime.datetime(2026, 1, 31, 12, 34, 56, 1),
        "2026-01-31 12:34:56.000001",
    ),
    "arrow_cast('2026-01-31T12:34:56Z', 'Timestamp(Second, Some(\"UTC\"))')": (
        datetime.datetime(2026, 1, 31, 12, 34, 56, tzinfo=datetime.timezone.utc),
        None,
    ),
    "[1, NULL, 3]": ([1, None, 3], "[1,null,3]"),
    "['a', NULL]": (["a", None], '["a",null]'),
    "[arrow_cast('v', 'Utf8View')]": (["v"], '["v"]'),
    "named_struct('a', 1, 'b', 'x')": ({"a": 1, "b": "x"}, None),
    "MAP {'k': 1}": ([("k", 1)], None),
    "NULL": (None, "null"),
    "CAST(NULL AS BIGINT)": (None, "null"),
}


@pytest.fixture
def events(kafka, topic):
    return Production(kafka, topic, seed=15, weights=(1, 1), transactions=False).send(400)


def started(thalweg, kafka, topic, production, **more):
    server = thalweg(**{**FAST, **more}).start()
    server.ddl(f"{stream(kafka, topic)}; {DEVICE_MINUTES.ddl}; {STREAM_TOTALS.ddl}")
    server.ready()
    server.reached("sensor_data", production.record.ends())
    return server


def address(server):
    """`host:port` of Flight SQL: the start line names every door."""
    return server.out.read_text().split("grpc://")[1].split()[0]


def connect(server, **options):
    # The second argument of the dbapi is for the database; without autocommit it would warn.
    return adbc.connect(f"grpc://{address(server)}", db_kwargs=options, autocommit=True)


def fetched(connection, sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetch_arrow_table()


def jdbc(server, *steps, scheme="jdbc:arrow-flight-sql", **properties):
    """What the JDBC driver prints for each step."""
    jar = subprocess.run([ROOT / "infra/jdbc/jar"], capture_output=True, text=True, check=True).stdout.strip()
    said = "&".join(f"{name}={value}" for name, value in {"useEncryption": "false", **properties}.items())
    done = subprocess.run(
        ["java", "--add-opens=java.base/java.nio=ALL-UNNAMED", "-Duser.timezone=UTC", "-Dfile.encoding=UTF-8",
         "-cp", jar, HERE / "jdbc/FlightSql.java", f"{scheme}://{address(server)}?{said}", *steps],
        capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    parts = done.stdout.split("> ")[1:]
    return [part.splitlines()[1:] for part in parts]


def running(server):
    return server.metrics()["thalweg_queries_running"][""]


def test_adbc_reads_and_binds_every_type(thalweg):
    server = thalweg().start()
    with connect(server) as connection:
        for sql, (expect, _) in VALUES.items():
            assert fetched(connection, f"SELECT {sql} AS v").column("v").to_pylist() == [expect], sql
        for value in (
            True, -7, 1.5, "größe ⛵", b"\x00\xff", decimal.Decimal("123.45"), datetime.date(2026, 1, 31),
            datetime.datetime(2026, 1, 31, 12, 34, 56, 1), datetime.time(12, 34, 56),
        ):  # fmt: skip
            assert fetched(connection, "SELECT $1 AS v", (value,)).column("v").to_pylist() == [value], value
        aware = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
        got = fetched(connection, "SELECT $1 AS v", (aware,)).column("v").to_pylist()
        assert got == [datetime.datetime(2026, 1, 31, 10)]
        assert fetched(connection, "SELECT $1 AS v", (None,)).column("v").to_pylist() == [None]


def test_adbc_is_an_analysts_client(thalweg, kafka, topic, events):
    server = started(thalweg, kafka, topic, events)
    with connect(server) as connection:
        answer = server.ask("SELECT * FROM device_minutes ORDER BY device, minute")
        table = fetched(connection, "SELECT * FROM device_minutes ORDER BY device, minute")
        assert table.column_names == answer.names
        assert table.column("readings").to_pylist() == [row["readings"] for row in answer.dicts()]
        device = table.column("device")[0].as_py()
        bound = fetched(connection, "SELECT count(*) AS n FROM sensor_data WHERE device = $1", (device,))
        assert bound.column("n").to_pylist() == [server.ask(f"SELECT count(*) FROM sensor_data WHERE device = '{device}'").rows[0][0]]

        with connection.cursor() as cursor:
            schema = cursor.adbc_execute_schema("SELECT device, readings FROM device_minutes")
            assert schema.names == ["device", "readings"]
            parameters = cursor.adbc_prepare("SELECT device FROM device_minutes WHERE readings > $1")
            assert parameters.types == [pyarrow.int64()]
            # Each row of values runs the query once.
            cursor.execute("SELECT value FROM generate_series(1, 3) WHERE value <= $1", pyarrow.table({"n": [1, 2]}))
            assert [row[0] for row in cursor.fetchall()] == [1, 1, 2]
            cursor.execute("CREATE MATERIALIZED VIEW peaks AS SELECT max(temperature) AS peak FROM sensor_data")
            cursor.fetchall()
        assert "peaks" in [view["name"] for view in server.json("/v1/views")["views"]]

        objects = connection.adbc_get_objects(depth="columns", db_schema_filter="public").read_all().to_pylist()
        assert [catalog["catalog_name"] for catalog in objects] == ["thalweg"]
        tables = {
            table["table_name"]: table for schema in objects[0]["catalog_db_schemas"] for table in schema["db_schema_tables"]
        }
        assert tables["sensor_data"]["table_type"] == "TABLE"
        assert tables["stream_totals"]["table_type"] == "MATERIALIZED VIEW"
        assert [column["column_name"] for column in tables["device_minutes"]["table_columns"]] == answer.names
        assert connection.adbc_get_table_types() == ["MATERIALIZED VIEW", "TABLE"]
        assert connection.adbc_get_table_schema("stream_totals", db_schema_filter="public").names[0] == "events"
        assert connection.adbc_get_info()["vendor_name"] == "Thalweg"

        for sql, word in (("SELEC 1", "Expected: an SQL statement"), ("SELECT x FROM stream_totals", "there is no column `x`")):
            with pytest.raises(ProgrammingError) as refused, connection.cursor() as cursor:
                cursor.execute(sql)
            assert word.lower() in str(refused.value).lower() or "sql parser" in str(refused.value).lower(), sql
        with pytest.raises(Exception, match="topic of a stream|not"), connection.cursor() as cursor:
            cursor.adbc_ingest("sensor_data", pyarrow.table({"a": [1]}), mode="append")


def test_transactions_are_refused_in_words(thalweg):
    server = thalweg().start()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        adbc.connect(f"grpc://{address(server)}").close()
    assert any("autocommit" in str(warning.message) for warning in warned)
    with connect(server) as connection, pytest.raises(Exception, match="(?i)transaction"):
        connection.adbc_connection.set_autocommit(False)


def test_options_of_sessions_and_headers(thalweg, kafka, topic, events):
    server = started(thalweg, kafka, topic, events)
    far = json.dumps({"sensor_data": {"0": 10**9}})
    with connect(server, **{DatabaseOptions.RPC_CALL_HEADER_PREFIX.value + "thalweg-min-frontier": far}) as connection:
        with pytest.raises(OperationalError, match="frontier|held|ready"):
            fetched(connection, "SELECT * FROM stream_totals")
    with connect(server, **{DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"}) as connection:
        prefix = "adbc.flight.sql.session.option."
        connection.adbc_connection.set_options(**{f"{prefix}thalweg.partial": "allow"})
        options = connection.adbc_connection.get_option("adbc.flight.sql.session.options")
        assert json.loads(options) == {"thalweg.partial": "allow"}
        assert len(fetched(connection, "SELECT * FROM stream_totals")) == 1
        connection.adbc_connection.set_options(**{f"{prefix}thalweg.min_frontier": far})
        with pytest.raises(OperationalError, match="frontier|held|ready"):
            fetched(connection, "SELECT * FROM stream_totals")


def varint(number):
    parts = []
    while True:
        parts.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(parts)


def part(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def command(name, content):
    """A message of Flight SQL in its wrapper, as its clients send it."""
    return part(1, f"type.googleapis.com/arrow.flight.protocol.sql.{name}".encode()) + part(2, content)


def statement(sql):
    return flight.FlightDescriptor.for_command(command("CommandStatementQuery", part(1, sql.encode())))


def test_pyarrow_reads_answers_and_their_frontier(thalweg, kafka, topic, events):
    server = started(thalweg, kafka, topic, events)
    with flight.connect(f"grpc://{address(server)}") as client:
        for sql, (expect, _) in VALUES.items():
            info = client.get_flight_info(statement(f"SELECT {sql} AS v"))
            table = client.do_get(info.endpoints[0].ticket).read_all()
            assert (table.schema, table.column("v").to_pylist()) == (info.schema, [expect]), sql
        info = client.get_flight_info(statement("SELECT count(*) AS n FROM sensor_data"))
        reader = client.do_get(info.endpoints[0].ticket)
        table = reader.read_all()
        assert table.column("n").to_pylist() == [server.ask("SELECT count(*) FROM sensor_data").rows[0][0]]

        ends = {"sensor_data": {str(partition): offset for partition, offset in events.record.ends().items()}}
        info = client.get_flight_info(statement("SELECT events FROM stream_totals"))
        table = client.do_get(info.endpoints[0].ticket).read_all()
        [view] = [view for view in server.json("/v1/views")["views"] if view["name"] == "stream_totals"]
        assert json.loads(info.app_metadata) == {"frontier": ends, "views": {"stream_totals": view["id"]}}
        assert json.loads(table.schema.metadata[b"thalweg-frontier"]) == ends
        assert json.loads(table.schema.metadata[b"thalweg-views"]) == {"stream_totals": view["id"]}
        with connect(server) as connection, connection.cursor() as cursor:
            # ADBC drops the metadata of schemas. A partition is a FlightInfo.
            [partition], _ = cursor.adbc_execute_partitions("SELECT events FROM stream_totals")
            assert json.loads(flight.FlightInfo.deserialize(partition).app_metadata)["frontier"] == ends
            cursor.adbc_read_partition(partition)
            assert cursor.fetchone()[0] == table.column("events")[0].as_py()

        shared = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1000, pyarrow.int32()), ["x" * 100_000])
        with connect(server) as connection, connection.cursor() as cursor:
            with pytest.raises(Exception, match="once each row has values of its own"):
                cursor.execute("SELECT length($1)", pyarrow.table({"v": shared}))
                cursor.fetchall()

        with pytest.raises(pyarrow.ArrowInvalid, match="sensor_dat"):
            client.get_flight_info(statement("SELECT * FROM sensor_dat"))
        with pytest.raises(pyarrow.ArrowInvalid, match="Flight SQL"):
            client.get_flight_info(flight.FlightDescriptor.for_command(b"SELECT 1"))
        assert "CancelFlightInfo" in [action.type for action in client.list_actions()]

        long = client.get_flight_info(statement("SELECT value FROM generate_series(1, 10000000000)"))
        reader = client.do_get(long.endpoints[0].ticket)
        reader.read_chunk()
        assert running(server) == 1
        client.cancel_flight_info(flight.CancelFlightInfoRequest(long)) if hasattr(client, "cancel_flight_info") else (
            list(client.do_action(flight.Action("CancelFlightInfo", part(1, long.serialize()))))
        )
        with pytest.raises((flight.FlightCancelledError, pyarrow.ArrowCancelled)):
            while True:
                reader.read_chunk()
        until(lambda: running(server) == 0, "the end of the query")


def test_jdbc_reads_and_binds_every_type(thalweg, kafka, topic, events):
    server = started(thalweg, kafka, topic, events)
    shown = {sql: expect for sql, (_, expect) in VALUES.items() if expect is not None}
    others = [sql for sql, (_, expect) in VALUES.items() if expect is None]
    prepared = "\n".join(
        ["prepared", "SELECT count(*) AS n FROM sensor_data WHERE temperature > $1 AND device <> $2 AND counter > $3",
         "double -1000\tstring none\tlong 0", "double 1000\tstring none\tlong 0"]
    )  # fmt: skip
    steps = jdbc(
        server,
        *[f"query\nSELECT {sql} AS v" for sql in [*shown, *others]],
        prepared,
        "prepared\nSELECT $1 AS a, $2 AS b\nstring it's\tstring größe",
        "prepared\nSELECT CAST($1 AS TIMESTAMP) AS t\ntimestamp 2026-01-31 12:34:56",
        "prepared\nSELECT CAST($1 AS DECIMAL(10, 2)) + 1 AS d, NOT CAST($2 AS BOOLEAN) AS b, $3 + 1 AS i\ndecimal 1.25\tboolean true\tlong 4",
        "update\nCREATE MATERIALIZED VIEW tops AS SELECT max(temperature) AS peak FROM sensor_data",
        "update\nSELECT 1",
        "query\nSELECT x FROM stream_totals",
        "cancel\nSELECT value FROM generate_series(1, 10000000000)",
        "query\nSELECT 1 AS n",
    )
    for sql, step in zip(shown, steps):
        assert step[-1] == shown[sql], f"{sql}: {step}"
    for sql, step in zip(others, steps[len(shown) :]):
        # The driver has no object for a time with a zone.
        assert not step[-1].startswith("error") or "not implemented" in step[-1], f"{sql}: {step}"
    [bound, texts, times, numbers, created, not_updated, refused, cancelled, last] = steps[len(VALUES) :]
    expect = server.ask("SELECT count(*) FROM sensor_data WHERE temperature > -1000 AND device <> 'none' AND counter > 0")
    assert bound[0] == "parameters 3" and bound[2] == str(expect.rows[0][0]) and bound[4] == "0", bound
    assert texts[-1] == "it's | größe"
    assert times[-1] == "2026-01-31 12:34:56.0"
    assert numbers[-1] == "2.25 | false | 5"
    assert created == ["updated 1"]
    assert not_updated[0].startswith("error") or not_updated == ["updated -1"], not_updated
    assert "there is no column `x`" in refused[0]
    assert cancelled[0] == "first 1" and cancelled[-1] == "ended"
    assert last[-1] == "1"
    until(lambda: running(server) == 0, "the end of the cancelled query")


def test_jdbc_knows_the_catalog(thalweg, kafka, topic, events):
    server = started(thalweg, kafka, topic, events)
    server.ddl("CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n, max(cost) AS dearest FROM sensor_data")
    server.ready()
    [lines] = jdbc(server, "metadata")
    about = dict(line.split(": ", 1) for line in lines if ": " in line)
    assert "product Thalweg read only true" in lines
    assert 'quote " escape \\' in lines
    assert "transactions false union true" in lines
    assert "keywords true" in lines and "functions true" in lines
    assert about["catalogs"] == "thalweg"
    assert "thalweg public" in about["schemas"] and "thalweg rejects" in about["schemas"]
    assert about["table types"] == "MATERIALIZED VIEW, TABLE"
    assert "public sensor_data TABLE" in about["tables"] and "public totals MATERIALIZED VIEW" in about["tables"]
    assert about["streams"] == "sensor_data"
    assert about["columns"].startswith("n BIGINT -5, dearest DECIMAL")
    assert about["keys"] == about["imported"] == ""


def test_a_client_that_is_killed_ends_its_query(thalweg):
    server = thalweg().start()
    program = f"""
        import adbc_driver_flightsql.dbapi as adbc
        cursor = adbc.connect("grpc://{address(server)}", autocommit=True).cursor()
        cursor.execute("SELECT value, repeat('x', 100) AS pad FROM generate_series(1, 10000000000)")
        reader = cursor.fetch_record_batch()
        for batch in reader:
            print("read", flush=True)
    """
    client = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert client.stdout.readline() == "read\n"
    assert running(server) == 1
    client.send_signal(signal.SIGKILL)
    client.wait()
    until(lambda: running(server) == 0, "the end of the query")


def test_a_large_answer_takes_no_memory(thalweg):
    server = thalweg().start()

    def resident():
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) // 1024

    with connect(server) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchall()
        before = resident()
        cursor.execute("SELECT value, value * 2 AS twice, repeat('x', 100) AS pad FROM generate_series(1, 3000000)")
        rows, most = 0, before
        for batch in cursor.fetch_record_batch():
            rows += batch.num_rows
            most = max(most, resident())
    assert rows == 3_000_000
    assert most - before < 150, f"{before} MiB before, {most} MiB at most"


def test_tokens_are_asked_for(thalweg, kafka, topic, events):
    tokens = {"THALWEG_HTTP_TOKEN": "may-query", "THALWEG_HTTP_ADMIN_TOKEN": "may-define"}
    server = thalweg(environment=tokens).start(ready=False).listening()
    with pytest.raises(Exception, match="(?i)token|unauthenticated"), connect(server) as connection:
        fetched(connection, "SELECT 1")
    bearer = DatabaseOptions.AUTHORIZATION_HEADER.value
    create = f"{stream(kafka, topic)}"
    for options in (
        {bearer: "Bearer may-query"},
        {"username": "anybody", "password": "may-query"},
    ):
        with connect(server, **options) as connection:
            assert fetched(connection, "SELECT 1 AS n").column("n").to_pylist() == [1]
            with pytest.raises(Exception, match="http_admin_token"):
                fetched(connection, create)
    with connect(server, **{bearer: "Bearer may-define"}) as connection:
        fetched(connection, create)
    with flight.connect(f"grpc://{address(server)}") as client:
        header = client.authenticate_basic_token("anybody", "may-query")
        info = client.get_flight_info(statement("SELECT 1 AS n"), flight.FlightCallOptions(headers=[header]))
        assert info.schema.names == ["n"]
        with pytest.raises(flight.FlightUnauthenticatedError):
            client.authenticate_basic_token("anybody", "wrong")
    for properties in ({"user": "anybody", "password": "may-query"}, {"token": "may-query"}):
        assert jdbc(server, "query\nSELECT 1 AS n", **properties) == [["n BIGINT", "1"]]


def test_connections_are_encrypted(thalweg, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    server = thalweg(environment={"THALWEG_TLS_CERT": str(cert), "THALWEG_TLS_KEY": str(key)}).start()
    root = {DatabaseOptions.TLS_ROOT_CERTS.value: cert.read_text()}
    with adbc.connect(f"grpc+tls://{address(server)}", db_kwargs=root, autocommit=True) as connection:
        assert fetched(connection, "SELECT 1 AS n").column("n").to_pylist() == [1]
    with flight.connect(f"grpc+tls://{address(server)}", tls_root_certs=cert.read_bytes()) as client:
        assert client.get_flight_info(statement("SELECT 1 AS n")).schema.names == ["n"]
    assert jdbc(server, "query\nSELECT 1 AS n", useEncryption="true", tlsRootCerts=cert) == [["n BIGINT", "1"]]
    with pytest.raises(Exception), connect(server) as connection:
        fetched(connection, "SELECT 1")
