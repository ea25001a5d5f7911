"""`thalweg produce`: rows of files become messages of a stream, and its answers equal the files."""

import datetime
import decimal
import io
import json
import signal
import subprocess
import time

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from confluent_kafka import Consumer
from harness.avro_producer import logical, optional, record
from harness.thalweg import binary, environment, free_port, run
from harness.wait import until

COLUMNS = """id BIGINT, name STRING, price DECIMAL(20,4), ratio DOUBLE, small REAL, flag BOOLEAN, day DATE, at TIMESTAMP,
             raw BYTEA, sizes INT[], place STRUCT<lat DOUBLE, tag STRING>"""
NAMES = ["id", "name", "price", "ratio", "small", "flag", "day", "at", "raw", "sizes", "place"]
PARTITIONS = 3


def row(i):
    """Row `i` of every file; each column lacks a value now and then."""
    at = datetime.datetime(2024, 5, 1) + datetime.timedelta(microseconds=i * 1_234_567)
    values = {
        "id": i,
        "name": f'näme "{i}",\n',
        "price": decimal.Decimal(i * 7919 - 40_000).scaleb(-4),
        "ratio": i / 3,
        "small": (i % 64) / 4,
        "flag": i % 2 == 0,
        "day": at.date(),
        "at": at,
        "raw": bytes([i % 256, 0, 255]),
        "sizes": [i, None, -i],
        "place": {"lat": i / 8, "tag": f"tag {i}"},
    }
    return {name: value if name == "id" or (i + n) % 11 else None for n, (name, value) in enumerate(values.items())}


def table(count, first=0):
    kinds = pa.struct([("lat", pa.float64()), ("tag", pa.string())])
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("name", pa.string()),
            ("price", pa.decimal128(20, 4)),
            ("ratio", pa.float64()),
            ("small", pa.float32()),
            ("flag", pa.bool_()),
            ("day", pa.date32()),
            ("at", pa.timestamp("us")),
            ("raw", pa.binary()),
            ("sizes", pa.list_(pa.int32())),
            ("place", kinds),
        ]
    )
    return pa.Table.from_pylist([row(i) for i in range(first, first + count)], schema)


def text(value):
    """A value as JSON and CSV have it."""
    match value:
        case bytes():
            return value.hex()
        case datetime.datetime() | datetime.date():
            return value.isoformat()
        case decimal.Decimal():
            return str(value)
    return value


