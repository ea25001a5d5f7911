"""The whole process, measured: one line a figure, each beside what it is measured against.

    python tests/e2e/bench.py [throughput] [memory] [query] [rebuild] [freshness]

THALWEG_BIN is the binary, BARE_CONSUMER the example of that name; THALWEG_BENCH_EVENTS (default 10,000,000) how many
events the large topic has. Figures are of the machine they run on, where the broker runs too.
"""

import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from confluent_kafka import Producer

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness.servers import Kafka
from harness.thalweg import Thalweg, binary, run
from harness.wait import until

EVENTS = int(os.environ.get("THALWEG_BENCH_EVENTS", 10_000_000))
BARE = os.environ.get("BARE_CONSUMER", str(pathlib.Path(binary()).parent / "examples" / "bare_consumer"))
DEVICES = 100_000
PARTITIONS = 6
BUDGET = 512 << 20
RATE = 20_000
PROBES = 100
ASKED = 200

STREAM = """CREATE EXTERNAL TABLE {name} (device STRING, ts TIMESTAMP, temperature DOUBLE, load BIGINT)
  STORED AS KAFKA LOCATION '{topic}' OPTIONS ('format' 'json', 'event_time' 'ts');"""
VIEWS = """
CREATE MATERIALIZED VIEW per_device AS SELECT device, count(*) AS n, sum(load) AS total, avg(temperature) AS mean,
  max(temperature) AS peak, min(temperature) AS low FROM {name} GROUP BY device;
CREATE MATERIALIZED VIEW per_minute AS SELECT date_bin(INTERVAL '1 minute', ts) AS minute, count(*) AS n,
  approx_percentile_cont(temperature, 0.99) AS p99, count(*) FILTER (WHERE temperature > 90) AS alarms
  FROM {name} GROUP BY 1;
CREATE MATERIALIZED VIEW overall AS SELECT count(*) AS n, sum(load) AS total, approx_distinct(device) AS devices
  FROM {name};"""


