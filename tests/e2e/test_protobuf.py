"""Protobuf streams: every type, references, paths to types and framings, through the real serializer, registry and Kafka."""

import base64

import pytest
from google.protobuf import descriptor_pb2, struct_pb2
from harness.avro_producer import framed, produce
from harness.protobuf_producer import ProtobufWriter, Schema, enum, id_of, message
from harness.thalweg import Refused, run
from test_avro import answered, connected, table, through_everything
from test_avro_registry import connected_to, has_rows, nothing_is_rejected, waits
from test_infer import kafka_of


def protobuf(name, topic, columns, **options):
    return table(name, topic, columns, format="protobuf", **options)


KNOWN = ["timestamp", "duration", "wrappers", "struct"]
EVERYTHING = Schema(
    "everything.proto",
    message(
        "Everything",
        "int64 id = 1", "bool flag = 2", "int32 tiny = 3", "sint32 small = 4", "sint64 number = 5", "uint64 unsigned = 6",
        "fixed32 f32 = 7", "sfixed64 f64 = 8", "float real = 9", "double exact = 10", "string name = 11", "bytes raw = 12",
        "Kind kind = 13", "optional string maybe = 14", "repeated int32 numbers = 15", "repeated string tags = 16",
        "Place place = 17", "repeated Place places = 18", "map<string, int64> counts = 19", "map<int32, Place> by_floor = 20",
        "string text = 21", "int64 whole = 22", "google.protobuf.Timestamp at = 23", "google.protobuf.Duration took = 24",
        "google.protobuf.Int64Value wrapped = 25", "google.protobuf.Struct extra = 26", "google.type.Date day = 27",
        "confluent.type.Decimal price = 28", "string camelCase = 29", "Everything again = 30", "uint32 unread = 31",
        within=[
            enum("Kind", GOOD=0, BAD=1, WORST=-1),
            message("Place", "double lat = 1", "optional double lon = 2", "bytes ignored = 3"),
        ],
        oneof=["text", "whole"],
    ),
    package="all.of.it",
    imports=[
        *(f"google/protobuf/{name}.proto" for name in KNOWN), "google/type/date.proto", "confluent/types/decimal.proto",
    ],
)  # fmt: skip

COLUMNS = """id BIGINT NOT NULL, flag BOOLEAN, tiny TINYINT, small SMALLINT, number BIGINT, unsigned BIGINT UNSIGNED, f32 BIGINT,
  f64 DECIMAL(20, 1), real REAL, exact DOUBLE, name STRING, raw BYTEA, kind STRING, maybe STRING, numbers BIGINT[], tags STRING[],
  place STRUCT<lon DOUBLE, lat DOUBLE>, places STRUCT<lat DOUBLE>[], counts STRUCT<key STRING, value BIGINT>[],
  by_floor STRUCT<key INT, value STRUCT<lat DOUBLE>>[], text STRING, whole BIGINT, at TIMESTAMP, took BIGINT, wrapped BIGINT,
  extra STRING, day DATE, price DECIMAL(12, 3), camelcase STRING, again STRUCT<id BIGINT, again STRUCT<name STRING>>, absent INT"""


def full(kind):
    extra = struct_pb2.Struct()
    extra.update({"a": [1, None, "x"]})
    made = kind(
        id=1, flag=True, tiny=-128, small=32767, number=-(2**63), unsigned=2**64 - 1, f32=2**32 - 1, f64=-5, real=0.5,
        exact=0.1, name="雪 ünï\0", raw=b"\0\xff", kind=-1, maybe="", numbers=[1, -2, 3], tags=["a", "", "b"],
        place={"lat": 52.5, "lon": 0, "ignored": b"x"}, places=[{"lat": 1}, {}], counts={"a": 1}, text="t", camelCase="hump",
        again={"id": 2, "again": {"name": "deep"}}, unread=7,
    )  # fmt: skip
    made.by_floor[-3].lat = 2.5
    made.at.MergeFrom(type(made.at)(seconds=1_772_366_400, nanos=123_456_789))
    made.took.MergeFrom(type(made.took)(seconds=-1, nanos=-500_000_000))
    made.wrapped.value = 0
    made.extra.ParseFromString(extra.SerializeToString())
    made.day.year, made.day.month, made.day.day = 2024, 2, 29
    made.price.value, made.price.scale, made.price.precision = (-12345).to_bytes(2, "big", signed=True), 2, 5
    return made


