"""The real servers: Apache Kafka, S3 and a schema registry, through infra/*/up and down, as anyone would start them by hand."""

import pathlib
import subprocess

import requests
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


class Registry:
    """One schema registry. `url` is the same after a restart; `properties` is what a connection needs to reach it."""

    def __init__(self, folder, secure=False):
        self.folder = str(folder)
        self.secure = secure
        self.up()

    def up(self):
        self.url, *said = _run("registry/up", "--dir", self.folder, *(["--secure"] if self.secure else [])).split()
        self.properties = dict(line.split("=", 1) for line in said) or {"schema.registry.url": self.url}

    def down(self, *flags):
        _run("registry/down", "--dir", self.folder, *flags)

    def ask(self, method, path, **body):
        """An answer of the registry, as JSON if there is any."""
        answer = self.answer(method, path, **body)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def answer(self, method, path, **body):
        user = self.properties.get("schema.registry.basic.auth.user.info")
        return requests.request(
            method,
            self.url + path,
            json=body or None,
            auth=tuple(user.split(":", 1)) if user else None,
            verify=self.properties.get("schema.registry.ssl.ca.location", True),
            timeout=30,
        )

    def register(self, subject, schema, references=(), kind="AVRO"):
        """The id of a schema, given as text. `references` are (name, subject, version)."""
        references = [dict(zip(("name", "subject", "version"), reference)) for reference in references]
        body = {"schema": schema, "schemaType": kind, "references": references}
        return self.ask("POST", f"/subjects/{subject}/versions", **body)["id"]
