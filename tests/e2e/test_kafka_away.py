"""Workers while their Kafka is away, and while a topic grows: what they hold is answered all the same."""

import re
import threading
import time

import pytest
from definitions import STREAM_TOTALS, stream
from harness.oracle import Oracle
from harness.platform import PASSING, Platform, unheld
from harness.producer import Production
from harness.servers import Kafka
from harness.thalweg import Client, Refused
from harness.wait import until

TOTALS = "SELECT events FROM stream_totals"


class Poller(threading.Thread):
    """A dashboard: asks for one view again and again, and remembers the longest time without an answer."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.client = Client(url)
        self.done = threading.Event()
        self.longest = 0.0
        self.refused = []
        self.answers = 0
        self.error = None

    def run(self):
        last = time.monotonic()
        try:
            while not self.done.wait(0.05):
                try:
                    self.client.ask(TOTALS)
                except Refused as refused:
                    if refused.code not in PASSING:
                        raise
                    self.refused.append(refused.message)
                    continue
                self.answers += 1
                self.longest = max(self.longest, time.monotonic() - last)
                last = time.monotonic()
        except BaseException as error:
            self.error = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join(60)
        if self.error:
            raise self.error


@pytest.fixture
def kafka(tmp_path):
    server = Kafka(tmp_path / "kafka")
    yield server
    server.down()


def started(thalweg, kafka, tmp_path):
    """Two workers share a topic of four partitions, and a replica answers."""
    kafka.create_topic("t", 4)
    production = Production(kafka, "t", seed=31, weights=(1, 1, 1, 1), transactions=False).send(2_000)
    platform = Platform(thalweg, tmp_path / "warehouse", ["w1", "w2"])
    platform.replicas[0].ddl(stream(kafka, "t"))
    platform.replicas[0].ddl(STREAM_TOTALS.ddl)
    platform.join("w1", "w2")
    platform.ready()
    platform.replicas[0].reached("sensor_data", production.record.ends())

    def both_hold_partitions():
        logs = [worker.log.read_text(errors="replace") for worker in platform.workers.values()]
        return all(re.search(r"the group gives partitions partitions=\[\d", log) for log in logs)

    until(both_hold_partitions, "both workers to hold partitions", timeout=60)
    platform.settled()
    return platform, production


def is_exact(replica, production):
    replica.reached("sensor_data", production.record.ends())
    answer = replica.sql(f"SELECT * FROM {STREAM_TOTALS.name}")
    wrong = STREAM_TOTALS.differences(answer, Oracle(production.record).at(answer.frontier["sensor_data"]))
    assert not wrong, "\n".join(wrong)


def loud(process):
    """Lines of the log that someone would read."""
    lines = process.log.read_text(errors="replace").splitlines()
    return [line for line in lines if " WARN " in line or " ERROR " in line]


def test_what_workers_hold_is_answered_while_kafka_is_away(thalweg, kafka, tmp_path):
    platform, production = started(thalweg, kafka, tmp_path)
    replica = platform.replicas[0]
    everybody = [*platform.workers.values(), *platform.replicas]
    before = {process: len(loud(process)) for process in everybody}
    kafka.down()
    with Poller(replica.url) as poller:

        def sessions_are_over():
            logs = [worker.log.read_text(errors="replace") for worker in platform.workers.values()]
            return all("the session with the group is over" in log for log in logs)

        until(sessions_are_over, "the workers to lose their session with the group", timeout=60)
        answered = poller.answers
        until(lambda: poller.answers > answered + 40, lambda: f"answers to go on: {poller.refused[-1:]}", timeout=30)
        assert not poller.refused, poller.refused[-1]
    until(lambda: unheld(replica).get("sensor_data"), "status to name Kafka")
    assert unheld(replica)["sensor_data"]["status"] == "waiting_for_kafka", unheld(replica)
    for process in everybody:
        said = loud(process)[before[process] :]
        assert len(said) <= 8, f"{process.folder.name} says {len(said)} lines:\n" + "\n".join(said[:20])

    kafka.up()
    again = Production(kafka, "t", seed=32, weights=(1, 1, 1, 1), transactions=False)
    again.record = production.record
    again.send(1_000)
    platform.settled()
    for replica in platform.replicas:
        is_exact(replica, again)


def test_a_new_partition_costs_the_others_nothing(thalweg, kafka, tmp_path):
    platform, production = started(thalweg, kafka, tmp_path)
    with Poller(platform.replicas[0].url) as poller:
        kafka.add_partitions("t", 6)
        fresh = Production(kafka, "t", seed=33, weights=(1,) * 6, transactions=False)
        fresh.record = production.record
        fresh.send(1_000)
        is_exact(platform.replicas[0], fresh)
    said = [line for worker in platform.workers.values() for line in loud(worker) if "UnknownPartition" in line]
    assert not said, "\n".join(said)
    assert poller.longest < 8, f"{poller.longest:.1f} s without an answer: {poller.refused[-1:]}"
    print(f"longest wait {poller.longest:.1f} s, {len(poller.refused)} refusals")
