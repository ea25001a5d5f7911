"""What a message says, in all its parts: nested objects, keys of messages, names and times in every spelling.

Each topic is read by one process, recomputed, audited, and read again after a kill. The expected rows are written here.
"""

import json

from confluent_kafka import Producer

CDC = [
    (0, {"before": None, "after": {"id": 1, "city": "Rome"}, "op": "c", "ts_ms": 10, "source": {"lsn": 1}}),
    (1, {"before": None, "after": {"id": 2, "city": "Bern"}, "op": "c", "ts_ms": 11}),
    (1, {"before": {"id": 2, "city": "Bern"}, "after": None, "op": "d", "ts_ms": 30}),
    (0, {"before": {"id": 1, "city": "Rome"}, "after": {"id": 1, "city": "Oslo"}, "op": "u", "ts_ms": 20}),
]
CITIES = [(0, "oslo", {"temp": 1.5}), (1, "rome", {"temp": 9.0}), (0, "oslo", {"temp": 2.5}), (1, "rome", None)]
ORDERS = [
    {"orderId": 1, "customerName": "Ada", "total": 2.5, "at": 1767225600000, "lines": [{"sku": "A1"}, {"sku": "B2"}]},
    {"orderId": 2, "customerName": "Bo", "total": 4.0, "at": "2026-01-01T01:00+01:00", "lines": []},
    {"orderId": 3, "CUSTOMERNAME": "Bo", "total": 1.0, "at": 1767225600, "lines": None},
]


