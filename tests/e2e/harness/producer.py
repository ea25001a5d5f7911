"""A deterministic stream of events, and the record of what was sent where.

From one seed come the same messages in the same order: rows with every kind of value, late and out of order, sent
twice, in transactions that commit and that abort, and messages that are no rows at all. The record holds, for every
message, the row it stands for (not parsed back from the bytes) and the partition and offset of its delivery report.
"""

import functools
import json
import random
import threading
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pyarrow as pa
from confluent_kafka import Producer

COLUMNS = "device STRING, ts TIMESTAMP, temperature DOUBLE, counter BIGINT, cost DECIMAL(18,4), ok BOOLEAN, note STRING"

EPOCH = datetime(1970, 1, 1)
START = datetime(2026, 3, 1, 12, 0)
SPAN = timedelta(minutes=20)

_NOTES = [
    "", "ok", "twelve bytes", "thirteen byte", "a longer note, longer than any inline string view holds",
    "schnee auf der höhe", "雪が降る", "🌡️ heiß", 'quoted "twice"', "back\\slash", "line\nbreak", "tab\there", "nul\x00inside",
    "zero\u200bwidth", "z" * 500,
]  # fmt: skip

_ROW = dict(device="d-000", ts="2026-03-01T12:00:00Z", temperature=1.5, counter=1, cost="1.0000", ok=True, note="n")


def _broken(random):
    """A message that cannot be decoded, each kind as often as the others."""
    row = json.dumps(_ROW).encode()
    return random.choice(
        [
            b"",
            b" ",
            b"{",
            b"not json",
            b"{'device': 'd-1'}",
            b"[1, 2]",
            b'[{"device": "d-1"}]',
            b"42",
            b'"a string"',
            b"\xff\xfe{}",
            b'{"device": "\xc3\x28"}',
            row[: random.randrange(1, len(row))],
            row + row,
            row + b"\n" + row,
            row + b"}",
            row + b" trailing",
            row[:-1] + b",}",
            row[:-1] + b', "unknown": [1, ]}',
            row[:-1] + b', "counter": 2}',
            row.replace(b'"counter": 1', b'"counter": 01'),
            row.replace(b'"counter": 1', b'"counter": 1.5'),
            row.replace(b'"counter": 1', b'"counter": 9223372036854775808'),
            row.replace(b'"temperature": 1.5', b'"temperature": 1e999'),
            row.replace(b'"temperature": 1.5', b'"temperature": NaN'),
            json.dumps({**_ROW, "cost": "1.00001"}).encode(),
            json.dumps({**_ROW, "cost": 1e14}).encode(),
            json.dumps({**_ROW, "temperature": "warm"}).encode(),
            json.dumps({**_ROW, "temperature": {"celsius": 3}}).encode(),
            json.dumps({**_ROW, "counter": "many"}).encode(),
            json.dumps({**_ROW, "counter": [1]}).encode(),
            json.dumps({**_ROW, "cost": "cheap"}).encode(),
            json.dumps({**_ROW, "ts": "yesterday"}).encode(),
            json.dumps({**_ROW, "ok": "perhaps"}).encode(),
            json.dumps({**_ROW, "device": {"name": "d-1"}}).encode(),
        ]
    )


