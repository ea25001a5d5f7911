"""Messages that are not one bare object: several objects, envelopes of Connect and Debezium, tombstones.

The messages are written as JSON here, byte for byte as the converters write them. The expected rows are computed here,
and compared with the raw stream and with views, live, after kills and recomputations.
"""

import base64
import json
import re
from decimal import Decimal

import pytest
from confluent_kafka import Producer
from harness.thalweg import Refused, run

PARTITIONS = 2
# What `thalweg audit` exits with if there is nothing to compare yet.
NOTHING = 3


class Topic:
    def __init__(self, kafka, name):
        kafka.create_topic(name, PARTITIONS)
        self.producer = Producer({"bootstrap.servers": kafka.bootstrap})
        self.name = name
        self.ends = dict.fromkeys(range(PARTITIONS), 0)

    def send(self, payload, partition=0, key=None):
        """The offset of the message."""
        self.producer.produce(self.name, payload, key, partition=partition)
        self.ends[partition] += 1
        return self.ends[partition] - 1

    def sent(self):
        assert self.producer.flush(30) == 0
        return self.ends


def create(topic, columns, verb="CREATE", **options):
    options = ", ".join(f"'{key.replace('__', '.')}' '{value}'" for key, value in ({"format": "json"} | options).items())
    return f"{verb} EXTERNAL TABLE s ({columns}) STORED AS KAFKA LOCATION '{topic.name}' OPTIONS ({options});"


def value_of(server, sql):
    return server.sql(sql).rows[0][0]


def everywhere(server, check):
    """Checks live, after a kill, and after everything was recomputed."""
    check()
    server.kill()
    server.start()
    check()
    assert server.http.post(f"{server.url}/v1/batch/run?full=true", timeout=60).status_code == 200
    check()
    audited(server)


def audited(server):
    """Both layers agree on all that is archived below a mark."""
    server.until(lambda: server.cli("audit").returncode != NOTHING, "something to compare", 60)
    audit = server.cli("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr


def archived(server, topic):
    def all_is():
        stream = server.json("/v1/streams")["streams"][0]
        found = {int(p): n for p, n in (stream["archive_frontier"] or {}).items() if int(p) >= 0}
        return found == topic.ends

    server.until(all_is, "an archive", 60)


def test_lines_and_lists_are_rows(kafka, thalweg, place):
    topic = Topic(kafka, place)
    rows, rejects = [], []
    for i in range(200):
        partition, objects = i % PARTITIONS, []
        for row in range(i % 5):
            value = {"id": i * 10 + row, "k": f"k{i % 3}", "at": 1_767_225_600_000 + i}
            if (i + row) % 7 == 0:
                value["at"] *= 1000  # no plausible milliseconds
            objects.append(value)
        lists = i % 2 == 0 or not objects
        offset = topic.send(json.dumps(objects) if lists else json.dumps(objects[0]), partition, f"key{i}")
        for row, value in enumerate(objects if lists else objects[:1]):
            (rejects if value["at"] > 2e12 else rows).append((partition, offset, row, value))
    whole = topic.send('[{"id": 1, "k": "x", "at": 1}, oops', 1)
    server = thalweg(epoch_interval="300ms", mark_interval="300ms", batch_interval="1s").start()
    server.ddl(create(topic, "id BIGINT, k STRING, at TIMESTAMP", json__rows="array", timestamp_unit="ms"))
    server.ddl("""
        CREATE MATERIALIZED VIEW by_k AS SELECT k, count(*) AS n, sum(id) AS total,
          first_value(id ORDER BY _partition, _offset) AS first, last_value(id ORDER BY _partition, _offset) AS last,
          array_agg(_row ORDER BY _partition, _offset) AS numbers FROM s GROUP BY k;
        CREATE MATERIALIZED VIEW numbers AS SELECT _row AS row, count(*) AS n FROM s GROUP BY _row""")
    server.reached("s", topic.sent())
    assert rows and rejects

    def check():
        asked = "SELECT _partition, _offset, _row, id, _key FROM s WHERE _partition >= 0 ORDER BY 1, 2, 3"
        by_place = sorted(rows, key=lambda row: row[:3])
        found = server.sql(asked).rows
        assert found == [(p, o, r, value["id"], f"key{value['id'] // 10}") for p, o, r, value in by_place]
        for p, o, r, value in by_place[:3]:
            sql = f"SELECT CAST(_payload AS STRING) FROM s WHERE _partition = {p} AND _offset = {o} AND _row = {r}"
            assert json.loads(value_of(server, sql)) == value
        bad = server.sql("SELECT _partition, _offset, _row, CAST(_payload AS STRING) FROM rejects.s ORDER BY 1, 2, 3").rows
        assert [row[:3] for row in bad] == sorted([reject[:3] for reject in rejects] + [(1, whole, None)])
        assert [json.loads(row[3])["id"] // 10 for row in bad[:-1]] == [
            reject[3]["id"] // 10 for reject in sorted(rejects, key=lambda row: row[:3])
        ]
        expect = {}
        for _, _, row, value in by_place:
            expect.setdefault(value["k"], []).append((value["id"], row))
        views = server.sql("SELECT k, n, total, first, last, numbers FROM by_k").rows
        assert {k: tuple(rest) for k, *rest in views} == {
            k: (len(v), sum(i for i, _ in v), v[0][0], v[-1][0], [row for _, row in v]) for k, v in expect.items()
        }
        counts = dict(server.sql("SELECT row, n FROM numbers").rows)
        assert counts == {r: sum(1 for row in rows if row[2] == r) for r in {row[2] for row in rows}}

    everywhere(server, check)
    archived(server, topic)
    # Read again in microseconds, each object that was a reject is a row, once.
    server.ddl(create(topic, "id BIGINT, k STRING, at TIMESTAMP", "CREATE OR REPLACE", json__rows="array"))
    done = run("rejects", "retry", "s", *server.where())
    left = len(rejects) + 1
    assert done.stdout.strip() == f"{len(rejects)} of {left} rejects are rows now, 1 stay rejects", done.stdout + done.stderr

    def amended():
        return server.sql("SELECT count(*) FROM s").rows == [(len(rows) + len(rejects),)]

    server.until(amended, "the rejects as rows", 30)

    def check_amended():
        assert amended()
        sources = server.sql("SELECT _source, id, _row FROM s WHERE _partition = -1 ORDER BY _offset").rows
        ordered = sorted(rejects, key=lambda row: row[:3])
        assert sources == [(f"{p}:{o}:{r}", value["id"], None) for p, o, r, value in ordered]
        assert server.sql("SELECT _partition, _offset FROM rejects.s").rows == [(1, whole)]
        assert server.sql("SELECT _row FROM rejects.s").rows == [(None,)]
        assert server.sql("SELECT sum(n) FROM by_k").rows == [(len(rows) + len(rejects),)]

    everywhere(server, check_amended)
    done = run("rejects", "retry", "s", *server.where())
    assert done.stdout.strip() == "0 of 1 rejects are rows now, 1 stay rejects", done.stdout + done.stderr


def in_base64(number, scale=2):
    unscaled = int(number.scaleb(scale))
    return base64.b64encode(unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)).decode()