def write(path, rows):
    """The rows in the format that the ending of the path tells."""
    if path.suffix == ".parquet":
        pa.parquet.write_table(rows, path, row_group_size=max(1, rows.num_rows // 3))
        return path
    lines = [{name: text(value) for name, value in row.items()} for row in rows.to_pylist()]
    if path.suffix == ".ndjson":
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    elif path.suffix == ".json":
        path.write_text(json.dumps(lines, indent=1))
    else:
        flat = {name: [] for name in rows.column_names}
        for line in lines:
            for name, value in line.items():
                flat[name].append(json.dumps(value) if isinstance(value, list | dict | bool) else value)
        strings = {name: pa.array([None if v is None else str(v) for v in values]) for name, values in flat.items()}
        pa.csv.write_csv(pa.table(strings), path)
    return path


@pytest.fixture
def server(kafka, thalweg, place):
    kafka.create_topic(place, PARTITIONS)
    server = thalweg(epoch_interval="500ms").start()
    server.ddl(f"CREATE EXTERNAL TABLE s ({COLUMNS}) STORED AS KAFKA LOCATION '{place}' OPTIONS ('format' 'json')")
    server.kafka_flags = ["--kafka", f"bootstrap.servers={kafka.bootstrap}"]
    return server


def produce(server, *arguments, **more):
    return server.cli("produce", "s", *server.kafka_flags, *arguments, **more)


def begin(server, *arguments):
    """A command that goes on in the background."""
    words = ["produce", "s", *server.kafka_flags, "--url", server.url, *map(str, arguments)]
    return subprocess.Popen(
        [binary(), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )


def count(server, sql="SELECT count(*) AS n FROM s"):
    return server.sql(sql).one()["n"]


def answer(server):
    """All rows as Arrow."""
    response = server.http.post(
        f"{server.url}/v1/sql",
        data=f"SELECT {', '.join(NAMES)} FROM s ORDER BY id".encode(),
        headers={"content-type": "text/plain", "accept": "application/vnd.apache.arrow.stream"},
        timeout=60,
    )
    assert response.status_code == 200, response.text
    return pa.ipc.open_stream(io.BytesIO(response.content)).read_all()


def equals(server, rows):
    assert count(server, "SELECT count(*) AS n FROM rejects.s") == 0
    assert answer(server).to_pylist() == rows.to_pylist()


def failed(done, *words):
    assert done.returncode == 1, done.stdout + done.stderr
    assert "panicked" not in done.stderr, done.stderr
    for word in words:
        assert word in done.stderr, f"'{word}' is not in:\n{done.stderr}"


@pytest.mark.parametrize("ending", ["csv", "ndjson", "json", "parquet"])
def test_the_stream_equals_the_file(server, tmp_path, ending):
    rows = table(5000)
    file = write(tmp_path / f"rows.{ending}", rows)
    dry = produce(server, "--file", file, "--dry-run")
    assert dry.returncode == 0 and "5 000 rows" in dry.stdout and "would be sent" in dry.stdout, dry.stdout + dry.stderr
    assert count(server) == 0
    done = produce(server, "--file", file)
    assert done.returncode == 0, done.stderr
    assert f"delivered 5 000 rows of {file} to topic" in done.stdout
    server.until(lambda: count(server) == 5000, "all rows", 60)
    equals(server, rows)


def test_parquet_of_other_types_is_taken_as_json_would_be(server, tmp_path):
    rows = pa.table(
        {
            "ID": pa.array([1, 2], pa.uint64()),
            "Name": pa.array(["a", "a"]).dictionary_encode(),
            "ratio": pa.array([0.1, float("nan")], pa.float32()),
            "at": pa.array([1, 2], pa.timestamp("ns", "Europe/Berlin")),
            "flag": [True, None],
            "other": [1, 2],
        }
    )
    file = write(tmp_path / "rows.parquet", rows)
    done = produce(server, "--file", file)
    assert done.returncode == 0, done.stderr
    assert "left out: other" in done.stderr and "are null: price, small, day, raw, sizes, place" in done.stderr
    server.until(lambda: count(server) == 2, "both rows", 60)
    got = answer(server).to_pylist()
    assert [row["id"] for row in got] == [1, 2] and {row["name"] for row in got} == {"a"}
    assert got[0]["ratio"] == rows["ratio"][0].as_py() and got[1]["ratio"] != got[1]["ratio"]
    assert got[0]["at"] == datetime.datetime(1970, 1, 1)
    bad = write(tmp_path / "bad.parquet", pa.table({"id": ["1", "x"], "name": [None, "b"]}))
    failed(produce(server, "--file", bad), "row 2: the value of `id` is not a valid BIGINT")
    failed(produce(server, "--file", write(tmp_path / "text.parquet", pa.table({"name": [7]}))), "it is a number")


def test_what_does_not_fit_is_not_sent(server, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("id,name\n1,a\ntwo,b\n3,c\n")
    failed(produce(server, "--file", file), f"{file}, row 2: the value of `id` is not a valid BIGINT", "nothing was sent")
    failed(produce(server, "--file", file, "--dry-run"), "row 2")
    skipped = produce(server, "--file", file, "--skip-bad")
    assert skipped.returncode == 0 and "delivered 2 rows" in skipped.stdout and "1 skipped" in skipped.stdout
    assert "skipped: row 2: the value of `id`" in skipped.stderr
    server.until(lambda: count(server) == 2, "two rows", 60)
    file.write_text("ident,nom\n1,a\n")
    failed(produce(server, "--file", file), "no column is one of the stream's", "`ident`")
    failed(produce(server, "--file", tmp_path / "none.csv"), "none.csv cannot be read")
    failed(produce(server, "--file", tmp_path, "--format", "csv"), "it is a folder")
    failed(produce(server, "--file", file, "--format", "parquet"), "does not fit")
    failed(server.cli("produce", "other", "--file", file), "has no stream `other`")
    nameless = produce(server, "--file", tmp_path / "rows")
    assert nameless.returncode == 2 and "--format" in nameless.stderr, nameless.stderr
    assert count(server) == 2


def test_keys_and_limits(kafka, server, tmp_path, place):
    file = write(tmp_path / "rows.ndjson", table(300))
    done = produce(server, "--file", file, "--key", "NAME", "--limit", 200)
    assert done.returncode == 0 and "delivered 200 rows" in done.stdout, done.stderr
    server.until(lambda: count(server) == 200, "200 rows", 60)
    assert count(server, "SELECT count(*) AS n FROM s WHERE _key IS DISTINCT FROM name") == 0
    failed(produce(server, "--file", file, "--key", "nobody"), "no column `nobody`")
    failed(produce(server, "--file", file, "--key", "sizes"), "which has no text")


def test_stdin_goes_on_while_rows_come(server):
    process = begin(server, "--stdin", "--format", "ndjson")
    for i in range(3):
        process.stdin.write(json.dumps({"id": i}).encode() + b"\n")
        process.stdin.flush()
        server.until(lambda: count(server) == i + 1, f"row {i}", 60)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and b"delivered 3 rows of stdin" in out, err


def test_the_rate_is_kept(server, tmp_path):
    file = write(tmp_path / "rows.ndjson", table(1000))
    began = time.monotonic()
    done = produce(server, "--file", file, "--rate", "400/s")
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert 2 <= took < 20, took
    progress = [line for line in done.stderr.splitlines() if "in flight" in line]
    assert len(progress) >= 2 and "rows," in progress[0] and "/s" in progress[0], done.stderr
    server.until(lambda: count(server) == 1000, "all rows", 60)


def test_ctrl_c_reports_what_was_delivered(server, tmp_path):
    file = write(tmp_path / "rows.ndjson", table(3000))
    process = begin(server, "--file", file, "--rate", "300/s")
    server.until(lambda: count(server) > 100, "some rows", 60)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"stopped before the end" in err, err
    delivered = int(out.split(b"delivered ")[1].split(b" rows")[0].replace(b" ", b""))
    assert 100 < delivered < 3000
    server.until(lambda: count(server) == delivered, "what was delivered", 60)
    assert count(server, "SELECT count(DISTINCT id) AS n FROM s") == delivered


def test_a_broker_that_goes_away_is_waited_for(kafka, server, tmp_path):
    rows = table(40_000)
    file = write(tmp_path / "rows.parquet", rows)
    process = begin(server, "--file", file, "--rate", "8000/s", "--timeout", "120s", "--key", "id")
    server.until(lambda: count(server) > 1000, "some rows", 60)
    kafka.down()
    kafka.up()
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0 and b"delivered 40 000 rows" in out, err
    server.until(lambda: count(server) == 40_000, "all rows", 120)
    equals(server, rows)


def test_a_broker_that_stays_away_ends_in_an_error(kafka, server, tmp_path):
    file = write(tmp_path / "rows.ndjson", table(10))
    nowhere = ["--kafka", f"bootstrap.servers=127.0.0.1:{free_port()}"]
    began = time.monotonic()
    done = server.cli("produce", "s", "--file", file, *nowhere, "--timeout", "2s")
    failed(done, "no broker answers there")
    assert time.monotonic() - began < 20
    failed(server.cli("produce", "s", "--file", file), "--kafka")
    # A broker that goes while rows are sent, and does not come back in time.
    process = begin(server, "--file", write(tmp_path / "more.ndjson", table(3000)), "--rate", "300/s", "--timeout", "3s")
    server.until(lambda: count(server) > 50, "some rows", 60)
    kafka.down()
    try:
        out, err = process.communicate(timeout=60)
    finally:
        kafka.up()
    assert process.returncode == 1 and b"were not delivered" in err and b"no broker took it in time" in err, err
    delivered = int(out.split(b"delivered ")[1].split(b" rows")[0].replace(b" ", b""))
    server.until(lambda: count(server) >= delivered, "what was delivered", 60)


def test_a_transaction_is_all_or_nothing(server, tmp_path):
    rows = table(3000)
    file = write(tmp_path / "rows.csv", rows)
    # A bad row at the end.
    bad = tmp_path / "bad.csv"
    bad.write_text(file.read_text() + "nothing\n")
    failed(produce(server, "--file", bad, "--transactional"), "the transaction was aborted")
    again = write(tmp_path / "again.csv", rows)
    stopped = begin(server, "--file", again, "--transactional", "--rate", "500/s")
    killed = begin(server, "--file", file, "--transactional", "--rate", "500/s", "--key", "id")
    time.sleep(3)
    stopped.send_signal(signal.SIGINT)
    out, err = stopped.communicate(timeout=60)
    assert stopped.returncode == 1 and b"delivered 0 rows" in out, (out, err)
    assert b"stopped before the end" in err and b"the transaction was aborted" in err, err
    killed.kill()
    killed.wait()
    done = produce(server, "--file", file, "--transactional")
    assert done.returncode == 0 and "delivered 3 000 rows" in done.stdout, done.stderr
    server.until(lambda: count(server) == 3000, "the file, once", 60)
    equals(server, rows)


def test_definitions_of_files_and_other_formats(kafka, place, tmp_path):
    kafka.create_topic(place, 1)
    schema = json.dumps(
        {
            "type": "record",
            "name": "R",
            "fields": [
                {"name": "id", "type": "long"},
                {"name": "name", "type": ["null", "string"]},
                {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
            ],
        }
    )
    file = tmp_path / "rows.csv"
    file.write_text("line,id,name,at\nfirst,1,x,2024-05-01\n,2,,\n")
    to_kafka = ["--kafka", f"bootstrap.servers={kafka.bootstrap}"]

    def send(columns, options):
        ddl = tmp_path / "s.sql"
        ddl.write_text(
            f"CREATE EXTERNAL TABLE s ({columns}) STORED AS KAFKA LOCATION '{place}' OPTIONS ({options});"
            "ALTER TABLE s ADD COLUMN more INT;"
            if columns != "line STRING"
            else f"CREATE EXTERNAL TABLE s ({columns}) STORED AS KAFKA LOCATION '{place}' OPTIONS ({options});"
        )
        return run("produce", "s", "--definitions", ddl, "--file", file, *to_kafka)

    assert send("line STRING", "'format' 'raw'").returncode == 0
    avro = send("id BIGINT, name STRING, at TIMESTAMP", f"'format' 'avro', 'avro.framing' 'none', 'avro.schema' '{schema}'")
    assert avro.returncode == 0, avro.stderr
    registry = send("id BIGINT", "'format' 'avro'")
    failed(registry, "registry")
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": place, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([place])
    found = []
    until(lambda: found.extend(consumer.consume(10, 0.5)) or len(found) >= 4, "the messages")
    consumer.close()
    values = [message.value() for message in found]
    assert values == [b"first", None, b"\x02\x02\x02x\x02" + zigzag(1_714_521_600_000), b"\x04\x00\x00"]


def test_a_registry_and_lines_take_rows_too(kafka, registry, thalweg, place, tmp_path):
    """Avro in Confluent's wire format by the newest schema of the registry, CSV and TSV; what is sent is what is read."""
    fields = [
        ("id", "long"),
        ("name", optional("string")),
        ("at", optional(logical("timestamp-micros", "long"))),
        ("price", optional(logical("decimal", "bytes", precision=20, scale=4))),
    ]
    to_kafka = ["--kafka", f"bootstrap.servers={kafka.bootstrap}", "--kafka", f"schema.registry.url={registry.url}"]
    rows = table(500).select(["id", "name", "price", "at"])
    file = write(tmp_path / "rows.parquet", rows)
    server = thalweg(kafka={"schema.registry.url": registry.url}).start()
    for format in ["avro", "csv", "tsv"]:
        kafka.create_topic(f"{place}-{format}", PARTITIONS)
        columns = "id BIGINT, name STRING, price DECIMAL(20,4), at TIMESTAMP"
        server.ddl(
            f"CREATE EXTERNAL TABLE {format}s ({columns}) STORED AS KAFKA LOCATION '{place}-{format}' "
            f"OPTIONS ('format' '{format}')"
        )
    missing = server.cli("produce", "avros", *to_kafka, "--file", file)
    failed(missing, f"{place}-avro-value", "register")
    registry.register(f"{place}-avro-value", record("Row", *fields))
    for format in ["avro", "csv"]:
        sent = server.cli("produce", f"{format}s", *to_kafka, "--file", file)
        assert sent.returncode == 0, sent.stderr
        counted = f"SELECT count(*) AS n FROM {format}s"
        server.until(lambda counted=counted: count(server, counted) == 500, "all rows", 60)
        got = server.sql(f"SELECT id, name, CAST(price AS STRING), at FROM {format}s ORDER BY id").rows
        for found, wanted in zip(got, rows.to_pylist(), strict=True):
            price = None if wanted["price"] is None else str(wanted["price"])
            at = None if wanted["at"] is None else wanted["at"]
            assert found[:3] == (wanted["id"], wanted["name"], price), found
            assert (found[3] and datetime.datetime.fromisoformat(found[3])) == at, found
    # The names have line breaks, which no line with tabs holds.
    refused = server.cli("produce", "tsvs", *to_kafka, "--file", file)
    failed(refused, "a tab or a line break")


def zigzag(number):
    number <<= 1
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))
