"""The demo as the README says: one command, nothing installed, and every view exactly what was sent."""

import datetime
import json
import re
import socket

import duckdb
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from harness.demo import DemoProcess
from harness.oracle import close, counted_about, differences, quantile_bounds, ranked
from harness.thalweg import free_port, run
from harness.wait import until

STREAMS = {"sensor_data": 4, "login_attempts": 4, "stock_prices": 4}

COLUMNS = {
    "sensor_data": {"device": "VARCHAR", "site": "VARCHAR", "ts": "TIMESTAMP", "temperature": "DOUBLE"},
    "login_attempts": {
        "account": "VARCHAR", "address": "VARCHAR", "country": "VARCHAR", "ts": "TIMESTAMP", "success": "BOOLEAN",
    },
    "stock_prices": {"symbol": "VARCHAR", "ts": "TIMESTAMP", "price": "DECIMAL(12,2)", "volume": "BIGINT"},
}  # fmt: skip

IN_ORDER = "ts, _partition, _offset"

# Every view of the demo: its keys, the same question in DuckDB's words, and how values may differ.
VIEWS = {
    "device_minutes": (
        ["device", "minute"],
        f"""SELECT device, date_trunc('minute', ts) AS minute, count(*) AS readings, avg(temperature) AS mean,
                   max(temperature) AS peak, {quantile_bounds("temperature", 0.99)} AS p99
            FROM sensor_data GROUP BY 1, 2""",
        {"mean": close, "p99": ranked},
    ),
    "site_alarms": (
        ["site", "hour"],
        """SELECT site, date_trunc('hour', ts) AS hour, count(*) AS readings,
                  count(*) FILTER (WHERE temperature > 100) AS alarms, max(temperature) AS hottest,
                  first(device ORDER BY temperature DESC, ts, _partition, _offset) AS hottest_device
           FROM sensor_data GROUP BY 1, 2""",
        {},
    ),
    "stuck_sensors": (
        ["device", "since"],
        """SELECT device, time_bucket(INTERVAL '10 minutes', ts) AS since, count(*) AS readings,
                  min(temperature) AS temperature
           FROM sensor_data GROUP BY 1, 2 HAVING count(*) >= 20 AND min(temperature) = max(temperature)""",
        {},
    ),
    "failed_logins": (
        ["address", "minute"],
        """SELECT address, date_trunc('minute', ts) AS minute, count(*) AS failures, count(DISTINCT account) AS accounts
           FROM login_attempts WHERE NOT success GROUP BY 1, 2""",
        {"accounts": counted_about},
    ),
    "login_hours": (
        ["hour"],
        """SELECT date_trunc('hour', ts) AS hour, count(*) AS attempts, count(*) FILTER (WHERE NOT success) AS failures,
                  count(DISTINCT account) FILTER (WHERE success) AS people, count(DISTINCT address) AS addresses
           FROM login_attempts GROUP BY 1""",
        {"people": counted_about, "addresses": counted_about},
    ),
    "suspicious_addresses": (
        ["address"],
        """SELECT address, count(*) AS attempts, count(*) FILTER (WHERE NOT success) AS failures,
                  count(*) FILTER (WHERE success) AS break_ins, count(DISTINCT account) AS accounts,
                  min(ts) AS first_seen, max(ts) AS last_seen
           FROM login_attempts GROUP BY 1
           HAVING count(*) FILTER (WHERE NOT success) >= 30 AND count(*) FILTER (WHERE success) * 10 < count(*)""",
        {"accounts": counted_about},
    ),
    "stock_bars": (
        ["symbol", "minute"],
        f"""SELECT symbol, date_trunc('minute', ts) AS minute, first(price ORDER BY {IN_ORDER}) AS open,
                   max(price) AS high, min(price) AS low, last(price ORDER BY {IN_ORDER}) AS close,
                   sum(volume)::BIGINT AS volume, count(*) AS trades
            FROM stock_prices GROUP BY 1, 2""",
        {},
    ),
    "stock_vwap": (
        ["symbol", "hour"],
        """SELECT symbol, date_trunc('hour', ts) AS hour, sum(price * volume)::DOUBLE / sum(volume) AS vwap,
                  sum(price * volume) AS turnover, sum(volume)::BIGINT AS volume
           FROM stock_prices GROUP BY 1, 2""",
        {"vwap": close},
    ),
    "stock_days": (
        ["symbol", "day"],
        f"""SELECT symbol, date_trunc('day', ts)::TIMESTAMP AS day, min(price) AS low, max(price) AS high,
                   stddev_samp(price::DOUBLE) AS spread, last(price ORDER BY {IN_ORDER}) AS last, max(ts) AS last_at
            FROM stock_prices GROUP BY 1, 2""",
        {"spread": close},
    ),
}