class Script:
    """The messages of one seed, one after the other: `next()` answers (payload, row), row None for what is no row."""

    def __init__(self, seed, devices=250, malformed=0.01):
        self.random = random.Random(seed)
        self.malformed = malformed
        self.sent = 0
        self.recent = []
        self.devices = [f"d-{i:03}" for i in range(devices - 6)] + [
            "gerät-äöü", "センサー-7", "🌡", "", "a device whose name is longer than twelve bytes", " spaced ",
        ]  # fmt: skip

    def next(self):
        r = self.random
        self.sent += 1
        if r.random() < self.malformed:
            return _broken(r), None
        if self.recent and r.random() < 0.01:
            return r.choice(self.recent)
        message = self._row()
        if r.random() < 0.02:
            self.recent = [*self.recent[-50:], message]
        return message

    def _row(self):
        r = self.random
        device = self.devices[min(int(r.expovariate(6) * len(self.devices)), len(self.devices) - 1)]
        ts = (
            START
            + SPAN * (self.sent % 200_000 / 200_000)
            + timedelta(microseconds=r.randrange(-30_000_000, 30_000_000))
        )
        chance = r.random()
        if chance < 0.02:
            ts -= timedelta(seconds=r.randrange(86_400))
        elif chance < 0.0205:
            ts = r.choice(
                [datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime(1970, 1, 1), datetime(2199, 12, 31, 23, 59, 59)]
            )
        row = {
            "device": device,
            "ts": ts,
            "temperature": round(r.gauss(60, 25), r.randrange(0, 6)),
            "counter": r.choice([0, -1, r.randrange(1000), r.randrange(-(10**12), 10**12)]),
            "cost": Decimal(r.randrange(-10_000_000, 10_000_000)).scaleb(-4),
            "ok": r.random() < 0.9,
            "note": r.choice(_NOTES) if r.random() < 0.3 else f"note {r.randrange(5000)}",
        }
        if r.random() < 0.05:
            for name in r.sample(list(row), r.randrange(1, 4)):
                row[name] = None
        return self._payload(row), row

    def _payload(self, row):
        """One of the ways to write the row: nulls or absent keys, keys in any order, unknown keys, spaces."""
        r = self.random
        said = {}
        for name, value in row.items():
            if value is None and r.random() < 0.5:
                continue
            if name == "ts" and value is not None:
                value = self._time(value)
            elif name == "cost" and value is not None:
                value = str(value)
            said[name] = value
        if r.random() < 0.05:
            keys = list(said)
            r.shuffle(keys)
            said = {key: said[key] for key in keys}
        if r.random() < 0.02:
            said["unknown"] = r.choice([1, "x", None, {"deep": [1, {"er": "y"}]}])
        return json.dumps(said, ensure_ascii=r.random() < 0.5, indent=1 if r.random() < 0.02 else None).encode()

    def _time(self, ts):
        style = self.random.random()
        if style < 0.8:
            return ts.isoformat() + "Z"
        if style < 0.9:
            return ts.isoformat()
        zone = timezone(timedelta(minutes=self.random.choice([-300, 60, 120, 330])))
        return ts.replace(tzinfo=timezone.utc).astimezone(zone).isoformat()


class Record:
    """Everything that was sent. A message counts once its delivery report is in."""

    def __init__(self):
        self.payloads = []
        self.rows = []
        self.stamps = []
        self.committed = []
        self.where = []

    def __len__(self):
        return len(self.rows)

    def add(self, payload, row, stamp):
        self.payloads.append(payload)
        self.rows.append(row)
        self.stamps.append(stamp)
        self.committed.append(True)
        self.where.append(None)
        return len(self.rows) - 1

    def delivered(self, index, error, message):
        if error is not None:
            raise AssertionError(f"message {index} was not delivered: {error}")
        self.where[index] = (message.partition(), message.offset())

    def ends(self):
        """Partition -> the offset after the last message that counts."""
        ends = {}
        for place, committed in zip(self.where, self.committed):
            if committed and place:
                ends[place[0]] = max(ends.get(place[0], 0), place[1] + 1)
        return ends

    def table(self):
        """Arrow: one row a message, with `valid` and `committed` telling what it is."""
        assert all(self.where), "some delivery reports are missing"
        rows = [row or {} for row in self.rows]

        def column(name, kind):
            return pa.array([row.get(name) for row in rows], kind)

        return pa.table(
            {
                "_partition": pa.array([p for p, _ in self.where], pa.int32()),
                "_offset": pa.array([o for _, o in self.where], pa.int64()),
                "_timestamp": pa.array([s * 1000 for s in self.stamps], pa.timestamp("us")),
                "valid": pa.array([row is not None for row in self.rows]),
                "committed": pa.array(self.committed),
                "payload": pa.array([p or b"" for p in self.payloads], pa.binary()),
                "device": column("device", pa.string()),
                "ts": column("ts", pa.timestamp("us")),
                "temperature": column("temperature", pa.float64()),
                "counter": column("counter", pa.int64()),
                "cost": column("cost", pa.decimal128(18, 4)),
                "ok": column("ok", pa.bool_()),
                "note": column("note", pa.string()),
            }
        )


