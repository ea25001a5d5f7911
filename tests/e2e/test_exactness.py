"""The law, end to end: every answer is the query over exactly the events below the frontier that it carries.

Half a million messages while the process is killed again and again; every answer on the way is compared with DuckDB
over what was produced, at the answer's own frontier.
"""

import itertools
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from definitions import DEVICE_MINUTES, FROM_ROWS, ROLLED_UP, STREAM_TOTALS, THREE_COUNTS, VIEWS, stream
from harness.faultproxy import KILL_BEFORE
from harness.oracle import Oracle
from harness.producer import Background, Production
from harness.thalweg import Client, Refused, run
from harness.wait import until

EVENTS = int(os.environ.get("THALWEG_E2E_EVENTS", 500_000))

FAST = dict(batch_interval="2s", epoch_interval="1s", mark_interval="1s", epoch_bytes="8MiB", grace="10s")


class Asked:
    """The answers that were given on the way, to be compared when all that was sent is known."""

    def __init__(self, server):
        self.server = server
        self.answers = []

    def everything(self):
        for view in VIEWS:
            self.answers.append((view, "", self.server.sql(f"SELECT * FROM {view.name}")))
        for where in (
            "WHERE device = 'd-000'",
            "WHERE device IN ('センサー-7', '') AND minute < TIMESTAMP '2026-03-01 12:05:00'",
        ):
            self.answers.append((DEVICE_MINUTES, where, self.server.sql(f"SELECT * FROM device_minutes {where}")))
        for rolled_up in ROLLED_UP:
            self.answers.append((rolled_up, "", self.server.sql(rolled_up.query)))
        self.answers.append((None, "", self.server.sql(THREE_COUNTS)))

    def compare(self, oracle):
        assert len({str(answer.frontier) for _, _, answer in self.answers}) > 8, "the answers hardly moved"
        for number, (view, where, answer) in enumerate(self.answers):
            oracle.at(answer.frontier["sensor_data"])
            if view is not None:
                wrong = view.differences(answer, oracle, where)
                assert not wrong, f"answer {number}, {view.name} {where} at {answer.frontier}:\n" + "\n".join(wrong)
            else:
                n = oracle.one("SELECT count(*) AS n FROM sensor_data")["n"]
                assert answer.one() == {"events": n, "by_minute": n or None, "raw": n}, (
                    f"answer {number} at {answer.frontier}"
                )


def messages_covered(server):
    return sum(server.sql("SELECT events FROM stream_totals").frontier["sensor_data"].values())


class OnDisk:
    """The archive and the batch views in a folder."""

    def __init__(self, thalweg, place):
        self.server = thalweg(**FAST)

    def start(self, end):
        self.server.start()

    def kill_while_recomputing(self):
        """Waits until a recomputation has written a file that no commit names yet, or just has."""
        views = self.server.folder / "data" / "warehouse" / "views"
        before = set(views.rglob("*.parquet"))
        until(lambda: set(views.rglob("*.parquet")) - before, "a recomputation to write a file", every=0.001)
        self.server.kill()


class OnS3:
    """The same on a real S3 server; the process dies at the moment in which it publishes."""

    def __init__(self, thalweg, place, proxy, s3):
        self.proxy = proxy
        self.direct, self.proxied = s3.options, s3.reached_through(proxy.endpoint)
        self.server = thalweg(warehouse=f"s3://thalweg/{place}", storage=self.direct, **FAST)

    def start(self, end):
        """Only the process that is to die at a write goes through the proxy, which is slow."""
        self.server.storage = self.proxied if end == "recompute" else self.direct
        self.server.start()

    def kill_while_recomputing(self):
        fault = self.proxy.arm(KILL_BEFORE, r"^PUT .*/views/.*/_delta_log/", kill=self.server.kill)
        until(lambda: fault.struck, "a publication")
        self.server.died()
        self.proxy.disarm()


@pytest.fixture(params=["file", "s3"])
def system(request, thalweg, place):
    if request.param == "file":
        return OnDisk(thalweg, place)
    return OnS3(thalweg, place, request.getfixturevalue("proxy"), request.getfixturevalue("s3"))