def produce(kafka, topic, messages):
    """Messages as (partition, key, value)."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for partition, key, value in messages:
        payload = None if value is None else json.dumps(value)
        headers = [("source", b"test")] if key else None
        producer.produce(topic, payload, key, partition=partition, headers=headers)
    assert producer.flush(30) == 0


def stream(name, topic, columns, **options):
    options = ", ".join(f"'{key}' '{value}'" for key, value in {"format": "json", **options}.items())
    return f"CREATE EXTERNAL TABLE {name} ({columns}) STORED AS KAFKA LOCATION '{topic}' OPTIONS ({options});"


QUESTIONS = {
    "SELECT id, city, op, changes FROM latest ORDER BY id": [(1, "Oslo", "u", 2), (2, None, "d", 2)],
    "SELECT after.city, before['city'] FROM cdc WHERE after['id'] = 1 ORDER BY ts_ms": [
        ("Rome", None),
        ("Oslo", "Rome"),
    ],
    "SELECT coalesce(after, before).city FROM cdc ORDER BY ts_ms": [("Rome",), ("Bern",), ("Oslo",), ("Bern",)],
    "SELECT city, warmest, n FROM cities_by_key ORDER BY city": [("oslo", 2.5, 2), ("rome", 9.0, 1)],
    "SELECT _key, max(temp) FROM cities GROUP BY 1 ORDER BY 1": [("oslo", 2.5), ("rome", 9.0)],
    "SELECT DISTINCT _headers[1].name, CAST(_headers[1].value AS STRING) FROM cities": [("source", "test")],
    "SELECT CAST(_payload AS STRING) FROM cities WHERE _key = 'rome'": [('{"temp": 9.0}',)],
    "SELECT _key, _reject FROM rejects.cities": [("rome", "the message is empty")],
    "SELECT * EXCLUDE (_timestamp) FROM cities WHERE _key = 'rome'": [(9.0, 1, 0)],
    "SELECT customername, total FROM customers ORDER BY 1": [("Ada", 2.5), ("Bo", 4.0)],
    "SELECT count(*), count(customername), min(at), max(at) FROM orders": [
        (2, 2, "2026-01-01T00:00:00", "2026-01-01T00:00:00")
    ],
    "SELECT count(*) FROM rejects.orders WHERE _reject LIKE '%timestamp_unit%'": [(1,)],
    "SELECT o.orderid, l.line.sku FROM orders AS o CROSS JOIN UNNEST(o.lines) AS l(line) ORDER BY 2": [
        (1, "A1"),
        (1, "B2"),
    ],
    "SELECT orderid, lines[1].sku FROM orders ORDER BY 1": [(1, "A1"), (2, None)],
}


def asked(server):
    for sql, rows in QUESTIONS.items():
        assert server.sql(sql).rows == rows, sql


def test_every_part_of_a_message_is_kept(kafka, thalweg, place):
    topics = {name: f"{place}-{name}" for name in ("cdc", "cities", "orders")}
    for topic in topics.values():
        kafka.create_topic(topic, 2)
    produce(kafka, topics["cdc"], [(partition, None, value) for partition, value in CDC])
    produce(kafka, topics["cities"], CITIES)
    produce(kafka, topics["orders"], [(0, None, value) for value in ORDERS])
    place = "STRUCT<id BIGINT, city STRING>"
    server = thalweg(epoch_interval="500ms", mark_interval="500ms").start()
    server.ddl(
        stream("cdc", topics["cdc"], f"before {place}, after {place}, op STRING, ts_ms BIGINT")
        + stream("cities", topics["cities"], "temp DOUBLE")
        + stream(
            "orders",
            topics["orders"],
            "orderId BIGINT, customerName STRING, total DOUBLE, at TIMESTAMP, lines STRUCT<sku STRING>[]",
            timestamp_unit="ms",
        )
        + """
        CREATE MATERIALIZED VIEW latest AS
          SELECT coalesce(after['id'], before['id']) AS id, last_value(after['city'] ORDER BY ts_ms) AS city,
                 last_value(op ORDER BY ts_ms) AS op, count(*) AS changes FROM cdc GROUP BY 1;
        CREATE MATERIALIZED VIEW cities_by_key AS
          SELECT _key AS city, max(temp) AS warmest, count(*) AS n FROM cities GROUP BY _key;
        CREATE MATERIALIZED VIEW customers AS
          SELECT customerName, sum(total) AS total FROM orders GROUP BY customerName;
        """
    )
    ends = {"cdc": {0: 2, 1: 2}, "cities": {0: 2, 1: 2}, "orders": {0: 3}}
    for name, end in ends.items():
        server.reached(name, end)
    server.ready()
    asked(server)
    server.kill()
    server.start()
    asked(server)
    # A graceful end archives everything below a mark, up to which a run computes and an audit compares.
    assert server.stop() == 0
    server.start()
    asked(server)
    run = server.http.post(f"{server.url}/v1/batch/run", timeout=60)
    assert run.status_code == 200, run.text
    asked(server)
    audit = server.cli("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr


LINES = [
    (0, b"k1", "GET /grün 200".encode()),
    (0, b"k1", None),
    (1, None, b"\xff\xfe not text"),
    (1, b"k2", b""),
    (0, b"k2", b'{"json": "is a line too"}'),
]


def test_raw_messages_are_their_bytes(kafka, thalweg, place):
    topic = f"{place}-lines"
    kafka.create_topic(topic, 2)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for partition, key, value in LINES:
        producer.produce(topic, value, key, partition=partition)
    assert producer.flush(60) == 0
    server = thalweg(epoch_interval="500ms", mark_interval="500ms").start()
    server.ddl(
        stream("lines", topic, "line STRING", format="raw")
        + stream("bytes", topic, "message BYTEA NOT NULL", format="raw")
        + """
        CREATE MATERIALIZED VIEW keys AS SELECT _key AS key, count(*) AS n, count(line) AS lines, max(length(line)) AS longest
          FROM lines GROUP BY _key;
        CREATE MATERIALIZED VIEW sizes AS SELECT length(encode(message, 'hex')) / 2 AS size, count(*) AS n FROM bytes GROUP BY 1;
        """
    )
    for name in ("lines", "bytes"):
        server.reached(name, {0: 3, 1: 2})
    server.ready()
    questions = {
        "SELECT _partition, _offset, line FROM lines ORDER BY 1, 2": [
            (0, 0, "GET /grün 200"), (0, 1, None), (0, 2, '{"json": "is a line too"}'), (1, 1, ""),
        ],
        "SELECT _partition, _offset, _reject, encode(_payload, 'hex') FROM rejects.lines": [
            (1, 0, "the message is not UTF-8 text", b"\xff\xfe not text".hex()),
        ],
        "SELECT encode(message, 'hex') AS m FROM bytes ORDER BY _partition, _offset": [
            (value.hex(),) for value in [LINES[0][2], LINES[4][2], LINES[2][2], b""]
        ],
        "SELECT _offset, _reject FROM rejects.bytes": [(1, "`message` is NOT NULL and has no value")],
        "SELECT * FROM keys ORDER BY key": [("k1", 2, 1, 13), ("k2", 2, 2, 25)],
        "SELECT * FROM sizes ORDER BY size": [(0, 1), (11, 1), (14, 1), (25, 1)],
    }  # fmt: skip

    def answered():
        for sql, rows in questions.items():
            assert server.sql(sql).rows == rows, sql

    answered()
    server.kill()
    server.start()
    answered()
    assert server.stop() == 0
    server.start()
    run = server.http.post(f"{server.url}/v1/batch/run", timeout=60)
    assert run.status_code == 200, run.text
    answered()
    audit = server.cli("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr
