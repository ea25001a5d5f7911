"""What an operator meets: a log that is not the one it was, storage that is slow or away, memory that is full,
a second writer, an end in good order; and what the process says about itself.
"""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from definitions import DEVICE_MINUTES, FROM_ROWS, STREAM_TOTALS, stream
from harness.faultproxy import ALWAYS, HOLD, REFUSE_503
from harness.oracle import Oracle
from harness.producer import Production
from harness.servers import Kafka
from harness.thalweg import Answer, Refused, run
from harness.wait import until

FAST = dict(batch_interval="1s", epoch_interval="200ms", mark_interval="400ms")


def produce(kafka, topic, count, seed=21, **settings):
    return Production(kafka, topic, seed=seed, **{"weights": (3, 1), "transactions": False, **settings}).send(count)


def is_exact(server, production):
    server.reached("sensor_data", production.record.ends())
    oracle = Oracle(production.record)
    for view in (DEVICE_MINUTES, STREAM_TOTALS):
        answer = server.sql(f"SELECT * FROM {view.name}")
        wrong = view.differences(answer, oracle.at(answer.frontier["sensor_data"]))
        assert not wrong, "\n".join(wrong)


def define(server, kafka, topic):
    server.ddl(stream(kafka, topic))
    server.ddl(DEVICE_MINUTES.ddl)
    server.ddl(STREAM_TOTALS.ddl)


def archived(server, name="sensor_data"):
    """The part of the stream's frontier that a commit holds, as the process says it."""
    return {int(p): o for p, o in (status_of(server, name)["archive_frontier"] or {}).items()}


def status_of(server, name="sensor_data"):
    return next(s for s in server.json("/v1/streams")["streams"] if s["name"] == name)


# A log that is not the one it was.


@pytest.fixture
def archived_stream(thalweg, kafka, topic):
    """A stream of which everything is archived, and a process that has ended in good order."""
    server = thalweg(**FAST).start()
    define(server, kafka, topic)
    production = produce(kafka, topic, 2_000)
    server.reached("sensor_data", production.record.ends())
    assert server.stop() == 0
    return server, production


def fails_with(server, *words):
    """The stream is refused with a sentence that says what happened and what to do, and stays refused."""
    server.start(ready=False).listening()

    def failure():
        assert server.alive(), server.tail()
        return status_of(server)["failure"]

    said = until(failure, lambda: f"the stream to fail\n{server.tail()}", timeout=60)
    for word in words:
        assert re.search(word, said, re.IGNORECASE), f"'{word}' is not in: {said}"
    assert server.get("/readyz").status_code == 503
    assert server.get("/healthz").status_code == 200
    return said


def test_a_recreated_topic_is_refused(archived_stream, kafka, topic):
    """As long as the old one, so that only the messages themselves tell."""
    server, production = archived_stream
    kafka.delete_topic(topic)
    until(lambda: topic not in kafka.admin.list_topics(timeout=10).topics, "the topic to be gone")
    kafka.create_topic(topic, 2)
    produce(kafka, topic, 4_000, seed=22)
    fails_with(server, "recreated|not the same|different", topic)


def test_a_shorter_log_is_refused(archived_stream, kafka, topic):
    server, production = archived_stream
    kafka.delete_topic(topic)
    until(lambda: topic not in kafka.admin.list_topics(timeout=10).topics, "the topic to be gone")
    kafka.create_topic(topic, 2)
    produce(kafka, topic, 10, seed=23)
    fails_with(server, "truncated|recreated|shorter|ends", topic)


def test_expired_offsets_are_refused(archived_stream, kafka, topic):
    """Retention took messages that were never archived: no answer could be exact again."""
    server, production = archived_stream
    production.send(2_000)
    kafka.delete_records_before(topic, 0, production.record.ends()[0] - 5)
    fails_with(server, "expired|retention|no longer", topic)


def test_expired_offsets_below_the_archive_do_no_harm(archived_stream, kafka, topic):
    server, production = archived_stream
    ends = production.record.ends()
    production.send(500)
    for partition in (0, 1):
        kafka.delete_records_before(topic, partition, ends[partition])
    server.start()
    is_exact(server, production)


