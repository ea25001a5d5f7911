"""Several processes: three speed workers, two replicas and a batch process give the answers that one process would.

Workers join, leave, are killed, stopped and continued while clients read through both replicas. Every answer is compared
with DuckDB at its own frontier, and no session reads backwards, whichever replica answers.
"""

import json
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from definitions import DEVICE_MINUTES, HOURS_OF_MINUTES, HOURS_OF_ROWS, STREAM_TOTALS, THREE_COUNTS, stream
from harness.oracle import Oracle
from harness.platform import DEFINES, PASSING, SPEED, TOKEN, Platform, all_is_served, unheld
from harness.producer import Background, Production
from harness.servers import Kafka
from harness.thalweg import Client, Refused, free_port, run
from harness.wait import until

EVENTS = int(os.environ.get("THALWEG_E2E_EVENTS", 500_000)) // 2
PARTITIONS = 9


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    server = Kafka(tmp_path_factory.mktemp("cluster"), brokers=3)
    yield server
    server.down()


class Session(threading.Thread):
    """A client that asks both replicas in turn and never reads backwards; it keeps what it was told."""

    QUESTIONS = [
        (STREAM_TOTALS, "", "SELECT * FROM stream_totals"),
        (DEVICE_MINUTES, "WHERE device = 'd-000'", "SELECT * FROM device_minutes WHERE device = 'd-000'"),
        (None, "", THREE_COUNTS),
        (HOURS_OF_ROWS, "", HOURS_OF_ROWS.query),
        (HOURS_OF_MINUTES, "", HOURS_OF_MINUTES.query),
        (DEVICE_MINUTES, "", "SELECT * FROM device_minutes"),
    ]

    def __init__(self, urls, seed):
        super().__init__(daemon=True)
        self.clients = [Client(url) for url in urls]
        self.random = random.Random(seed)
        self.done = threading.Event()
        self.answers = []
        self.refused = {}
        self.longest = 0.0
        self.error = None

    def run(self):
        seen, last = {}, time.monotonic()
        try:
            while not self.done.is_set():
                client = self.random.choice(self.clients)
                # The whole view is asked for rarely: comparing it costs the most.
                view, where, sql = self.random.choices(self.QUESTIONS, (6, 6, 6, 2, 2, 1))[0]
                try:
                    answer = client.ask(sql, thalweg_min_frontier=json.dumps(seen))
                except Refused as refused:
                    if refused.code not in PASSING:
                        raise
                    self.refused[refused.code] = self.refused.get(refused.code, 0) + 1
                    time.sleep(0.05)
                    continue
                for name, parts in answer.frontier.items():
                    for partition, offset in parts.items():
                        before = seen.get(name, {}).get(str(partition), 0)
                        assert offset >= before, f"{name}/{partition} went back from {before} to {offset}: {sql}"
                        seen.setdefault(name, {})[str(partition)] = offset
                self.longest = max(self.longest, time.monotonic() - last)
                last = time.monotonic()
                self.answers.append((view, where, answer))
        except BaseException as error:
            self.error = error

    def finish(self):
        self.done.set()
        self.join(60)
        if self.error:
            raise self.error
        return self.answers


def compare(answers, oracle):
    for number, (view, where, answer) in enumerate(answers):
        oracle.at(answer.frontier["sensor_data"])
        if view is not None:
            wrong = view.differences(answer, oracle, where)
            assert not wrong, f"answer {number}, {view.name} {where} at {answer.frontier}:\n" + "\n".join(wrong)
        else:
            n = oracle.one("SELECT count(*) AS n FROM sensor_data")["n"]
            expected = {"events": n, "by_minute": n or None, "raw": n}
            assert answer.one() == expected, f"answer {number} at {answer.frontier}"


