"""Several processes, measured against one: what splitting costs, and how long answers stand still while partitions move.

    python tests/e2e/bench_roles.py [throughput] [latency] [moves]

THALWEG_BIN is the binary; THALWEG_BENCH_EVENTS (default 3,000,000) how many events are read. Everything, the broker too,
runs on this machine: more workers show the cost of splitting, never a speed-up.
"""

import os
import pathlib
import sys
import tempfile
import threading
import time

from confluent_kafka import Producer

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from bench import ASKED, DEVICES, PARTITIONS, STREAM, VIEWS, bare, event, fill, say
from harness.servers import Kafka
from harness.thalweg import Client, Refused, Thalweg, binary, free_port, run
from harness.wait import until

EVENTS = int(os.environ.get("THALWEG_BENCH_EVENTS", 3_000_000))
ABOVE = 1_000_000
# As many workers, and partitions of the topic that they are asked for; six of them have events.
MANY = 64
# A trickle into every partition, so that a frontier that stands still is seen.
TRICKLE = 600


class Roles:
    """A batch process, a replica, and workers that come and go; nothing runs at first but the first two."""

    def __init__(self, folder, kafka, topic, workers, **batch):
        self.folder = pathlib.Path(folder)
        self.kafka = {"bootstrap.servers": kafka.bootstrap}
        self.warehouse = f"file://{self.folder}/warehouse"
        self.topic = topic
        definitions = self.folder / "definitions.sql"
        self.folder.mkdir(parents=True)
        definitions.write_text(STREAM.format(name=topic, topic=topic) + VIEWS.format(name=topic))
        applied = run("apply", definitions, "--warehouse", self.warehouse, timeout=60)
        assert applied.returncode == 0, applied.stderr
        self.ports = [free_port() for _ in range(workers)]
        self.workers = [self._worker(i, port) for i, port in enumerate(self.ports)]
        self.batch = Thalweg(self.folder / "batch", role="batch", warehouse=self.warehouse, **batch)
        listed = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        self.replica = Thalweg(self.folder / "replica", role="serve", warehouse=self.warehouse, workers=listed)
        self.replica.passing = frozenset({"not_ready", "not_held", "worker_failed", "stream_stopped"})
        for process in (self.batch, self.replica):
            process.start(ready=False).listening()

    def _worker(self, number, port, **options):
        timing = dict(epoch_interval="1s", epoch_bytes="64MiB", mark_interval="10s")
        return Thalweg(
            self.folder / f"worker-{number}",
            role="speed",
            warehouse=self.warehouse,
            flight_addr=f"127.0.0.1:{port}",
            kafka=self.kafka,
            memory_budget=512 << 20,
            **(timing | options),
        )

    def start(self, *numbers, **options):
        for number in numbers:
            self.workers[number].options.update(options)
            self.workers[number].start(ready=False)
        for number in numbers:
            self.workers[number].listening()

    def read(self):
        """Messages that all workers have read of the topic."""
        [stream] = self.replica.json("/v1/streams")["streams"]
        return sum((stream["frontier"] or {}).values())

    def covers(self, events, timeout=600):
        sql = "SELECT n FROM overall"

        def counted():
            rows = self.replica.sql(sql, timeout).rows
            return rows and rows[0][0] >= events

        until(counted, f"an answer over {events} events", timeout, every=0.1)

    def close(self):
        for process in [*self.workers, self.replica, self.batch]:
            if process.process is not None:
                process.close()


def throughput(folder, kafka):
    """Events a second of 1, 2 and 3 workers with partitions by hand, until an answer of the replica counts them all."""
    kafka.create_topic("split", PARTITIONS)
    fill(kafka.bootstrap, "split", 0, EVENTS)
    # The first to read may find the log on the disk and not in memory.
    bare(kafka.bootstrap, "split")
    alone = None
    for workers in (1, 2, 3):
        roles = Roles(folder / f"split-{workers}", kafka, "split", workers, batch_interval="10s")
        try:
            each = PARTITIONS // workers
            for number in range(workers):
                roles.workers[number].options["partitions"] = f"{number * each}-{(number + 1) * each - 1}"
            began = time.monotonic()
            roles.start(*range(workers))
            roles.covers(EVENTS)
            rate = EVENTS / (time.monotonic() - began)
            alone = alone or rate
            say(f"{workers} worker(s), 3 views and archive", f"{rate:,.0f} events/s", f"{rate / alone:.2f} of one worker")
        finally:
            roles.close()


