"""Avro messages through Confluent's serializer, from writers whose schema changes, and the record of what was sent."""

import io
import json
import struct
from datetime import datetime, timezone

import fastavro
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from .producer import Production, Script


def record(name, *fields, **more):
    """A schema's text. Fields are (name, type), or (name, type, default)."""
    declared = [dict(zip(("name", "type", "default"), field)) for field in fields]
    return json.dumps({"type": "record", "name": name, "fields": declared, **more})


def logical(kind, of, **more):
    return {"type": of, "logicalType": kind, **more}


def optional(kind):
    return ["null", kind]


def client(registry):
    """Confluent's client of a registry: a `Registry` or a URL."""
    if isinstance(registry, str):
        return SchemaRegistryClient({"url": registry})
    names = {"schema.registry.url": "url", "schema.registry.ssl.ca.location": "ssl.ca.location"}
    names["schema.registry.basic.auth.user.info"] = "basic.auth.user.info"
    return SchemaRegistryClient({names[name]: value for name, value in registry.properties.items()})


class Writer:
    """One version of a program that writes to a topic: calling it with a value gives the bytes of a message."""

    def __init__(self, registry, topic, schema, references=(), in_header=False):
        """`references` are (name, subject, version). `in_header`: the schema is named in `headers` after each call."""
        self.headers = []
        self.context = SerializationContext(topic, MessageField.VALUE, self.headers)
        known = Schema(schema, "AVRO", [SchemaReference(*reference) for reference in references])
        options = {"schema.id.serializer": header_schema_id_serializer} if in_header else {}
        self.serializer = AvroSerializer(client(registry), known, conf=options)

    def __call__(self, value):
        self.headers.clear()
        return self.serializer(value, self.context)


def framed(id, value=b""):
    """A message in Confluent's wire format."""
    return struct.pack(">bI", 0, id) + value


def encoded(schema, value):
    """The bytes of a value alone."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(schema)), value)
    return out.getvalue()


def single_object(schema, value):
    """A message in Avro's single-object encoding."""
    form = fastavro.schema.to_parsing_canonical_form(json.loads(schema))
    fingerprint = fastavro.schema.fingerprint(form, "CRC-64-AVRO")
    return b"\xc3\x01" + bytes.fromhex(fingerprint) + encoded(schema, value)


def produce(kafka, topic, messages):
    """Messages as (partition, payload) or (partition, payload, headers). Returns each one's offset."""
    offsets = [None] * len(messages)

    def report(at):
        def delivered(error, message):
            assert error is None, error
            offsets[at] = message.offset()

        return delivered

    producer = Producer({"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True, "log_level": 2})
    for at, (partition, payload, *headers) in enumerate(messages):
        producer.produce(
            topic, payload, partition=partition, headers=headers[0] if headers else None, on_delivery=report(at)
        )
    assert producer.flush(60) == 0
    return offsets


# Three versions of one program. The second adds `note`, widens numbers and times, and no longer says `firmware`; the third
# turns unions and fields around and no longer says `ok`.
VERSIONS = [
    record(
        "Reading",
        ("firmware", "string"),
        ("device", optional("string")),
        ("ts", optional(logical("timestamp-millis", "long"))),
        ("temperature", optional("float")),
        ("counter", optional("int")),
        ("cost", optional(logical("decimal", "bytes", precision=18, scale=4))),
        ("ok", optional("boolean")),
        namespace="sensors",
    ),
    record(
        "Reading",
        ("device", optional("string")),
        ("ts", optional(logical("timestamp-micros", "long"))),
        ("temperature", optional("double")),
        ("counter", optional("long")),
        ("cost", optional(logical("decimal", "bytes", precision=18, scale=4))),
        ("ok", optional("boolean")),
        ("note", optional("string"), None),
        ("place", {"type": "record", "name": "Place", "fields": [{"name": "floor", "type": "int"}]}),
        namespace="sensors",
    ),
    record(
        "Reading",
        ("Note", ["string", "null"]),
        (
            "cost",
            [
                {"type": "fixed", "name": "Cost", "size": 9, "logicalType": "decimal", "precision": 18, "scale": 4},
                "null",
            ],
        ),
        ("counter", ["long", "null"]),
        ("temperature", ["double", "null"]),
        ("extras", {"type": "map", "values": ["null", "long", {"type": "array", "items": "string"}]}),
        ("ts", [logical("local-timestamp-micros", "long"), "null"]),
        ("DEVICE", ["string", "null"]),
        namespace="sensors",
    ),
]


class AvroScript(Script):
    """A script whose writers change: from `version` on its way there are writers of all versions up to it."""

    def __init__(self, seed, registry, topic, **script):
        super().__init__(seed, **script)
        self.writers = [Writer(registry, topic, schema) for schema in VERSIONS]
        self.version = 0
        # Another record, which has none of the columns' types.
        self.misfit = Writer(registry, topic, record("Misfit", ("device", {"type": "array", "items": "long"})))

    def next(self):
        r = self.random
        if r.random() < self.malformed:
            self.sent += 1
            return self._broken(), None
        malformed, self.malformed = self.malformed, -1
        try:
            return super().next()
        finally:
            self.malformed = malformed

    def _row(self):
        _, row = super()._row()
        version = self.version if self.random.random() < 0.8 else self.random.randrange(self.version + 1)
        return self._written(row, version)

    def _payload(self, row):
        return b""

    def _written(self, row, version):
        """The message of one writer, and the row as this writer can say it."""
        r = self.random
        row = dict(row)
        said = dict(row)
        if version == 0:
            row["note"] = None
            if row["ts"] is not None:
                row["ts"] = row["ts"].replace(microsecond=row["ts"].microsecond // 1000 * 1000)
            if row["temperature"] is not None:
                row["temperature"] = struct.unpack("f", struct.pack("f", row["temperature"]))[0]
            if row["counter"] is not None:
                row["counter"] %= 2**31
            said = {**row, "firmware": r.choice(["1.0", "", "ünïcode"])}
        elif version == 1:
            said["place"] = {"floor": r.randrange(-3, 90)}
        else:
            row["ok"] = None
            extras = {f"k{n}": r.choice([None, n, -(2**62), [], ["a", ""]]) for n in range(r.randrange(4))}
            said = {**row, "extras": extras, "Note": row["note"], "DEVICE": row["device"]}
        if row["ts"] is not None:
            said["ts"] = row["ts"] if version == 2 else row["ts"].replace(tzinfo=timezone.utc)
        return self.writers[version](said), row

    def _broken(self):
        """A message that cannot be decoded, each kind as often as the others."""
        r = self.random
        row = dict(
            device="d-000", ts=datetime(2026, 3, 1, 12), temperature=1.5, counter=1, cost=None, ok=True, note="n"
        )
        good, _ = self._written(row, r.randrange(self.version + 1))
        return r.choice(
            [
                b"",
                b"\0",
                good[:4],
                good[:5],
                good[: r.randrange(5, len(good))],
                good + b"\0",
                good + good,
                b"\1" + good[1:9],
                b"\2" + good[1:],
                b"\xff" + good,
                json.dumps({"device": "d-1"}).encode(),
                b" ",
                b"not avro",
                # A branch that no union has.
                good[:5] + b"\x7e" + good[6:],
                self.misfit({"device": [1]}),
            ]
        )


class AvroProduction(Production):
    """Sends an Avro script's messages to one topic."""

    def __init__(self, kafka, topic, seed, registry, malformed=0.01, **production):
        super().__init__(kafka, topic, seed, **production)
        self.script = AvroScript(seed, registry, topic, malformed=malformed)
