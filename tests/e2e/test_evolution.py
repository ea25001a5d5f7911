"""Streams that get columns while their messages flow: ALTER TABLE, CREATE OR REPLACE, kills, several workers.

Every message has all fields from the start. A column that comes later is NULL below a line and has its values above it;
the line is one offset a partition, whoever reads, and whatever dies.
"""

import itertools
import json
import threading
import time

import pytest
from confluent_kafka import Producer
from harness.avro_producer import Writer, optional, produce, record
from harness.platform import PASSING, Platform
from harness.thalweg import Refused

PARTITIONS = 3


class Flow(threading.Thread):
    """Messages with the fields id, n and note, without an end."""

    def __init__(self, kafka, topic):
        super().__init__(daemon=True)
        self.producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5})
        self.topic = topic
        self.sent = 0
        self.done = threading.Event()

    def send(self, count):
        for _ in range(count):
            i = self.sent
            value = {"id": i, "n": i % 7, "note": f"note {i}", "place": {"lat": i / 2}}
            self.producer.produce(self.topic, json.dumps(value), partition=i % PARTITIONS)
            self.sent += 1
        assert self.producer.flush(30) == 0

    def run(self):
        while not self.done.wait(0.01):
            self.send(30)

    def finish(self):
        self.done.set()
        self.join(30)
        return self.sent


def create(topic, columns, verb="CREATE"):
    return f"{verb} EXTERNAL TABLE s ({columns}) STORED AS KAFKA LOCATION '{topic}' OPTIONS ('format' 'json');"


def lines(server, column, total):
    """By partition, the first offset with a value; checks that all below are NULL and all above right."""
    rows = server.sql(f"SELECT _partition, _offset, id, {column} AS v FROM s ORDER BY _partition, _offset").rows
    assert len(rows) == total == len({row[2] for row in rows})
    found = {}
    for partition, part in itertools.groupby(rows, lambda row: row[0]):
        part = list(part)
        assert [row[1] for row in part] == list(range(len(part)))
        line = next((row[1] for row in part if row[3] is not None), len(part))
        for _, offset, i, value in part:
            expected = {"n": i % 7, "note": f"note {i}", "place.lat": i / 2}[column]
            assert value == (expected if offset >= line else None), (column, partition, offset, value)
        found[partition] = line
    return found


