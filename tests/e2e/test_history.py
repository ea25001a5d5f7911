"""History from files: `thalweg load` and COPY, with kills, on a disk and on S3, beside a topic that goes on.

Every row of a file and every message has its own number, so a row that enters twice or not at all is found by a sum.
"""

import json
import pathlib
import subprocess
import threading
import time

import fastavro
import psycopg
import pyarrow
import pyarrow.fs
import pyarrow.parquet
import pytest
from confluent_kafka import Producer
from harness.platform import PASSING, Platform
from harness.thalweg import Refused, binary, environment, free_port, run

VIEW = "CREATE MATERIALIZED VIEW by_k AS SELECT k, count(*) AS n, sum(id) AS total FROM s GROUP BY k;"
LOADED = -2
# The time of row 0, in seconds; each row is a second later.
START = 1_700_000_000


def create(topic):
    return (
        f"CREATE EXTERNAL TABLE s (id BIGINT NOT NULL, k STRING, at TIMESTAMP, tags STRING[]) STORED AS KAFKA "
        f"LOCATION '{topic}' OPTIONS ('format' 'json');"
    )


def write_parquet(path, ids):
    table = pyarrow.table(
        {
            "id": pyarrow.array(ids, pyarrow.int32()),
            "k": pyarrow.array([f"k{i % 7}" for i in ids]).dictionary_encode(),
            "at": pyarrow.array([(START + i) * 1_000_000_000 for i in ids], pyarrow.timestamp("ns", "UTC")),
            "tags": pyarrow.array([["a", None, str(i)] for i in ids], pyarrow.list_(pyarrow.string())),
        }
    )
    pyarrow.parquet.write_table(table, path, row_group_size=1000)


def write_ndjson(path, ids):
    lines = (json.dumps({"id": i, "k": f"k{i % 7}", "at": (START + i) * 1_000_000, "tags": ["a", None, str(i)]}) for i in ids)
    pathlib.Path(path).write_text("\n".join(lines))


def write_csv(path, ids):
    lines = (f'{i},k{i % 7},{(START + i) * 1000000},"[""a"",null,""{i}""]"' for i in ids)
    pathlib.Path(path).write_text("\n".join(["id,k,at,tags", *lines]))


AVRO = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "extra", "type": {"type": "map", "values": "bytes"}},
        {"name": "ID", "type": "int"},
        {"name": "k", "type": [{"type": "enum", "name": "K", "symbols": [f"k{i}" for i in range(7)]}, "null"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "tags", "type": {"type": "array", "items": ["null", "string"]}},
    ],
}


def write_avro(path, ids, codec):
    rows = (
        {"extra": {"x": b"y"}, "ID": i, "k": f"k{i % 7}", "at": (START + i) * 1000, "tags": ["a", None, str(i)]} for i in ids
    )
    with open(path, "wb") as file:
        fastavro.writer(file, fastavro.parse_schema(AVRO), rows, codec=codec, sync_interval=4096)


def produce(kafka, topic, ids):
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5})
    for i in ids:
        producer.produce(topic, json.dumps({"id": i, "k": f"k{i % 7}", "at": (START + i) * 1_000_000, "tags": ["a", None, str(i)]}))
    assert producer.flush(30) == 0


def check(server, ids):
    expect = {}
    for i in ids:
        n, total = expect.get(f"k{i % 7}", (0, 0))
        expect[f"k{i % 7}"] = (n + 1, total + i)
    assert {k: (n, total) for k, n, total in server.sql("SELECT k, n, total FROM by_k").rows} == expect
    count, distinct, total = server.sql("SELECT count(*), count(DISTINCT id), sum(id) FROM s").rows[0]
    assert (count, distinct, total or 0) == (len(ids), len(ids), sum(ids))
    wrong = f"SELECT count(*) FROM s WHERE at <> to_timestamp({START} + id) OR tags[1] <> 'a' OR tags[2] IS NOT NULL OR tags[3] <> CAST(id AS STRING)"
    assert server.sql(wrong).rows == [(0,)]


def taken(server, count):
    server.until(lambda: server.sql("SELECT count(*) FROM s").frontier["s"].get(LOADED, 0) == count, f"{count} rows", 90)