def event(i):
    """Event `i`, about 110 bytes; every device occurs once in DEVICES events."""
    minute, second = divmod(i // 1000 % 3600, 60)
    device = i * 7919 % DEVICES
    return (
        f'{{"device":"plant-7/device-{device:06}","ts":"2026-01-01T00:{minute:02}:{second:02}.{i % 1000 * 1000:06}Z",'
        f'"temperature":{i * 31 % 10_000 / 100:.4f},"load":{i * 17 % 1_000_000 * 1_000_003}}}'
    ).encode()


def fill(bootstrap, topic, start, count):
    """Produces events [start, start + count) as fast as they go."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 20,
            "batch.size": 1 << 20,
            "queue.buffering.max.messages": 500_000,
        }
    )
    ready = [event(i) for i in range(2 * DEVICES)]
    for i in range(start, start + count):
        while True:
            try:
                producer.produce(topic, ready[i % len(ready)], partition=i % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.05)
        if i % 1000 == 0:
            producer.poll(0)
    producer.flush()


def trickle(bootstrap, topic, rate, seconds):
    """Produces `rate` events a second, in steps of 5 ms."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    ready = [event(i) for i in range(DEVICES)]
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        while sent < passed * rate:
            producer.produce(topic, ready[sent % DEVICES], partition=sent % PARTITIONS)
            sent += 1
        producer.poll(0)
        time.sleep(0.005)
    producer.flush()


def say(what, measured, against):
    print(f"{what:<42} {measured:<28} {against}", flush=True)


def peak_memory(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


class Bench:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.kafka = Kafka(self.folder / "kafka")

    def server(self, name, events, **options):
        """A topic of `events` events and a process that has the definitions and has read nothing yet."""
        self.kafka.create_topic(name, PARTITIONS)
        fill(self.kafka.bootstrap, name, 0, events)
        definitions = self.folder / f"{name}.sql"
        definitions.write_text(STREAM.format(name=name, topic=name) + VIEWS.format(name=name))
        return Thalweg(
            self.folder / name,
            kafka={"bootstrap.servers": self.kafka.bootstrap},
            memory_budget=BUDGET,
            apply=definitions,
            batch_interval="30s",
            epoch_interval="10s",
            epoch_bytes="64MiB",
            mark_interval="10s",
            **options,
        )

    def read_all(self, server, name, events):
        """Waits until `events` messages are read; the seconds since the first."""

        def read():
            (stream,) = server.get("/v1/streams").json()["streams"]
            assert stream["name"] == name and not stream["failure"], stream["failure"]
            return sum((stream["frontier"] or {}).values())

        until(lambda: read() > 0, "the first message", 60, every=0.002)
        began = time.monotonic()
        until(lambda: read() >= events, f"{events} messages", 1800, every=0.05)
        return time.monotonic() - began

    def settle(self, server, name, extra, events):
        """Lets the batch layer cover everything, then adds `extra` events that only the speed layer has."""

        def covered():
            views = server.get("/v1/views").json()["views"]
            return all(view["cut"] and sum(view["cut"].values()) >= events for view in views)

        until(covered, "batch states of everything", 900, every=0.5)
        fill(self.kafka.bootstrap, name, events, extra)
        until(lambda: server.sql("SELECT n FROM overall").rows[0][0] >= events + extra, "the rest", 300)

    def query(self, server):
        """p50 and p99 in ms of one device's row out of all."""
        times = []
        for i in range(ASKED + 20):
            began = time.perf_counter()
            answer = server.ask(f"SELECT * FROM per_device WHERE device = 'plant-7/device-{i * 457 % DEVICES:06}'")
            times.append((time.perf_counter() - began) * 1000)
            assert len(answer.rows) == 1
        times = sorted(times[20:])
        return times[len(times) // 2], times[len(times) * 99 // 100]

    def freshness(self, server, name):
        """p50 and p99 in ms from producing an event to an answer that counts it, under load."""
        load = multiprocessing.Process(target=trickle, args=(self.kafka.bootstrap, name, RATE, 30), daemon=True)
        load.start()
        time.sleep(3)
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap, "linger.ms": 0})
        times = []
        for i in range(PROBES):
            probe = {"device": f"probe-{i}", "ts": "2026-01-01T00:00:00Z", "temperature": 1.0, "load": 1}
            began = time.perf_counter()
            producer.produce(name, json.dumps(probe).encode(), partition=i % PARTITIONS)
            producer.poll(0)
            asked = f"SELECT n FROM per_device WHERE device = 'probe-{i}'"
            while not server.ask(asked).rows:
                producer.poll(0)
            times.append((time.perf_counter() - began) * 1000)
        load.terminate()
        times.sort()
        return times[len(times) // 2], times[len(times) * 99 // 100]


def bare(bootstrap, topic):
    """Messages a second of librdkafka alone: the median of three."""
    rates = []
    for _ in range(3):
        messages, _, seconds = subprocess.check_output([BARE, bootstrap, topic], text=True).split()
        rates.append(int(messages) / float(seconds))
    return statistics.median(rates)


def main(wanted):
    with tempfile.TemporaryDirectory(prefix="thalweg-bench-") as folder:
        bench = Bench(folder)
        try:
            measure(bench, wanted or ["throughput", "memory", "query", "rebuild", "freshness"])
        finally:
            bench.kafka.down()


def measure(bench, wanted):
    print(f"{os.cpu_count()} cores, {EVENTS:,} events of {len(event(1))} bytes, {binary()}\n", flush=True)
    small_p50 = None
    if "query" in wanted:
        few = EVENTS // 10
        server = bench.server("small", few).start(ready=False).listening()
        bench.read_all(server, "small", few)
        server.ready(300)
        bench.settle(server, "small", DEVICES, few)
        small_p50, small_p99 = bench.query(server)
        say(
            "filtered query, 100,000 groups, p50 / p99",
            f"{small_p50:.1f} / {small_p99:.1f} ms",
            f"{few:,} events; promised p50 < 10 ms",
        )
        server.stop()

    server = bench.server("large", EVENTS)
    alone = bare(bench.kafka.bootstrap, "large") if "throughput" in wanted else None
    server.start(ready=False).listening()
    seconds = bench.read_all(server, "large", EVENTS)
    if alone:
        # Whoever reads first may find the log on the disk and not in memory.
        alone = max(alone, bare(bench.kafka.bootstrap, "large"))
        rate = EVENTS / seconds
        say(
            "3 views and archive",
            f"{rate:,.0f} events/s",
            f"bare consumer {alone:,.0f}: {rate / alone:.2f} of it; promised 0.5",
        )
    server.ready(600)
    if "query" in wanted:
        bench.settle(server, "large", DEVICES, EVENTS)
        p50, p99 = bench.query(server)
        say(
            "filtered query, 100,000 groups, p50 / p99",
            f"{p50:.1f} / {p99:.1f} ms",
            f"{EVENTS:,} events; {p50 / small_p50:.2f} times the p50 at a tenth",
        )
    if "freshness" in wanted:
        p50, p99 = bench.freshness(server, "large")
        say("produced to visible, p50 / p99", f"{p50:.0f} / {p99:.0f} ms", f"{RATE:,} events/s; promised p50 < 100 ms")
    if "memory" in wanted:
        peak = peak_memory(server.process)
        say(
            "peak memory of the process",
            f"{peak / 2**20:,.0f} MiB",
            f"stream budget {BUDGET >> 20} MiB, batch 1024, query 512",
        )
    assert server.stop(120) == 0, server.tail()
    if "rebuild" in wanted:
        began = time.monotonic()
        done = run("batch", "run", "--full", "--view", "per_device", *server.where(), timeout=3600)
        assert done.returncode == 0, done.stderr
        seconds = time.monotonic() - began
        say(
            "full recomputation of per_device",
            f"{seconds:.1f} s",
            f"{EVENTS / seconds:,.0f} events/s: {done.stdout.strip()}",
        )


if __name__ == "__main__":
    main(sys.argv[1:])