def asked(client):
    """p50 and p99 in ms of one device's row out of all."""
    times = []
    for i in range(ASKED + 20):
        began = time.perf_counter()
        answer = client.ask(f"SELECT * FROM per_device WHERE device = 'plant-7/device-{i * 457 % DEVICES:06}'")
        times.append((time.perf_counter() - began) * 1000)
        assert len(answer.rows) == 1
    times = sorted(times[20:])
    return times[len(times) // 2], times[len(times) * 99 // 100]


def latency(folder, kafka):
    """One filtered query on 100,000 groups above the cut, in one process and over Flight, from up to 64 workers."""
    kafka.create_topic("asked", MANY)
    fill(kafka.bootstrap, "asked", 0, 3 * DEVICES)
    quiet = dict(batch_interval="1h")
    definitions = folder / "asked.sql"
    definitions.write_text(STREAM.format(name="asked", topic="asked") + VIEWS.format(name="asked"))
    one = Thalweg(
        folder / "asked-0", kafka={"bootstrap.servers": kafka.bootstrap}, apply=definitions, **quiet
    ).start()
    until(lambda: one.sql("SELECT n FROM overall").rows[0][0] >= 3 * DEVICES, "all rows", 120)
    memory = asked(one)
    one.stop()
    say("filtered query, in memory, p50 / p99", f"{memory[0]:.1f} / {memory[1]:.1f} ms", "one process")
    for workers in (1, 3, MANY):
        roles = Roles(folder / f"asked-{workers}", kafka, "asked", workers, **quiet)
        try:
            if workers == MANY:
                for number, worker in enumerate(roles.workers):
                    worker.options["partitions"] = f"{number}-{number}"
            roles.start(*range(workers))
            roles.covers(3 * DEVICES)
            p50, p99 = asked(roles.replica)
            say(
                f"filtered query, {workers} worker(s), p50 / p99",
                f"{p50:.1f} / {p99:.1f} ms",
                f"{p50 / memory[0]:.2f} times the p50 in memory",
            )
        finally:
            roles.close()


class Watch(threading.Thread):
    """Asks all the time and notes for each partition how long its frontier has stood still."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.client = Client(url)
        self.done = threading.Event()
        self.moved = {}
        self.longest = 0.0
        self.error = None

    def run(self):
        try:
            while not self.done.is_set():
                try:
                    [frontier] = self.client.ask("SELECT n FROM overall").frontier.values()
                except Refused as refused:
                    if refused.status != 503:
                        raise
                    time.sleep(0.01)
                    continue
                now = time.monotonic()
                for partition, offset in frontier.items():
                    before, at = self.moved.get(partition, (None, now))
                    if offset != before:
                        self.longest = max(self.longest, now - at)
                        self.moved[partition] = (offset, now)
        except BaseException as error:
            self.error = error

    def finish(self):
        """Seconds that the slowest partition stood still."""
        self.done.set()
        self.join(120)
        if self.error:
            raise self.error
        return self.longest


class Trickle(threading.Thread):
    def __init__(self, bootstrap, topic):
        super().__init__(daemon=True)
        self.producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
        self.topic = topic
        self.done = threading.Event()

    def run(self):
        i = 0
        while not self.done.is_set():
            for _ in range(TRICKLE // 100):
                self.producer.produce(self.topic, event(i % DEVICES), partition=i % PARTITIONS)
                i += 1
            self.producer.poll(0)
            time.sleep(0.01)
        self.producer.flush()


def moves(folder, kafka):
    """How long the slowest partition goes without fresh answers, with a million events above the last mark and cut."""
    kafka.create_topic("moved", PARTITIONS)
    roles = Roles(folder / "moved", kafka, "moved", 2, batch_interval="1h")
    group = dict(epoch_interval="1s", mark_interval="1h", grace="20s")
    trickle = Trickle(kafka.bootstrap, "moved")
    try:
        roles.start(0, **group)
        roles.covers(0)
        fill(kafka.bootstrap, "moved", 0, ABOVE)
        roles.covers(ABOVE)
        trickle.start()
        time.sleep(3)

        def during(what, change, owners):
            watch = Watch(roles.replica.url)
            watch.start()
            time.sleep(2)
            change()
            until(lambda: held(roles) == owners, f"{owners} workers to hold partitions", 90, every=0.1)
            time.sleep(3)
            say(f"{what}: without fresh answers", f"{watch.finish():.1f} s", f"{ABOVE:,} events above mark and cut")

        during("a worker joins", lambda: roles.start(1, **group), 2)
        during("a worker leaves", lambda: roles.workers[1].stop(), 1)
        during("it joins again", lambda: roles.start(1, **group), 2)
        during("a worker is killed", lambda: roles.workers[1].kill(), 1)
    finally:
        trickle.done.set()
        roles.close()


def held(roles):
    """Workers that hold partitions, if all partitions are held."""
    [stream] = roles.replica.json("/v1/streams")["streams"]
    if stream["status"] != "running":
        return 0
    owners = 0
    for worker in roles.workers:
        if worker.alive():
            owners += bool(worker.metrics().get("thalweg_frontier"))
    return owners


def main(wanted):
    kinds = {"throughput": throughput, "latency": latency, "moves": moves}
    print(f"{os.cpu_count()} cores, {EVENTS:,} events of {len(event(1))} bytes, {binary()}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="thalweg-bench-") as folder:
        kafka = Kafka(pathlib.Path(folder) / "kafka")
        try:
            for kind in wanted or kinds:
                kinds[kind](pathlib.Path(folder), kafka)
        finally:
            kafka.down()


if __name__ == "__main__":
    main(sys.argv[1:])
