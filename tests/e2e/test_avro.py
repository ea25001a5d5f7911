"""Avro streams: every type and framing through the real serializer, registry and Kafka, and writers that change.

Each topic is read by one process, recomputed, audited, and read again after a kill. What is away or lies is in
`test_avro_registry.py`.
"""

import datetime
import json
import pathlib
import random
import re
import struct
import uuid
from decimal import Decimal

import pytest
from definitions import STREAM_TOTALS, VIEWS, stream
from harness.avro_producer import (
    AvroProduction,
    Writer,
    encoded,
    framed,
    logical,
    optional,
    produce,
    record,
    single_object,
)
from harness.oracle import Oracle
from harness.producer import Background
from harness.registryproxy import ERROR
from harness.thalweg import ROOT, Refused, run
from harness.wait import until
from test_exactness import Asked, compare_rejects, compare_rows

FAST = dict(epoch_interval="500ms", mark_interval="500ms")
UTC = datetime.timezone.utc


def table(name, topic, columns, **options):
    options = ", ".join(f"'{key.replace('__', '.')}' '{value}'" for key, value in {"format": "avro", **options}.items())
    return f"CREATE EXTERNAL TABLE {name} ({columns}) STORED AS KAFKA LOCATION '{topic}' OPTIONS ({options})"


def answered(server, questions):
    for sql, rows in questions.items():
        assert server.sql(sql).rows == rows, sql