class Record:
    """What the generator says that it sent: one JSON object a line, complete lines only."""

    def __init__(self, path):
        self.path = path

    def ends(self):
        """Per stream and partition, the offset up to which every message is in the record."""
        ends = {}
        for stream, partition, count, last in self._load().execute(
            "SELECT stream, _partition, count(*), max(_offset) FROM sent GROUP BY 1, 2"
        ).fetchall():  # fmt: skip
            assert count == last + 1, f"the record of {stream}/{partition} has a hole below {last}"
            ends.setdefault(stream, {})[partition] = last + 1
        return ends

    def covers(self, frontier):
        ends = self.ends()
        return all(ends.get(s, {}).get(p, 0) >= end for s, parts in frontier.items() for p, end in parts.items())

    def below(self, frontier):
        """DuckDB whose tables hold exactly what was sent below `frontier`, and `rejects` what is no row."""
        db = self._load()
        db.execute("CREATE TABLE frontier (stream VARCHAR, _partition INTEGER, next BIGINT)")
        db.executemany(
            "INSERT INTO frontier VALUES (?, ?, ?)",
            [(s, p, next) for s, parts in frontier.items() for p, next in parts.items()],
        )
        below = "FROM sent JOIN frontier USING (stream, _partition) WHERE _offset < next"
        for stream, columns in COLUMNS.items():
            fields = ", ".join(f"(said->>'{name}')::{kind} AS {name}" for name, kind in columns.items())
            db.execute(
                f"CREATE TABLE {stream} AS SELECT {fields}, _partition, _offset"
                f" {below} AND stream = '{stream}' AND json_type(said) = 'OBJECT'"
            )
        db.execute(f"CREATE TABLE rejects AS SELECT stream {below} AND coalesce(json_type(said), 'NULL') = 'NULL'")
        return db

    def _load(self):
        text = self.path.read_bytes() if self.path.exists() else b""
        whole = self.path.with_suffix(".whole")
        whole.write_bytes(text[: text.rfind(b"\n") + 1])
        db = duckdb.connect()
        db.execute("SET TimeZone = 'UTC'")
        columns = "{stream: 'VARCHAR', partition: 'INTEGER', \"offset\": 'BIGINT', \"row\": 'JSON'}"
        db.execute(
            f'CREATE TABLE sent AS SELECT stream, "partition" AS _partition, "offset" AS _offset, "row" AS said'
            f" FROM read_json('{whole}', format = 'newline_delimited', columns = {columns})"
        )
        return db


def rows(db, sql):
    cursor = db.execute(sql)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor.fetchall()]


class Demo(DemoProcess):
    """`thalweg up --demo`, started in an empty folder as a newcomer does."""

    def __init__(self, folder, *flags):
        self.record = Record(folder / "sent.jsonl")
        super().__init__(folder, "--demo-record", self.record.path, *flags)

    def check(self):
        """All views and all rejects, each against the record at the answer's own frontier."""
        for name, (keys, truth, checks) in VIEWS.items():
            answer = self.sql(f"SELECT * FROM {name}")
            until(lambda: self.record.covers(answer.frontier), "the record to cover the answer")
            wanted = rows(self.record.below(answer.frontier), truth)
            assert differences(answer, wanted, keys, checks) == [], name
        for stream in STREAMS:
            answer = self.sql(
                f"SELECT (SELECT count(*) FROM {stream}) AS rows, (SELECT count(*) FROM rejects.{stream}) AS rejects"
            )
            until(lambda: self.record.covers(answer.frontier), "the record to cover the answer")
            db = self.record.below(answer.frontier)
            (sent,) = db.execute(f"SELECT count(*) FROM {stream}").fetchone()
            (rejects,) = db.execute(f"SELECT count(*) FROM rejects WHERE stream = '{stream}'").fetchone()
            assert answer.one() == {"rows": sent, "rejects": rejects}, stream

    def total(self):
        return sum(sum(parts.values()) for parts in self.record.ends().values())


@pytest.fixture
def demo(tmp_path):
    started = []

    def make(name="one", *flags):
        started.append(Demo(tmp_path / name, *flags))
        return started[-1]

    yield make
    for each in started:
        each.close()


def topics(kafka):
    """What `kcat -L` lists."""
    listed = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=20).topics
    return {name: len(topic.partitions) for name, topic in listed.items()}