def test_a_topic_that_does_not_exist_is_named(thalweg, kafka):
    server = thalweg(**FAST).start()
    server.ddl(stream(kafka, "no-such-topic"))
    failure = until(lambda: status_of(server)["failure"], "the stream to fail")
    assert "no-such-topic" in failure


def test_a_wrong_kafka_property_is_named(thalweg, kafka, topic):
    server = thalweg(kafka={"no.such.property": "1"}, **FAST).start()
    server.ddl(stream(kafka, topic))
    failure = until(lambda: status_of(server)["failure"], "the stream to fail")
    assert "no.such.property" in failure


def test_tls_and_sasl(thalweg, kafka, topic):
    """Any property of librdkafka passes through, from the default connection or from a named one."""
    production = produce(kafka, topic, 500)
    server = thalweg(**FAST)
    server.options["config"] = _config(server, _connection("secure", kafka.secure))
    server.start()
    server.ddl(stream(kafka, topic, connection="secure"))
    server.reached("sensor_data", production.record.ends())
    assert "thalweg-secret" not in server.get("/v1/streams").text

    wrong = thalweg("wrong", kafka={**kafka.secure, "sasl.password": "guessed"}, **FAST).start()
    wrong.ddl(f"CREATE EXTERNAL TABLE sensor_data (device STRING) STORED AS KAFKA LOCATION '{topic}'")
    until(
        lambda: re.search("(?i)authentic|sasl", status_of(wrong)["failure"] or ""), lambda: f"a refusal\n{wrong.tail()}"
    )
    right = thalweg("right", kafka=kafka.secure, **FAST).start()
    right.ddl(f"CREATE EXTERNAL TABLE sensor_data (device STRING) STORED AS KAFKA LOCATION '{topic}'")
    right.reached("sensor_data", production.record.ends())


def test_one_failed_stream_leaves_the_others_alone(thalweg, kafka, topic):
    server = thalweg(**FAST).start()
    server.ddl(stream(kafka, "no-such-topic", name="missing"))
    define(server, kafka, topic)
    is_exact(server, produce(kafka, topic, 500))
    until(lambda: status_of(server, "missing")["failure"], "the stream to fail")


def test_a_partition_added_later_is_read_from_its_start(thalweg, kafka, topic):
    server = thalweg(**FAST).start()
    define(server, kafka, topic)
    production = produce(kafka, topic, 500)
    server.reached("sensor_data", production.record.ends())
    kafka.add_partitions(topic, 3)
    production.partitions, production.weights = range(3), (1, 1, 1)
    # A client may not know the partition before its next look at the metadata.
    fresh = Production(kafka, topic, seed=24, weights=(1, 1, 1), transactions=False)
    fresh.record = production.record
    fresh.send(600)
    is_exact(server, fresh)
    server.kill()
    is_exact(server.start(), fresh)


@pytest.mark.parametrize("commits", [True, False], ids=["commits", "aborts"])
def test_an_open_transaction_holds_back_what_lies_behind_it(thalweg, kafka, topic, commits):
    """Readiness after a start must not wait for it either: the end that can be read lies before it."""
    server = thalweg(**FAST).start()
    define(server, kafka, topic)
    production = produce(kafka, topic, 500, transactions=True)
    server.reached("sensor_data", production.record.ends())
    before = production.record.ends()
    production.begin(100)
    production.send(500)
    server.kill()
    server.start()
    assert server.sql("SELECT events FROM stream_totals").frontier["sensor_data"] == before
    production.end(commits)
    is_exact(server, production)
    # An aborted transaction at the very end leaves offsets that no message will ever come from.
    production.begin(100).end(commits=False)
    is_exact(server, production)
    server.kill()
    is_exact(server.start(), production)


# Ends.