TABLE = [
    {"field": "id", "type": "int64"},
    {
        "field": "total",
        "type": "bytes",
        "name": "org.apache.kafka.connect.data.Decimal",
        "version": 1,
        "parameters": {"scale": "2", "connect.decimal.precision": "12"},
    },
    {"field": "note", "type": "bytes", "optional": True},
]
CHANGE = {
    "type": "struct",
    "fields": [
        {"field": "before", "type": "struct", "optional": True, "fields": TABLE},
        {"field": "after", "type": "struct", "optional": True, "fields": TABLE},
        {"field": "op", "type": "string"},
        {"field": "ts_ms", "type": "int64"},
    ],
}


class Orders:
    """A table of orders whose changes Debezium sends."""

    def __init__(self, topic, with_schema):
        self.topic, self.with_schema = topic, with_schema
        self.now, self.events = {}, 0

    def put(self, order, total):
        before = self.now.get(order)
        self.now[order] = None if total is None else Decimal(total)
        op = "d" if total is None else "c" if before is None else "u"
        event = {
            "before": self._row(order, before),
            "after": self._row(order, self.now[order]),
            "source": {"table": "orders", "lsn": self.events},
            "op": op,
            "ts_ms": 1_767_225_600_000 + self.events,
        }
        self._send(order, event)
        if op == "d":
            self.topic.send(None, order % PARTITIONS, str(order))

    def truncate(self):
        self._send(0, {"before": None, "after": None, "op": "t", "ts_ms": 1_767_225_600_000 + self.events})

    def _row(self, order, total):
        return None if total is None else {"id": order, "total": in_base64(total), "note": "/w=="}

    def _send(self, order, event):
        self.events += 1
        value = {"schema": CHANGE, "payload": event} if self.with_schema else event
        self.topic.send(json.dumps(value), order % PARTITIONS, str(order))


