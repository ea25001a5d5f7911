"""`thalweg infer`: what it prints is applied as it is, and the stream reads the messages that it was made from."""

import json

from confluent_kafka import Producer
from harness.avro_producer import Writer, logical, optional, produce, record
from harness.thalweg import run

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
