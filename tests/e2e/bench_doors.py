"""What a door costs: the same statements through PostgreSQL (pgbench, prepared), HTTP (wrk) and Flight SQL (ADBC),
beside the time of the query itself.

    python tests/e2e/bench_doors.py [SECONDS]

For each door, statement and number of clients: the median and mean latency and the rate. `query` is the mean of
`thalweg_query_seconds` in the same seconds: from the request to the last byte, inside the server; the rest is the door,
the loopback and the client. Last, ten million rows over Flight SQL, with the memory before and at most. THALWEG_BIN is
the binary, a release build for figures; pgbench and wrk are Debian's packages.
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import adbc_driver_flightsql.dbapi as flight_sql
from confluent_kafka import Producer
from harness.servers import Kafka
from harness.thalweg import Thalweg, free_port

SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
CLIENTS = (1, 32, 64)
ROWS = 100_000
STREAM = """CREATE EXTERNAL TABLE readings (device STRING, load BIGINT) STORED AS KAFKA LOCATION 'readings'
  OPTIONS ('format' 'json')"""
VIEW = """CREATE MATERIALIZED VIEW per_device AS SELECT device, count(*) AS n, sum(load) AS total FROM readings
  GROUP BY device"""
STATEMENTS = {
    "SELECT 1": ("SELECT 1", "SELECT 1", []),
    "one group": (
        "SELECT n, total FROM per_device WHERE device = 'd-7'",
        "SELECT n, total FROM per_device WHERE device = $1",
        ["d-7"],
    ),
}
MANY = "SELECT value AS a, value * 2 AS b, value / 8.0 AS c, value % 100 AS d FROM generate_series(1, 10000000)"


def fill(kafka):
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 20})
    for i in range(ROWS):
        producer.produce("readings", json.dumps({"device": f"d-{i % 1000}", "load": i}).encode(), partition=i % 4)
        if i % 10_000 == 0:
            producer.poll(0)
    producer.flush()


def in_server(server):
    """The number of answered queries, and their seconds."""
    text = server.get("/metrics").text

    def total(what):
        lines = (line for line in text.splitlines() if line.startswith(f"thalweg_query_seconds_{what}"))
        return sum(float(line.split()[-1]) for line in lines if re.search('outcome="(ok|shared)"', line))

    return total("count"), total("sum")


def pgbench(folder, port, statement, clients):
    script = folder / "script.sql"
    script.write_text(f"{statement[0]};\n")
    url = f"host=127.0.0.1 port={port} user=me dbname=thalweg"
    logs = folder / f"pgbench-{time.monotonic_ns()}"
    options = ["-n", "-M", "prepared", "-T", str(SECONDS), "-c", str(clients), "-j", "2", "-l", f"--log-prefix={logs}"]
    command = ["pgbench", *options, "-f", script, url]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # The third field is the latency in microseconds.
    times = [int(line.split()[2]) / 1000 for log in folder.glob(f"{logs.name}*") for line in log.open()]
    rate = float(re.search(r"tps = ([\d.]+)", told)[1])
    return statistics.median(times), statistics.mean(times), rate


def wrk(folder, url, statement, clients):
    body = json.dumps({"sql": statement[1], "params": statement[2]})
    script = folder / "post.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = [==[{body}]==]\nwrk.headers['content-type'] = 'application/json'\n"
        "done = function(s, l, r)\n"
        "  io.write(string.format('MEAN %f P50 %f\\n', l.mean / 1000, l:percentile(50) / 1000))\n"
        "end\n"
    )
    command = ["wrk", "-t1", f"-c{clients}", f"-d{SECONDS}s", "-s", script, f"{url}/v1/sql"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in told, told
    mean, median = re.search(r"MEAN ([\d.]+) P50 ([\d.]+)", told).groups()
    return float(median), float(mean), float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1])


def adbc(port, statement, clients):
    """Clients in threads of one Python, so that many of them measure Python."""
    times, end = [], time.monotonic() + SECONDS

    def work():
        with flight_sql.connect(f"grpc://127.0.0.1:{port}", autocommit=True) as connection, connection.cursor() as cursor:
            values = tuple(statement[2])
            while time.monotonic() < end:
                began = time.perf_counter()
                cursor.execute(statement[1], values or None)
                cursor.fetchall()
                times.append((time.perf_counter() - began) * 1000)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statistics.median(times), statistics.mean(times), len(times) / SECONDS


def resident(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def many_rows(server, port):
    before, most, done = resident(server), [0.0], threading.Event()

    def watch():
        while not done.wait(0.02):
            most[0] = max(most[0], resident(server))

    watching = threading.Thread(target=watch)
    watching.start()
    with flight_sql.connect(f"grpc://127.0.0.1:{port}", autocommit=True) as connection, connection.cursor() as cursor:
        began, size, rows = time.perf_counter(), 0, 0
        cursor.execute(MANY)
        for batch in cursor.fetch_record_batch():
            size, rows = size + batch.nbytes, rows + batch.num_rows
        took = time.perf_counter() - began
    done.set()
    watching.join()
    print(
        f"{rows:,} rows over Flight SQL: {size / took / 1e6:.0f} MB/s, {took:.2f} s, "
        f"{before:.0f} MiB before and {most[0]:.0f} MiB at most",
        flush=True,
    )


def main():
    with tempfile.TemporaryDirectory(prefix="thalweg-doors-") as folder:
        folder = pathlib.Path(folder)
        kafka = Kafka(folder / "kafka")
        ports = {"POSTGRES": free_port(), "FLIGHT_SQL": free_port()}
        environment = {f"THALWEG_{door}_ADDR": f"127.0.0.1:{port}" for door, port in ports.items()}
        # Every query is computed.
        environment["THALWEG_KEPT_ANSWERS"] = "1"
        server = Thalweg(
            folder / "one", kafka={"bootstrap.servers": kafka.bootstrap}, environment=environment, batch_interval="1h"
        )
        try:
            kafka.create_topic("readings", 4)
            fill(kafka)
            server.start()
            server.ddl(STREAM)
            server.ddl(VIEW)
            server.until(lambda: server.sql("SELECT sum(n) FROM per_device").rows == [(ROWS,)], "all rows", 300)
            doors = {
                "PostgreSQL": lambda statement, clients: pgbench(folder, ports["POSTGRES"], statement, clients),
                "HTTP": lambda statement, clients: wrk(folder, server.url, statement, clients),
                "Flight SQL": lambda statement, clients: adbc(ports["FLIGHT_SQL"], statement, clients),
            }
            print(f"{'statement':10} {'door':11} {'clients':>7} {'p50 ms':>8} {'mean ms':>8} {'query ms':>9} {'per s':>8}")
            for name, statement in STATEMENTS.items():
                for door, ask in doors.items():
                    for clients in CLIENTS:
                        count, seconds = in_server(server)
                        median, mean, rate = ask(statement, clients)
                        more, spent = in_server(server)
                        inside = (spent - seconds) * 1000 / max(more - count, 1)
                        print(
                            f"{name:10} {door:11} {clients:7} {median:8.2f} {mean:8.2f} {inside:9.2f} {rate:8.0f}",
                            flush=True,
                        )
            many_rows(server, ports["FLIGHT_SQL"])
        finally:
            server.close()
            kafka.down()


if __name__ == "__main__":
    main()
