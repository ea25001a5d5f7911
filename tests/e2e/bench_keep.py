"""What the payload of a row costs: `python tests/e2e/bench_keep.py [EVENTS]` prints, for streams that keep rows and for
streams that keep messages, the rate at which events are read, archived and computed, and the size of the archive.
"""

import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from confluent_kafka import Producer
from harness.servers import Kafka
from harness.thalweg import Thalweg

ROUNDS = 3
COLUMNS = "device STRING, room INT, ts TIMESTAMP, temperature DOUBLE, load BIGINT"
VIEW = """CREATE MATERIALIZED VIEW device_rooms AS
    SELECT device, room, count(*) AS n, sum(load) AS total, avg(temperature) AS mean, max(temperature) AS peak
    FROM readings GROUP BY device, room"""


def message(i):
    """About 110 bytes."""
    chance = i * 2654435761 % 1000003
    return (
        f'{{"device":"device-{chance % 100_000:06}","room":{chance % 4},'
        f'"ts":"2026-01-01T00:{i // 60_000 % 60:02}:{i // 1000 % 60:02}.{i % 1000 * 1000:06}Z",'
        f'"temperature":{chance % 6000 / 100 - 10:.6f},"load":{i % 1000 * 1_000_001}}}'
    )


def produce(kafka, events):
    kafka.create_topic("readings", 2)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "queue.buffering.max.messages": events + 1})
    for i in range(events):
        producer.produce("readings", message(i), partition=i % 2)
        if i % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(300) == 0


def measure(kafka, folder, keep, events):
    server = Thalweg(
        folder, kafka={"bootstrap.servers": kafka.bootstrap}, epoch_interval="2s", mark_interval="5s"
    ).start()
    start = time.monotonic()
    options = f"'keep' '{keep}'"
    server.ddl(f"CREATE EXTERNAL TABLE readings ({COLUMNS}) STORED AS KAFKA LOCATION 'readings' OPTIONS ({options})")
    server.ddl(VIEW)
    while sum((server.json("/v1/streams")["streams"][0]["archive_frontier"] or {}).values()) < events:
        time.sleep(0.05)
    seconds = time.monotonic() - start
    assert server.stop() == 0
    size = sum(file.stat().st_size for file in folder.rglob("streams/**/*.parquet"))
    print(f"{keep:8} {events / seconds:12,.0f} events/s {size / events:8.1f} bytes an event in the archive", flush=True)


def main(events):
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        kafka = Kafka(work / "kafka")
        try:
            produce(kafka, events)
            for number in range(ROUNDS):
                for keep in ("row", "message"):
                    measure(kafka, work / f"{keep}{number}", keep, events)
        finally:
            kafka.down()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
