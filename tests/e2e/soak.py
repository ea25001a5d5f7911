"""Hours under load: what grows, and what gets slower.

    python tests/e2e/soak.py [MINUTES]

One process reads a topic without a pause while it recomputes, archives, audits and answers; one of its views fails on
some messages, which must cost nobody else anything. Every few seconds memory, files and latencies are sampled; at the end
the first tenth of the samples stands beside the last tenth. Every answer on the way is checked: its numbers are those of
the events below its frontier. THALWEG_BIN is the binary, THALWEG_SOAK_RATE the events in a second (default 2,000).
"""

import os
import pathlib
import statistics
import sys
import tempfile
import threading
import time

from confluent_kafka import Producer

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness.servers import Kafka
from harness.thalweg import Refused, Thalweg
from harness.wait import until

RATE = int(os.environ.get("THALWEG_SOAK_RATE", 2_000))
PARTITIONS = 4
DEVICES = 5_000
DEFINITIONS = """
CREATE EXTERNAL TABLE events (device STRING, n BIGINT, parts BIGINT) STORED AS KAFKA LOCATION 'events'
  OPTIONS ('format' 'json');
CREATE MATERIALIZED VIEW per_device AS SELECT device, count(*) AS events, sum(n) AS total, max(n) AS newest FROM events
  GROUP BY device;
CREATE MATERIALIZED VIEW overall AS SELECT count(*) AS events, sum(n) AS total FROM events;
CREATE MATERIALIZED VIEW fragile AS SELECT device, sum(n / parts) AS share FROM events GROUP BY device;
"""
# What waiting cures.
PASSING = {"not_ready", "not_held", "too_busy"}


def event(number):
    """Event `number` of the whole topic. Partition p has the numbers p, p + PARTITIONS, … in order."""
    parts = 0 if number % 5_000 == 4_999 else 1 + number % 3
    return f'{{"device":"d-{number % DEVICES}","n":{number},"parts":{parts}}}'.encode()


def below(frontier):
    """Count and sum of `n` of the events below a frontier."""
    count = sum(frontier.values())
    total = sum(p * end + PARTITIONS * end * (end - 1) // 2 for p, end in frontier.items())
    return count, total


class Load(threading.Thread):
    """Sends at one rate until it is told to end."""

    def __init__(self, bootstrap):
        super().__init__(daemon=True)
        self.producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "log_level": 2})
        self.done = threading.Event()
        self.sent = 0
        self.error = None

    def run(self):
        began = time.monotonic()
        try:
            while not self.done.wait(0.005):
                while self.sent < (time.monotonic() - began) * RATE:
                    self.producer.produce("events", event(self.sent), partition=self.sent % PARTITIONS)
                    self.sent += 1
                self.producer.poll(0)
            self.producer.flush()
        except BaseException as error:
            self.error = error


class Soak:
    def __init__(self, folder, minutes):
        self.folder = pathlib.Path(folder)
        self.seconds = minutes * 60
        self.samples = []
        self.refused = {}

    def run(self):
        kafka = Kafka(self.folder / "kafka")
        try:
            kafka.create_topic("events", PARTITIONS)
            definitions = self.folder / "events.sql"
            definitions.write_text(DEFINITIONS)
            self.server = Thalweg(
                self.folder / "server",
                kafka={"bootstrap.servers": kafka.bootstrap},
                apply=definitions,
                batch_interval="10s",
                epoch_interval="2s",
                mark_interval="4s",
                memory_budget="256MiB",
            )
            self.server.start(ready=False).listening()
            self._soak(Load(kafka.bootstrap))
        finally:
            if self.server.alive():
                self.server.kill()
            kafka.down()
        return self

    def _soak(self, load):
        load.start()
        until(lambda: self._overall(), "the first answer", timeout=60)
        began = time.monotonic()
        every = max(1.0, min(10.0, self.seconds / 30))
        while (at := time.monotonic() - began) < self.seconds:
            self.samples.append({"at": at, **self._sample()})
            self._say(self.samples[-1])
            time.sleep(max(0.0, every - (time.monotonic() - began - at)))
        load.done.set()
        load.join(120)
        if load.error:
            raise load.error
        until(lambda: self._overall() == load.sent, lambda: f"all {load.sent} events to be answered", timeout=120)
        self.refused_at_the_end = dict(self.refused)
        assert self.server.cli("audit", "--view", "per_device", timeout=600).returncode == 0, "the audit differs"
        self.rows = self.server.sql("SET thalweg.rollups = false; SELECT count(*) AS n FROM events").one()["n"]
        assert self.rows == load.sent, (self.rows, load.sent)
        assert self.server.stop() == 0, self.server.tail()

    def _ask(self, sql):
        """Seconds and answer; `None` for what is refused and passes."""
        began = time.monotonic()
        try:
            return time.monotonic() - began, self.server.ask(sql)
        except Refused as refused:
            if refused.code not in PASSING:
                raise
            self.refused[refused.code] = self.refused.get(refused.code, 0) + 1
            return time.monotonic() - began, None
        finally:
            self.took = time.monotonic() - began

    def _overall(self):
        """The number of events, checked; `None` if nobody answers."""
        _, answer = self._ask("SELECT events, total FROM overall")
        if answer is None:
            return None
        count, total = below(answer.frontier["events"])
        said = answer.one()
        assert said == {"events": count, "total": total if count else None}, (said, count, total, answer.frontier)
        return count

    def _sample(self):
        times = {}
        for name, sql, often in (
            ("one", "SELECT 1 AS one", 20),
            ("lookup", "SELECT events, total FROM per_device WHERE device = 'd-17'", 10),
            ("view", "SELECT count(*) AS n FROM per_device", 3),
            ("stream", "SET thalweg.rollups = false; SELECT count(*) AS n FROM events", 1),
        ):
            took = []
            for _ in range(often):
                self._ask(sql)
                took.append(self.took)
            times[name] = statistics.median(took)
        count = self._overall() or 0
        warehouse = [file for file in (self.server.folder / "data").rglob("*") if file.is_file()]
        status = pathlib.Path(f"/proc/{self.server.process.pid}/status").read_text()
        resident = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))
        return {
            "events": count,
            "resident": resident,
            "files": len(warehouse),
            "bytes": sum(file.stat().st_size for file in warehouse if file.exists()),
            "handles": len(os.listdir(f"/proc/{self.server.process.pid}/fd")),
            **times,
        }

    def _say(self, sample):
        print(" ".join(f"{name}={_shown(name, value)}" for name, value in sample.items()), flush=True)

    def ends(self):
        """The medians of the first and of the last tenth of the samples, by name."""
        tenth = max(1, len(self.samples) // 10)
        names = [name for name in self.samples[0] if name != "at"]
        return {
            name: (
                statistics.median(sample[name] for sample in self.samples[:tenth]),
                statistics.median(sample[name] for sample in self.samples[-tenth:]),
            )
            for name in names
        }


def _shown(name, value):
    if name in ("resident", "bytes"):
        return f"{value / (1 << 20):.1f}MiB"
    if name in ("one", "lookup", "view", "stream"):
        return f"{value * 1000:.1f}ms"
    return f"{value:.0f}"


if __name__ == "__main__":
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(folder, minutes).run()
    print(f"\n{'':<10} {'first tenth':>14} {'last tenth':>14}")
    for name, (first, last) in soak.ends().items():
        print(f"{name:<10} {_shown(name, first):>14} {_shown(name, last):>14}")
    print(f"refused and asked again: {soak.refused or 'nothing'}")