def test_a_graceful_end_archives_what_is_held(thalweg, kafka, topic):
    """With an epoch of an hour, only the end itself can have archived anything."""
    server = thalweg(batch_interval="1h", epoch_interval="1h", mark_interval="1h").start()
    define(server, kafka, topic)
    production = produce(kafka, topic, 3_000)
    server.reached("sensor_data", production.record.ends())
    assert server.stop() == 0
    assert "listening" in server.out.read_text()
    server.start(ready=False).listening()
    until(
        lambda: archived(server) == production.record.ends(), lambda: f"the archive to hold {production.record.ends()}"
    )
    server.ready()
    is_exact(server, production)


def test_a_killed_process_reads_again_what_was_not_archived(thalweg, kafka, topic):
    server = thalweg(batch_interval="1h", epoch_interval="1h", mark_interval="1h").start()
    define(server, kafka, topic)
    production = produce(kafka, topic, 3_000)
    is_exact(server, production)
    server.kill()
    is_exact(server.start(), production)


def test_an_end_while_storage_is_away_does_not_last_forever(thalweg, kafka, topic, proxy, s3):
    server = thalweg(
        warehouse=f"s3://thalweg/{topic}",
        storage=s3.reached_through(proxy.endpoint),
        **FAST,
    )
    server.options["config"] = _config(server, "shutdown_timeout = '3s'")
    server.start()
    define(server, kafka, topic)
    production = produce(kafka, topic, 500)
    is_exact(server, production)
    proxy.arm(REFUSE_503, r"^PUT ", times=ALWAYS)
    production.send(500)
    server.reached("sensor_data", production.record.ends())
    server.stop(timeout=30)
    proxy.disarm()
    is_exact(server.start(), production)


def _connection(name, properties):
    lines = "".join(f"'{key}' = '{value}'\n" for key, value in properties.items())
    return f"[connection.{name}]\n{lines}"


def _config(server, text):
    path = server.folder / "settings.toml"
    path.write_text(text)
    return path


# Limits.


def test_reading_pauses_when_memory_is_full_and_goes_on_after(thalweg, kafka, topic, proxy, s3):
    """While no epoch can land, what is read stays in memory: the budget bounds it, and nothing is dropped."""
    budget = 16 * 1024 * 1024
    server = thalweg(
        warehouse=f"s3://thalweg/{topic}", storage=s3.reached_through(proxy.endpoint),
        memory_budget="16MiB", epoch_bytes="2MiB", **FAST,
    )  # fmt: skip
    server.start()
    define(server, kafka, topic)
    production = produce(kafka, topic, 1_000)
    until(lambda: archived(server) == production.record.ends(), "a first commit")
    idle = resident(server)
    fault = proxy.arm(HOLD, r"^PUT .*/streams/", times=ALWAYS)
    production.send(200_000)
    peaks = []
    until(lambda: _paused(server, peaks), lambda: f"reading to pause: {status_of(server)}")
    assert sum(server.sql("SELECT count(*) FROM sensor_data").frontier["sensor_data"].values()) < sum(
        production.record.ends().values()
    )
    assert server.get("/healthz").status_code == 200
    assert resident(server) - idle < 12 * budget, "memory is not bounded"
    fault.release()
    proxy.disarm()
    ends = production.record.ends()

    def read_on():
        _paused(server, peaks)
        return {int(p): o for p, o in status_of(server)["frontier"].items()} == ends

    until(read_on, lambda: f"reading to go on: {status_of(server)}", timeout=120)
    is_exact(server, production)
    until(lambda: not _paused(server, peaks), "reading to have resumed")
    assert max(peaks) <= budget, f"{max(peaks)} of {budget} bytes in {len(peaks)} looks"
    assert max(peaks) > budget / 2, "the budget was never nearly reached"


def _paused(server, peaks):
    status = status_of(server)
    peaks.append(status["memory_bytes"])
    return status["paused"]


