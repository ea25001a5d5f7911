"""`thalweg infer`: what it prints is applied as it is, and the stream reads the messages that it was made from."""

import json
import re

import pytest
from confluent_kafka import Producer
from harness.avro_producer import Writer, logical, optional, produce, record
from harness.thalweg import Refused, run

MESSAGES = [
    {"orderId": 1, "at": "2026-01-02T03:04:05Z", "price": 2.5, "buyer": {"name": "Ada"}, "lines": [{"sku": "A"}], "x": None},
    {"orderId": 2, "at": "2026-01-02 03:04", "price": 3, "buyer": {"name": "Bo", "age": 5}, "order-id": "7", "mixed": 1},
    {"orderId": 3, "at": "2026-01-02T03:04:05+01:00", "buyer": None, "lines": [], "mixed": "text"},
]


def kafka_of(kafka, **more):
    properties = {"bootstrap.servers": kafka.bootstrap, **{key.replace("_", "."): value for key, value in more.items()}}
    return [word for key, value in properties.items() for word in ("--kafka", f"{key}={value}")]


def test_a_sample_of_messages_is_a_stream(kafka, thalweg, place):
    kafka.create_topic(place, 3)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(place, b"no JSON", partition=2)
    for at, message in enumerate(MESSAGES):
        producer.produce(place, json.dumps(message).encode(), partition=at % 2)
    assert producer.flush(30) == 0
    told = run("infer", place, "--name", "orders", *kafka_of(kafka))
    assert told.returncode == 0, told.stderr
    assert "mixed: its values are of several kinds" in told.stdout and "x: it is null" in told.stdout
    assert "1 of 4 messages of the sample would be rejects" in told.stderr and "not a JSON object" in told.stderr
    server = thalweg().start()
    server.ddl(told.stdout)
    server.reached("orders", {0: 2, 1: 1, 2: 1})
    rows = server.sql('SELECT orderid, at, price, buyer.age, lines[1].sku, "order-id" FROM orders ORDER BY 1').rows
    assert rows == [
        (1, "2026-01-02T03:04:05", 2.5, None, "A", None),
        (2, "2026-01-02T03:04:00", 3.0, 5, None, "7"),
        (3, "2026-01-02T02:04:05", None, None, None, None),
    ]
    assert server.sql("SELECT count(*) FROM rejects.orders").rows == [(1,)]


def test_the_newest_schema_is_a_stream(kafka, registry, thalweg, place):
    kafka.create_topic(place, 1)
    one = record("Order", ("id", "long"))
    two = record("Order", ("id", "long"), ("at", logical("timestamp-millis", "long")), ("note", optional("string")))
    written = [Writer(registry, place, one)({"id": 1}), Writer(registry, place, two)({"id": 2, "at": 5000, "note": "n"})]
    produce(kafka, place, [(0, message) for message in written])
    flags = kafka_of(kafka, schema_registry_url=registry.url)
    told = run("infer", place, "--name", "orders", *flags)
    assert told.returncode == 0, told.stderr
    server = thalweg(kafka={"schema.registry.url": registry.url}).start()
    server.ddl(told.stdout)
    server.reached("orders", {0: 2})
    assert server.sql("SELECT * EXCLUDE (_timestamp) FROM orders ORDER BY id").rows == [
        (1, None, None, 0, 0),
        (2, "1970-01-01T00:00:05", "n", 0, 1),
    ]
    sampled = run("infer", place, "--format", "json", *flags)
    assert sampled.returncode == 1 and "is it Avro or Protobuf?" in sampled.stderr, sampled.stderr


def test_what_cannot_be_inferred_is_told(kafka, registry, place):
    kafka.create_topic(place, 1)
    for arguments, code, part in [
        ([place, *kafka_of(kafka)], 1, "has no messages yet"),
        ([f"{place}-other", *kafka_of(kafka)], 1, "does not exist"),
        ([place], 1, "does not say where Kafka is"),
        ([place, "--format", "avro", *kafka_of(kafka)], 2, "schema.registry.url"),
        ([place, *kafka_of(kafka, schema_registry_url=registry.url)], 1, f"no subject `{place}-value`"),
        ([place, *kafka_of(kafka, schema_registry_url="http://127.0.0.1:1")], 1, "does not answer"),
        ([place, *kafka_of(kafka, schema_registry_url="nowhere")], 1, "no address like"),
        ([place, "--connection", "eu", *kafka_of(kafka)], 1, "[connection.eu]"),
        (["a'b", *kafka_of(kafka)], 2, "not the name of a Kafka topic"),
    ]:
        told = run("infer", *arguments)
        assert told.returncode == code and part in told.stderr, (arguments, told.returncode, told.stderr)
        assert told.stdout == "" and len(told.stderr.strip().splitlines()) == 1, told.stderr