def test_columns_come_while_messages_flow(kafka, thalweg, place):
    kafka.create_topic(place, PARTITIONS)
    flow = Flow(kafka, place)
    flow.send(300)
    server = thalweg(epoch_interval="300ms", mark_interval="300ms", batch_interval="1s").start()
    server.ddl(create(place, "id BIGINT") + "CREATE MATERIALIZED VIEW before AS SELECT count(*) AS c, sum(id) AS t FROM s;")
    server.until(
        lambda: sum((server.json("/v1/streams")["streams"][0]["archive_frontier"] or {}).values()) == 300, "an archive", 60
    )
    view_id = server.json("/v1/views")["views"][0]["id"]
    with pytest.raises(Refused, match="archived rows have no value"):
        server.ddl("ALTER TABLE s ADD COLUMN n INT NOT NULL")
    with pytest.raises(Refused, match="does not exist"):
        server.ddl("ALTER TABLE other ADD COLUMN n INT")

    flow.start()
    server.ddl("ALTER TABLE s ADD COLUMN n INT")
    for _ in range(30):
        assert server.sql("SELECT count(*), count(n) FROM s").rows[0][0] >= 300
    server.ddl("CREATE MATERIALIZED VIEW by_n AS SELECT n, count(*) AS c FROM s GROUP BY n")
    with pytest.raises(Refused, match="has a column `n` already"):
        server.ddl("ALTER TABLE s ADD COLUMN n INT")
    server.ddl("ALTER TABLE s ADD COLUMN IF NOT EXISTS n INT")
    server.ddl("ALTER TABLE IF EXISTS other ADD COLUMN n INT")
    assert "n INT" in server.json("/v1/streams")["streams"][0]["sql"]
    server.kill()
    server.start()
    # A column in front, and a nested one.
    server.ddl(create(place, "note STRING, id BIGINT, n INT, place STRUCT<lat DOUBLE>", "CREATE OR REPLACE"))
    with pytest.raises(Refused, match="columns cannot change"):
        server.ddl(create(place, "id BIGINT, n INT", "CREATE OR REPLACE"))
    server.kill()
    server.start()
    total = flow.finish()
    server.reached("s", {partition: total // PARTITIONS for partition in range(PARTITIONS)})
    server.ready()

    def check():
        n, note, lat = (lines(server, column, total) for column in ("n", "note", "place.lat"))
        assert note == lat and all(100 <= n[p] <= note[p] for p in range(PARTITIONS)), (n, note, lat)
        nulls = sum(n.values())
        by_n = dict(server.sql("SELECT n, c FROM by_n").rows)
        assert by_n.get(None, 0) == nulls and sum(by_n.values()) == total
        assert server.sql("SELECT * FROM before").rows == [(total, total * (total - 1) // 2)]
        return n, note

    seen = check()
    views = {view["name"]: view["id"] for view in server.json("/v1/views")["views"]}
    assert views["before"] == view_id, "a view that does not name the column was built anew"
    server.kill()
    server.start()
    assert check() == seen
    assert server.stop() == 0
    server.start()
    assert server.http.post(f"{server.url}/v1/batch/run", timeout=60).status_code == 200
    assert check() == seen
    audit = server.cli("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr


def test_workers_agree_on_the_line(kafka, thalweg, place, tmp_path):
    kafka.create_topic(place, PARTITIONS)
    flow = Flow(kafka, place)
    flow.send(300)
    platform = Platform(thalweg, tmp_path / "warehouse", ["one", "two"])
    replica = platform.replicas[0]
    replica.ddl(create(place, "id BIGINT") + "CREATE MATERIALIZED VIEW before AS SELECT count(*) AS c FROM s;")
    platform.join("one", "two")
    platform.ready()
    flow.start()
    replica.ddl("ALTER TABLE s ADD COLUMN n INT")
    replica.ddl("CREATE MATERIALIZED VIEW by_n AS SELECT n, count(*) AS c FROM s GROUP BY n")
    platform.workers["one"].kill()
    time.sleep(1)
    platform.join("one")
    total = flow.finish()
    platform.settled()
    replica.reached("s", {partition: total // PARTITIONS for partition in range(PARTITIONS)})
    platform.ready()

    def asked(server, attempt):
        server.until(lambda: passes(attempt), "an answer", 60)

    def passes(attempt):
        try:
            attempt()
            return True
        except Refused as refused:
            assert refused.code in PASSING, refused
            return False

    found = []
    for server in platform.replicas:

        def attempt(server=server):
            line = lines(server, "n", total)
            by_n = dict(server.sql("SELECT n, c FROM by_n").rows)
            assert by_n.get(None, 0) == sum(line.values()) and sum(by_n.values()) == total
            found.append(line)

        asked(server, attempt)
    assert found[0] == found[1]


VERSIONS = [
    [("id", "long")],
    [("id", "long"), ("n", "int", 0), ("Note", optional("string"), None)],
    [("id", "long"), ("Note", optional("string"), None), ("place", {"type": "record", "name": "P", "fields": []}), ("late", "double", 0.0)],
]
VERSIONS[2][2][1]["fields"] = [{"name": "lat", "type": "double"}]


def evolving(version, i):
    fields = {"id": i, "n": i % 7, "Note": f"note {i}", "place": {"lat": i / 2}, "late": i / 4}
    return {name: fields[name] for name, *_ in VERSIONS[version]}


def test_new_fields_of_a_schema_become_columns(kafka, registry, thalweg, place, tmp_path):
    """The topic evolves twice while workers are killed. No value of a new field is lost: columns come first."""
    kafka.create_topic(place, PARTITIONS)
    writers = [Writer(registry, place, record("Reading", *fields)) for fields in VERSIONS]
    sent = []

    def send(version, count):
        messages = []
        for i in range(len(sent), len(sent) + count):
            messages.append((i % PARTITIONS, writers[version](evolving(version, i))))
            sent.append(version)
        produce(kafka, place, messages)

    send(0, 300)
    properties = {"schema.registry.url": registry.url}
    platform = Platform(thalweg, tmp_path / "warehouse", ["one", "two"], kafka=properties)
    replica = platform.replicas[0]
    options = "('format' 'avro', 'evolve' 'auto')"
    replica.ddl(f"CREATE EXTERNAL TABLE s STORED AS KAFKA LOCATION '{place}' OPTIONS {options};")
    replica.ddl("CREATE MATERIALIZED VIEW before AS SELECT count(*) AS c, sum(id) AS t FROM s")
    # What the registry had when the stream was created.
    assert "TABLE s (id BIGINT) STORED" in replica.json("/v1/streams")["streams"][0]["sql"]
    platform.join("one", "two")
    platform.ready()
    for round in range(6):
        send([0, 1, 2, 1, 2, 0][round], 300)
        if round % 2:
            name = ["one", "two"][round // 2 % 2]
            platform.workers[name].kill()
            send(round % 3, 100)
            platform.workers[name].start(ready=False)
    platform.settled()
    replica.reached("s", {p: len(range(p, len(sent), PARTITIONS)) for p in range(PARTITIONS)})

    def check():
        rows = replica.sql("SELECT id, n, note, place.lat, late FROM s ORDER BY id").rows
        expect = []
        for i, version in enumerate(sent):
            value = {"n": None, "Note": None, "place": {"lat": None}, "late": None, **evolving(version, i)}
            expect.append((i, value["n"], value["Note"], value["place"]["lat"], value["late"]))
        assert rows == expect
        assert replica.sql("SELECT * FROM before").rows == [(len(sent), len(sent) * (len(sent) - 1) // 2)]
        by_n = dict(replica.sql("SELECT n, count(*) FROM s GROUP BY n").rows)
        assert by_n == dict(replica.sql("SELECT n, c FROM by_n").rows)

    replica.ddl("CREATE MATERIALIZED VIEW by_n AS SELECT n, count(*) AS c FROM s GROUP BY n")
    check()
    assert replica.sql("SELECT count(*) FROM rejects.s").rows == [(0,)]
    for worker in platform.workers.values():
        worker.kill()
        worker.start(ready=False)
    platform.settled()
    check()
    for options, sentence in [
        ("('evolve' 'auto')", "schemas are in a registry"),
        ("('format' 'avro', 'evolve' 'sometimes')", "is no 'evolve'"),
    ]:
        with pytest.raises(Refused, match=sentence):
            replica.ddl(f"CREATE EXTERNAL TABLE t (id BIGINT) STORED AS KAFKA LOCATION '{place}' OPTIONS {options}")