def resident(server):
    """Bytes that the process has in memory."""
    with open(f"/proc/{server.process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_storage_that_was_away_is_caught_up_with(thalweg, kafka, topic, proxy, s3):
    server = thalweg(warehouse=f"s3://thalweg/{topic}", storage=s3.reached_through(proxy.endpoint), **FAST)
    server.start()
    define(server, kafka, topic)
    production = produce(kafka, topic, 2_000)
    is_exact(server, production)
    fault = proxy.arm(REFUSE_503, r"^PUT ", times=ALWAYS)
    production.send(2_000)
    # Answers do not wait for the archive.
    is_exact(server, production)
    until(lambda: len(fault.struck) > 5, "writes to be refused")
    proxy.disarm()
    until(lambda: archived(server) == production.record.ends(), "the archive to catch up")
    is_exact(server, production)
    assert server.cli("audit").returncode == 0


def test_a_broker_that_was_away_is_caught_up_with(thalweg, tmp_path):
    kafka = Kafka(tmp_path / "kafka")
    try:
        kafka.create_topic("t", 2)
        server = thalweg(kafka={"bootstrap.servers": kafka.bootstrap}, **FAST).start()
        define(server, kafka, "t")
        production = produce(kafka, "t", 500)
        is_exact(server, production)
        kafka.down()
        assert server.sql("SELECT events FROM stream_totals").rows
        kafka.up()
        again = produce(kafka, "t", 0)
        again.record = production.record
        again.send(500)
        is_exact(server, again)
        assert server.alive()
    finally:
        kafka.down()


def test_a_server_that_starts_while_kafka_is_away_answers_from_the_archive_if_asked_to(thalweg, tmp_path):
    """What was given out before the restart is not known any more: an answer at the archive's end may lie below it, so
    only a client that says that it takes such an answer gets one."""
    kafka = Kafka(tmp_path / "kafka")
    try:
        kafka.create_topic("t", 2)
        server = thalweg(kafka={"bootstrap.servers": kafka.bootstrap}, **FAST).start()
        define(server, kafka, "t")
        production = produce(kafka, "t", 1_000)
        is_exact(server, production)
        until(lambda: archived(server) == production.record.ends(), "the archive to catch up")
        kafka.down()
        until(lambda: status_of(server)["status"] == "waiting_for_kafka", lambda: f"the status to say so: {status_of(server)}")
        assert "broker" in status_of(server)["failure"]
        assert server.get("/readyz").status_code == 200, "it goes on answering at its frontier"
        is_exact(server, production)

        server.kill()
        server.start(ready=False).listening()
        sentence = until(lambda: _says_how_to_opt_in(server), lambda: f"the refusal to say what to do\n{server.tail()}")
        assert "waits for Kafka" in sentence
        status = status_of(server)
        assert status["status"] == "waiting_for_kafka" and status["failure"], status
        assert server.get("/readyz").status_code == 503 and server.get("/healthz").status_code == 200
        oracle = Oracle(production.record)
        for view in (DEVICE_MINUTES, STREAM_TOTALS):
            response = until(lambda: _stale(server, f"SELECT * FROM {view.name}"), "a stale answer")
            assert response.headers["thalweg-stale"] == "true" and response.json()["stale"] is True
            answer = Answer(response.json(), response.headers["thalweg-frontier"])
            assert answer.frontier["sensor_data"] == production.record.ends()
            wrong = view.differences(answer, oracle.at(answer.frontier["sensor_data"]))
            assert not wrong, "\n".join(wrong)
        printed = server.cli("sql", "--stale", "SELECT count(*) AS n FROM sensor_data")
        assert printed.returncode == 0 and "stale" in printed.stderr, printed
        assert server.cli("sql", "SELECT count(*) AS n FROM sensor_data").returncode == 1

        kafka.up()
        again = produce(kafka, "t", 0)
        again.record = production.record
        again.send(500)
        server.ready()
        is_exact(server, again)
        fresh = _stale(server, "SELECT events FROM stream_totals")
        assert "thalweg-stale" not in fresh.headers and "stale" not in fresh.json()
        assert status_of(server)["status"] == "running" and not status_of(server)["failure"]
    finally:
        kafka.down()


def _says_how_to_opt_in(server):
    try:
        server.ask("SELECT * FROM stream_totals")
    except Refused as refused:
        assert refused.code == "not_ready" and refused.status == 503, refused
        return refused.message if "thalweg-stale: allow" in refused.message else None
    raise AssertionError("answered, although a later frontier may have been given out before")


def _stale(server, sql):
    response = server.http.post(f"{server.url}/v1/sql", json={"sql": sql, "stale": True}, timeout=60)
    return response if response.status_code == 200 else None


def test_an_audit_after_a_restart_compares_what_it_rebuilds(thalweg, kafka, topic):
    server = thalweg(batch_interval="1h", epoch_interval="200ms", mark_interval="400ms").start()
    define(server, kafka, topic)
    server.ready()
    empty = server.cli("audit")
    assert empty.returncode == 3 and "nothing to compare" in empty.stdout, empty
    production = produce(kafka, topic, 2_000)
    is_exact(server, production)
    assert server.stop() == 0
    server.start()
    assert server.http.post(f"{server.url}/v1/batch/run", timeout=60).status_code == 200
    server.stop()
    server.start()
    audit = server.cli("audit")
    assert audit.returncode == 0 and "equal" in audit.stdout and "rebuilt segments against the batch states" in audit.stdout, audit


def test_a_password_may_be_a_reference(thalweg, kafka, topic, tmp_path):
    production = produce(kafka, topic, 500)
    server = thalweg(**FAST)
    secret = tmp_path / "password"
    properties = {**kafka.secure, "sasl.password": f"${{file:{secret}}}"}
    server.options["config"] = _config(server, _connection("secure", properties))
    server.start()
    server.ddl(stream(kafka, topic, connection="secure"))
    failure = until(lambda: status_of(server)["failure"], "the stream to fail")
    assert "sasl.password in [connection.secure]" in failure and str(secret) in failure, failure
    secret.write_text(kafka.secure["sasl.password"] + "\n")
    until(lambda: status_of(server)["status"] == "running", lambda: f"another look at the file\n{server.tail()}")
    server.reached("sensor_data", production.record.ends())
    stored = "".join(path.read_text() for path in (server.folder / "data/warehouse/catalog").iterdir())
    assert kafka.secure["sasl.password"] not in stored and "${file:" not in stored


def test_a_query_has_limits(thalweg, kafka, topic):
    server = thalweg(**FAST)
    server.options["config"] = _config(server, "query_timeout = '1s'\nquery_memory = '8MiB'\nmax_join_pairs = 100000000000000")
    server.start()
    define(server, kafka, topic)
    is_exact(server, produce(kafka, topic, 20_000))
    with pytest.raises(Refused) as slow:
        server.ask("SELECT sum(sin(value)) FROM generate_series(1, 100000000000)")
    assert slow.value.code == "timeout" and slow.value.status >= 500, slow.value
    with pytest.raises(Refused) as wide:
        server.ask(
            "SELECT count(*) FROM sensor_data a, sensor_data b, sensor_data c WHERE a.temperature + b.temperature > c.temperature"
        )
    assert wide.value.code in ("timeout", "memory_limit") and wide.value.status >= 500, wide.value
    with pytest.raises(Refused) as large:
        server.ask(
            "SELECT array_agg(repeat(a.note, 100)) FROM sensor_data a CROSS JOIN (SELECT 1 FROM sensor_data LIMIT 50)"
        )
    assert "memory" in large.value.code or "memory" in large.value.message.lower(), large.value
    assert server.sql("SELECT events FROM stream_totals").rows


def test_a_client_that_hangs_up_ends_its_query(thalweg, kafka, topic):
    server = thalweg(**FAST).start()
    define(server, kafka, topic)
    is_exact(server, produce(kafka, topic, 20_000))
    endless = "SELECT sum(sin(value)) FROM generate_series(1, 100000000000)"
    with pytest.raises(requests.Timeout):
        requests.post(f"{server.url}/v1/sql", json={"sql": endless}, timeout=1)
    until(lambda: server.metrics()["thalweg_queries_running"][""] == 0, "the query to end", timeout=10)
    assert any("cancelled" in labels for labels in server.metrics()["thalweg_query_seconds_count"])


# Two writers.


def test_two_processes_on_one_warehouse_stay_exact(thalweg, kafka, topic, tmp_path):
    """Their commits meet: one lands, the other takes up from the table. Neither ever answers wrongly."""
    warehouse = (tmp_path / "warehouse").as_uri()
    one, other = (thalweg(name, warehouse=warehouse, **FAST) for name in ("one", "other"))
    one.start()
    define(one, kafka, topic)
    other.start()
    production = produce(kafka, topic, 0)
    for _ in range(10):
        production.send(1_000)
        for server in (one, other):
            server.reached("sensor_data", production.record.ends())
    for server in (one, other):
        is_exact(server, production)
        counts = server.sql(
            FROM_ROWS + "SELECT rows, rejects FROM (SELECT count(*) AS rows FROM sensor_data)"
            " CROSS JOIN (SELECT count(*) AS rejects FROM rejects.sensor_data)"
        ).one()
        assert counts["rows"] + counts["rejects"] == len(production.record)
    one.kill()
    production.send(1_000)
    is_exact(other, production)
    assert other.stop() == 0
    is_exact(one.start(), production)
    assert one.cli("audit").returncode == 0


def test_definitions_made_at_the_same_time_are_all_kept(thalweg, kafka, topic, tmp_path):
    server = thalweg()
    first = tmp_path / "stream.sql"
    first.write_text(stream(kafka, topic))
    assert run("apply", first, *server.where()).returncode == 0

    def apply(number):
        file = tmp_path / f"view-{number}.sql"
        file.write_text(f"CREATE MATERIALIZED VIEW v{number} AS SELECT count(*) + {number} AS n FROM sensor_data;")
        return run("apply", file, *server.where())

    with ThreadPoolExecutor(8) as writers:
        for done in writers.map(apply, range(8)):
            assert done.returncode == 0, done.stderr
    server.start()
    assert [view["name"] for view in server.json("/v1/views")["views"]] == [f"v{number}" for number in range(8)]


def test_a_recomputation_from_outside_is_taken_up(thalweg, kafka, topic):
    server = thalweg(batch_interval="1h", epoch_interval="200ms", mark_interval="200ms").start()
    define(server, kafka, topic)
    production = produce(kafka, topic, 2_000)
    until(lambda: archived(server) == production.record.ends(), "the archive to catch up")
    # The newest mark may lie before the last messages: one more epoch is a mark at or after them.
    production.send(10)
    until(lambda: archived(server) == production.record.ends(), "the archive to catch up")
    for mode in ([], ["--view", "stream_totals"], ["--full"]):
        done = run("batch", "run", *mode, *server.where(), timeout=120)
        assert done.returncode == 0, done.stderr
        until(
            lambda: server.sql("SELECT events FROM batch.stream_totals").one()["events"] > 1_500,
            "the published view",
            timeout=10,
        )
        is_exact(server, production)
        production.send(100)
    is_exact(server, production)
    assert server.cli("audit").returncode == 0
    failed = run("batch", "run", "--view", "nowhere", *server.where())
    assert failed.returncode == 1 and "nowhere" in failed.stderr


# Rejects.


def test_a_running_server_is_asked_to_recompute(thalweg, kafka, topic):
    server = thalweg(batch_interval="1h", epoch_interval="200ms", mark_interval="400ms").start()
    define(server, kafka, topic)
    production = produce(kafka, topic, 500)
    server.reached("sensor_data", production.record.ends())
    until(lambda: archived(server) == production.record.ends(), "the archive to catch up")
    done = until(lambda: _ran(server), "a run of everything", timeout=60)
    assert "stream_totals: " in done and "cut at" in done, done
    once = server.cli("batch", "run", "--view", "stream_totals", "--full")
    assert once.returncode == 0 and "500 rows into" in once.stdout, once
    assert server.cli("batch", "run", "--wait").returncode == 2, "a server does not wait for others"
    unknown = server.cli("batch", "run", "--view", "nobody")
    assert unknown.returncode == 1 and "nobody" in unknown.stderr, unknown


def _ran(server):
    """What a run says once a mark is at the end of the archive."""
    done = server.cli("batch", "run")
    assert done.returncode == 0, done
    return done.stdout if "500 rows" in done.stdout or "nothing new" in done.stdout else None


def test_rejects_tell_what_is_wrong(thalweg, kafka, topic):
    server = thalweg(**FAST).start()
    server.ddl(stream(kafka, topic, columns="device STRING NOT NULL, ts TIMESTAMP, temperature DOUBLE"))
    production = Production(kafka, topic, seed=1, weights=(1, 1), transactions=False)
    good = b'{"device": "d", "ts": "2026-03-01T12:00:00Z", "temperature": 1.5}'
    sent = [
        good, b"", b"null", b'{"device": null}', b'{"temperature": 1}', b'{"device": "d", "temperature": "warm"}', b'{"device": "d"',
        b', "temperature": 1}', good + good, good, b"[]", b"\x00", b'{"device": "d", "temperature": 1e999}', b"{" * 2000, good,
    ]  # fmt: skip
    for payload in sent:
        production.raw(payload)
    server.reached("sensor_data", {0: len(sent)})
    rows = [r["_offset"] for r in server.sql("SELECT _offset FROM sensor_data ORDER BY _offset").dicts()]
    rejects = server.sql(
        "SELECT _offset, _reject, encode(_payload, 'hex') AS payload FROM rejects.sensor_data ORDER BY _offset"
    ).dicts()
    assert rows == [0, 9, 14]
    assert sorted([*rows, *(r["_offset"] for r in rejects)]) == list(range(len(sent)))
    for reject in rejects:
        assert bytes.fromhex(reject["payload"] or "") == sent[reject["_offset"]]
        assert len(reject["_reject"]) > 10, reject


def test_a_message_without_payload_is_a_reject(thalweg, kafka, topic):
    """A tombstone of a compacted topic."""
    server = thalweg(**FAST).start()
    server.ddl(stream(kafka, topic))
    production = Production(kafka, topic, seed=1, weights=(1, 1), transactions=False)
    production.raw(None).row()
    server.reached("sensor_data", {0: 2})
    assert server.sql("SELECT _offset FROM rejects.sensor_data").rows == [(0,)]
    assert server.sql("SELECT _offset FROM sensor_data").rows == [(1,)]


# What the process says about itself.


def test_what_the_process_says(thalweg, kafka, topic):
    server = thalweg(log_format="json", **FAST).start()
    define(server, kafka, topic)
    production = produce(kafka, topic, 2_000, malformed=0.1)
    is_exact(server, production)
    until(lambda: archived(server) == production.record.ends(), "the archive to catch up")
    rejects = sum(row is None for row in production.record.rows)

    status = status_of(server)
    assert {int(p): o for p, o in status["frontier"].items()} == production.record.ends()
    assert status["lag"] == 0 and status["status"] == "running" and status["rejects"] == rejects
    views = {view["name"]: view for view in server.json("/v1/views")["views"]}
    assert set(views) == {"device_minutes", "stream_totals"}
    assert all(view["status"] == "serving" and view["stream"] == "sensor_data" for view in views.values())

    metrics = server.metrics()
    for word in ("events", "rejects", "lag", "frontier", "segments", "memory", "commits", "run", "quer"):
        assert any(word in name for name in metrics), f"no metric about {word} in {sorted(metrics)}"
    assert all(name.startswith("thalweg_") for name in metrics), sorted(metrics)
    total = sum(sum(values.values()) for name, values in metrics.items() if name.endswith("rejects_total"))
    assert total == rejects
    assert server.get("/healthz").status_code == 200 and server.get("/readyz").status_code == 200

    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert lines and not [line for line in lines if line["level"] == "ERROR"]
