"""The real servers: Apache Kafka and S3, through infra/*/up and down, as anyone would start them by hand."""

import pathlib
import subprocess

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from .wait import until

INFRA = pathlib.Path(__file__).resolve().parents[3] / "infra"


def _run(script, *arguments):
    done = subprocess.run([INFRA / script, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{script} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


class Kafka:
    """One broker, or several. `bootstrap` is the address, the same after a restart; `secure` what a client of the TLS port
    of a lone broker needs."""

    def __init__(self, folder, brokers=1):
        self.folder = str(folder)
        self.brokers = brokers
        self.up()

    def up(self):
        how = ["--secure"] if self.brokers == 1 else ["--brokers", str(self.brokers)]
        self.bootstrap, *secure = _run("kafka/up", "--dir", self.folder, *how).split()
        self.secure = dict(line.split("=", 1) for line in secure)
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 2})

    def down(self):
        _run("kafka/down", "--dir", self.folder)

    def create_topic(self, name, partitions, **settings):
        config = {key.replace("_", "."): str(value) for key, value in settings.items()}
        self._done(self.admin.create_topics([NewTopic(name, partitions, min(self.brokers, 3), config=config)]))
        # The controller has it; the broker that clients ask may learn of it a moment later.
        until(lambda: self._leaders(name) == partitions, f"the topic {name}")

    def _leaders(self, name):
        topic = self.admin.list_topics(name, timeout=10).topics[name]
        return sum(partition.leader >= 0 for partition in topic.partitions.values())

    def delete_topic(self, name):
        self._done(self.admin.delete_topics([name]))

    def delete_records_before(self, topic, partition, offset):
        """Moves the partition's first offset, as retention does."""
        self._done(self.admin.delete_records([TopicPartition(topic, partition, offset)]))

    def add_partitions(self, topic, total):
        self._done(self.admin.create_partitions([NewPartitions(topic, total)]))

    @staticmethod
    def _done(futures):
        for future in futures.values():
            future.result(timeout=30)


class S3:
    """One S3 server. `options` are what object_store calls them."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.up()

    def up(self):
        lines = _run("s3/up", "--dir", self.folder).split()
        self.options = dict(line.split("=", 1) for line in lines)

    def down(self):
        _run("s3/down", "--dir", self.folder)

    def reached_through(self, endpoint):
        """The options of a client that goes through a proxy."""
        return {**self.options, "aws_endpoint": endpoint}