def test_every_answer_is_exact_at_its_frontier(system, kafka, place):
    moments = random.Random(20260301)
    kafka.create_topic(place, 6)
    production = Production(kafka, place, seed=7)
    sending = Background(production)
    # Each wave is half read when its end comes: while rows come in, while a recomputation publishes, in good order.
    ends = ["kill", "recompute", "kill", "recompute", "kill", "stop", "recompute", "kill"]
    server = system.server
    system.start(ends[0])
    server.ddl(stream(kafka, place))
    for view in VIEWS:
        server.ddl(view.ddl)
    asked = Asked(server)
    asked.everything()

    for wave, (end, next_end) in enumerate(zip(ends, [*ends[1:], "kill"]), 1):
        covered = messages_covered(server)
        sending.allow(EVENTS * wave // len(ends))
        share = moments.uniform(0.2, 0.7) * EVENTS / len(ends)
        until(lambda: messages_covered(server) >= covered + share, "the stream to move on", timeout=120)
        asked.everything()
        if end == "kill":
            server.kill()
        elif end == "recompute":
            system.kill_while_recomputing()
        else:
            assert server.stop() == 0
        system.start(next_end)
        asked.everything()

    sending.finish()
    server.reached("sensor_data", production.record.ends())
    asked.everything()
    oracle = Oracle(production.record)
    asked.compare(oracle)

    frontier = server.sql("SELECT count(*) FROM sensor_data").frontier["sensor_data"]
    oracle.at(frontier)
    compare_rows(server, oracle)
    compare_rejects(server, oracle)
    audit = server.cli("audit", timeout=120)
    assert audit.returncode == 0, audit.stdout + audit.stderr

    # The archive alone says the same: everything recomputed from it, and served by a process that starts on that.
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
    assert server.stop() == 0


def compare_rows(server, oracle):
    """The raw stream, every row and every column."""
    columns = (
        "_partition, _offset, _timestamp, ts, temperature, counter, cost, ok, md5(device) AS device, md5(note) AS note"
    )
    text, frontier = server.csv(f"SELECT {columns} FROM sensor_data")
    oracle.at(frontier["sensor_data"])
    oracle.db.execute(
        "CREATE OR REPLACE TABLE got AS SELECT * FROM read_csv(?, header = true, columns = {'_partition': 'INTEGER',"
        " '_offset': 'BIGINT', '_timestamp': 'TIMESTAMP', 'ts': 'TIMESTAMP', 'temperature': 'DOUBLE', 'counter': 'BIGINT',"
        " 'cost': 'DECIMAL(18,4)', 'ok': 'BOOLEAN', 'device': 'VARCHAR', 'note': 'VARCHAR'})",
        [_file(server, text)],
    )
    for one, other in (("got", "want"), ("want", "got")):
        wrong = oracle.rows(
            f"WITH want AS (SELECT {columns} FROM sensor_data) FROM (FROM {one} EXCEPT ALL FROM {other}) ORDER BY ALL LIMIT 3"
        )
        assert not wrong, f"rows in {one} that are not in {other}: {wrong}"


def _file(server, text):
    path = server.folder / "rows.csv"
    path.write_bytes(text)
    return str(path)


def compare_rejects(server, oracle):
    """Every message that is no row, by offset and with its bytes; and nothing was lost between the two."""
    answer = server.sql(
        "SELECT _partition, _offset, encode(_payload, 'hex') AS payload, _reject FROM rejects.sensor_data"
    )
    oracle.at(answer.frontier["sensor_data"])
    got = {row["_partition"] * 10**12 + row["_offset"]: row["payload"] for row in answer.dicts()}
    want = {
        row["_partition"] * 10**12 + row["_offset"]: row["payload"]
        for row in oracle.rows("SELECT _partition, _offset, lower(hex(payload)) AS payload FROM rejects")
    }
    assert got == want
    assert len(got) == len(answer.rows), "a reject is there twice"
    assert all(row["_reject"] for row in answer.dicts()), "a reject without a reason"

    answer = server.sql(
        FROM_ROWS + "SELECT rows, rejects FROM (SELECT count(*) AS rows FROM sensor_data)"
        " CROSS JOIN (SELECT count(*) AS rejects FROM rejects.sensor_data)"
    )
    oracle.at(answer.frontier["sensor_data"])
    read = oracle.one(
        "SELECT count(*) AS n FROM sent JOIN frontier ON _partition = p AND _offset < next WHERE committed"
    )["n"]
    assert sum(answer.rows[0]) == read


def test_readers_never_see_half_an_update(thalweg, kafka, topic):
    """Several clients at once, while segments are made, merged, archived and covered by new batch views."""
    server = thalweg(
        **{**FAST, "batch_interval": "1s", "epoch_interval": "300ms", "mark_interval": "600ms", "grace": "2s"}
    ).start()
    server.ddl(stream(kafka, topic))
    server.ddl(DEVICE_MINUTES.ddl)
    server.ddl(STREAM_TOTALS.ddl)
    server.ready()
    sending = Background(Production(kafka, topic, seed=13, weights=(2, 1)))
    sending.allow(EVENTS // 5)
    finished = threading.Event()

    def read(_):
        answers = []
        with Client(server.url) as client:
            while not finished.is_set():
                answers.append(client.sql(THREE_COUNTS))
        return answers

    with ThreadPoolExecutor(4) as readers:
        reading = [readers.submit(read, number) for number in range(4)]
        try:
            sending.finish()
            server.reached("sensor_data", sending.production.record.ends())
        finally:
            finished.set()
        everything = [future.result() for future in reading]
    oracle = Oracle(sending.production.record)
    for answers in everything:
        assert len({str(answer.frontier) for answer in answers}) > 3, "the answers hardly moved"
    for answer in itertools.chain(*everything):
        n = oracle.at(answer.frontier["sensor_data"]).one("SELECT count(*) AS n FROM sensor_data")["n"]
        assert answer.one() == {"events": n, "by_minute": n or None, "raw": n}, answer.frontier


def test_an_empty_stream_has_answers(thalweg, kafka, topic):
    server = thalweg(**FAST).start()
    server.ddl(stream(kafka, topic))
    for view in VIEWS:
        server.ddl(view.ddl)
    assert server.sql("SELECT * FROM sensor_data").rows == []
    assert server.sql("SELECT * FROM device_minutes").rows == []
    totals = server.sql("SELECT * FROM stream_totals")
    assert totals.one() == {**dict.fromkeys(totals.names), "events": 0, "measured": 0, "devices": 0}
    assert totals.frontier == {"sensor_data": {0: 0, 1: 0}}


def test_a_view_made_over_old_events_answers_for_all_of_them(thalweg, kafka, topic):
    """A view is built from the archive while the stream goes on, and changing it changes all of its past."""
    production = Production(kafka, topic, seed=11, weights=(2, 1)).send(20_000)
    server = thalweg(**FAST).start()
    server.ddl(stream(kafka, topic))
    server.reached("sensor_data", production.record.ends())
    server.ddl(STREAM_TOTALS.ddl)
    production.send(2_000)
    server.reached("sensor_data", production.record.ends())
    oracle = Oracle(production.record)
    answer = server.sql("SELECT * FROM stream_totals")
    assert not STREAM_TOTALS.differences(answer, oracle.at(answer.frontier["sensor_data"]))

    server.ddl(
        "CREATE OR REPLACE MATERIALIZED VIEW stream_totals AS SELECT count(*) AS events FROM sensor_data WHERE ok"
    )
    changed = until(
        lambda: _columns(server, "stream_totals") == ["events"] and server.sql("SELECT * FROM stream_totals"),
        "the new view",
    )
    oracle.at(changed.frontier["sensor_data"])
    assert changed.one() == oracle.one("SELECT count(*) AS events FROM sensor_data WHERE ok")
    server.ddl("DROP MATERIALIZED VIEW stream_totals")
    until(lambda: _columns(server, "stream_totals") is None, "the view to be gone")


def _columns(server, table):
    try:
        return server.ask(f"SELECT * FROM {table} LIMIT 0").names
    except Refused as refused:
        assert refused.code != "internal", refused
        return None


def test_the_batch_side_and_the_speed_side_add_up(thalweg, kafka, topic):
    production = Production(kafka, topic, seed=12, weights=(1, 1)).send(10_000)
    server = thalweg(**{**FAST, "batch_interval": "1s"}).start()
    server.ddl(stream(kafka, topic))
    server.ddl(STREAM_TOTALS.ddl)
    server.reached("sensor_data", production.record.ends())
    until(lambda: server.sql("SELECT events FROM batch.stream_totals").one()["events"], "a published batch view")
    production.send(5_000)
    server.reached("sensor_data", production.record.ends())
    answer = server.sql(
        "SELECT whole, batch, speed FROM (SELECT events AS whole FROM stream_totals)"
        " CROSS JOIN (SELECT events AS batch FROM batch.stream_totals) CROSS JOIN (SELECT events AS speed FROM speed.stream_totals)"
    ).one()
    assert answer["whole"] == answer["batch"] + answer["speed"]
    plan = "\n".join(str(row) for row in server.sql("EXPLAIN SELECT * FROM stream_totals").rows)
    assert "stream_totals batch below {0:" in plan and "stream_totals speed from {0:" in plan, plan
