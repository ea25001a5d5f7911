"""Limits are limits: hostile queries of six kinds beside `SELECT 1` and a point lookup on a view.

No query outlives its time, exceeds its memory by more than a quarter, or keeps another from being answered; a client that
goes away takes its work with it; readiness tells the truth.

    python tests/e2e/test_limits.py     prints p50 and p99 of both questions beside each kind
"""

import contextlib
import json
import pathlib
import socket
import tempfile
import threading
import time

import pytest
import requests
from confluent_kafka import Producer
from harness.thalweg import Refused, Thalweg

pytestmark = pytest.mark.alone

ROWS = 2_000
TIME = 3
MEMORY = 128 << 20
HOSTILE = 4
LOST = 4
SECONDS = 5

STREAM = """CREATE EXTERNAL TABLE s (k STRING, n BIGINT, tags BIGINT[]) STORED AS KAFKA LOCATION '{topic}'
  OPTIONS ('format' 'json')"""
VIEW = "CREATE MATERIALIZED VIEW per_key AS SELECT k, count(*) AS c, sum(n) AS total FROM s GROUP BY k"

# A query with the number of its client in it, so that no two are the same.
KINDS = {
    "cross joins": [
        "SELECT a.k, b.k, c.k, count(*) FROM s a, s b, s c GROUP BY 1, 2, 3 ORDER BY 4 LIMIT {n}",
        "SELECT count(*) FROM s a, s b, s c WHERE (a.n * b.n + c.n) % 1000003 = 1000004 + {n}",
        "SELECT count(*) FROM s a JOIN s b ON a.n % 2 = b.n % 2 JOIN s c ON b.n % 2 = c.n % 2 AND a.n * c.n < 0 - {n}",
        "SELECT a.k, count(*) FROM s a, s b, s c, s d WHERE a.n < b.n AND c.n < d.n GROUP BY 1 LIMIT {n}",
    ],
    "wide strings": [
        "SELECT array_agg(repeat(k, 20000 + {n})) FROM s",
        "SELECT repeat(k, 1000000 + {n}) FROM s",
        "SELECT max(length(repeat(k, 1000000 + {n} + n))) FROM s",
        "SELECT lpad(k, 3000000 + {n}), rpad(k, 3000000) FROM s",
        "SELECT a.w, b.k FROM (SELECT repeat(k, 20000 + {n}) AS w FROM s) a, s b",
    ],
    "deep expressions": [
        "SELECT max(" + " + ".join(["a.n * b.n"] * 80) + " + {n}) FROM s a, s b",
        "SELECT " + " || ".join(["k"] * 200) + " FROM s ORDER BY n + {n}",
        "SELECT count(*) FROM s WHERE " + " OR ".join(f"n % {i + 2} = {i + 1}" for i in range(150)) + " OR n = {n}",
    ],
    "huge sorts": [
        "SELECT a.n FROM s a, s b, generate_series(1, 1000) g(i) ORDER BY a.n * b.n % 1009, i + {n} OFFSET 1000000000",
        "SELECT a.k, sum(a.n) OVER (ORDER BY b.n + {n}) FROM s a, s b OFFSET 100000000",
    ],
    "unnested arrays": [
        "SELECT count(*) FROM (SELECT unnest(range(1, 10000000 + n + {n})) FROM s)",
        "SELECT k, unnest(array_repeat(k, 1000000 + {n})) FROM s",
        "SELECT count(*) FROM (SELECT unnest(a.tags) x FROM s a, s b, s c) WHERE x = {n}",
    ],
    "recursive queries": [
        "WITH RECURSIVE t AS (SELECT {n} AS i UNION ALL SELECT i + 1 FROM t) SELECT count(*) FROM t",
        "WITH RECURSIVE t AS (SELECT {n} AS i UNION ALL SELECT i + n FROM t, s) SELECT count(*) FROM t",
        "WITH RECURSIVE t AS (SELECT 'ab{n}' AS w UNION ALL SELECT w || w FROM t) SELECT max(length(w)) FROM t",
    ],
}
# What the limits are for: of each kind, at least one query ends so.
GUARDS = {
    "cross joins": "timeout",
    "wide strings": "memory_limit",
    "deep expressions": "timeout",
    "huge sorts": "timeout",
    "unnested arrays": "memory_limit",
    "recursive queries": "timeout",
}
ENDS = {"timeout", "memory_limit", "too_large", "too_busy", "query_failed"}
POINT = "SELECT c, total FROM per_key WHERE k = 'key-0000007'"


