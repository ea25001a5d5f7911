"""Changes of views as server-sent events, through requests and curl, against real Kafka: what a client has after each
`frontier` is what one query says at that frontier, whatever dies in between."""

import contextlib
import http.client
import json
import re
import socket
import subprocess
import threading
import time
import urllib.parse

import psycopg
import pytest
import requests
from confluent_kafka import Producer
from harness.platform import Platform
from harness.wait import until

FAST = dict(epoch_interval="200ms", mark_interval="400ms", batch_interval="1s", micro_batch_wait="20ms")
STREAM = """CREATE EXTERNAL TABLE s (k STRING, n BIGINT, tags STRING[]) STORED AS KAFKA LOCATION '{topic}'
  OPTIONS ('format' 'json')"""
# A key leaves `small` once it has more than 40.
VIEWS = """CREATE MATERIALIZED VIEW per_key AS SELECT k, count(*) AS c, sum(n) AS total, max(tags) AS tags FROM s GROUP BY k;
CREATE MATERIALIZED VIEW small AS SELECT upper(k) AS key, sum(n) AS total FROM s GROUP BY upper(k), n % 2 HAVING sum(n) <= 40;
CREATE MATERIALIZED VIEW whole AS SELECT count(*) AS c, avg(n) AS mean FROM s"""


def send(bootstrap, topic, first, count, keys=50):
    producer = Producer({"bootstrap.servers": bootstrap})
    for i in range(first, first + count):
        row = {"k": None if i % 11 == 0 else f"key {i % keys}", "n": i % 7, "tags": ["ü", str(i % 3)]}
        producer.produce(topic, json.dumps(row).encode(), partition=i % 2)
    producer.flush()


class Listener:
    """A client that keeps rows and the id of the last frontier, as a program that writes to a table would."""

    def __init__(self, url, view, since=None, rows=None, **parameters):
        self.rows, self.id, self.frontier = dict(rows or {}), since, None
        self.pending, self.events, self.resets, self.failure = None, [], 0, None
        path = f"/v1/views/{view}/changes?{urllib.parse.urlencode(parameters)}"
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=120)
        connection.request("GET", path, headers={"Last-Event-ID": since} if since else {})
        self.socket = connection.sock
        self.response = connection.getresponse()
        assert self.response.status == 200, self.response.read()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        event = {}
        with contextlib.suppress(OSError, http.client.HTTPException):
            while line := self.response.readline():
                line = line.decode().rstrip("\n")
                if not line:
                    if event:
                        self._take(event)
                    event = {}
                elif not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    event[name] = value

    def _take(self, event):
        kind, data = event["event"], json.loads(event["data"])
        self.events.append(kind)
        if self.pending is None:
            self.pending = dict(self.rows)
        if kind == "reset":
            self.resets += 1
            self.pending = {}
        elif kind == "upsert":
            key = json.dumps(data["key"])
            assert self.pending.get(key) != data["row"], f"{key} has not changed"
            self.pending[key] = data["row"]
        elif kind == "delete":
            assert self.pending.pop(json.dumps(data["key"])) == data["row"]
        elif kind == "failure":
            self.failure = data["error"]
        else:
            # One transaction: the rows and the place.
            rows, self.pending = self.pending, None
            self.rows, self.id, self.frontier = rows, event["id"], data["frontier"]

    def reaches(self, count, timeout=60):
        """Waits for a frontier with `count` messages below it."""
        until(lambda: self.frontier and sum(self.frontier.values()) >= count, f"{count} messages", timeout)
        return self

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)

    def sorted(self):
        return sorted(json.dumps(row) for row in self.rows.values())


def answer(server, sql):
    """The rows of a query as objects, sorted, and its frontier."""
    response = requests.post(
        f"{server.url}/v1/sql", data=sql.encode(), headers={"accept": "application/x-ndjson"}, timeout=60
    )
    assert response.status_code == 200, response.text
    rows = sorted(json.dumps(json.loads(line)) for line in response.text.splitlines())
    return rows, json.loads(response.headers["thalweg-frontier"])["s"]


def agrees(listener, server, sql):
    rows, frontier = answer(server, sql)
    listener.reaches(sum(frontier.values()))
    assert listener.frontier == frontier
    assert listener.sorted() == rows