def test_columns_are_found_out(kafka, registry, thalweg, place, tmp_path):
    kafka.create_topic(place, 1)
    one = record("Order", ("id", "long"), ("key", optional("string")), ("odd", {"type": "map", "values": "null"}))
    produce(kafka, place, [(0, Writer(registry, place, one)({"id": 1, "key": "a", "odd": {}}))])
    server = thalweg(kafka={"schema.registry.url": registry.url}).start()
    created = f"CREATE EXTERNAL TABLE orders STORED AS KAFKA LOCATION '{place}' OPTIONS ('format' 'avro');"
    answer = server.http.post(f"{server.url}/v1/sql", json={"sql": created}, timeout=60).json()
    assert "rows" in answer, answer
    assert answer["rows"][0][0] == "created stream orders" and "no column for odd" in answer["rows"][0][1], answer
    server.reached("orders", {0: 1})
    assert server.sql('SELECT id, "key" FROM orders').rows == [(1, "a")]
    listed = server.json("/v1/streams")["streams"][0]["sql"]
    assert listed.startswith("CREATE EXTERNAL TABLE orders (id BIGINT, "), listed
    with pytest.raises(Refused, match="exists already"):
        server.ddl(created)
    # The file can be applied at every start, also when the schema has changed or the registry is away.
    two = record("Order", ("id", "long"), ("more", "int"))
    produce(kafka, place, [(0, Writer(registry, place, two)({"id": 2, "more": 3}))])
    server.ddl(created.replace("TABLE", "TABLE IF NOT EXISTS"))
    assert server.json("/v1/streams")["streams"][0]["sql"] == listed
    file = tmp_path / "orders.sql"
    file.write_text(created)
    applied = run("apply", str(file), *server.where())
    assert applied.returncode == 0 and "stream orders is as it was" in applied.stdout, applied.stderr
    file.write_text(created.replace("orders", "others"))
    refused = run("apply", str(file), *server.where())
    assert refused.returncode != 0 and "schema registry" in refused.stderr, refused.stderr
    server.ddl(created.replace("TABLE orders", "TABLE others"))
    assert "more INT" in server.json("/v1/streams")["streams"][1]["sql"]
    checked = run("check", str(file))
    assert checked.returncode != 0 and "has no columns" in checked.stdout + checked.stderr
    # Without a schema, the columns are guessed from messages.
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    kafka.create_topic(f"{place}-json", 1)
    for message in MESSAGES:
        producer.produce(f"{place}-json", json.dumps(message).encode())
    assert producer.flush(30) == 0
    guessed = f"CREATE EXTERNAL TABLE guessed STORED AS KAFKA LOCATION '{place}-json' OPTIONS ('event_time' 'at');"
    answer = server.http.post(f"{server.url}/v1/sql", json={"sql": guessed}, timeout=60).json()
    assert "the columns are guessed from 3 messages: (at TIMESTAMP" in answer["rows"][0][1], answer
    server.reached("guessed", {0: 3})
    assert server.sql("SELECT count(*), count(at), max(orderid) FROM guessed").rows == [(3, 3, 3)]
    for sql, sentence in [
        (guessed.replace("guessed", "g").replace("'at'", "'nothing'"), "`nothing` is not a column"),
        (guessed.replace("guessed", "g").replace("-json", "-none"), "none"),
        (f"CREATE EXTERNAL TABLE g STORED AS KAFKA LOCATION '{place}' OPTIONS ('format' 'csv')", "has no columns"),
        (f"CREATE EXTERNAL TABLE g () STORED AS KAFKA LOCATION '{place}'", "has no columns"),
    ]:
        with pytest.raises(Refused, match=re.escape(sentence)):
            server.ddl(sql)