EVERY_TYPE = {
    "SELECT id, flag, tiny, small, number, CAST(unsigned AS STRING), f32, CAST(f64 AS STRING), real, exact FROM e ORDER BY id": [
        (1, True, -128, 32767, -(2**63), str(2**64 - 1), 2**32 - 1, "-5.0", 0.5, 0.1),
        (2, False, 0, 0, 0, "0", 0, "0.0", 0.0, 0.0),
    ],
    "SELECT name, encode(raw, 'hex'), kind, maybe, camelcase, absent FROM e ORDER BY id": [
        ("雪 ünï\0", "00ff", "WORST", "", "hump", None), ("", "", "GOOD", None, "", None),
    ],
    "SELECT cardinality(numbers), numbers[2], tags[3], place.lat, place.lon, places[2].lat FROM e ORDER BY id": [
        (3, -2, "b", 52.5, 0.0, 0.0), (0, None, None, None, None, None),
    ],
    "SELECT counts[1]['key'], counts[1]['value'], by_floor[1]['key'], by_floor[1]['value'].lat, text, whole FROM e ORDER BY id": [
        ("a", 1, -3, 2.5, "t", None), (None, None, None, None, None, 0),
    ],
    "SELECT at, took, wrapped, extra, CAST(day AS STRING), CAST(price AS STRING) FROM e ORDER BY id": [
        ("2026-03-01T12:00:00.123456", -1_500_000, 0, '{"a":[1,null,"x"]}', "2024-02-29", "-123.450"),
        (None, None, None, None, None, None),
    ],
    "SELECT again.id, again.again.name, again IS NULL FROM e ORDER BY id": [(2, "deep", False), (None, None, True)],
}  # fmt: skip


def test_every_type(kafka, thalweg, registry, topic):
    kind = EVERYTHING.type("all.of.it.Everything")
    writer = ProtobufWriter(registry, topic, kind)
    good = [writer.serializer(made, writer.context) for made in (full(kind), kind(id=2, whole=0))]
    id = id_of(good[0])
    misfits = [
        (writer(tiny=128), "`tiny`"),
        (good[0][:-1], "the message ends"),
        (good[0] + b"\xa3\x06", "field 100, which is not known: the group 100 does not end"),
        (good[0][:6] + b"\x0a\x01x", "is declared as int64"),
        (good[0][:5] + b"\x02\x0e", "no message at the path [7]"),
        (good[0][:6] + b"\x5a\x01\xff", "not UTF-8"),
    ]
    produce(kafka, topic, [(n % 2, payload) for n, payload in enumerate([*good, *(payload for payload, _ in misfits)])])
    server = connected(thalweg, registry).start()
    server.ddl(protobuf("e", topic, COLUMNS, event_time="at"))

    def refused():
        said = {row["payload"]: row["_reject"] for row in server.sql(
            "SELECT _reject, encode(_payload, 'hex') AS payload FROM rejects.e"
        ).dicts()}  # fmt: skip
        assert len(said) == len(misfits)
        for payload, part in misfits:
            assert part in said[payload.hex()] and f"schema {id}" in said[payload.hex()], said[payload.hex()]

    through_everything(server, {"e": {0: 4, 1: 4}}, EVERY_TYPE, refused)


def test_references_and_paths(kafka, thalweg, registry_proxy, topic, place):
    """Types of other files, messages within messages, and several types in one topic, told by prefix or by header."""
    money = Schema(f"{place}/money.proto", message("Money", "int64 units = 1", "string currency = 2"), package="common")
    line = Schema(
        f"{place}/line.proto", message("Line", "string sku = 1", "common.Money price = 2"), package="shop", before=[money]
    )
    orders = Schema(
        f"{place}/orders.proto",
        message("Order", "int64 id = 1", "repeated shop.Line lines = 2", "map<string, string> notes = 3"),
        message(
            "Events",
            within=[message("Ignored", "string x = 1"), message("Cancelled", "int64 id = 5", "common.Money refund = 6")],
        ),
        package="shop",
        before=[money, line],
    )
    order, cancelled = orders.type("shop.Order"), orders.type("shop.Events.Cancelled")
    write = ProtobufWriter(registry_proxy.url, topic, order)
    cancel = ProtobufWriter(registry_proxy.url, topic, cancelled)
    beside = ProtobufWriter(registry_proxy.url, topic, cancelled, in_header=True)
    one = write(id=1, lines=[{"sku": "A", "price": {"units": 5, "currency": "EUR"}}, {"sku": "B"}], notes={"k": "v"})
    two = cancel(id=2, refund={"units": 3})
    assert two[5:8] == b"\x04\x02\x02", "the path of two steps, 1 and 1"
    three = beside(id=3)
    assert beside.headers[0][1][17:] == b"\x04\x02\x02"
    produce(kafka, topic, [(0, one), (0, two), (0, three, list(beside.headers))])
    server = connected_to(thalweg, registry_proxy.url).start()
    columns = "id BIGINT, lines STRUCT<sku STRING, price STRUCT<units BIGINT, currency STRING>>[], refund STRUCT<units BIGINT>"
    server.ddl(protobuf("all_of_them", topic, columns))
    server.ddl(protobuf("orders", topic, columns, protobuf__message="shop.Order"))
    questions = {
        "SELECT id, lines[1].price.units, lines[2].sku, lines[2].price.units, refund.units FROM all_of_them ORDER BY id": [
            (1, 5, "B", None, None), (2, None, None, None, 3), (3, None, None, None, None),
        ],
        "SELECT id FROM orders": [(1,)],
    }  # fmt: skip
    through_everything(server, {"all_of_them": {0: 3}, "orders": {0: 3}}, questions)
    said = server.sql("SELECT DISTINCT split_part(_reject, ' (', 1) FROM rejects.orders").rows
    assert said == [("the message is a `shop.Events.Cancelled`, and the stream reads `shop.Order`",)]