@pytest.fixture
def server(thalweg, kafka, topic):
    send(kafka.bootstrap, topic, 0, 1000)
    server = thalweg(**FAST).start()
    server.ddl(STREAM.format(topic=topic))
    server.ddl(VIEWS)
    server.until(lambda: server.sql("SELECT c FROM whole").rows == [(1000,)], "all rows", 60)
    server.ready()
    return server


def test_a_listener_has_the_rows_of_a_query(server, kafka, topic):
    asked = {
        "SELECT * FROM per_key": Listener(server.url, "per_key"),
        "SELECT * FROM small": Listener(server.url, "small"),
        "SELECT * FROM whole": Listener(server.url, "whole"),
        "SELECT k, c FROM per_key WHERE c BETWEEN 20 AND 40": Listener(
            server.url, "per_key", columns="k,c", where="c BETWEEN 20 AND 40"
        ),
        "SELECT total FROM per_key WHERE k IS NULL OR tags[1] = 'x'": Listener(
            server.url, "per_key", columns="total", where="k IS NULL OR tags[1] = 'x'"
        ),
    }
    for step in range(6):
        send(kafka.bootstrap, topic, 1000 + 300 * step, 300, keys=50 + step)
        server.until(lambda n=1300 + 300 * step: server.sql("SELECT c FROM whole").rows == [(n,)], "all rows", 60)
        for sql, listener in asked.items():
            agrees(listener, server, sql)
    for sql, listener in asked.items():
        assert listener.resets == 1, sql
    kinds = {sql: set(listener.events) for sql, listener in asked.items()}
    assert "delete" in kinds["SELECT * FROM small"]
    assert "delete" in kinds["SELECT k, c FROM per_key WHERE c BETWEEN 20 AND 40"]
    assert "delete" not in kinds["SELECT * FROM per_key"]


def test_a_listener_goes_on_after_every_death(server, kafka, topic):
    """The server is killed, the batch layer passes the client's frontier, and the client goes on without a reset."""
    listener = Listener(server.url, "per_key").reaches(1000)
    for death in range(3):
        send(kafka.bootstrap, topic, 1000 + 200 * death, 100)
        listener.reaches(1100 + 200 * death)
        if death == 1:
            listener.close()
        server.kill()
        rows, last = listener.rows, listener.id
        send(kafka.bootstrap, topic, 1100 + 200 * death, 100)
        server.start()
        view = lambda: next(v for v in server.json("/v1/views")["views"] if v["name"] == "per_key")  # noqa: E731
        place = dict(pair.split(":") for pair in last.partition("@")[2].split(","))
        server.until(
            lambda at=place: all(view()["cut"].get(p, 0) > int(offset) for p, offset in at.items()), "a cut above", 60
        )
        listener = Listener(server.url, "per_key", since=last, rows=rows)
        agrees(listener, server, "SELECT * FROM per_key")
        assert listener.resets == 0 and listener.events.count("frontier") >= 1
    listener.close()


def test_a_replica_gives_changes_and_another_one_goes_on(thalweg, kafka, topic, tmp_path):
    """Workers hold the rows, a batch process publishes; a worker dies, and the client moves to the other replica."""
    send(kafka.bootstrap, topic, 0, 500)
    platform = Platform(thalweg, tmp_path / "warehouse", ["a", "b"])
    first, second = platform.replicas
    first.ddl(STREAM.format(topic=topic))
    first.ddl(VIEWS)
    platform.join("a", "b")
    platform.ready()
    platform.settled()
    listeners = {view: Listener(first.url, view).reaches(500, 90) for view in ("per_key", "small", "whole")}
    for step in range(3):
        send(kafka.bootstrap, topic, 500 + 200 * step, 200)
        for view, listener in listeners.items():
            listener.reaches(700 + 200 * step, 90)
            agrees(listener, first, f"SELECT * FROM {view}")
    assert [listener.resets for listener in listeners.values()] == [1, 1, 1]
    for listener in listeners.values():
        listener.close()
    platform.workers["a"].kill()
    send(kafka.bootstrap, topic, 1100, 200)
    platform.join("a")
    moved = {
        view: Listener(second.url, view, since=listener.id, rows=listener.rows)
        for view, listener in listeners.items()
        if second.until(lambda: second.sql("SELECT c FROM whole").rows == [(1300,)], "all rows", 90)
    }
    for view, listener in moved.items():
        listener.reaches(1300, 90)
        agrees(listener, second, f"SELECT * FROM {view}")
        assert listener.resets == 0, view