def test_changes_of_debezium(kafka, thalweg, place):
    topic = Topic(kafka, place)
    orders = Orders(topic, True)
    for order in range(20):
        orders.put(order, f"{order}.50")
    orders.with_schema = False
    for order in range(0, 20, 3):
        orders.put(order, f"-{order * 1000}.07")
    for order in range(0, 20, 4):
        orders.put(order, None)
    orders.truncate()
    odd = topic.send('{"hello": 1}', 1)
    columns = (
        "id BIGINT, total DECIMAL(12,2), note BYTEA, op STRING, ts_ms TIMESTAMP, "
        "before STRUCT<total DECIMAL(12,2)>, after STRUCT<total DECIMAL(12,2)>"
    )
    server = thalweg(epoch_interval="300ms", mark_interval="300ms", batch_interval="1s").start()
    options = {"envelope": "debezium", "json__decimals": "base64", "json__bytes": "base64"}
    server.ddl(create(topic, columns, **options))
    server.ddl("""
        CREATE MATERIALIZED VIEW revenue AS
          SELECT sum(coalesce(after.total, 0) - coalesce(before.total, 0)) AS total, count(*) AS events FROM s;
        CREATE MATERIALIZED VIEW latest AS
          SELECT id, last_value(total ORDER BY ts_ms) AS total, last_value(op ORDER BY ts_ms) AS op FROM s
          WHERE id IS NOT NULL GROUP BY id""")
    server.reached("s", topic.sent())

    def check():
        left = {order: total for order, total in orders.now.items() if total is not None}
        total, events = server.sql("SELECT CAST(total AS STRING), events FROM revenue").rows[0]
        assert (Decimal(total), events) == (sum(left.values()), orders.events)
        latest = server.sql("SELECT id, CAST(total AS STRING) FROM latest WHERE op <> 'd'").rows
        assert {order: Decimal(total) for order, total in latest} == left
        gone = value_of(server, "SELECT count(*) FROM latest WHERE op = 'd'")
        assert gone == len(orders.now) - len(left)
        assert server.sql("SELECT count(*), count(id), count(note), min(_row) FROM s").rows == [
            (orders.events, orders.events - 1, orders.events - 1, None)
        ]
        assert server.sql("SELECT DISTINCT encode(note, 'hex') FROM s WHERE note IS NOT NULL").rows == [("ff",)]
        assert value_of(server, "SELECT min(ts_ms) FROM s") == "2026-01-01T00:00:00"
        assert server.sql("SELECT _partition, _offset FROM rejects.s").rows == [(1, odd)]

    everywhere(server, check)


def test_the_envelope_of_connect_and_a_contradiction(kafka, thalweg, place):
    topic = Topic(kafka, place)
    schema = {"type": "struct", "optional": False, "fields": TABLE}
    for i in range(10):
        row = {"id": i, "total": in_base64(Decimal(f"{i}.25")), "note": None}
        topic.send(json.dumps({"schema": schema, "payload": row}), i % PARTITIONS)
    topic.send(json.dumps({"schema": None, "payload": None}), 0)
    topic.send(None, 1)
    server = thalweg(epoch_interval="300ms", mark_interval="300ms").start()
    columns = "id BIGINT, total DECIMAL(12,2), note BYTEA"
    server.ddl(create(topic, columns, envelope="connect", tombstones="skip"))
    server.reached("s", topic.sent())
    told = "`total` is a DECIMAL(12, 2), and in the message's schema it is in base64: add 'json.decimals' 'base64'"
    assert server.sql("SELECT DISTINCT _reject FROM rejects.s").rows == [(told,)]
    archived(server, topic)
    replaced = create(topic, columns, "CREATE OR REPLACE", envelope="connect", tombstones="skip", json__decimals="base64")
    server.ddl(replaced)
    done = run("rejects", "retry", "s", *server.where())
    assert done.stdout.strip() == "10 of 10 rejects are rows now, 0 stay rejects", done.stdout + done.stderr
    server.until(lambda: value_of(server, "SELECT count(*) FROM s") == 10, "ten rows", 30)
    assert Decimal(value_of(server, "SELECT CAST(sum(total) AS STRING) FROM s")) == Decimal("47.50")
    assert value_of(server, "SELECT count(*) FROM rejects.s") == 0
    for options, sentence in [
        ({"format": "csv", "envelope": "connect"}, "'envelope' belongs to JSON"),
        ({"envelope": "maxwell"}, "`maxwell` is no 'envelope'"),
        ({"json__rows": "2"}, "`2` is no 'json.rows'"),
        ({"format": "raw", "tombstones": "skip"}, "row without a value"),
        ({"envelop": "connect"}, "Did you mean 'envelope'?"),
    ]:
        columns = "line STRING" if options.get("format") == "raw" else "id BIGINT"
        with pytest.raises(Refused, match=re.escape(sentence)):
            server.ddl(create(topic, columns, "CREATE OR REPLACE", **options))