def versions():
    """Three versions of a program: a field is added, one is renamed and widened, one goes."""
    first = message("Reading", "string device = 1", "int32 counter = 2", "float temperature = 3", "string firmware = 4")
    second = message("Reading", "string device = 1", "int64 counter = 2", "double temperature = 5", "optional string note = 6")
    third = message(
        "Reading", "string device = 1", "sint64 total = 7", "google.protobuf.DoubleValue temperature = 8", "string note = 6"
    )
    wrappers = ["google/protobuf/wrappers.proto"]
    return [Schema("reading.proto", one, imports=wrappers).type("Reading") for one in (first, second, third)]


def test_a_schema_that_changes_while_it_flows(kafka, thalweg, registry, registry_proxy, topic):
    """The third schema is not known to the registry at first: its partition waits, and rejects nothing."""
    first, second, third = [ProtobufWriter(registry, topic, kind) for kind in versions()]
    registry.answer("PUT", f"/config/{topic}-value", compatibility="NONE")
    one = [first(device=f"d{n}", counter=n, temperature=0.5, firmware="1") for n in range(10)]
    two = [second(device=f"d{n}", counter=2**40 + n, temperature=1.5, note="n") for n in range(10)]
    three = third(device="d", total=5, temperature={"value": 2.5})
    registry_proxy.hidden = {f"/schemas/ids/{id_of(three)}"}
    produce(kafka, topic, [(0, payload) for pair in zip(one, two) for payload in pair])
    server = connected_to(thalweg, registry_proxy.url).start()
    server.ddl(protobuf("r", topic, "device STRING, counter BIGINT, temperature DOUBLE, note STRING, total BIGINT"))
    server.ddl("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, sum(counter) AS counters, max(temperature) AS t FROM r")
    server.reached("r", {0: 20})
    produce(kafka, topic, [(0, three), (0, one[0]), (1, two[0])])
    has_rows(server, "r", 1, 1)
    waits(server, "r", 0, str(id_of(three)))
    nothing_is_rejected(server, "r")
    server.kill()
    server.start(ready=False).listening()
    waits(server, "r", 0, str(id_of(three)))
    registry_proxy.hidden = set()
    has_rows(server, "r", 0, 22)
    nothing_is_rejected(server, "r")
    questions = {
        "SELECT n, counters, t FROM v": [(23, 2 * 45 + 11 * 2**40 - 45 + 45, 2.5)],
        "SELECT counter, temperature, note, total FROM r WHERE _partition = 0 AND _offset IN (0, 1, 20) ORDER BY _offset": [
            (0, 0.5, None, None), (2**40, 1.5, "n", None), (None, 2.5, "", 5),
        ],
    }  # fmt: skip
    through_everything(server, {"r": {0: 22, 1: 1}}, questions)


TEXT = """syntax = "proto3"; package shop; import "google/protobuf/timestamp.proto";
message Order { int64 id = 1; google.protobuf.Timestamp at = 2; Kind kind = 3; } enum Kind { NEW = 0; OLD = 1; }"""