class Production:
    """Sends a script's messages to one topic, one of ten in a transaction; every second transaction aborts."""

    CHUNK = 2000
    IN_TRANSACTION = 200

    def __init__(self, kafka, topic, seed, weights=(30, 25, 20, 15, 9, 1), transactions=True, **script):
        self.topic = topic
        self.script = Script(seed, **script)
        self.random = random.Random(seed + 1)
        self.partitions = range(len(weights))
        self.weights = weights
        self.record = Record()
        settings = {
            "bootstrap.servers": kafka.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            "queue.buffering.max.messages": 500_000,
            "log_level": 2,
        }
        self.plain = Producer(settings)
        self.transactional = None
        if transactions:
            self.transactional = Producer({**settings, "transactional.id": f"{topic}-{seed}"})
            self.transactional.init_transactions(30)
        self.transactions = 0

    def send(self, count):
        """Sends `count` messages and returns when all are delivered."""
        while count > 0:
            chunk = min(count, self.CHUNK)
            inside = self.IN_TRANSACTION if self.transactional and chunk == self.CHUNK else 0
            for _ in range(chunk - inside):
                self._one(self.plain)
            if inside:
                self._transaction(inside)
            count -= chunk
        self.plain.flush()
        return self

    def row(self, partition=0, **values):
        """Sends one row with these values, for tests that say what they mean."""
        row = {
            "device": "d",
            "ts": START,
            "temperature": 1.0,
            "counter": 1,
            "cost": Decimal("1.0000"),
            "ok": True,
            "note": "n",
        }
        row.update(values)
        said = {
            k: v.isoformat() if isinstance(v, datetime) else str(v) if isinstance(v, Decimal) else v
            for k, v in row.items()
        }
        self._produce(self.plain, json.dumps(said).encode(), row, partition)
        self.plain.flush()
        return self

    def raw(self, payload, partition=0):
        """Sends bytes that are no row."""
        self._produce(self.plain, payload, None, partition)
        self.plain.flush()
        return self

    def begin(self, count):
        """Opens a transaction and sends `count` messages in it."""
        self.transactional.begin_transaction()
        self.inside = range(len(self.record), len(self.record) + count)
        for _ in self.inside:
            self._one(self.transactional)
        # An abort throws away what was not sent yet: the aborted messages are to be in the log.
        self.transactional.flush()
        return self

    def end(self, commits):
        """Ends the transaction that `begin` opened."""
        if commits:
            self.transactional.commit_transaction(30)
        else:
            self.transactional.abort_transaction(30)
            for index in self.inside:
                self.record.committed[index] = False

    def _transaction(self, count):
        self.transactions += 1
        self.begin(count).end(commits=self.transactions % 2 == 0)

    def _one(self, producer):
        payload, row = self.script.next()
        self._produce(producer, payload, row, self.random.choices(self.partitions, self.weights)[0])

    def _produce(self, producer, payload, row, partition):
        stamp = 1_772_366_400_000 + len(self.record)
        index = self.record.add(payload, row, stamp)
        report = functools.partial(self.record.delivered, index)
        while True:
            try:
                producer.produce(self.topic, payload, partition=partition, timestamp=stamp, on_delivery=report)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)


class Background:
    """A production in a thread of its own, which sends only as much as the test allows: progress paces it, not time."""

    def __init__(self, production):
        self.production = production
        self.allowed = 0
        self.stopping = False
        self.error = None
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def allow(self, total):
        with self.changed:
            self.allowed = total
            self.changed.notify()

    def finish(self, timeout=300):
        with self.changed:
            self.stopping = True
            self.changed.notify()
        self.thread.join(timeout)
        if self.error:
            raise self.error
        assert not self.thread.is_alive(), "the producer did not finish"

    def _work(self):
        try:
            while True:
                with self.changed:
                    self.changed.wait_for(lambda: self.stopping or len(self.production.record) < self.allowed)
                    left = self.allowed - len(self.production.record)
                    if left <= 0:
                        return
                self.production.send(min(left, 10 * Production.CHUNK))
        except BaseException as error:
            self.error = error