def through_everything(server, ends, questions, check=lambda: None):
    """The answers are the same live, after a kill, after a graceful end, after a run; and the audit agrees."""

    # An audit compares views.
    for name in ends:
        server.ddl(
            f"CREATE MATERIALIZED VIEW count_of_{name} AS SELECT count(*) AS n, max(_offset) AS last FROM {name}"
        )

    def asked():
        for name, end in ends.items():
            server.reached(name, end)
        server.ready()
        answered(server, questions)
        check()

    asked()
    server.kill()
    server.start()
    asked()
    assert server.stop() == 0
    server.start()
    asked()
    done = server.http.post(f"{server.url}/v1/batch/run", timeout=60)
    assert done.status_code == 200, done.text
    asked()
    audit = server.cli("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr


def connected(thalweg, registry, **options):
    return thalweg(kafka=registry.properties, **{**FAST, **options})


# --- Every type.

EVERYTHING = record(
    "Everything",
    ("id", "long"),
    ("flag", "boolean"),
    ("tiny", "long"),
    ("small", "int"),
    ("number", "long"),
    ("unsigned", "long"),
    ("exact", "int"),
    ("f32", "float"),
    ("f64", "double"),
    ("widened", "float"),
    ("of_whole", "long"),
    ("name", "string"),
    ("kind", {"type": "enum", "name": "Kind", "symbols": ["GOOD", "BAD"]}),
    ("uid", logical("uuid", "string")),
    ("bytes", "bytes"),
    ("hash", {"type": "fixed", "name": "Hash", "size": 4}),
    ("price", logical("decimal", "bytes", precision=10, scale=2)),
    ("fee", {**logical("decimal", "fixed", precision=13, scale=1), "name": "Fee", "size": 6}),
    ("day", logical("date", "int")),
    ("at_ms", logical("timestamp-millis", "long")),
    ("at_us", logical("timestamp-micros", "long")),
    ("at_ns", logical("timestamp-nanos", "long")),
    ("local_ms", logical("local-timestamp-millis", "long")),
    ("local_us", logical("local-timestamp-micros", "long")),
    ("at_number", "long"),
    ("time_ms", logical("time-millis", "int")),
    ("time_us", logical("time-micros", "long")),
    ("tags", {"type": "array", "items": ["null", "string"]}),
    ("grid", {"type": "array", "items": {"type": "array", "items": "int"}}),
    (
        "place",
        optional(
            {
                "type": "record",
                "name": "Place",
                "fields": [
                    {"name": "lon", "type": "double"},
                    {"name": "ignored", "type": {"type": "map", "values": "bytes"}},
                    {"name": "lat", "type": ["double", "null"]},
                ],
            }
        ),
    ),
    ("counts", {"type": "map", "values": "long"}),
    ("either", ["null", "string", "long", "Kind"]),
    ("orders", {"type": "array", "items": {"type": "record", "name": "Order", "fields": [{"name": "sku", "type": "string"}]}}),
    ("nothing", "null"),
    ("maybe", optional("string")),
    ("Camel", ["string", "null"]),
    namespace="all.of.it",
)  # fmt: skip

COLUMNS = """id BIGINT NOT NULL, flag BOOLEAN, tiny TINYINT, small SMALLINT, number BIGINT, unsigned BIGINT UNSIGNED,
  exact DECIMAL(12, 2), f32 REAL, f64 DOUBLE, widened DOUBLE, of_whole DOUBLE, name STRING NOT NULL, kind STRING, uid STRING,
  bytes BYTEA, hash BYTEA, price DECIMAL(10, 2), fee DECIMAL(14, 3), day DATE, at_ms TIMESTAMP, at_us TIMESTAMP,
  at_ns TIMESTAMP, local_ms TIMESTAMP, local_us TIMESTAMP, at_number TIMESTAMP, time_ms BIGINT, time_us STRING, tags STRING[],
  grid BIGINT[][], place STRUCT<lat DOUBLE, lon DOUBLE>, counts STRUCT<key STRING, value BIGINT>[],
  either STRUCT<string STRING, long BIGINT, kind STRING>, orders STRUCT<sku STRING>[], nothing STRING, maybe STRING,
  camel STRING, absent INT"""

_EPOCH = datetime.date(1970, 1, 1)
_FIRST = dict(
    id=1, flag=True, tiny=-128, small=32767, number=2**63 - 1, unsigned=7, exact=-12, f32=0.1, f64=0.1, widened=0.5,
    of_whole=2**53 + 1, name="雪 ünï\0", kind="BAD", uid=uuid.UUID(int=2**100 + 5), bytes=b"\0\xff", hash=b"abcd",
    price=Decimal("-12345678.90"), fee=Decimal("99999999999.9"), day=datetime.date(1969, 7, 20),
    at_ms=datetime.datetime(2026, 3, 1, 12, 0, 0, 123_000, UTC), at_us=datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
    at_ns=1_772_366_400_123_456_000, local_ms=datetime.datetime(2026, 3, 1, 12), local_us=datetime.datetime(2199, 1, 1, 0, 0, 0, 1),
    at_number=1_772_366_400_000_000, time_ms=datetime.time(23, 59, 59, 999_000), time_us=datetime.time(1, 2, 3, 4),
    tags=["a", None, ""], grid=[[1, -2], [], [3]], place={"lat": 52.5, "lon": 13.4, "ignored": {"k": b"v"}},
    counts={"a": 1, "b": -2}, either="text", orders=[{"sku": "A1"}, {"sku": "B2"}], nothing=None, maybe="x", Camel="hump",
)  # fmt: skip
# The other ends of all ranges, and nothing wherever nothing can be said.
_SECOND = dict(
    id=-(2**63), flag=False, tiny=127, small=-32768, number=0, unsigned=0, exact=2**31 - 1, f32=float("-inf"), f64=5e-324,
    widened=float("nan"), of_whole=-1, name="", kind="GOOD", uid=uuid.UUID(int=0), bytes=b"", hash=b"\0\0\0\0",
    price=Decimal("0.00"), fee=Decimal("-0.1"), day=datetime.date(9999, 12, 31),
    at_ms=datetime.datetime(1970, 1, 1, tzinfo=UTC), at_us=datetime.datetime(2026, 3, 1, tzinfo=UTC), at_ns=0,
    local_ms=datetime.datetime(1970, 1, 1), local_us=datetime.datetime(1970, 1, 1), at_number=1_772_366_400_000_000,
    time_ms=datetime.time(0), time_us=datetime.time(0), tags=[], grid=[], place=None, counts={}, either=None, orders=[],
    nothing=None, maybe=None, Camel=None,
)  # fmt: skip
_THIRD = {**_SECOND, "id": 3, "either": 42, "place": {"lat": None, "lon": 1.5, "ignored": {}}, "name": "z" * 100_000}
_FOURTH = {**_SECOND, "id": 4, "either": ("all.of.it.Kind", "BAD")}
# What does not fit its column: the rest of the message does not matter.
MISFITS = [
    (dict(tiny=128), "`tiny`"),
    (dict(small=-32769), "`small`"),
    (dict(day=2**31 - 1), "`day`"),
    (dict(fee=Decimal("999999999999.9")), "`fee`"),
]

EVERY_TYPE = {
    "SELECT id, flag, tiny, small, number, exact, name = '' FROM everything ORDER BY id": [
        (-(2**63), False, 127, -32768, 0, "2147483647.00", True),
        (1, True, -128, 32767, 2**63 - 1, "-12.00", False),
        (3, False, 127, -32768, 0, "2147483647.00", False),
        (4, False, 127, -32768, 0, "2147483647.00", True),
    ],
    "SELECT name, kind, uid, maybe, camel, nothing, absent FROM everything WHERE id = 1": [
        ("雪 ünï\0", "BAD", str(uuid.UUID(int=2**100 + 5)), "x", "hump", None, None)
    ],
    "SELECT f32 = CAST(0.1 AS REAL), f64, widened, of_whole, CAST(unsigned AS STRING) FROM everything WHERE id = 1": [
        (True, 0.1, 0.5, 2.0**53, "7")
    ],
    "SELECT f32 < -1e38, f64 > 0, isnan(widened) FROM everything WHERE id = 3": [(True, True, True)],
    "SELECT encode(bytes, 'hex'), encode(hash, 'hex'), CAST(price AS STRING), CAST(fee AS STRING) FROM everything WHERE id IN (1, 3)"
    " ORDER BY id": [
        ("00ff", b"abcd".hex(), "-12345678.90", "99999999999.900"),
        ("", "00000000", "0.00", "-0.100"),
    ],
    "SELECT CAST(day AS STRING), at_ms, at_us, at_ns, local_ms, local_us, at_number FROM everything WHERE id IN (1, 3) ORDER BY id": [
        (
            "1969-07-20", "2026-03-01T12:00:00.123", "1969-12-31T23:59:59.999999", "2026-03-01T12:00:00.123456",
            "2026-03-01T12:00:00", "2199-01-01T00:00:00.000001", "2026-03-01T12:00:00",
        ),
        (
            "9999-12-31", "1970-01-01T00:00:00", "2026-03-01T00:00:00", "1970-01-01T00:00:00", "1970-01-01T00:00:00",
            "1970-01-01T00:00:00", "2026-03-01T12:00:00",
        ),
    ],
    "SELECT time_ms, time_us FROM everything WHERE id IN (1, 3) ORDER BY id": [
        (86_399_999_000, "01:02:03.000004"), (0, "00:00:00.000000"),
    ],
    "SELECT tags[1], tags[2], tags[3], cardinality(tags), grid[1][2], cardinality(grid[2]), grid[3][1] FROM everything WHERE id = 1": [
        ("a", None, "", 3, -2, 0, 3)
    ],
    "SELECT tags[1], cardinality(tags), orders[1].sku FROM everything WHERE id = 3": [(None, 0, None)],
    "SELECT id, place.lat, place.lon, place IS NULL FROM everything ORDER BY id": [
        (-(2**63), None, None, True), (1, 52.5, 13.4, False), (3, None, 1.5, False), (4, None, None, True),
    ],
    "SELECT c.entry['key'], c.entry['value'] FROM everything AS e CROSS JOIN UNNEST(e.counts) AS c(entry) ORDER BY 1": [
        ("a", 1), ("b", -2),
    ],
    "SELECT id, either['string'], either['long'], either['kind'], either IS NULL FROM everything ORDER BY id": [
        (-(2**63), None, None, None, True), (1, "text", None, None, False), (3, None, 42, None, False),
        (4, None, None, "BAD", False),
    ],
    "SELECT orders[1].sku, orders[2].sku FROM everything WHERE id = 1": [("A1", "B2")],
    "SELECT kind, n, low, high, lat FROM by_kind ORDER BY kind": [
        ("BAD", 1, "-12345678.90", "2026-03-01T12:00:00.123", 52.5), ("GOOD", 3, "0.00", "1970-01-01T00:00:00", None),
    ],
}  # fmt: skip


def test_every_type(kafka, thalweg, registry, topic):
    write = Writer(registry, topic, EVERYTHING)
    rows = [_FIRST, _SECOND, _THIRD, _FOURTH]
    messages = [(n % 2, write(row)) for n, row in enumerate(rows)]
    misfits = [write({**_FIRST, **wrong}) for wrong, _ in MISFITS]
    messages += [(n % 2, payload) for n, payload in enumerate(misfits)]
    produce(kafka, topic, messages)
    server = connected(thalweg, registry).start()
    server.ddl(
        table("everything", topic, COLUMNS, timestamp_unit="us", event_time="at_ms")
        + """; CREATE MATERIALIZED VIEW by_kind AS
          SELECT kind, count(*) AS n, min(price) AS low, max(at_ms) AS high, max(place.lat) AS lat FROM everything GROUP BY kind"""
    )
    id = struct.unpack(">I", misfits[0][1:5])[0]

    def refused():
        answer = server.sql("SELECT _reject, encode(_payload, 'hex') AS payload FROM rejects.everything")
        assert sorted(row["payload"] for row in answer.dicts()) == sorted(payload.hex() for payload in misfits)
        for payload, (_, column) in zip(misfits, MISFITS):
            said = next(row["_reject"] for row in answer.dicts() if row["payload"] == payload.hex())
            assert column in said and f"schema {id}" in said, said

    through_everything(server, {"everything": {0: 4, 1: 4}}, EVERY_TYPE, refused)


# --- Names, and schemas that are refused.


def test_a_column_takes_the_field_of_its_name(kafka, thalweg, registry, topic):
    """Quoted names are exact, others take any case; an exact name wins; aliases and defaults of the writer are nothing here."""
    writers = [
        Writer(registry, topic, record("R", ("deviceId", "string"), ("Value", "int"))),
        Writer(registry, topic, record("R", ("DEVICEID", "string"), ("value", "long"), ("x", "int"))),
        Writer(registry, topic, json.dumps({
            "type": "record", "name": "R", "fields": [{"name": "device", "type": "string", "aliases": ["deviceid"]}],
        })),
        # Both are `value`.
        Writer(registry, topic, record("R", ("VALUE", "int"), ("Value", "int"))),
        # One of them is exactly `value`.
        Writer(registry, topic, record("R", ("VALUE", "int"), ("value", "int"))),
        # It cannot be a number.
        Writer(registry, topic, record("R", ("value", "string"))),
    ]  # fmt: skip
    values = [
        {"deviceId": "a", "Value": 1}, {"DEVICEID": "b", "value": 2, "x": 3}, {"device": "c"},
        {"VALUE": 4, "Value": 5}, {"VALUE": 6, "value": 7}, {"value": "eight"},
    ]  # fmt: skip
    payloads = [write(value) for write, value in zip(writers, values)]
    # No record at all.
    payloads.append(framed(registry.register(f"{topic}-long", '{"type": "long"}'), encoded('"long"', 9)))
    produce(kafka, topic, [(0, payload) for payload in payloads])
    server = connected(thalweg, registry).start()
    server.ddl(table("r", topic, 'deviceId STRING, value BIGINT, "x" INT'))
    questions = {
        "SELECT _offset, deviceid, value, x FROM r ORDER BY 1": [
            (0, "a", 1, None), (1, "b", 2, 3), (2, None, None, None), (4, None, 7, None),
        ],
        "SELECT _offset, encode(_payload, 'hex') FROM rejects.r ORDER BY 1": [
            (n, payloads[n].hex()) for n in (3, 5, 6)
        ],
    }  # fmt: skip
    through_everything(server, {"r": {0: 7}}, questions)
    for n, said in zip((3, 5, 6), server.sql("SELECT _reject FROM rejects.r ORDER BY _offset").rows):
        id = struct.unpack(">I", payloads[n][1:5])[0]
        assert f"schema {id}" in said[0], said


def test_schemas_of_other_kinds_and_odd_ids_are_rejects(kafka, thalweg, registry, topic, place):
    """A schema that the registry has and that is not Avro, or is broken, makes rejects: waiting would not help."""
    proto = registry.register(f"{place}-p", 'syntax = "proto3"; message M { string a = 1; }', kind="PROTOBUF")
    text = registry.register(
        f"{place}-j", json.dumps({"title": "T", "type": "object", "properties": {"a": {"type": "string"}}}), kind="JSON"
    )
    write = Writer(registry, topic, record("R", ("a", "string")))
    produce(
        kafka,
        topic,
        [(0, write({"a": "x"})), (0, framed(proto, b"\0\2x")), (0, framed(text, b"{}")), (0, write({"a": "y"}))],
    )
    server = connected(thalweg, registry).start()
    server.ddl(table("r", topic, "a STRING"))
    server.reached("r", {0: 4})
    assert server.sql("SELECT a FROM r ORDER BY 1").rows == [("x",), ("y",)]
    for (said,), (id, kind) in zip(
        server.sql("SELECT _reject FROM rejects.r ORDER BY _offset").rows, [(proto, "PROTOBUF"), (text, "JSON")]
    ):
        assert f"schema {id}" in said and kind in said.upper(), said


# --- The schemas of this project.


@pytest.mark.parametrize(
    "file, demo, row",
    [
        ("user", None, {"name": "Ada", "age": 36}),
        (
            "sensor",
            "sensor_data",
            {"device": "boiler-7", "site": "Oslo", "ts": "2026-03-01T12:00:00.000001", "temperature": 64.5},
        ),
        (
            "login",
            "login_attempts",
            {"account": "ada", "address": "::1", "country": None, "ts": "2026-03-01T12:00:00", "success": False},
        ),
        (
            "price",
            "stock_prices",
            {"symbol": "ACME", "ts": "2026-03-01T12:00:00", "price": "12.50", "volume": 100},
        ),
    ],
    ids=["user", "sensor", "login", "price"],
)
def test_the_schemas_of_this_project(kafka, thalweg, registry, topic, file, demo, row):
    """Through the registry, and as the stream's own schema; the columns are those of the demo, whose messages are JSON."""
    schema = (ROOT / f"schemas/avro/{file}.avsc").read_text()
    columns = "name STRING NOT NULL, age INT"
    if demo:
        definition = (ROOT / f"schemas/demo/{demo}.sql").read_text()
        columns = re.search(rf"TABLE IF NOT EXISTS {demo} \((.*?)\n\)\n", definition, re.DOTALL)[1]
    fields = [field["name"] for field in json.loads(schema)["fields"]]
    assert fields == re.findall(r"(?:^|, |\n) *([a-z]+) [A-Z]", columns) == list(row)
    said = dict(row)
    if "ts" in said:
        said["ts"] = datetime.datetime.fromisoformat(said["ts"]).replace(tzinfo=UTC)
    if "price" in said:
        said["price"] = Decimal(said["price"])
    write = Writer(registry, topic, schema)
    produce(kafka, topic, [(0, write(said)), (1, encoded(schema, said))])
    server = connected(thalweg, registry).start()
    own = table("own", topic, columns, avro__schema=schema.replace("'", "''"), avro__framing="none")
    server.ddl(table("registered", topic, columns) + ";" + own)
    names = ", ".join("CAST(price AS STRING)" if name == "price" else name for name in row)
    for name, partition in (("registered", 0), ("own", 1)):
        server.reached(name, {0: 1, 1: 1})
        assert server.sql(f"SELECT {names} FROM {name} WHERE _partition = {partition}").rows == [tuple(row.values())]


# --- Framings.

READING = record("Reading", ("id", "long"), ("name", optional("string")), namespace="f")
OTHER_READING = record("Reading", ("name", "string"), ("id", "int"), namespace="f")


def test_framings(kafka, thalweg, registry, place):
    """Without a registry: bare values and single objects; with one: the id in a header, in the payload, and both."""
    topics = {name: f"{place}-{name}" for name in ("bare", "single", "headers")}
    for topic in topics.values():
        kafka.create_topic(topic, 2)
    good, other = {"id": 1, "name": "Ada"}, {"id": 2, "name": "Bo"}
    bare = encoded(READING, good)
    single = single_object(READING, good)
    unknown = single_object(record("Reading", ("x", "int")), {"x": 1})
    produce(kafka, topics["bare"], [(0, bare), (0, bare + b"\0"), (0, framed(1, bare)), (0, b""), (0, None), (1, bare)])
    produce(
        kafka,
        topics["single"],
        [(0, single), (0, single_object(OTHER_READING, other)), (0, unknown), (0, bare), (0, single[:9]), (0, b""), (0, None),
         (0, b"\xc3\x02" + single[2:]), (0, single[:-1])],
    )  # fmt: skip
    id, other_id = (registry.register(f"{topics['headers']}-value", schema) for schema in (READING, OTHER_READING))
    header = "__value_schema_id"
    produce(
        kafka,
        topics["headers"],
        [
            (0, bare, [(header, framed(id))]),
            (0, encoded(OTHER_READING, other), [("x", b"y"), (header, framed(other_id))]),
            (0, framed(id, bare)),
            # The header wins, and then the payload has no prefix.
            (0, framed(id, bare), [(header, framed(id))]),
            (0, bare, [(header, b"\1" + uuid.uuid4().bytes[1:])]),
            (0, bare, [(header, b"\0\0")]),
            (0, bare, [(header, b"")]),
            (0, bare, [("__key_schema_id", framed(id))]),
            (0, None, [(header, framed(id))]),
            (1, bare, [(header, framed(id))]),
        ],
    )
    server = connected(thalweg, registry).start()
    columns = "id BIGINT, name STRING"
    both = f"[{READING}, {OTHER_READING}]"
    server.ddl(
        table("bare", topics["bare"], columns, avro__schema=READING, avro__framing="none")
        + ";"
        + table("single", topics["single"], columns, avro__schema=both, avro__framing="single_object")
        + ";"
        + table("headers", topics["headers"], columns, avro__framing="confluent")
    )
    ada, bo = (1, "Ada"), (2, "Bo")
    places = "SELECT _partition, _offset"
    questions = {
        f"{places}, id, name FROM bare ORDER BY 1, 2": [(0, 0, *ada), (1, 0, *ada)],
        f"{places} FROM rejects.bare ORDER BY 1, 2": [(0, n) for n in (1, 2, 3, 4)],
        f"{places}, id, name FROM single ORDER BY 1, 2": [(0, 0, *ada), (0, 1, *bo)],
        f"{places} FROM rejects.single ORDER BY 1, 2": [(0, n) for n in range(2, 9)],
        f"{places}, id, name FROM headers ORDER BY 1, 2": [(0, 0, *ada), (0, 1, *bo), (0, 2, *ada), (1, 0, *ada)],
        f"{places} FROM rejects.headers ORDER BY 1, 2": [(0, n) for n in range(3, 9)],
        "SELECT _headers[1].name FROM headers WHERE _partition = 1": [(header,)],
    }
    through_everything(server, {"bare": {0: 5, 1: 1}, "single": {0: 9}, "headers": {0: 9, 1: 1}}, questions)


def test_schemas_named_by_guid(kafka, thalweg, registry_proxy, topic):
    """Confluent's own serializer for headers. Nobody writes a GUID into the payload: there it is junk."""
    write = Writer(registry_proxy.url, topic, READING, in_header=True)
    value = write({"id": 1, "name": "Ada"})
    [(name, guid)] = write.headers
    assert (name, guid[0], len(guid)) == ("__value_schema_id", 1, 17) and value == encoded(
        READING, {"id": 1, "name": "Ada"}
    )
    plain = Writer(registry_proxy.url, topic, READING)({"id": 2, "name": None})
    messages = [
        (0, value, [(name, guid)]),
        (0, guid + value),
        (0, plain),
        (0, value[:-1], [(name, guid)]),
        (1, guid[:9]),
    ]
    produce(kafka, topic, messages)
    server = thalweg(kafka={"schema.registry.url": registry_proxy.url}, **FAST).start()
    server.ddl(table("readings", topic, "id BIGINT, name STRING"))
    questions = {
        "SELECT _offset, id, name FROM readings ORDER BY 1": [(0, 1, "Ada"), (2, 2, None)],
        "SELECT _partition, _offset FROM rejects.readings ORDER BY 1, 2": [(0, 1), (0, 3), (1, 0)],
    }
    through_everything(server, {"readings": {0: 4, 1: 1}}, questions)
    said = server.sql("SELECT _reject FROM rejects.readings WHERE _offset = 3").rows[0][0]
    assert str(uuid.UUID(bytes=guid[1:])) in said, said


def test_bare_values_need_no_registry(kafka, thalweg, topic):
    """A stream with its own schema asks nobody; one without says what is missing, and stops no other."""
    produce(kafka, topic, [(0, encoded(READING, {"id": 7, "name": None}))])
    server = thalweg(**FAST).start()
    server.ddl(table("bare", topic, "id BIGINT, name STRING", avro__schema=READING, avro__framing="none"))
    server.reached("bare", {0: 1})
    try:
        server.ddl(table("framed", topic, "id BIGINT"))
    except Refused as refused:
        assert "schema.registry.url" in refused.message, refused
    else:
        text = lambda: json.dumps(next(s for s in server.json("/v1/streams")["streams"] if s["name"] == "framed"))
        until(lambda: "schema.registry.url" in text(), lambda: f"the stream to say what is missing: {text()}")
    assert server.sql("SELECT id, name FROM bare").rows == [(7, None)]


@pytest.mark.parametrize(
    "columns, options, word",
    [
        ("id BIGINT", {"avro.schema": "{"}, "avro.schema"),
        ("id BIGINT", {"avro.schema": '{"type": "record"}', "avro.framing": "none"}, "avro.schema"),
        ("id BIGINT", {"avro.framing": "none"}, "avro.schema"),
        ("id BIGINT", {"avro.framing": "single_object"}, "avro.schema"),
        ("id BIGINT", {"avro.framing": "protobuf"}, "framing"),
        ("id BIGINT", {"avro.frame": "none"}, "avro.frame"),
        ("id BIGINT", {"avro.schema": READING, "avro.framing": "confluent"}, "avro.schema"),
        ("id BOOLEAN", {"avro.schema": READING, "avro.framing": "none"}, "`id`"),
        ("id BIGINT", {"avro.schema": READING, "format": "json"}, "avro.schema"),
        ("id BIGINT", {"schema.registry.url": "http://127.0.0.1:1"}, "schema.registry.url"),
        ("id BIGINT", {"avro.schema": READING.replace('"long"', '"f.Unknown"'), "avro.framing": "none"}, "f.Unknown"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:20],
)  # fmt: skip
def test_definitions_that_are_refused(thalweg_of_all, columns, options, word):
    said = ", ".join(f"'{key}' '{value}'" for key, value in {"format": "avro", **options}.items())
    with pytest.raises(Refused) as refused:
        thalweg_of_all.ddl(f"CREATE EXTERNAL TABLE wrong ({columns}) STORED AS KAFKA LOCATION 't' OPTIONS ({said})")
    assert word in refused.value.message and "wrong" not in str(thalweg_of_all.json("/v1/streams")), refused.value


@pytest.fixture(scope="module")
def thalweg_of_all(kafka, tmp_path_factory):
    """One process for all that is refused."""
    from harness.thalweg import Thalweg

    server = Thalweg(tmp_path_factory.mktemp("refusing"), kafka={"bootstrap.servers": kafka.bootstrap}).start()
    yield server
    server.close()


# --- Broken messages.


def broken(good, schema_id):
    """Payloads that are no message of the schema, and a word of the reason if it is known."""
    value = good[5:]
    return [
        (None, "empty"), (b"", "empty"), (b"\0", "id"), (b"\0\0\0\0", "id"), (good[:5], ""),
        *[(good[:at], f"schema {schema_id}") for at in range(6, len(good), 3)],
        (good + b"\0", "follow"), (good + good, "follow"), (b"\1" + good[1:10], ""), (b"\2" + good[1:], "zero byte"), (b"\xff" * 9, "zero byte"),
        (b'{"id": 1, "name": "Ada"}', "zero byte"), (b'{"id', "zero byte"), (b"\xef\xbb\xbf{}", "zero byte"), (b"Obj\x01", "zero byte"),
        # A branch that no union has, a number of more than 64 bits, a negative length, a text that is not UTF-8.
        (framed(schema_id, b"\2\x0e" + value[2:]), "union"), (framed(schema_id, b"\xff" * 10 + b"\1"), "64 bits"),
        (framed(schema_id, b"\2\2\1"), "negative"), (framed(schema_id, b"\2\2\4\xc3\x28\0\0"), "UTF-8"),
        # Arrays that say they have 2^62 items, with and without a size; an item more than there is.
        (framed(schema_id, b"\2\0" + b"\x80" * 8 + b"\x80\1" + b"\0"), ""), (framed(schema_id, b"\2\0" + b"\xff" * 9 + b"\1\0"), ""),
        (framed(schema_id, b"\2\0\4\2x"), ""),
        # A text of 2^40 bytes.
        (framed(schema_id, b"\2\2\x80\x80\x80\x80\x80\x40"), ""),
    ]  # fmt: skip


def test_broken_messages_lose_nothing(kafka, thalweg, registry, topic):
    write = Writer(
        registry,
        topic,
        record("Login", ("id", "long"), ("name", optional("string")), ("roles", {"type": "array", "items": "string"})),
    )
    good = write({"id": 1, "name": "Ada", "roles": ["admin", "dev"]})
    id = struct.unpack(">I", good[1:5])[0]
    wrong = broken(good, id)
    messages, rows, rejects = [], [], {}
    for n, (payload, word) in enumerate(wrong):
        messages += [(0, write({"id": n, "name": None, "roles": []})), (0, payload)]
        rows.append(n)
        rejects[2 * n + 1] = ((payload or b"").hex(), word)
    messages.append((0, write({"id": len(wrong), "name": "", "roles": [""]})))
    produce(kafka, topic, messages)
    server = connected(thalweg, registry).start()
    server.ddl(
        table("logins", topic, "id BIGINT, name STRING, roles STRING[]")
        + "; CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n, sum(id) AS ids FROM logins"
    )

    def all_are_there():
        answer = server.sql("SELECT _offset, _reject, encode(_payload, 'hex') AS payload FROM rejects.logins")
        got = {row["_offset"]: row for row in answer.dicts()}
        assert got.keys() == rejects.keys(), got.keys() ^ rejects.keys()
        for offset, (payload, word) in rejects.items():
            said = got[offset]["_reject"]
            assert (got[offset]["payload"] or "") == payload and said and word in said, (offset, word, got[offset])
            known = len(payload) >= 10 and payload.startswith("00")
            assert not known or f"schema {id}" in said, (payload, said)

    ids = [*rows, len(wrong)]
    questions = {
        "SELECT id FROM logins ORDER BY _offset": [(n,) for n in ids],
        "SELECT n, ids FROM n": [(len(ids), sum(ids))],
    }
    through_everything(server, {"logins": {0: len(messages)}}, questions, all_are_there)


# --- Schemas that are large, deep, or recursive.


def test_ten_thousand_fields(kafka, thalweg, registry, topic):
    fields = [(f"f{n}", "int") for n in range(10_000)]
    write = Writer(registry, topic, record("Wide", *fields))
    rows = [{name: n + at for n, (name, _) in enumerate(fields)} for at in range(200)]
    produce(kafka, topic, [(at % 2, write(row)) for at, row in enumerate(rows)])
    server = connected(thalweg, registry).start()
    server.ddl(table("wide", topic, "f0 INT, f9999 BIGINT, f5000 DOUBLE, f10000 STRING", keep="row"))
    questions = {
        "SELECT count(*), sum(f0), sum(f9999), min(f5000), count(f10000) FROM wide": [
            (200, sum(range(200)), sum(9999 + n for n in range(200)), 5000.0, 0)
        ]
    }
    through_everything(server, {"wide": {0: 100, 1: 100}}, questions)


def test_schemas_that_hold_themselves(kafka, thalweg, registry, topic):
    """A list and a tree: what a column can hold of them arrives, and what is too deep is a reject with a reason."""
    node = record(
        "Node", ("value", "long"), ("next", optional("Node")), ("children", {"type": "array", "items": "Node"})
    )
    write = Writer(registry, topic, node)

    def chain(length):
        found = None
        for value in range(length, 0, -1):
            found = {"value": value, "next": found, "children": []}
        return found

    deep = framed(struct.unpack(">I", write(chain(1))[1:5])[0], b"\2\2" * 5_000 + b"\2\0" + b"\0" * 5_001)
    messages = [write(chain(1)), write(chain(3)), write({**chain(2), "children": [chain(1), chain(2)]}), deep]
    produce(kafka, topic, [(0, message) for message in messages])
    server = connected(thalweg, registry).start()
    server.ddl(
        table(
            "nodes",
            topic,
            "value BIGINT, next STRUCT<value BIGINT, next STRUCT<value BIGINT>>, children STRUCT<value BIGINT>[]",
        )
        + ";"
        + table("nexts", topic, "value BIGINT")
    )
    questions = {
        "SELECT value, next.value, next.next.value, children[1].value, children[2].value FROM nodes ORDER BY _offset": [
            (1, None, None, None, None), (1, 2, 3, None, None), (1, 2, None, 1, 1),
        ],
        "SELECT value FROM nexts ORDER BY _offset": [(1,), (1,), (1,)],
        "SELECT _offset FROM rejects.nodes": [(3,)],
        "SELECT _offset FROM rejects.nexts": [(3,)],
    }  # fmt: skip
    through_everything(server, {"nodes": {0: 4}, "nexts": {0: 4}}, questions)
    said = server.sql("SELECT _reject FROM rejects.nodes").rows[0][0]
    assert "deep" in said, said


def lists_of_nulls():
    """A message of nine bytes that says it has 65,000 items."""
    schema = record("Lists", ("id", "long"), ("tags", {"type": "array", "items": "null"}))
    return schema, b"\2" + encoded('"long"', 65_000) + b"\0", 20_000


def records_of_nothing():
    """Records that hold the one before twice, sixty times: a message of six bytes with 2^60 values of null."""
    levels = [("id", "long"), ("f0", {"type": "record", "name": "L0", "fields": [{"name": "a", "type": "null"}]})]
    for n in range(60):
        fields = [{"name": name, "type": f"L{n}"} for name in "ab"]
        levels.append((f"f{n + 1}", {"type": "record", "name": f"L{n + 1}", "fields": fields}))
    return record("Doubled", *levels), b"\4", 10


@pytest.mark.parametrize("odd", [lists_of_nulls, records_of_nothing])
def test_values_that_take_no_bytes(kafka, thalweg, registry, topic, odd):
    """Few bytes that stand for very many values cost neither memory nor the stream's time."""
    write = Writer(registry, topic, record("Plain", ("id", "long")))
    schema, value, count = odd()
    id = registry.register(f"{topic}-odd", schema)
    messages = [(0, framed(id, value))] * count + [(0, write({"id": 3}))]
    produce(kafka, topic, messages)
    server = connected(thalweg, registry).start()
    server.ddl(table("odd", topic, "id BIGINT, tags STRING[]") + ";" + table("ids", topic, "id BIGINT"))
    for name in ("odd", "ids"):
        server.reached(name, {0: len(messages)}, timeout=60)
        counts = f"SELECT count(*) FROM {name}", f"SELECT count(*) FROM rejects.{name}"
        assert sum(server.sql(sql).rows[0][0] for sql in counts) == len(messages)
        assert server.sql(f"SELECT id FROM {name} ORDER BY _offset DESC LIMIT 1").rows == [(3,)]
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{server.process.pid}/status").read_text())[1])
    assert peak < 1_500_000, f"{peak} kB of memory"


# --- References.


def test_references_between_schemas(kafka, thalweg, registry, topic, place):
    """A chain of three and a diamond, and a newer version of what they name."""
    point = record("Point", ("lat", "double"), ("lon", "double"), namespace="geo")
    city = record("City", ("name", "string"), ("at", "geo.Point"), namespace="geo")
    trip = record(
        "Trip",
        ("id", "long"),
        ("start", "geo.Point"),
        ("to", "City"),
        ("via", {"type": "array", "items": "geo.City"}),
        namespace="geo",
    )
    registry.register(f"{place}-point", point)
    registry.register(f"{place}-city", city, [("geo.Point", f"{place}-point", 1)])
    references = [("geo.City", f"{place}-city", 1), ("geo.Point", f"{place}-point", 1)]
    id = registry.register(f"{topic}-value", trip, references)
    # Confluent's serializer in Python cannot read a diamond.
    whole = trip.replace('"geo.Point"', point, 1).replace('"City"', city, 1)
    write = lambda value: framed(id, encoded(whole, value))
    # A newer point, which the trip does not name.
    registry.register(f"{place}-point", record("Point", ("lon", "float"), ("height", "int"), namespace="geo"))
    here, there = {"lat": 1.5, "lon": 2.5}, {"lat": -3.5, "lon": 4.5}
    value = {"id": 7, "start": here, "to": {"name": "Oslo", "at": there}, "via": [{"name": "Bern", "at": here}]}
    produce(kafka, topic, [(0, write(value)), (0, write(value)[:-1]), (1, write({**value, "id": 8, "via": []}))])
    server = connected(thalweg, registry).start()
    columns = (
        'id BIGINT, "start" STRUCT<lon DOUBLE, lat DOUBLE>, "to" STRUCT<name STRING, at STRUCT<lat DOUBLE>>, '
        "via STRUCT<at STRUCT<lon DOUBLE>, name STRING>[]"
    )
    server.ddl(table("trips", topic, columns))
    questions = {
        'SELECT id, "start".lat, "start".lon, "to".name, "to".at.lat, via[1].name, via[1].at.lon FROM trips ORDER BY id': [
            (7, 1.5, 2.5, "Oslo", -3.5, "Bern", 2.5), (8, 1.5, 2.5, "Oslo", -3.5, None, None),
        ],
        "SELECT _offset FROM rejects.trips": [(1,)],
    }  # fmt: skip
    through_everything(server, {"trips": {0: 2, 1: 1}}, questions)


# --- Evolution.


def test_every_answer_is_exact_while_writers_change(kafka, thalweg, registry, registry_proxy, place):
    """Fields come and go, numbers widen, unions turn around, old writers go on; the process is killed all the time, and the
    registry is away when a new schema comes."""
    moments = random.Random(20261130)
    kafka.create_topic(place, 6)
    production = AvroProduction(kafka, place, 7, registry)
    sending = Background(production)
    server = thalweg(
        kafka={"schema.registry.url": registry_proxy.url},
        batch_interval="2s",
        epoch_interval="1s",
        mark_interval="1s",
        epoch_bytes="2MiB",
        grace="10s",
    )
    server.start()
    server.ddl(stream(kafka, place, format="avro"))
    for view in VIEWS:
        server.ddl(view.ddl)
    asked = Asked(server)
    events, waves = 60_000, 9

    def covered():
        return sum(server.sql(f"SELECT events FROM {STREAM_TOTALS.name}").frontier["sensor_data"].values())

    def status():
        return server.json("/v1/streams")["streams"][0]["status"]

    for wave in range(1, waves + 1):
        production.script.version = (wave - 1) // 3
        before = covered()
        if wave in (4, 7):
            registry_proxy.misbehave(ERROR)
            sending.allow(events * wave // waves - events // waves // 2)
            until(lambda: status() == "waiting_for_schema", lambda: f"the stream to wait: {status()}")
            asked.everything()
            registry_proxy.misbehave(None)
        sending.allow(events * wave // waves)
        until(
            lambda: covered() >= before + moments.uniform(0.2, 0.8) * events / waves,
            "the stream to move on",
            timeout=120,
        )
        asked.everything()
        server.kill()
        server.start()
    sending.finish()
    server.reached("sensor_data", production.record.ends())
    asked.everything()
    oracle = Oracle(production.record)
    asked.compare(oracle)
    oracle.at(server.sql("SELECT count(*) FROM sensor_data").frontier["sensor_data"])
    compare_rows(server, oracle)
    compare_rejects(server, oracle)
    audit = server.cli("audit", timeout=120)
    assert audit.returncode == 0, audit.stdout + audit.stderr

    # The archive alone says the same, and needs no registry.
    assert server.stop() == 0
    full = run("batch", "run", "--full", *server.where(), timeout=300)
    assert full.returncode == 0, full.stdout + full.stderr
    server.start()
    again = Asked(server)
    again.everything()
    for view, where, answer in again.answers:
        if view is not None:
            oracle.at(answer.frontier["sensor_data"])
            assert not view.differences(answer, oracle, where)