@pytest.mark.parametrize("framing", ["none", "delimited"])
def test_a_schema_in_the_definition(kafka, thalweg, topic, framing):
    order = Schema(
        "order.proto",
        enum("Kind", NEW=0, OLD=1),
        message("Order", "int64 id = 1", "google.protobuf.Timestamp at = 2", "shop.Kind kind = 3"),
        package="shop",
        imports=["google/protobuf/timestamp.proto"],
    )
    kind = order.type("shop.Order")
    made = kind(id=5, kind=7)
    made.at.seconds = 60
    payloads = [made.SerializeToString(), b"", b"\x08", kind(id=6).SerializeToString()]
    if framing == "delimited":
        payloads = [bytes([len(payload)]) + payload for payload in payloads]
    produce(kafka, topic, [(0, payload) for payload in payloads])
    descriptors = descriptor_pb2.FileDescriptorSet(file=order.files.values())
    server = thalweg().start()
    server.ddl(protobuf("by_text", topic, "id BIGINT, at TIMESTAMP, kind STRING", protobuf__schema=TEXT, protobuf__framing=framing))
    server.ddl(
        protobuf(
            "by_set", topic, "id BIGINT, at TIMESTAMP, kind STRING", protobuf__framing=framing,
            protobuf__descriptor=base64.b64encode(descriptors.SerializeToString()).decode(), protobuf__message="shop.Order",
        )
    )  # fmt: skip
    rows = [(0, "NEW", None), (5, "7", "1970-01-01T00:01:00"), (6, "NEW", None)]
    questions = {f"SELECT id, kind, at FROM {name} ORDER BY id": rows for name in ("by_text", "by_set")}
    through_everything(server, {"by_text": {0: 4}, "by_set": {0: 4}}, questions)
    assert server.sql("SELECT _reject FROM rejects.by_text").rows == [
        ("the value of `id` is not a valid BIGINT: the message ends within a number",)
    ]


def test_what_a_definition_cannot_have_is_told(thalweg, tmp_path):
    server = thalweg().start()
    for columns, options, part in [
        ("id STRING", {"protobuf__schema": TEXT}, "it is written as int64, which no STRING takes"),
        ("id BIGINT", {"protobuf__schema": TEXT, "protobuf__message": "Order"}, "it has no message `Order`; it has shop.Order"),
        ("id BIGINT", {"protobuf__schema": "message {"}, "line 1, column 9"),
        ("id BIGINT", {"protobuf__descriptor": "!"}, "no descriptor set in base64"),
        ("id BIGINT", {"protobuf__framing": "none"}, "needs a schema"),
    ]:
        with pytest.raises(Refused, match=part.replace("`", ".").replace(";", ".")):
            server.ddl(protobuf("s", "t", columns, **options))
        (tmp_path / "s.sql").write_text(protobuf("s", "t", columns, **options) + ";")
        told = run("check", tmp_path / "s.sql")
        assert told.returncode == 1 and part in told.stdout + told.stderr, (told.stdout, told.stderr)


def test_ids_that_no_schema_is_for(kafka, thalweg, registry, topic, place):
    """A schema of another kind makes rejects; an id that the definition refuses, too."""
    kind = EVERYTHING.type("all.of.it.Everything")
    write = ProtobufWriter(registry, topic, kind)
    avro = registry.register(f"{place}-a", '"long"')
    produce(kafka, topic, [(0, write(id=1)), (0, framed(avro, b"\0")), (0, framed(2**31, b"\0")), (0, write(id=2))])
    server = connected(thalweg, registry).start()
    server.ddl(protobuf("e", topic, "id BIGINT", protobuf__refused=str(2**31)))
    server.reached("e", {0: 4})
    assert server.sql("SELECT id FROM e ORDER BY 1").rows == [(1,), (2,)]
    said = [row[0] for row in server.sql("SELECT _reject FROM rejects.e ORDER BY _offset").rows]
    assert said == [
        f"the schema is one of AVRO, and the stream reads Protobuf (schema {avro})",
        f"the definition of the stream refuses the schema (schema {2**31})",
    ]


def test_the_newest_schema_is_a_stream(kafka, registry, thalweg, place):
    kafka.create_topic(place, 1)
    kind = EVERYTHING.type("all.of.it.Everything")
    write = ProtobufWriter(registry, place, kind)
    produce(kafka, place, [(0, write.serializer(full(kind), write.context))])
    told = run("infer", place, "--name", "e", *kafka_of(kafka, schema_registry_url=registry.url))
    assert told.returncode == 0, told.stderr
    assert "'format' 'protobuf'" in told.stdout and "again: it holds itself" in told.stdout
    server = connected(thalweg, registry).start()
    server.ddl(told.stdout)
    server.reached("e", {0: 1})
    answered(server, {
        "SELECT id, kind, at, extra, CAST(price AS STRING) FROM e": [
            (1, "WORST", "2026-03-01T12:00:00.123456", '{"a":[1,null,"x"]}', "-123.450000000"),
        ],
    })  # fmt: skip
    other = run("infer", place, "--format", "avro", *kafka_of(kafka, schema_registry_url=registry.url))
    assert other.returncode == 1 and "is one of protobuf" in other.stderr, other.stderr