def fill(bootstrap, topic):
    producer = Producer({"bootstrap.servers": bootstrap})
    for i in range(ROWS):
        row = {"k": f"key-{i:07}", "n": i, "tags": list(range(i % 50))}
        producer.produce(topic, json.dumps(row).encode(), partition=i % 2)
    producer.flush()


def define(server, topic):
    server.ddl(STREAM.format(topic=topic))
    server.ddl(VIEW)
    server.until(lambda: server.sql("SELECT count(*) FROM s").rows == [(ROWS,)], "all rows", 60)
    server.ready()


@pytest.fixture
def server(thalweg, kafka, topic):
    fill(kafka.bootstrap, topic)
    server = thalweg(
        query_timeout=f"{TIME}s", query_memory=MEMORY, all_queries_memory=2 * MEMORY, max_queries=3, batch_interval="2s",
        max_join_pairs=10**15,
    ).start()
    define(server, topic)
    return server


def resident(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def busy(server, seconds=1.0):
    """The part of a core that the process uses."""

    def used():
        fields = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    before = used()
    time.sleep(seconds)
    return (used() - before) / seconds


def ask(url, sql, timeout=120):
    """Asks to the end of the answer, without keeping it; the code of the error, or 'ok'."""
    began = time.monotonic()
    with requests.post(f"{url}/v1/sql", data=sql.encode(), stream=True, timeout=timeout) as response:
        if response.status_code != 200:
            return response.json()["error"]["code"], time.monotonic() - began
        try:
            for _ in response.iter_content(1 << 20):
                pass
        except requests.RequestException:
            return "timeout", time.monotonic() - began
    return "ok", time.monotonic() - began


class Hostile:
    """Clients that ask the queries of one kind again and again."""

    def __init__(self, url, queries, clients=HOSTILE):
        self.ends = []
        self.stop = threading.Event()
        self.threads = [
            threading.Thread(target=self._work, args=(url, queries, client), daemon=True) for client in range(clients)
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)

    def _work(self, url, queries, number):
        while not self.stop.is_set():
            with contextlib.suppress(requests.RequestException):
                sql = queries[number % len(queries)].replace("{n}", str(number + 1))
                self.ends.append((sql, *ask(url, sql)))
            number += HOSTILE


def beside(server, seconds=SECONDS):
    """Times in seconds of `SELECT 1` and of the point lookup, asked in turn, and the greatest resident memory."""
    times, most = {"SELECT 1": [], POINT: []}, 0
    until_time = time.monotonic() + seconds
    with requests.Session() as http:
        while time.monotonic() < until_time:
            for sql, taken in times.items():
                began = time.monotonic()
                answer = http.post(f"{server.url}/v1/sql", data=sql.encode(), timeout=60)
                taken.append(time.monotonic() - began if answer.status_code == 200 else 60.0)
            most = max(most, resident(server))
            time.sleep(0.02)
    return times, most


def is_honest(server):
    """Not ready if, and only if, too many queries do not end; looked at before and after."""
    lost = [server.metrics()["thalweg_queries_lost"][""] for _ in range(2)]
    ready = server.get("/readyz").status_code == 200
    lost.append(server.metrics()["thalweg_queries_lost"][""])
    return len(set(lost)) == 1 and ready == (lost[0] < LOST)


def percentile(times, percent):
    return sorted(times)[min(len(times) * percent // 100, len(times) - 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_queries_keep_nobody_waiting(server, kind):
    before = resident(server)
    with Hostile(server.url, KINDS[kind]) as hostile:
        times, most = beside(server)
        assert server.get("/healthz").elapsed.total_seconds() < 1
        server.until(lambda: is_honest(server), "readiness that tells the truth", 10)
    for sql, taken in times.items():
        assert percentile(taken, 99) < 1, f"{sql} beside {kind}: {sorted(taken)[-5:]}"
    for sql, code, seconds in hostile.ends:
        assert code in ENDS | {"ok"}, f"{sql}: {code}"
        # A query waits up to 5 s for a place, then has its time.
        assert seconds < 5 + TIME + 2, f"{sql}: {code} after {seconds:.1f} s"
    assert GUARDS[kind] in {code for _, code, _ in hostile.ends}, f"{kind}: {hostile.ends}"
    assert most < before + 2 * MEMORY * 5 // 4, f"{kind}: {before >> 20} MiB became {most >> 20} MiB"
    for metric in ("thalweg_queries_running", "thalweg_queries_lost"):
        server.until(lambda name=metric: server.metrics()[name][""] == 0, f"{metric} 0", 15)
    assert server.get("/readyz").status_code == 200
    assert busy(server) < 0.5


def test_a_client_that_goes_away_takes_its_work_along(server):
    sql = KINDS["cross joins"][0].replace("{n}", "1")
    body = f"POST /v1/sql HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(sql)}\r\n\r\n{sql}".encode()
    for _ in range(4):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(body)
            server.until(lambda: server.metrics()["thalweg_queries_running"][""] == 1, "the query", 10)
        server.until(lambda: server.metrics()["thalweg_queries_running"][""] == 0, "the end of the query", TIME - 1)
    assert busy(server) < 0.5
    assert ask(server.url, "SELECT 1")[0] == "ok"


# Values of window functions that are far larger than their rows.
WINDOWS = [
    "array_agg(a.n) OVER (ORDER BY a.n, b.n)",
    "string_agg(a.k, ',') OVER (ORDER BY a.n, b.n)",
    "array_agg(a.n) OVER ()",
    "array_agg(a.n) FILTER (WHERE a.n % 2 = 0) OVER (PARTITION BY b.n)",
    "max(CASE WHEN a.n = 7 THEN repeat(a.k, 2000) END) OVER ()",
    "first_value(CASE WHEN a.n = 0 THEN repeat(a.k, 2000) END) OVER (ORDER BY a.n, b.n)",
]


@pytest.mark.parametrize("call", WINDOWS)
def test_values_of_window_functions_count(server, call):
    before = resident(server)
    query = f"SELECT count(v) FROM (SELECT {call} AS v FROM s a JOIN s b ON b.n < 50)"
    ended = []
    asking = threading.Thread(target=lambda: ended.append(ask(server.url, query)))
    asking.start()
    most = before
    while asking.is_alive():
        most = max(most, resident(server))
        time.sleep(0.02)
    assert ended[0][0] in ENDS, ended
    assert most < before + MEMORY * 5 // 4, f"{before >> 20} MiB became {most >> 20} MiB: {ended}"


def test_a_join_that_cannot_end_is_refused_with_advice(thalweg, kafka, topic):
    fill(kafka.bootstrap, topic)
    server = thalweg(max_join_pairs=1_000_000, batch_interval="2s").start()
    define(server, topic)
    with pytest.raises(Refused, match="max_join_pairs") as refused:
        server.ask("SELECT count(*) FROM s a, s b")
    assert refused.value.code == "too_large"
    assert server.ask("SELECT count(*) FROM s a JOIN s b ON a.k = b.k").rows == [(ROWS,)]


def main():
    """Prints what `SELECT 1` and the point lookup take beside each kind."""
    from harness.servers import Kafka

    with tempfile.TemporaryDirectory(prefix="thalweg-limits-") as folder:
        folder = pathlib.Path(folder)
        kafka = Kafka(folder / "kafka")
        try:
            kafka.create_topic("s", 2)
            fill(kafka.bootstrap, "s")
            for kind, queries in {"nothing": [], **KINDS}.items():
                options = dict(query_timeout=f"{TIME}s", query_memory=MEMORY, batch_interval="2s")
                options["kafka"] = {"bootstrap.servers": kafka.bootstrap}
                server = Thalweg(folder / kind.replace(" ", "-"), **options).start()
                try:
                    define(server, "s")
                    with Hostile(server.url, queries, HOSTILE if queries else 0) as hostile:
                        times, most = beside(server, 6)
                        figures = [f"{1000 * percentile(t, p):6.0f}" for t in times.values() for p in (50, 99)]
                        print(f"{kind:20} SELECT 1 {figures[0]} {figures[1]} ms   lookup {figures[2]} {figures[3]} ms", end="")
                        print(f"   {most >> 20} MiB", flush=True)
                        if not server.alive():
                            print("    the server has ended")
                        server.kill()
                    del hostile
                finally:
                    server.close()
        finally:
            kafka.down()


if __name__ == "__main__":
    main()