def spread(answers, limit):
    """So many answers, from the whole time."""
    step = max(1, len(answers) // limit)
    return answers[::step]


def test_every_answer_is_exact_while_workers_come_and_go(thalweg, cluster, place, tmp_path):
    cluster.create_topic(place, PARTITIONS)
    production = Production(cluster, place, seed=23, weights=[1 + p % 3 for p in range(PARTITIONS)])
    sending = Background(production)
    platform = Platform(thalweg, tmp_path / "warehouse", ["w1", "w2", "w3"])
    by_list, by_group = platform.replicas
    by_list.ddl(stream(cluster, place))
    by_list.ddl(DEVICE_MINUTES.ddl)
    by_list.ddl(STREAM_TOTALS.ddl)
    platform.join("w1", "w2")
    platform.ready()

    sessions = [Session([r.url for r in platform.replicas], seed) for seed in (1, 2)]
    for session in sessions:
        session.start()

    def covered():
        return sum(by_list.sql("SELECT events FROM stream_totals").frontier["sensor_data"].values())

    waves = iter(range(1, 8))

    def wave():
        """Sends more and waits until half of it was answered: things happen while rows come in."""
        number = next(waves)
        sending.allow(EVENTS * number // 7)
        until(lambda: covered() >= EVENTS * (number - 0.5) // 7, f"wave {number}", timeout=60)

    wave()
    platform.join("w3")
    wave()
    assert platform.workers["w2"].stop() == 0
    wave()
    platform.workers["w3"].kill()
    # Definitions reach everybody while partitions move.
    extra = "CREATE MATERIALIZED VIEW good_events AS SELECT ok, count(*) AS n FROM sensor_data GROUP BY ok"
    (tmp_path / "extra.sql").write_text(extra + ";\n")
    applied = run("apply", tmp_path / "extra.sql", "--warehouse", platform.warehouse, "--data-dir", tmp_path / "x")
    assert applied.returncode == 0, applied.stderr
    wave()
    platform.join("w2")
    wave()
    platform.workers["w1"].pause()
    platform.settled()
    wave()
    # It wakes up and believes that nothing happened: what it still holds must do no harm.
    platform.workers["w1"].resume()
    platform.join("w3")
    wave()
    sending.finish()
    for replica in platform.replicas:
        replica.reached("sensor_data", production.record.ends())
        until(lambda: all_is_served(replica), "the new view", timeout=60)

    told = [session.finish() for session in sessions]
    oracle = Oracle(production.record)
    for session, answers in zip(sessions, told):
        print(f"{len(answers)} answers, refused {session.refused}, longest wait {session.longest:.1f} s")
        assert len({str(answer.frontier) for _, _, answer in answers}) > 20, "the answers hardly moved"
        compare(spread(answers, 150), oracle)
    for replica in platform.replicas:
        last = [(v, w, replica.sql(sql)) for v, w, sql in Session.QUESTIONS]
        compare(last, oracle)
        answer = replica.sql("SELECT ok, n FROM good_events")
        want = oracle.at(answer.frontier["sensor_data"]).rows("SELECT ok, count(*) AS n FROM sensor_data GROUP BY ok")
        assert {row[0]: row[1] for row in answer.rows} == {row["ok"]: row["n"] for row in want}
    audit = by_group.cli("audit", timeout=120)
    assert audit.returncode == 0, audit.stdout + audit.stderr

    what_nobody_holds(platform, production, oracle)


def what_nobody_holds(platform, production, oracle):
    """Workers are gone: what they held is named, everywhere, and may be left to the batch layer."""
    by_list = platform.replicas[0]
    for worker in platform.workers.values():
        worker.kill()
    with pytest.raises(Refused) as refused:
        until(lambda: by_list.ask("SELECT events FROM stream_totals") and None, "a refusal", timeout=30)
    assert refused.value.code in ("not_held", "not_ready") and refused.value.status == 503
    assert "partition" in refused.value.message, refused.value.message
    shown = until(lambda: unheld(by_list).get("sensor_data"), "status to say it")
    assert shown["status"] == "not_held", shown
    assert by_list.get("/readyz").status_code == 503
    asked = Client(by_list.url)
    answer = asked.ask("SELECT events, latest FROM stream_totals", thalweg_partial="allow")
    assert sorted(json.loads(answer.partial)["sensor_data"]) == list(range(PARTITIONS)), answer.partial
    oracle.at(answer.frontier["sensor_data"])
    assert answer.one()["events"] == oracle.one("SELECT count(*) AS n FROM sensor_data")["n"]

    refused = by_list.http.post(f"{by_list.url}/v1/batch/run", timeout=30)
    assert refused.status_code == 400 and "thalweg batch run" in refused.json()["error"]["message"], refused.text

    # One comes back alone and takes everything.
    platform.join("w1")
    platform.ready(timeout=60)
    by_list.reached("sensor_data", production.record.ends())


def test_a_stranger_is_not_answered(thalweg, cluster, place, tmp_path):
    """Without the token a replica is told nothing, and says which worker refused it."""
    refused = run("speed", "--flight-addr", "0.0.0.0:0", "--http-addr", "127.0.0.1:0", "--data-dir", tmp_path, timeout=20)
    assert refused.returncode == 2 and "THALWEG_CLUSTER_TOKEN" in refused.stderr, refused.stderr

    cluster.create_topic(place, 1)
    production = Production(cluster, place, seed=3, weights=(1,)).send(1000)
    where = dict(warehouse=f"file://{tmp_path}/warehouse")
    flight = f"127.0.0.1:{free_port()}"
    worker = thalweg("worker", role="speed", flight_addr=flight, partitions="0-3", environment=TOKEN, **where, **SPEED)
    batch = thalweg("batch", role="batch", batch_interval="1s", **where)
    friend = thalweg("friend", role="serve", workers=flight, environment=TOKEN | DEFINES, **where)
    stranger = thalweg("stranger", role="serve", workers=flight, **where)
    for process in (worker, batch, friend, stranger):
        process.start(ready=False)
        process.listening()
    friend.passing = PASSING
    friend.ddl(stream(cluster, place))
    friend.ddl(STREAM_TOTALS.ddl)
    friend.reached("sensor_data", production.record.ends())
    worker.until(lambda: worker.get("/readyz").status_code == 200, "the worker to be ready", 30)
    assert worker.metrics()["thalweg_frontier"]

    def refusal():
        """Once the stranger has found what is published: until then it has nothing to ask a worker for."""
        with pytest.raises(Refused) as refused:
            stranger.ask("SELECT events FROM stream_totals")
        return refused.value if refused.value.code != "not_ready" else None

    message = until(refusal, "the published view").message
    assert flight in message and "token" in message, message

    # The workers as a table, and as `thalweg status` prints them.
    columns = "address, up, reason, stream, caught_up, lag"
    known = friend.sql(f"SELECT {columns}, frontier FROM thalweg.workers").rows
    ends = {str(partition): end for partition, end in production.record.ends().items()}
    assert [row[:6] for row in known] == [(flight, True, None, "sensor_data", "[0]", 0)], known
    assert json.loads(known[0][6]) == ends
    refused = stranger.sql(f"SELECT {columns} FROM thalweg.workers").rows
    assert len(refused) == 1 and refused[0][:2] == (flight, False) and refused[0][3] is None, refused
    assert f"worker {flight}: down: it {refused[0][2]}" in stranger.cli("status").stdout


def test_a_worker_that_is_short_of_memory_is_relieved_by_an_early_run(thalweg, kafka, topic, tmp_path):
    """Only a run moves the cut, and only the cut lets a worker forget: it must not have to wait for the interval."""
    production = Production(kafka, topic, seed=11, weights=(1, 1), transactions=False)
    where = dict(warehouse=f"file://{tmp_path}/warehouse")
    flight = f"127.0.0.1:{free_port()}"
    small = dict(SPEED, memory_budget="8MiB", epoch_bytes="1MiB", grace="100ms")
    worker = thalweg("worker", role="speed", flight_addr=flight, partitions="0-1", **where, **small)
    batch = thalweg("batch", role="batch", batch_interval="1h", **where)
    replica = thalweg("replica", role="serve", workers=flight, environment=DEFINES, **where)
    for process in (worker, batch, replica):
        process.start(ready=False)
        process.listening()
    replica.passing = PASSING
    replica.ddl(stream(kafka, topic))
    replica.ddl(
        "CREATE MATERIALIZED VIEW every_one AS SELECT _partition AS p, _offset AS o, count(*) AS n,"
        " min(device) AS least, max(device) AS most, first_value(device ORDER BY _offset) AS one"
        " FROM sensor_data GROUP BY 1, 2"
    )
    until(lambda: all_is_served(replica), "the view", timeout=60)
    production.send(150_000)
    replica.reached("sensor_data", production.record.ends())
    answer = replica.sql("SELECT count(*) AS groups, sum(n) AS events FROM every_one")
    expected = Oracle(production.record).at(answer.frontier["sensor_data"]).one("SELECT count(*) AS n FROM sensor_data")
    assert answer.one() == {"groups": expected["n"], "events": expected["n"]}
    assert "an early run was asked for" in worker.log.read_text()
    assert "a speed worker is short of memory" in batch.log.read_text()


def test_one_process_at_a_time_computes_a_view(thalweg, kafka, topic, tmp_path):
    """A run that is stopped holds its lease; another one says who has it, waits, and takes it over when it is dead."""
    production = Production(kafka, topic, seed=5, weights=(1, 1), transactions=False).send(20_000)
    server = thalweg(batch_interval="1h", epoch_interval="1s", mark_interval="1s").start()
    server.ddl(stream(kafka, topic))
    server.ddl(STREAM_TOTALS.ddl)
    server.reached("sensor_data", production.record.ends())
    server.ready()
    assert server.stop() == 0
    # Both start at once: whoever comes second is told, or comes when the first is done.
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run, "batch", "run", "--full", "--wait", *server.where(), timeout=120) for _ in range(2)]
        done = [future.result() for future in runs]
    assert [d.returncode for d in done] == [0, 0], [d.stdout + d.stderr for d in done]
    leases = server.folder / "data" / "warehouse" / "leases"
    assert [len(list(view.iterdir())) for view in leases.iterdir()] == [1]
    # Someone who is alive and silent holds it; someone who died does not.
    path = next(leases.glob("*/*.json"))
    lease = json.loads(path.read_text())
    lease.update(released=False, until_ms=int(time.time() * 1000) + 3_600_000)
    lease["holder"].update(id="00000000-0000-4000-8000-000000000000", pid=os.getpid())
    path.write_text(json.dumps(lease))
    busy = run("batch", "run", "--full", *server.where(), timeout=60)
    assert busy.returncode == 1 and f"process {os.getpid()} on " in busy.stdout, busy.stdout + busy.stderr
    assert "--wait" in busy.stdout
    lease["holder"].update(pid=2**22 + 1)
    path.write_text(json.dumps(lease))
    taken = run("batch", "run", "--full", *server.where(), timeout=60)
    assert taken.returncode == 0, taken.stdout + taken.stderr
