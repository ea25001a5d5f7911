"""HTTP through the clients that people have: curl, requests, pandas, polars, pyarrow, DuckDB. Every format has the rows of
the JSON answer, half an answer is an error, an unchanged view is polled for nothing, and the OpenAPI document holds."""

import io
import json
import subprocess
import threading
import urllib.parse
import urllib.request

import duckdb
import jsonschema
import pandas
import polars
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
import requests
from definitions import STREAM_TOTALS, stream
from harness.platform import Platform
from harness.producer import Production
from harness.wait import until

FAST = dict(epoch_interval="200ms", mark_interval="400ms", batch_interval="500ms")
TYPES = {
    "json": "application/json",
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
MANY = "SELECT value AS n, value / 8.0 AS f, CAST(value AS TEXT) AS t FROM generate_series(1, 200000)"
# The last batches fail, after much was sent.
BREAKS = "SELECT value AS n, 10 / (value - 4000000) AS q, md5(CAST(value AS TEXT)) AS t FROM generate_series(1, 4000001)"


@pytest.fixture
def server(thalweg, kafka, topic):
    """A stream of 2,000 messages and one view, all of them read."""
    server = thalweg(**FAST).start()
    server.ddl(stream(kafka, topic))
    server.ddl(STREAM_TOTALS.ddl)
    server.production = Production(kafka, topic, seed=14, weights=(1, 1), transactions=False).send(2000)
    server.ready()
    until(lambda: server.sql("SELECT events FROM stream_totals").rows[0][0] >= 1900, "the messages", 60)
    return server


def ask(server, sql, kind, **more):
    return requests.post(f"{server.url}/v1/sql", data=sql, headers={"accept": TYPES[kind]}, timeout=120, **more)


def url(server, sql, **parameters):
    return f"{server.url}/v1/sql?" + urllib.parse.urlencode({"query": sql, **parameters})


def test_every_reader_sees_the_same_rows(server, tmp_path):
    expect = [(n, n / 8.0, str(n)) for n in range(1, 200001)]

    def same(rows):
        assert sorted(rows) == expect

    same(tuple(row) for row in ask(server, MANY, "json").json()["rows"])
    frame = pandas.read_csv(url(server, MANY, format="csv"), dtype={"t": str})
    same(frame.itertuples(index=False, name=None))
    same((row["n"], row["f"], row["t"]) for row in map(json.loads, ask(server, MANY, "ndjson").text.splitlines()))
    same(polars.read_ndjson(io.BytesIO(ask(server, MANY, "ndjson").content)).rows())
    table = pyarrow.ipc.open_stream(ask(server, MANY, "arrow").content).read_all()
    same(zip(*(table[name].to_pylist() for name in ("n", "f", "t"))))
    same(polars.read_ipc_stream(ask(server, MANY, "arrow").content).rows())
    file = tmp_path / "answer.parquet"
    file.write_bytes(ask(server, MANY, "parquet").content)
    same(duckdb.execute("SELECT n, f, t FROM read_parquet(?)", [str(file)]).fetchall())
    same(polars.read_parquet(file).rows())
    assert pyarrow.parquet.read_schema(file).metadata[b"thalweg-frontier"] == b"{}"
    with urllib.request.urlopen(url(server, MANY, format="arrow")) as body:
        same(pyarrow.ipc.open_stream(body).read_all().to_pandas().itertuples(index=False, name=None))


def test_values_of_a_view_are_the_same_in_every_format(server, tmp_path):
    sql = "SELECT * FROM stream_totals"
    row = ask(server, sql, "json").json()["rows"][0]
    (file := tmp_path / "view.parquet").write_bytes(ask(server, sql, "parquet").content)
    arrow = pyarrow.ipc.open_stream(ask(server, sql, "arrow").content).read_all()
    assert arrow.schema.names == pyarrow.parquet.read_table(file).schema.names
    assert arrow.to_pylist() == pyarrow.parquet.read_table(file).to_pylist()
    by_duckdb = duckdb.execute("SELECT events, cost::TEXT, first::TEXT, all_ok FROM read_parquet(?)", [str(file)]).fetchone()
    names = arrow.schema.names
    said = dict(zip(names, row))
    assert by_duckdb[:2] == (said["events"], said["cost"]) and by_duckdb[3] == said["all_ok"]
    assert by_duckdb[2].replace(" ", "T")[:19] == said["first"][:19]
    assert ask(server, sql, "ndjson").json() == said


def broken(read, failure=Exception):
    with pytest.raises(failure):
        read()


def test_half_an_answer_is_an_error_for_every_reader(server, tmp_path):
    """The query fails after megabytes were sent. Each reader fails, by HTTP or by the bytes that are left behind."""
    for kind in TYPES:
        broken(lambda: ask(server, BREAKS, kind), requests.exceptions.ChunkedEncodingError)
        coded = {"accept": TYPES[kind], "accept-encoding": "gzip"}
        with requests.post(f"{server.url}/v1/sql", data=BREAKS, headers=coded, stream=True, timeout=120) as answer:
            assert answer.status_code == 200
            broken(lambda: answer.content, requests.exceptions.RequestException)
    broken(lambda: pandas.read_csv(url(server, BREAKS, format="csv")))
    broken(lambda: pandas.read_parquet(url(server, BREAKS, format="parquet")))
    broken(lambda: polars.read_parquet(url(server, BREAKS, format="parquet")))
    with urllib.request.urlopen(url(server, BREAKS, format="arrow")) as body:
        broken(lambda: pyarrow.ipc.open_stream(body).read_all())
    left = {}
    for kind in TYPES:
        for coding in ([], ["--compressed"]):
            file = tmp_path / f"left.{kind}"
            curl = ["curl", "--silent", *coding, "--output", file, url(server, BREAKS, format=kind)]
            assert subprocess.run(curl, timeout=120).returncode in (18, 56, 61, 23), kind
            assert kind == "parquet" or file.stat().st_size > 1 << 20, kind
        left[kind] = file
    broken(lambda: json.loads(left["json"].read_text()), ValueError)
    broken(lambda: pyarrow.ipc.open_stream(left["arrow"].read_bytes()).read_all(), (pyarrow.ArrowInvalid, OSError))
    broken(lambda: polars.read_ipc_stream(left["arrow"]))
    broken(lambda: pyarrow.parquet.read_table(left["parquet"]))
    broken(lambda: duckdb.execute("SELECT count(*) FROM read_parquet(?)", [str(left["parquet"])]).fetchall(), duckdb.Error)


def test_an_arrow_stream_that_is_cut_anywhere_is_an_error(server):
    """Also between two messages, where Arrow's own format lets a stream end."""
    whole = ask(server, "SELECT * FROM sensor_data", "arrow").content
    rows = pyarrow.ipc.open_stream(whole).read_all().num_rows
    assert rows >= 1900 and polars.read_ipc_stream(whole).height == rows
    # A reader asks for the messages one after the other, so the ends of all of them are known.
    source = pyarrow.BufferReader(whole)
    reader = pyarrow.ipc.open_stream(source)
    ends = [source.tell()]
    for _ in reader:
        ends.append(source.tell())
    for end in {*ends[:-1], *(end + 4 for end in ends[:-1]), len(whole) - 4, len(whole) - 1, *range(1, len(whole), len(whole) // 50)}:
        cut = whole[:end]
        if len(cut) == len(whole):
            continue
        # Where the bytes end exactly at a message, the server has sent four bytes more already.
        if end in ends:
            cut = whole[: end + 4]
        broken(lambda: pyarrow.ipc.open_stream(cut).read_all())
        # polars does not miss the zeros that fill a message to 64 bytes, nor the first bytes of a length. The server
        # ends an answer at no such place, and there the transfer itself is broken for a client of HTTP.
        if not any(message - 64 < len(cut) < message + 4 for message in ends):
            broken(lambda: polars.read_ipc_stream(cut))


def counts(server, outcome):
    return int(server.metrics().get("thalweg_query_seconds_count", {}).get(f'outcome="{outcome}"', 0))


def poll(server, tag, path=None, sql="SELECT * FROM stream_totals"):
    headers = {"if-none-match": tag}
    if path:
        return requests.get(server.url + path, headers=headers, timeout=30)
    return requests.post(f"{server.url}/v1/sql", data=sql, headers=headers, timeout=30)


def test_an_unchanged_view_is_polled_for_nothing(server):
    sql = "SELECT * FROM stream_totals"
    first = requests.post(f"{server.url}/v1/sql", data=sql, timeout=30)
    tag = first.headers["etag"]
    until(lambda: counts(server, "ok") > 0, "the counts", 10)
    ran = counts(server, "ok")
    unchanged = counts(server, "unchanged")
    for _ in range(20):
        assert poll(server, tag).status_code == 304
    until(lambda: counts(server, "unchanged") == unchanged + 20, "the counts", 10)
    assert counts(server, "ok") == ran
    server.production.row(device="new")
    changed = until(lambda: (lambda answer: answer if answer.status_code == 200 else None)(poll(server, tag)), "a change", 30)
    assert changed.headers["etag"] != tag
    assert changed.json()["rows"][0][0] == first.json()["rows"][0][0] + 1
    path = "/v1/views/stream_totals?columns=events"
    tag = server.get(path).headers["etag"]
    assert poll(server, tag, path).status_code == 304
    # Another meaning of the same name.
    server.ddl("CREATE OR REPLACE MATERIALIZED VIEW stream_totals AS SELECT count(*) + 1 AS events FROM sensor_data")
    until(lambda: poll(server, tag, path).status_code == 200, "the new view", 60)


def test_replicas_answer_the_same_tags(thalweg, kafka, topic, tmp_path):
    platform = Platform(thalweg, tmp_path / "warehouse", ["one"])
    platform.join("one")
    first, second = platform.replicas
    first.ddl(stream(kafka, topic))
    first.ddl(STREAM_TOTALS.ddl)
    production = Production(kafka, topic, seed=15, weights=(1, 1), transactions=False).send(500)
    platform.ready()
    for replica in platform.replicas:
        until(lambda: replica.sql("SELECT events FROM stream_totals").rows[0][0] >= 450, "the messages", 60)
    tags = {requests.post(f"{r.url}/v1/sql", data="SELECT * FROM stream_totals", timeout=30).headers["etag"] for r in platform.replicas}
    assert len(tags) == 1
    tag = tags.pop()
    for replica in platform.replicas:
        assert poll(replica, tag).status_code == 304
    production.row(device="new")
    until(lambda: poll(second, tag).status_code == 200, "a change", 30)


def test_equal_queries_at_once_are_computed_once(server):
    sql = "SELECT count(*) FROM generate_series(1, 2000000) AS a(v) WHERE md5(CAST(v AS TEXT)) < '1'"
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask(server, sql, "json").json())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8 and all(answer == answers[0] for answer in answers)
    until(lambda: counts(server, "shared") == 7, "the counts", 10)


def test_tools_without_sql_read_rows(server):
    base = f"{server.url}/v1/streams/sensor_data"
    frame = pandas.read_csv(f"{base}?format=csv&columns=device,counter&where=counter%3E0&order=counter.desc&limit=50")
    truth = server.sql("SELECT counter FROM sensor_data WHERE counter > 0 ORDER BY counter DESC LIMIT 50").rows
    assert list(frame["counter"]) == [row[0] for row in truth]
    for path in ("where=true;DROP TABLE sensor_data", "where=a IN (SELECT 1)", "columns=nothing", "device=d", "limit=-1"):
        answer = requests.get(f"{base}?{urllib.parse.quote(path, safe='=')}", timeout=30)
        assert answer.status_code == 400 and answer.json()["error"]["code"], path
    assert server.sql("SELECT count(*) FROM sensor_data").rows[0][0] >= 1900
    head = requests.head(f"{base}?limit=1", timeout=30)
    assert head.status_code == 200 and head.headers["etag"] and not head.content


def test_curl_takes_compressed_answers(server):
    for coding in ("gzip", "zstd"):
        curl = ["curl", "--silent", "--compressed", "-H", f"Accept-Encoding: {coding}", "-D", "-", url(server, MANY, format="csv")]
        said = subprocess.run(curl, capture_output=True, timeout=60, check=True).stdout
        head, body = said.split(b"\r\n\r\n", 1)
        assert f"content-encoding: {coding}".encode() in head.lower()
        assert body.count(b"\n") == 200001


def test_params_through_the_command_line(server):
    done = server.cli("sql", "SELECT count(*) AS n FROM sensor_data WHERE counter > $1 AND device <> $2", "--param", "-5", "--param", "it's", "--format", "csv")
    assert done.returncode == 0, done.stderr
    truth = server.sql("SELECT count(*) FROM sensor_data WHERE counter > -5 AND device IS NOT NULL").rows[0][0]
    assert done.stdout == f"n\n{truth}\n"
    done = server.cli("sql", "SELECT count(*) FROM stream_totals", "--source", "batch", "--format", "csv")
    assert done.returncode == 0 and done.stdout.endswith("\n1\n"), (done.stdout, done.stderr)
    done = server.cli("sql", "SELECT $1", "--param", "a", "--param", "b")
    assert done.returncode == 1 and "placeholders up to $1" in done.stderr


def strict(schema):
    """The schema, with keys that it does not list refused."""
    if isinstance(schema, dict):
        schema = {key: strict(value) for key, value in schema.items()}
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    elif isinstance(schema, list):
        schema = [strict(value) for value in schema]
    return schema


def test_real_answers_are_what_the_openapi_document_says(server):
    document = server.json("/v1/openapi.json")
    schemas = strict(document["components"]["schemas"])

    def check(name, value):
        jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}).validate(value)

    request = {"sql": "SELECT events, $1 AS x FROM stream_totals", "params": [1.5], "certificate": True}
    check("SqlRequest", request)
    answer = requests.post(f"{server.url}/v1/sql", json=request, timeout=30)
    check("SqlAnswer", answer.json())
    check("Certificate", json.loads(answer.headers["thalweg-certificate"]))
    for path, name in [("streams", "StreamList"), ("views", "ViewList"), ("process", "ProcessStatus")]:
        check(name, server.json(f"/v1/{path}"))
    check("ProbeAnswer", server.json("/readyz"))
    check("RunList", requests.post(f"{server.url}/v1/batch/run?view=stream_totals", timeout=60).json())
    check("AuditList", requests.post(f"{server.url}/v1/audit?view=stream_totals", timeout=60).json())
    for body in ("SELECT FROM", "SELECT nothing", "SELECT 1; SELECT 2"):
        refused = requests.post(f"{server.url}/v1/sql", data=body, timeout=30)
        check("Refusal", refused.json())
        assert str(refused.status_code) in document["paths"]["/v1/sql"]["post"]["responses"]