def load(where, *arguments, code=0):
    done = run("load", "s", *arguments, *where, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout.strip() if code == 0 else done.stderr.strip()


def test_files_enter_beside_a_topic(kafka, thalweg, topic, tmp_path):
    server = thalweg(epoch_interval="300ms", mark_interval="300ms", batch_interval="1s").start()
    server.ddl(create(topic) + VIEW)
    produce(kafka, topic, range(100))
    server.reached("s", {})
    write_parquet(tmp_path / "a.parquet", list(range(1000, 6000)))
    write_ndjson(tmp_path / "b.ndjson", range(6000, 7000))
    write_csv(tmp_path / "c.csv", range(7000, 7500))
    files = f"{tmp_path}/[abc].*"
    assert load(server.where(), files, "--dry-run") == "6500 rows of 3 files would enter"
    assert load(server.where(), files) == "6500 rows of 3 files have entered"
    taken(server, 6500)
    server.until(lambda: server.sql("SELECT count(*) FROM s WHERE _partition >= 0").rows == [(100,)], "the topic", 60)
    check(server, [*range(100), *range(1000, 7500)])
    produce(kafka, topic, range(100, 200))
    server.until(lambda: server.sql("SELECT count(*) FROM s WHERE _partition >= 0").rows == [(200,)], "the topic", 60)
    everything = [*range(200), *range(1000, 7500)]
    check(server, everything)
    assert load(server.where(), files) == "0 rows of 0 files have entered; 3 files were there before"
    sources = server.sql(
        "SELECT _source, id FROM s WHERE _partition = -2 AND id IN (1000, 6001, 7499) ORDER BY id"
    ).rows
    assert [(source.rsplit("/", 1)[1], i) for source, i in sources] == [
        ("a.parquet#1", 1000),
        ("b.ndjson#2", 6001),
        ("c.csv#500", 7499),
    ]
    # A row that does not fit keeps its file out, and only its file.
    write_csv(tmp_path / "d.csv", range(8000, 8010))
    (tmp_path / "e.csv").write_text("id,k\n8010,k2\n,k3\n")
    refused = load(server.where(), f"{tmp_path}/[de].csv", code=1)
    assert "e.csv, row 2: `id` is NOT NULL" in refused, refused
    everything += range(8000, 8010)
    taken(server, 6510)
    with (tmp_path / "d.csv").open("a") as file:
        file.write("\n1,k1,1,[]")
    assert "d.csv is in stream `s`, and has changed since" in load(server.where(), f"{tmp_path}/d.csv", code=1)
    check(server, everything)
    server.kill()
    server.start()
    check(server, everything)
    assert server.http.post(f"{server.url}/v1/batch/run?full=true", timeout=60).status_code == 200
    check(server, everything)
    audit = server.cli("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr


def test_avro_files(kafka, thalweg, topic, tmp_path):
    server = thalweg(epoch_interval="300ms", mark_interval="300ms", environment={"THALWEG_COPY_FROM": str(tmp_path)}).start()
    server.ddl(create(topic) + VIEW)
    server.reached("s", {})
    write_avro(tmp_path / "a.avro", range(1000, 4000), "null")
    write_avro(tmp_path / "b.avro", range(4000, 6000), "deflate")
    write_avro(tmp_path / "c.data", range(6000, 6500), "deflate")
    write_avro(tmp_path / "d.avro", range(6500, 7000), "null")
    assert load(server.where(), f"{tmp_path}/[ab].avro") == "5000 rows of 2 files have entered"
    assert server.sql(f"COPY s FROM '{tmp_path}/c.data' WITH (FORMAT avro)").rows[0][0].startswith("500 rows of 1 files")
    sent = server.cli("produce", "s", "--file", str(tmp_path / "d.avro"), "--kafka", f"bootstrap.servers={kafka.bootstrap}")
    assert sent.returncode == 0, sent.stderr
    taken(server, 5500)
    server.until(lambda: server.sql("SELECT count(*) FROM s WHERE _partition >= 0").rows == [(500,)], "the topic", 60)
    check(server, list(range(1000, 7000)))
    # A file that breaks off enters not at all.
    whole = (tmp_path / "b.avro").read_bytes()
    (tmp_path / "e.avro").write_bytes(whole[:-7])
    refused = load(server.where(), f"{tmp_path}/e.avro", "--skip-bad", code=1)
    assert "e.avro" in refused and "damaged: the file ends within it" in refused, refused
    (tmp_path / "f.avro").write_bytes(whole[:5000] + b"?" + whole[5001:])
    assert "f.avro" in load(server.where(), f"{tmp_path}/f.avro", code=1)
    check(server, list(range(1000, 7000)))
    server.kill()
    server.start()
    check(server, list(range(1000, 7000)))


def test_a_killed_load_goes_on_where_it_was(kafka, thalweg, topic, tmp_path):
    server = thalweg(epoch_interval="300ms", mark_interval="300ms", batch_interval="1s").start()
    server.ddl(create(topic) + VIEW)
    produce(kafka, topic, [1])
    server.ready()
    files = 40
    for number in range(files):
        write_parquet(tmp_path / f"{number:02}.parquet", list(range(1000 * (number + 1), 1000 * (number + 2))))
    command = [binary(), "load", "s", f"{tmp_path}/*.parquet", *server.where()]
    for seconds in (0.15, 0.3, 0.45, 0.6):
        with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(seconds)
            process.kill()
        seen = server.sql("SELECT count(*) FROM s WHERE _partition = -2").rows[0][0]
        assert seen % 1000 == 0
    several = [subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    for process in several:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0 or b"in the same way at the moment" in told, told
    server.until(lambda: run(*command[1:]).returncode == 0, "the last files", 60)
    taken(server, 1000 * files)
    check(server, [1, *range(1000, 1000 * (files + 1))])


def test_copy_from(kafka, thalweg, topic, tmp_path):
    place, other = tmp_path / "in", tmp_path / "other"
    place.mkdir(), other.mkdir()
    write_parquet(place / "a.parquet", list(range(100, 400)))
    write_csv(place / "b.txt", range(400, 420))
    write_csv(other / "c.csv", range(420, 440))
    (place / "link.csv").symlink_to(other / "c.csv")
    server = thalweg(
        epoch_interval="300ms",
        mark_interval="300ms",
        batch_interval="1s",
        environment={"THALWEG_COPY_FROM": f"{place},s3://none"},
    ).start()
    server.ddl(create(topic) + VIEW)
    produce(kafka, topic, range(10))
    server.ready()
    answer = server.sql(f"COPY s FROM '{place}/*.parquet'").rows
    assert answer == [("300 rows of 1 files have entered", None)]
    assert server.sql(f"COPY s FROM '{place}/b.txt' WITH (FORMAT csv, HEADER)").rows[0][0].startswith("20 rows")
    assert server.sql(f"copy s from 'file://{place}/a.parquet'").rows[0][0].endswith("1 files were there before")
    for sql, sentence in [
        (f"COPY s FROM '{other}/c.csv'", "copy_from"),
        (f"COPY s FROM '{place}/link.csv'", "copy_from"),
        (f"COPY s FROM '{place}/../other/c.csv'", "copy_from"),
        (f"COPY s FROM '{place}/none.csv'", "no file has that name"),
        (f"COPY s FROM '{place}/b.txt'", "tells no format"),
        (f"COPY none FROM '{place}/a.parquet'", "no stream `none`"),
        (f"COPY s (id) FROM '{place}/a.parquet'", "list of columns"),
        (f"COPY s FROM '{place}/a.parquet' WITH (FORMAT orc)", "orc"),
        (f"COPY s FROM '{place}/a.parquet' WITH (DELIMITER ';')", "DELIMITER"),
        (f"COPY s FROM '{place}/a.parquet'; SELECT 1", "on its own"),
        ("COPY s FROM STDIN", "server reaches"),
        ("COPY s FROM", "Expected"),
    ]:
        with pytest.raises(Refused, match=sentence):
            server.sql(sql)
    taken(server, 320)
    check(server, [*range(10), *range(100, 420)])


def test_copy_is_off_by_default(thalweg, kafka, topic, tmp_path):
    write_csv(tmp_path / "a.csv", range(3))
    server = thalweg().start()
    server.ddl(create(topic))
    with pytest.raises(Refused, match="copy_from names no place"):
        server.sql(f"COPY s FROM '{tmp_path}/a.csv'")


def test_history_on_s3(kafka, s3, thalweg, topic):
    options = s3.options
    scheme, endpoint = options["aws_endpoint"].split("://")
    bucket = pyarrow.fs.S3FileSystem(
        access_key=options["aws_access_key_id"],
        secret_key=options["aws_secret_access_key"],
        endpoint_override=endpoint,
        scheme=scheme,
    )
    folder = f"thalweg/{topic}-files"
    for name, ids in [("year=2024/a.parquet", range(1000, 3000)), ("year=2025/b.parquet", range(3000, 4000))]:
        table = pyarrow.table({"id": list(ids), "k": [f"k{i % 7}" for i in ids], "at": [(START + i) * 1_000_000 for i in ids]})
        table = table.append_column("tags", pyarrow.array([["a", None, str(i)] for i in ids]))
        with bucket.open_output_stream(f"{folder}/{name}") as file:
            pyarrow.parquet.write_table(table, file)
    port = free_port()
    server = thalweg(
        warehouse=f"s3://thalweg/{topic}",
        storage=options,
        epoch_interval="300ms",
        mark_interval="300ms",
        batch_interval="1s",
        environment={"THALWEG_COPY_FROM": f"s3://{folder}", "THALWEG_POSTGRES_ADDR": f"127.0.0.1:{port}"},
    ).start()
    server.ddl(create(topic) + VIEW)
    produce(kafka, topic, range(10))
    server.ready()
    assert load(server.where(), f"s3://{folder}/year=2024/a.parquet") == "2000 rows of 1 files have entered"
    with psycopg.connect(f"host=127.0.0.1 port={port} user=me dbname=thalweg", autocommit=True) as connection:
        done = connection.execute(f"COPY s FROM 's3://{folder}/*/*.parquet'")
        assert done.statusmessage == "COPY"
        with pytest.raises(psycopg.Error, match="copy_from"):
            connection.execute("COPY s FROM 's3://thalweg/other/*.parquet'")
        with pytest.raises(psycopg.Error, match="COPY FROM STDIN is not supported"):
            connection.execute("COPY s FROM STDIN")
    taken(server, 3000)
    check(server, [*range(10), *range(1000, 4000)])
    assert "no file has that name" in load(server.where(), f"s3://{folder}/none.parquet", code=1)
    assert load(server.where(), f"s3://{folder}/*/*.parquet").endswith("2 files were there before")


def test_workers_take_history_while_it_is_loaded(kafka, thalweg, topic, tmp_path):
    for number in range(10):
        write_parquet(tmp_path / f"{number}.parquet", list(range(1000 * (number + 1), 1000 * (number + 2))))
    produce(kafka, topic, range(100))
    platform = Platform(thalweg, tmp_path / "warehouse", ["one", "two"])
    replica = platform.replicas[0]
    replica.ddl(create(topic) + VIEW)
    platform.join("one", "two")
    platform.ready()
    with pytest.raises(Refused, match="a replica loads no files"):
        replica.sql(f"COPY s FROM '{tmp_path}/0.parquet'")

    def load_all():
        for number in range(10):
            load(["--warehouse", platform.warehouse], f"{tmp_path}/{number}.parquet")

    loading = threading.Thread(target=load_all)
    loading.start()
    seen, until = 0, time.monotonic() + 120
    while loading.is_alive() or seen < 10_000:
        for server in platform.replicas:
            try:
                # One frontier for rows and view, whatever is loaded meanwhile.
                answer = server.sql(
                    "SELECT (SELECT count(*) FROM s), (SELECT sum(n) FROM by_k), (SELECT sum(total) FROM by_k), sum(id) FROM s"
                )
                rows, of_view, total_of_view, total = answer.rows[0]
                assert (rows, total) == (of_view, total_of_view)
                seen = max(seen, answer.frontier["s"].get(LOADED, 0))
                assert rows == 100 + answer.frontier["s"].get(LOADED, 0)
            except Refused as refused:
                assert refused.code in PASSING, refused
        assert time.monotonic() < until, f"only {seen} rows are seen"
    for server in platform.replicas:

        def is_whole(server=server):
            try:
                check(server, [*range(100), *range(1000, 11_000)])
                return True
            except Refused as refused:
                assert refused.code in PASSING, refused
                return False

        server.until(is_whole, "all of the history", 60)
