"""Amendments: rejects that are read again under today's definition, in one process and in several, with kills.

Every third message has its time in milliseconds, which the first definition takes for a number of microseconds: a reject.
Under the second definition, they are rows. The views must then have each message once, live and rebuilt alike.
"""

import json
import struct
import subprocess
import threading
import time

import pytest
from confluent_kafka import Producer
from harness.avro_producer import Writer, produce, record
from harness.platform import PASSING, Platform
from harness.thalweg import Refused, binary, environment, run

PARTITIONS = 3
START_MS = 1_767_225_600_000


class Topic:
    """Messages whose fields are `id`, `k` and `at`."""

    def __init__(self, kafka, name):
        kafka.create_topic(name, PARTITIONS)
        self.producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5})
        self.name, self.sent = name, 0

    def send(self, count):
        for i in range(self.sent, self.sent + count):
            at = START_MS + i if i % 3 == 0 else (START_MS + i) * 1000
            value = {"id": i, "k": f"k{i % 5}", "at": at}
            self.producer.produce(
                self.name, json.dumps(value), key=f"key{i}", partition=i // 3 % PARTITIONS, headers=[("n", str(i))]
            )
        self.sent += count
        assert self.producer.flush(30) == 0

    @property
    def broken(self):
        return len(range(0, self.sent, 3))

    def ends(self):
        found = {}
        for i in range(self.sent):
            found[i // 3 % PARTITIONS] = found.get(i // 3 % PARTITIONS, 0) + 1
        return found


VIEWS = """
CREATE MATERIALIZED VIEW by_k AS SELECT k, count(*) AS n, sum(id) AS total FROM s GROUP BY k;
CREATE MATERIALIZED VIEW by_place AS SELECT _partition AS p, count(*) AS n, max(id) AS last FROM s GROUP BY _partition;
"""


def create(topic, unit="us", verb="CREATE"):
    return (
        f"{verb} EXTERNAL TABLE s (id BIGINT, k STRING, at TIMESTAMP) STORED AS KAFKA LOCATION '{topic}' "
        f"OPTIONS ('format' 'json', 'timestamp_unit' '{unit}');"
    )


def retry(where, *arguments):
    done = run("rejects", "retry", "s", *where, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def expected(rows):
    found = {}
    for i in rows:
        n, total = found.get(f"k{i % 5}", (0, 0))
        found[f"k{i % 5}"] = (n + 1, total + i)
    return found


def check(server, topic, entered):
    """What all tables say when the messages that `entered` names are rows."""
    rows = [i for i in range(topic.sent) if i % 3 or i in entered]
    by_k = {k: (n, total) for k, n, total in server.sql("SELECT k, n, total FROM by_k").rows}
    assert by_k == expected(rows)
    raw = server.sql("SELECT k, count(*), sum(id) FROM s GROUP BY k").rows
    assert {k: (n, total) for k, n, total in raw} == expected(rows)
    assert server.sql("SELECT count(*), count(DISTINCT id) FROM s").rows == [(len(rows), len(rows))]
    amended = dict(server.sql("SELECT p, n FROM by_place").rows).get(-1, 0)
    assert amended == len(entered)
    assert server.sql("SELECT count(*) FROM rejects.s").rows == [(topic.broken - len(entered),)]
    sql = "SELECT id, _offset, _source, _key, CAST(_headers[1].value AS STRING), at FROM s WHERE _partition = -1"
    found = server.sql(f"{sql} ORDER BY _offset").rows
    assert [row[1] for row in found] == list(range(len(entered)))
    assert {row[0] for row in found} == set(entered) and len(found) == len(entered)
    for i, _, source, key, header, _ in found:
        partition, offset = source.split(":")
        assert int(partition) == i // 3 % PARTITIONS
        assert (key, header) == (f"key{i}", str(i))


def archived(server, topic):
    def all_is():
        stream = server.json("/v1/streams")["streams"][0]
        return sum(n for p, n in (stream["archive_frontier"] or {}).items() if int(p) >= 0) == topic.sent

    server.until(all_is, "an archive", 60)


def taken(server, count):
    server.until(lambda: server.sql("SELECT count(*) FROM s").frontier["s"].get(-1, 0) == count, f"{count} amendments", 60)


def test_rejects_enter_once(kafka, thalweg, place):
    topic = Topic(kafka, place)
    topic.send(300)
    server = thalweg(epoch_interval="300ms", mark_interval="300ms", batch_interval="1s").start()
    warehouse = server.where()
    server.ddl(create(place) + VIEWS)
    archived(server, topic)
    check(server, topic, [])
    assert retry(warehouse, "--dry-run") == "0 of 100 rejects would be rows, 100 would stay rejects"
    server.ddl(create(place, "ms", "CREATE OR REPLACE"))
    # Microseconds are no plausible milliseconds: what is sent from now on, too.
    assert retry(warehouse, "--dry-run") == "100 of 100 rejects would be rows, 0 would stay rejects"
    check(server, topic, [])
    some = [i for i in range(0, 300, 3) if i // 3 % PARTITIONS == 1]
    assert retry(warehouse, "--where", "_partition = 1") == f"{len(some)} of {len(some)} rejects are rows now, 0 stay rejects"
    taken(server, len(some))
    check(server, topic, some)
    everything = list(range(0, 300, 3))
    left = len(everything) - len(some)
    assert retry(warehouse) == f"{left} of {left} rejects are rows now, 0 stay rejects"
    taken(server, 100)
    check(server, topic, everything)
    assert retry(warehouse) == "stream `s` has no archived reject that is asked for"
    # The same after a kill, a stop, and full recomputations.
    server.kill()
    server.start()
    check(server, topic, everything)
    server.ddl("CREATE MATERIALIZED VIEW later AS SELECT k, count(*) AS n FROM s GROUP BY k HAVING count(*) > 0")
    assert dict(server.sql("SELECT k, n FROM later").rows) == {k: n for k, (n, _) in expected(range(300)).items()}
    assert server.stop() == 0
    server.start()
    assert server.http.post(f"{server.url}/v1/batch/run?full=true", timeout=60).status_code == 200
    check(server, topic, everything)
    audit = server.cli("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    for arguments, sentence in [
        (["--where", "nothing = 1"], "nothing"),
        (["--where", "_partition ="], "_partition ="),
    ]:
        refused = run("rejects", "retry", "s", *warehouse, *arguments)
        assert refused.returncode != 0 and sentence in refused.stderr, refused.stderr
    refused = run("rejects", "retry", "none", *warehouse)
    assert refused.returncode != 0 and "has no stream `none`" in refused.stderr


def test_retries_are_killed_and_run_at_once(kafka, thalweg, place):
    topic = Topic(kafka, place)
    topic.send(3000)
    server = thalweg(epoch_interval="300ms", mark_interval="300ms", batch_interval="1s").start()
    server.ddl(create(place, "us") + VIEWS)
    archived(server, topic)
    server.ddl(create(place, "ms", "CREATE OR REPLACE"))

    def several():
        outcomes = []

        def one():
            outcomes.append(run("rejects", "retry", "s", *server.where()))

        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes

    outcomes = several()
    told = [o.stdout + o.stderr for o in outcomes]
    assert any(o.returncode == 0 for o in outcomes), told
    for outcome in outcomes:
        assert outcome.returncode == 0 or "in the same way at the moment" in outcome.stderr, told
    server.until(lambda: "no archived reject" in retry(server.where()), "all to have entered", 60)
    taken(server, 1000)
    check(server, topic, list(range(0, 3000, 3)))


def test_workers_and_replicas_take_amendments(kafka, thalweg, place, tmp_path):
    topic = Topic(kafka, place)
    topic.send(300)
    platform = Platform(thalweg, tmp_path / "warehouse", ["one", "two"])
    replica = platform.replicas[0]
    replica.ddl(create(place) + VIEWS)
    platform.join("one", "two")
    platform.ready()
    archived(replica, topic)
    replica.ddl(create(place, "ms", "CREATE OR REPLACE"))
    assert retry(["--warehouse", platform.warehouse], "--where", "_partition <> 2").endswith("0 stay rejects")
    some = [i for i in range(0, 300, 3) if i // 3 % PARTITIONS != 2]

    def agree(entered):
        for server in platform.replicas:

            def attempt(server=server):
                try:
                    if server.sql("SELECT count(*) FROM s").frontier["s"].get(-1, 0) != len(entered):
                        return False
                    check(server, topic, entered)
                    return True
                except Refused as refused:
                    assert refused.code in PASSING, refused
                    return False

            server.until(attempt, f"{len(entered)} amendments", 90)

    agree(some)
    # The owner of partition 0 dies, and another one comes: amendments go with that partition.
    platform.workers["one"].kill()
    agree(some)
    platform.join("one")
    platform.settled()
    platform.workers["two"].kill()
    assert retry(["--warehouse", platform.warehouse]).endswith("0 stay rejects")
    platform.settled()
    agree(list(range(0, 300, 3)))


def test_rejects_whose_schema_was_refused(kafka, thalweg, registry, place):
    """Messages of a schema that an operator has refused enter when the registry is to be asked for it after all."""
    kafka.create_topic(place, 1)
    write = Writer(registry, place, record("Sale", ("id", "long"), ("item", "string")))
    other = Writer(registry, place, record("Sale", ("id", "long"), ("item", "string"), ("more", "long", 0)))
    values = [{"id": n, "item": f"item {n}", "more": 1} for n in range(60)]
    messages = [(0, (other if n % 3 == 0 else write)(value)) for n, value in enumerate(values)]
    produce(kafka, place, messages)
    schema = struct.unpack(">I", messages[0][1][1:5])[0]

    def sales(refused, verb="CREATE"):
        options = f"'format' 'avro'{refused}"
        return f"{verb} EXTERNAL TABLE s (id BIGINT, item STRING) STORED AS KAFKA LOCATION '{place}' OPTIONS ({options});"

    at = {"schema.registry.url": registry.url}
    server = thalweg(kafka=at, epoch_interval="300ms", mark_interval="300ms", batch_interval="1s").start()
    server.ddl(sales(f", 'avro.refused' '{schema}'") + "CREATE MATERIALIZED VIEW t AS SELECT count(*) AS n, sum(id) AS s FROM s")
    count = "SELECT count(*), (SELECT count(*) FROM rejects.s), (SELECT n FROM t) FROM s"
    server.until(lambda: server.sql(count).rows == [(40, 20, 40)], "the messages", 60)
    server.until(lambda: sum((server.json("/v1/streams")["streams"][0]["archive_frontier"] or {}).values()) == 60, "an archive", 60)
    lost = run("rejects", "retry", "s", *server.where(), "--kafka", "schema.registry.url=http://127.0.0.1:9")
    assert lost.returncode == 0 and "0 of 20" in lost.stdout, lost.stdout + lost.stderr
    server.ddl(sales("", "CREATE OR REPLACE"))
    lost = run("rejects", "retry", "s", *server.where(), "--kafka", "schema.registry.url=http://127.0.0.1:9")
    assert lost.returncode != 0 and "reading rejects of stream `s` again" in lost.stderr, lost.stdout + lost.stderr
    done = retry(server.where(), "--kafka", f"schema.registry.url={registry.url}")
    assert done == "20 of 20 rejects are rows now, 0 stay rejects"
    taken(server, 20)
    assert server.sql(count).rows == [(60, 0, 60)]
    assert server.sql("SELECT s FROM t").rows == [(sum(range(60)),)]
    assert server.sql("SELECT count(*) FROM s WHERE item <> 'item ' || CAST(id AS STRING)").rows == [(0,)]


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.3])
def test_a_killed_retry_enters_all_or_nothing(kafka, thalweg, place, seconds):
    topic = Topic(kafka, place)
    topic.send(900)
    server = thalweg(epoch_interval="300ms", mark_interval="300ms", batch_interval="1s").start()
    server.ddl(create(place) + VIEWS)
    archived(server, topic)
    server.ddl(create(place, "ms", "CREATE OR REPLACE"))
    command = [binary(), "rejects", "retry", "s", *server.where()]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(seconds)
        process.kill()
    seen = server.sql("SELECT count(*) FROM s WHERE _partition = -1").rows[0][0]
    assert seen in (0, 300)
    server.until(
        lambda: run("rejects", "retry", "s", *server.where()).returncode == 0, "the lease to end", 60
    )
    taken(server, 300)
    check(server, topic, list(range(0, 900, 3)))