def test_a_view_that_is_replaced_begins_anew_and_one_that_is_dropped_ends(server, kafka, topic):
    listener, other = Listener(server.url, "whole").reaches(1000), Listener(server.url, "small").reaches(1000)
    server.ddl("CREATE OR REPLACE MATERIALIZED VIEW whole AS SELECT count(*) AS c, max(n) AS most FROM s")
    until(lambda: listener.resets == 2 and listener.pending is None, "a reset", 60)
    assert list(listener.rows.values()) == [{"c": 1000, "most": 6}]
    send(kafka.bootstrap, topic, 1000, 10)
    listener.reaches(1010)
    assert list(listener.rows.values()) == [{"c": 1010, "most": 6}]
    server.ddl("DROP MATERIALIZED VIEW small")
    until(lambda: other.failure, "the end", 60)
    assert other.failure["code"] == "not_found"
    other.thread.join(10)
    assert not other.thread.is_alive()


def test_mistakes_are_errors_and_not_events(server):
    def refused(path, status, code, **more):
        answer = requests.get(f"{server.url}/v1/views/{path}", timeout=10, **more)
        assert answer.headers["content-type"] == "application/json", (path, answer.headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text

    refused("nothing/changes", 404, "not_found")
    refused("whole/changes?limit=1", 400, "bad_request")
    refused("whole/changes?format=csv", 400, "bad_request")
    refused("whole/changes?since=1", 400, "bad_request")
    refused("whole/changes", 400, "bad_request", headers={"Last-Event-ID": "abc@0:x"})
    refused("whole/changes?columns=nothing", 400, "invalid_query")
    refused("whole/changes?where=c+%2B", 400, "syntax")
    refused("whole/changes?where=c+IN+(SELECT+1)", 400, "syntax")
    refused("whole/changes?where=nothing+%3E+1", 400, "invalid_query")


def test_a_condition_that_eats_memory_ends_its_listener_alone(server, kafka, topic):
    other = Listener(server.url, "per_key")
    greedy = Listener(server.url, "per_key", where="length(repeat(coalesce(k, 'x'), 100000000)) > 1")
    until(lambda: greedy.failure, "the end", 60)
    assert greedy.failure["code"] in ("memory_limit", "query_failed", "timeout"), greedy.failure
    send(kafka.bootstrap, topic, 1000, 10)
    other.reaches(1010)
    agrees(other, server, "SELECT * FROM per_key")


def test_a_hundred_listeners_cost_one_step(thalweg, kafka, topic):
    send(kafka.bootstrap, topic, 0, 100)
    server = thalweg(**FAST, environment={"THALWEG_MAX_LISTENERS": "100"}).start()
    server.ddl(STREAM.format(topic=topic))
    server.ddl(VIEWS)
    server.until(lambda: server.sql("SELECT c FROM whole").rows == [(100,)], "all rows", 60)
    server.ready()
    listeners = [Listener(server.url, "per_key") for _ in range(100)]
    too_many = requests.get(f"{server.url}/v1/views/per_key/changes", timeout=10)
    assert (too_many.status_code, too_many.json()["error"]["code"]) == (503, "too_busy")
    for listener in listeners:
        listener.reaches(100)
    send(kafka.bootstrap, topic, 100, 100)
    for listener in listeners:
        listener.reaches(200)
    expect, _ = answer(server, "SELECT * FROM per_key")
    assert all(listener.sorted() == expect for listener in listeners)
    for listener in listeners[1:]:
        listener.close()
    # The places of those who have gone are free.
    until(lambda: Listener(server.url, "per_key").reaches(200), "a place", 20)
    began = time.monotonic()
    assert server.stop(20) == 0
    assert time.monotonic() - began < 5, "listeners do not hold the end up"


def test_curl_shows_the_rows(server):
    shown = subprocess.run(
        ["curl", "-sN", "--max-time", "3", f"{server.url}/v1/views/whole/changes"], capture_output=True, text=True
    ).stdout.split("\n\n")
    assert [part.split("\n")[0] for part in shown[:3]] == ["event: reset", "event: upsert", "event: frontier"]
    assert json.loads(shown[1].split("data: ")[1]) == {"key": {}, "row": {"c": 1000, "mean": answer_mean(server)}}


def answer_mean(server):
    return server.sql("SELECT mean FROM whole").rows[0][0]


def postgres(server):
    port = re.search(r"postgres://127\.0\.0\.1:(\d+)", server.out.read_text())[1]
    return f"host=127.0.0.1 port={port} user=me dbname=thalweg"


class Copier:
    """A program that copies changes through PostgreSQL, and keeps the token with the rows."""

    def __init__(self, server, query):
        self.rows, self.token, self.resets, self.error = {}, None, 0, None
        self.connection = psycopg.connect(postgres(server), autocommit=True)
        self.thread = threading.Thread(target=self._read, args=(query,), daemon=True)
        self.thread.start()

    def _read(self, query):
        pending = {}
        try:
            with self.connection.cursor().copy(f"COPY ({query}) TO STDOUT") as copy:
                for change, token, key, *values in copy.rows():
                    if change == "reset":
                        pending, self.resets = {}, self.resets + 1
                    elif change == "upsert":
                        pending[key] = values
                    elif change == "delete":
                        assert pending.pop(key) == values
                    else:
                        self.rows, self.token = dict(pending), token
        except psycopg.Error as error:
            self.error = error

    def count(self):
        return sum(int(pair.split(":")[1]) for pair in self.token.partition("@")[2].split(","))

    def reaches(self, count):
        until(lambda: self.token and self.count() >= count, f"{count} messages", 60)


def test_copy_has_the_changes(server, kafka, topic):
    copier = Copier(server, "SELECT _change, _token, k, c, total FROM changes('per_key') WHERE c < 30")
    copier.reaches(1000)
    for step in range(3):
        send(kafka.bootstrap, topic, 1000 + 300 * step, 300)
        copier.reaches(1300 + 300 * step)
        rows = server.sql("SELECT k, c, total FROM per_key WHERE c < 30").rows
        assert copier.rows == {k: [str(c), str(total)] for k, c, total in rows}
    assert copier.resets == 1
    # A cancelled COPY is an error, and the connection goes on.
    copier.connection.cancel_safe()
    copier.thread.join(20)
    assert copier.error.sqlstate == "57014"
    assert copier.connection.execute("SELECT 1").fetchone() == (1,)
    last = copier.token
    send(kafka.bootstrap, topic, 1900, 7)
    server.until(lambda: server.sql("SELECT c FROM whole").rows == [(1907,)], "all rows", 60)
    # psql writes what it has when it is interrupted.
    psql = ["psql", "-X", "-At", "-c", f"COPY (SELECT * FROM changes('per_key', '{last}')) TO STDOUT (FORMAT csv)"]
    shown = subprocess.run(["timeout", "-s", "INT", "3", *psql, postgres(server)], capture_output=True, text=True).stdout
    lines = shown.splitlines()
    # Seven groups have changed since, and nothing is sent anew.
    assert [line.split(",")[0] for line in lines] == ["upsert"] * 7 + ["frontier"], shown


def test_copies_of_changes_that_ask_for_more_are_refused(server):
    with psycopg.connect(postgres(server), autocommit=True) as connection:

        def refused(query, sqlstate):
            with pytest.raises(psycopg.Error) as error:
                connection.cursor().copy(f"COPY ({query}) TO STDOUT").__enter__()
            assert error.value.sqlstate == sqlstate, error.value

        refused("SELECT * FROM changes('per_key') LIMIT 3", "0A000")
        refused("SELECT count(*) FROM changes('per_key') GROUP BY k", "0A000")
        refused("SELECT nothing FROM changes('per_key')", "42703")
        refused("SELECT * FROM changes('nothing')", "42P01")
        refused("SELECT * FROM changes('per_key', 'x')", "0A000")
        assert connection.execute("SELECT 1").fetchone() == (1,)