def read(kafka, topic, partition):
    """A consumer of the user's own, with a group: the first message and the watermarks."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "mine", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, partition, 0)])
    message = until(lambda: consumer.poll(1), "a message")
    marks = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
    consumer.close()
    return message, marks


def test_the_demo_is_exact_and_goes_on_after_a_restart(demo):
    # A debug build on a busy machine is far slower than what the README's command runs.
    slow = ("--demo-rate", "400/s")
    first = demo("one", *slow).start()
    assert (first.folder / "thalweg-data" / "broker").is_dir()
    first.check()
    assert topics(first.kafka) == STREAMS
    message, (low, high) = read(first.kafka, "sensor_data", 0)
    assert message.error() is None and message.offset() == low == 0 < high
    for command in re.findall(r'sql --url \S+ "(.*)"', first.out.read_text()):
        asked = run("sql", "--url", first.url, command)
        assert asked.returncode == 0 and "exact at" in asked.stderr, asked.stderr

    # Both layers take part: a batch version above the first one, and segments over it.
    def recomputed():
        views = first.http.get(first.url + "/v1/views", timeout=20).json()["views"]
        return all(sum((view["cut"] or {}).values()) > 0 for view in views)

    until(recomputed, "every view to be recomputed", 90)
    first.check()

    assert first.stop() == 0
    sent, last = first.total(), first.record.ends()
    again = Demo(first.folder, *slow)
    try:
        again.start()
        again.seen = first.seen
        until(lambda: again.total() > sent, "it to go on")
        again.check()
        for stream, parts in again.sql("SELECT count(*) AS n FROM stock_bars").frontier.items():
            assert all(parts[p] >= last[stream][p] for p in parts)
        assert topics(again.kafka) == STREAMS
        assert again.stop() == 0
    finally:
        again.close()


def test_another_folder_starts_afresh_beside_the_first(demo):
    one = demo("one", "--demo-rate", "200/s").start()
    two = demo("two", "--demo-rate", "200/s", "--demo-seed", "9").start()
    assert one.kafka != two.kafka and one.url != two.url
    for each in (one, two):
        each.check()
    assert one.stop() == 0
    two.check()
    third = demo("third", "--data-dir", str(one.folder / "elsewhere with a space")).start()
    # Event time begins an hour ago, some events are an hour late, and it never runs ahead of the clock.
    times = third.sql("SELECT min(minute) AS first, max(minute) AS last FROM stock_bars").one()
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    first, last = (datetime.datetime.fromisoformat(times[name]) for name in ("first", "last"))
    assert now - datetime.timedelta(hours=2, minutes=5) < first <= last <= now, (times, now)
    third.check()
    assert (one.folder / "elsewhere with a space" / "broker").is_dir()
    assert third.stop() == 0 and two.stop() == 0


def test_the_same_seed_sends_the_same(kafka, tmp_path):
    def sent(seed, record):
        topic = "login_attempts"
        done = run(
            "demo", "--kafka", f"bootstrap.servers={kafka.bootstrap}", "--streams", topic, "--rate", "max",
            "--count", 3000, "--malformed", "1%", "--seed", seed, "--event-time", "messages", "--record", record, "--summary", record.with_suffix(".sum"),
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        summary = json.loads(record.with_suffix(".sum").read_text())["streams"][topic]
        lines = [json.loads(line) for line in record.read_text().splitlines()]
        kafka.delete_topic(topic)
        until(lambda: topic not in kafka.admin.list_topics(timeout=10).topics, "the topic to go")
        assert summary["messages"] == len(lines) == 3000
        assert summary["rows"] == sum(line["row"] is not None for line in lines)
        assert summary["malformed"] == 3000 - summary["rows"] > 0 < summary["late"]
        assert sum(summary["ends"].values()) == 3000
        return sorted((line["partition"], line["offset"], json.dumps(line["row"])) for line in lines)

    once = sent(3, tmp_path / "once.jsonl")
    assert sent(3, tmp_path / "twice.jsonl") == once
    assert sent(4, tmp_path / "other.jsonl") != once


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["demo"], ["bootstrap.servers"]),
        (["demo", "--kafka", "bootstrap.servers=x", "--rate", "fast"], ["2000/s"]),
        (["demo", "--kafka", "bootstrap.servers=x", "--late", "2"], ["2%"]),
        (["demo", "--kafka", "bootstrap.servers=x", "--late", "60%", "--duplicates", "60%"], ["100%"]),
        (["demo", "--kafka", "bootstrap.servers=x", "--streams", "clicks"], ["clicks", "sensor_data"]),
        (["up", "--demo-rate", "5/s"], ["--demo"]),
        (["up", "--demo", "--kafka", "bootstrap.servers=x", "--http-addr", "127.0.0.1:0"], ["bootstrap.servers"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_wrong_usage_is_explained(arguments, words, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and all(word in done.stderr for word in words), done.stderr


def test_no_kafka_and_a_taken_port(demo, tmp_path):
    done = run("demo", "--kafka", f"bootstrap.servers=127.0.0.1:{free_port()}", timeout=60)
    assert done.returncode == 1 and "no Kafka answers at 127.0.0.1" in done.stderr, done.stderr
    with socket.create_server(("127.0.0.1", 0)) as held:
        taken = f"127.0.0.1:{held.getsockname()[1]}"
        done = run("up", "--demo", "--http-addr", "127.0.0.1:0", "--demo-broker", taken, cwd=tmp_path)
    assert done.returncode == 1 and taken in done.stderr and "--demo-broker" in done.stderr, done.stderr
    one = demo().start()
    done = run("up", "--demo", "--http-addr", "127.0.0.1:0", cwd=one.folder)
    assert done.returncode == 1 and "--data-dir" in done.stderr, done.stderr


def test_the_definitions_are_printed_to_be_applied(tmp_path):
    file = tmp_path / "demo.sql"
    file.write_text(run("demo", "--definitions").stdout)
    applied = run("apply", file, "--data-dir", tmp_path / "data")
    assert applied.returncode == 0, applied.stderr
    assert applied.stdout.count("created") == len(VIEWS) + len(STREAMS), applied.stdout
