"""Avro streams whose registry is away, lies, is slow, or wants to know who asks.

A schema that cannot be had makes its partition wait. It rejects nothing, stops no other partition and no other stream, and
everything goes on by itself.
"""

import contextlib
import json
import re
import struct
import time
from decimal import Decimal

import pytest
from harness.avro_producer import Writer, encoded, framed, logical, produce, record
from harness.platform import Platform
from harness.registryproxy import MISBEHAVIOURS, SILENT, RegistryProxy
from harness.servers import Registry
from harness.thalweg import Refused
from harness.wait import until
from test_avro import FAST, answered, table, through_everything

OLD = record("Sale", ("id", "long"), ("item", "string"), ("rebate", "double"))
NEW = record(
    "Sale", ("item", "string"), ("price", logical("decimal", "bytes", precision=9, scale=2)), ("id", ["long", "null"])
)
COLUMNS = "id BIGINT, item STRING, price DECIMAL(10, 2)"
COUNT = "SELECT count(*) AS n FROM {} WHERE _partition = {}"


def old(n):
    return {"id": n, "item": f"item {n}", "rebate": 0.5}


def new(n):
    return {"id": n, "item": f"item {n}", "price": "1.50"}


def written(registry, topic):
    """The messages of both writers, and the ids of their schemas."""
    writers = [Writer(registry, topic, schema) for schema in (OLD, NEW)]
    write_old = lambda n: writers[0](old(n))
    write_new = lambda n: writers[1]({**new(n), "price": Decimal("1.50")})
    ids = [struct.unpack(">I", write(0)[1:5])[0] for write in (write_old, write_new)]
    return write_old, write_new, *ids


def one(server, name):
    return next(found for found in server.json("/v1/streams")["streams"] if found["name"] == name)


def rows_of(server, name, partition):
    """How many rows of a partition there are. Until all was read again after a start, only who takes less is answered."""
    try:
        return server.ask(COUNT.format(name, partition), thalweg_stale="allow").rows[0][0]
    except Refused as refused:
        if refused.code != "not_ready":
            raise
        return None


def has_rows(server, name, partition, count, timeout=60):
    got = []

    def check():
        got[:] = [rows_of(server, name, partition)]
        return got == [count]

    server.until(check, lambda: f"{name}/{partition} to have {count} rows, has {got}: {one(server, name)}", timeout)


def waits(server, name, partition, *words):
    """`/v1/streams` and `status` say that a partition waits, and for what. Returns what they say."""

    def said():
        text = json.dumps(one(server, name))
        return text if "registry" in text and all(word in text for word in words) else None

    text = server.until(said, lambda: f"{name} to say {words}: {one(server, name)}", 60)
    status = server.cli("status")
    assert status.returncode in (0, 1), status.stderr
    assert "registry" in status.stdout and all(word in status.stdout for word in words), status.stdout
    return text


def nothing_is_rejected(server, name):
    """By the status, which is there also while a stream gives no answers."""
    assert one(server, name)["rejects"] == 0, one(server, name)


def connected_to(thalweg, url, **options):
    return thalweg(kafka={"schema.registry.url": url}, **{**FAST, **options})


@pytest.mark.parametrize("how", MISBEHAVIOURS)
def test_a_registry_that_misbehaves(kafka, thalweg, registry, registry_proxy, topic, how):
    """One partition meets a new schema meanwhile and waits; the other has only what is known, and goes on."""
    write_old, write_new, _, id = written(registry, topic)
    produce(kafka, topic, [(p, write_old(n)) for p in (0, 1) for n in range(50)])
    server = connected_to(thalweg, registry_proxy.url).start()
    server.ddl(
        table("sales", topic, COLUMNS)
        + "; CREATE MATERIALIZED VIEW items AS SELECT count(*) AS n, sum(id) AS ids FROM sales"
    )
    server.reached("sales", {0: 50, 1: 50})
    with registry_proxy.misbehaving(how):
        produce(kafka, topic, [(0, write_old(50)), (0, write_new(51)), (0, write_old(52)), (1, write_old(50))])
        has_rows(server, "sales", 1, 51)
        # What is before the unknown schema is a row, too.
        has_rows(server, "sales", 0, 51)
        waits(server, "sales", 0, str(id))
        produce(kafka, topic, [(1, write_old(n)) for n in range(51, 100)])
        has_rows(server, "sales", 1, 100)
        nothing_is_rejected(server, "sales")
        assert server.sql("SELECT n FROM items").rows == [(151,)]
        memory = one(server, "sales")["memory_bytes"]
        assert memory < 200 * 2**20, memory
    has_rows(server, "sales", 0, 53)
    nothing_is_rejected(server, "sales")
    questions = {
        "SELECT id, item, CAST(price AS STRING) FROM sales WHERE _partition = 0 AND _offset > 49 ORDER BY _offset": [
            (50, "item 50", None), (51, "item 51", "1.50"), (52, "item 52", None),
        ],
        "SELECT n, ids FROM items": [(153, sum(range(53)) + sum(range(100)))],
    }  # fmt: skip
    answered(server, questions)
    until(lambda: one(server, "sales")["status"] == "running", lambda: f"the stream to run: {one(server, 'sales')}")


def test_a_registry_that_is_down_from_the_start(kafka, thalweg, tmp_path, place):
    """The process starts, answers, and reads all other streams; then the registry comes, goes and comes."""
    kafka.create_topic(place, 2)
    kafka.create_topic(f"{place}-json", 1)
    registry = Registry(tmp_path / "registry")
    try:
        write_old, write_new, _, _ = written(registry, place)
        messages = [(n % 2, write_old(n)) for n in range(100)]
        late = write_new(100)
        registry.down()
        produce(kafka, place, messages)
        produce(kafka, f"{place}-json", [(0, b'{"a": 1}')])
        server = connected_to(thalweg, registry.url).start()
        server.ddl(table("sales", place, COLUMNS) + ";" + table("plain", f"{place}-json", "a INT", format="json"))
        server.reached("plain", {0: 1})
        waits(server, "sales", 0, registry.url.split("/apis")[0])
        assert server.get("/healthz").status_code == 200
        # It waits in the same way after a kill.
        server.kill()
        server.start(ready=False).listening()
        waits(server, "sales", 0)
        server.reached("plain", {0: 1})
        registry.up()
        server.reached("sales", {0: 50, 1: 50})
        nothing_is_rejected(server, "sales")

        # What is known needs no registry, and neither does the archive.
        registry.down("--kill")
        produce(kafka, place, [(0, write) for write in [messages[0][1]] * 10])
        server.reached("sales", {0: 60, 1: 50})
        assert server.stop() == 0
        server.start(ready=False).listening()
        server.reached("sales", {0: 60, 1: 50})
        produce(kafka, place, [(0, late), (1, messages[0][1])])
        waits(server, "sales", 0)
        nothing_is_rejected(server, "sales")
        registry.up()
        server.reached("sales", {0: 61, 1: 51})
        nothing_is_rejected(server, "sales")
        assert server.sql("SELECT count(*), count(DISTINCT id), max(id), count(price) FROM sales").rows == [
            (112, 101, 100, 1)
        ]
    finally:
        registry.down()


def test_a_schema_that_is_registered_late(kafka, thalweg, registry, registry_proxy, topic):
    """An id that the registry does not know yet, in the middle of a partition; then it does."""
    write_old, write_new, _, id = written(registry, topic)
    registry_proxy.hidden = {f"/schemas/ids/{id}"}
    produce(kafka, topic, [(0, write_old(0)), (0, write_new(1)), (0, b"junk"), (0, write_old(2)), (1, write_old(3))])
    server = connected_to(thalweg, registry_proxy.url).start()
    server.ddl(table("sales", topic, COLUMNS))
    has_rows(server, "sales", 0, 1)
    has_rows(server, "sales", 1, 1)
    waits(server, "sales", 0, str(id))
    nothing_is_rejected(server, "sales")
    server.kill()
    server.start(ready=False).listening()
    waits(server, "sales", 0, str(id))
    has_rows(server, "sales", 1, 1)
    nothing_is_rejected(server, "sales")
    asked = registry_proxy.asked(f"/schemas/ids/{id}")
    until(lambda: registry_proxy.asked(f"/schemas/ids/{id}") >= asked + 2, "the registry to be asked again")
    registry_proxy.hidden = set()
    has_rows(server, "sales", 0, 3)
    through_everything(
        server,
        {"sales": {0: 4, 1: 1}},
        {
            "SELECT _partition, id FROM sales ORDER BY 1, 2": [(0, 0), (0, 1), (0, 2), (1, 3)],
            "SELECT _offset, encode(_payload, 'hex') FROM rejects.sales": [(2, b"junk".hex())],
        },
    )


def test_ids_that_nobody_ever_gave(kafka, thalweg, registry, registry_proxy, topic):
    """The highest ids: the partition waits, asks with patience, and holds up nothing else; it can be dropped."""
    write_old, *_ = written(registry, topic)
    produce(
        kafka, topic, [(0, framed(2**31, b"\0")), (0, framed(2**32 - 1, b"\0")), (1, write_old(1)), (0, write_old(2))]
    )
    server = connected_to(thalweg, registry_proxy.url).start()
    server.ddl(table("sales", topic, COLUMNS))
    has_rows(server, "sales", 1, 1)
    waits(server, "sales", 0, str(2**31))
    produce(kafka, topic, [(0, write_old(n)) for n in range(5_000)] + [(1, write_old(n)) for n in range(5_000)])
    has_rows(server, "sales", 1, 5_001)
    nothing_is_rejected(server, "sales")
    asked = registry_proxy.asked(f"/schemas/ids/{2**31}")
    assert 1 <= asked < 60, f"{asked} requests for one id"
    audit = server.cli("audit")
    assert audit.returncode in (0, 3), audit.stdout + audit.stderr
    server.ddl("DROP TABLE sales")
    assert server.json("/v1/streams")["streams"] == []


def test_a_process_ends_while_it_waits(kafka, thalweg, registry, registry_proxy, topic):
    """SIGTERM while the registry says nothing: what was read is archived, and the process goes in time."""
    write_old, write_new, *_ = written(registry, topic)
    produce(kafka, topic, [(p, write_old(n)) for p in (0, 1) for n in range(20)])
    server = connected_to(thalweg, registry_proxy.url).start()
    server.ddl(table("sales", topic, COLUMNS))
    server.reached("sales", {0: 20, 1: 20})
    with registry_proxy.misbehaving(SILENT):
        produce(kafka, topic, [(0, write_new(20)), (1, write_old(20))])
        has_rows(server, "sales", 1, 21)
        assert server.stop(timeout=30) == 0
        server.start(ready=False).listening()
        has_rows(server, "sales", 1, 21)
        has_rows(server, "sales", 0, 20)
        nothing_is_rejected(server, "sales")
    server.reached("sales", {0: 21, 1: 21})
    nothing_is_rejected(server, "sales")


def test_a_reference_that_is_missing(kafka, thalweg, registry, registry_proxy, topic, place):
    """The schema is there, and what it names is not: the partition waits for that, too."""
    registry.register(f"{place}-point", record("Point", ("x", "int")))
    line = record("Line", ("id", "long"), ("a", "Point"), ("b", "Point"))
    write = Writer(registry, topic, line, [("Point", f"{place}-point", 1)])
    produce(kafka, topic, [(0, write({"id": 1, "a": {"x": 1}, "b": {"x": 2}}))])
    registry_proxy.hidden = {f"/subjects/{place}-point/versions/1"}
    server = connected_to(thalweg, registry_proxy.url).start()
    server.ddl(table("lines", topic, "id BIGINT, b STRUCT<x INT>"))
    waits(server, "lines", 0, f"{place}-point")
    nothing_is_rejected(server, "lines")
    registry_proxy.hidden = set()
    server.reached("lines", {0: 1})
    assert server.sql("SELECT id, b.x FROM lines").rows == [(1, 2)]


def test_workers_wait_and_stay_in_the_group(kafka, thalweg, registry, registry_proxy, tmp_path, place):
    """Longer than their session with the group: no partition moves, replicas say what is missing, and a worker may die."""
    kafka.create_topic(place, 4)
    write_old, write_new, _, id = written(registry, place)
    registry_proxy.hidden = {f"/schemas/ids/{id}"}
    url = {"schema.registry.url": registry_proxy.url}

    def start(name, role, **options):
        if role != "batch":
            options["kafka"] = {**options.get("kafka", {}), **url}
        return thalweg(name, role=role, **options)

    produce(kafka, place, [(n % 4, write_old(n)) for n in range(400)])
    platform = Platform(start, tmp_path / "warehouse", ["w1", "w2"])
    replica = platform.replicas[0]
    replica.ddl(table("sales", place, COLUMNS) + "; CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM sales")
    platform.join("w1", "w2")
    platform.ready()
    replica.reached("sales", {p: 100 for p in range(4)})
    platform.settled()
    produce(kafka, place, [(0, write_new(400)), (0, write_old(401)), (1, write_old(402))])
    replica.reached("sales", {1: 101})
    waits(replica, "sales", 0, str(id))
    asked = registry_proxy.asked(f"/schemas/ids/{id}")
    # Long enough for the group to miss a worker that does not poll.
    began = time.monotonic()
    while time.monotonic() < began + 15:
        produce(kafka, place, [(1, write_old(403))])
        waits(replica, "sales", 0, str(id))
    assert registry_proxy.asked(f"/schemas/ids/{id}") > asked
    logs = [worker.log.read_text(errors="replace") for worker in platform.workers.values()]
    assert not any("the session with the group is over" in log for log in logs)
    nothing_is_rejected(replica, "sales")
    platform.workers["w1"].kill()
    waits(replica, "sales", 0, str(id))
    registry_proxy.hidden = set()
    replica.reached("sales", {0: 102})
    nothing_is_rejected(replica, "sales")
    assert replica.sql("SELECT max(id) FROM sales WHERE _partition = 0").rows == [(401,)]


# --- Who asks.


def settings(path, **connections):
    """A file with connections; `kafka` is the default one."""
    text = ""
    for name, properties in connections.items():
        text += "[kafka]\n" if name == "kafka" else f"[connection.{name}]\n"
        text += "".join(f"'{key}' = '{value}'\n" for key, value in properties.items())
    path.write_text(text)
    return path


def told(server):
    """Everything that a server has said to anybody."""
    texts = [server.get(path).text for path in ("/v1/streams", "/v1/views", "/v1/process", "/metrics", "/readyz")]
    texts += [path.read_text() for path in (server.folder / "data/warehouse/catalog").glob("*")]
    texts += [path.read_text(errors="replace") for path in server.folder.glob("thalweg.*")]
    return "\n".join([*texts, server.cli("status", "--json").stdout])


def test_two_streams_have_two_registries(kafka, thalweg, registry, tmp_path, place):
    """The same id is another schema in each: one registry is open, the other has TLS and a password."""
    secure = Registry(tmp_path / "registry", secure=True)
    try:
        topics = [f"{place}-{n}" for n in (1, 2, 3)]
        for topic in topics:
            kafka.create_topic(topic, 2)
        first = Writer(registry, topics[0], record("A", ("id", "long"), ("name", "string")))
        payload = first({"id": 1, "name": "Ada"})
        id = struct.unpack(">I", payload[1:5])[0]
        while secure.answer("GET", f"/schemas/ids/{id}").status_code != 200:
            count = len(secure.ask("GET", "/subjects"))
            secure.register(f"s{count}-value", record(f"B{count}", ("name", "string"), ("id", "int"), ("x", "int")))
        schema = secure.ask("GET", f"/schemas/ids/{id}")["schema"]
        produce(kafka, topics[0], [(0, payload), (1, payload)])
        # What another stream has fetched is known, so strangers read a schema that nobody else needs.
        alien = Writer(secure, topics[2], record("Alien", ("id", "long")))({"id": 3})
        produce(kafka, topics[2], [(0, alien)])
        produce(kafka, topics[1], [(0, framed(id, encoded(schema, {"name": "Bo", "id": 2, "x": 3})))])
        brokers = {"bootstrap.servers": kafka.bootstrap}
        password = secure.properties["schema.registry.basic.auth.user.info"]
        secret = tmp_path / "secret"
        secret.write_text(password + "\n")
        config = settings(
            tmp_path / "settings.toml",
            kafka={**brokers, **registry.properties},
            eu={**brokers, **secure.properties, "schema.registry.basic.auth.user.info": f"${{file:{secret}}}"},
            wrong={**brokers, **secure.properties, "schema.registry.basic.auth.user.info": "thalweg:hunter2"},
            stranger={**brokers, "schema.registry.url": secure.url},
            none=brokers,
        )
        server = thalweg(config=config, **FAST).start()
        server.ddl(
            ";".join(
                [
                    table("one", topics[0], "id BIGINT, name STRING, x INT"),
                    table("eu", topics[1], "id BIGINT, name STRING, x INT", connection="eu"),
                ]
                + [table(name, topics[2], "id BIGINT", connection=name) for name in ("wrong", "stranger")]
            )
        )
        server.reached("one", {0: 1, 1: 1})
        server.reached("eu", {0: 1})
        assert server.sql("SELECT DISTINCT id, name, x FROM one").rows == [(1, "Ada", None)]
        assert server.sql("SELECT id, name, x FROM eu").rows == [(2, "Bo", 3)]
        waits(server, "wrong", 0, "401")
        waits(server, "stranger", 0)
        for name in ("wrong", "stranger"):
            nothing_is_rejected(server, name)
        said = told(server)
        assert password.split(":")[1] not in said and "hunter2" not in said and "aHVudGVy" not in said
    finally:
        secure.down()


@pytest.mark.parametrize(
    "demands, properties",
    [
        ("Bearer a.token.of.this.test", {"schema.registry.bearer.auth.token": "a.token.of.this.test"}),
        ("Basic dGhhbHdlZzpwYTpzcw==", {"schema.registry.basic.auth.user.info": "thalweg:pa:ss"}),
        ("Basic w7xzZXI6cMOkc3M=", {"schema.registry.basic.auth.user.info": "üser:päss"}),
    ],
    ids=["bearer", "basic", "unicode"],
)
def test_credentials(kafka, thalweg, registry, topic, demands, properties):
    write_old, *_ = written(registry, topic)
    produce(kafka, topic, [(0, write_old(1)), (1, write_old(2))])
    with contextlib.closing(RegistryProxy(registry.url, demands=demands)) as proxy:
        url = {"schema.registry.url": proxy.url + "/"}
        server = thalweg("good", kafka={**url, **properties}, **FAST).start()
        server.ddl(table("sales", topic, COLUMNS))
        server.reached("sales", {0: 1, 1: 1})
        refused = thalweg("refused", kafka=url, **FAST).start()
        refused.ddl(table("sales", topic, COLUMNS))
        waits(refused, "sales", 0, "401")
        nothing_is_rejected(refused, "sales")
        # From the environment, as for every other property.
        variables = {f"THALWEG_KAFKA_{k.upper().replace('.', '_')}": v for k, v in {**url, **properties}.items()}
        by_variable = thalweg("variables", environment=variables, **FAST).start()
        by_variable.ddl(table("sales", topic, COLUMNS))
        by_variable.reached("sales", {0: 1, 1: 1})
        for process in (server, by_variable):
            assert not any(value in told(process) for value in properties.values())


@pytest.mark.parametrize(
    "properties, words",
    [
        ({"schema.registry.uri": "http://127.0.0.1:1"}, ["schema.registry.uri", "schema.registry.url"]),
        ({"schema.registry.url": "localhost:8081"}, ["schema.registry.url"]),
        ({"schema.registry.url": "ftp://127.0.0.1"}, ["schema.registry.url"]),
        ({"schema.registry.url": "http://user:hunter2@127.0.0.1:1"}, []),
        ({"schema.registry.url": "https://127.0.0.1:1", "schema.registry.ssl.ca.location": "/nowhere/ca.pem"}, ["/nowhere/ca.pem"]),
        ({"schema.registry.url": "http://127.0.0.1:1", "schema.registry.basic.auth.user.info": "${env:NOT_THERE}"}, ["NOT_THERE"]),
        ({"schema.registry.basic.auth.user.info": "a:hunter2"}, ["schema.registry.url"]),
    ],
    ids=["unknown", "no-url", "no-http", "user-in-url", "no-authority", "no-variable", "no-registry"],
)  # fmt: skip
def test_settings_that_are_wrong(kafka, thalweg, registry, topic, properties, words):
    """The process does not start, or the stream stops; either names the setting, and no secret."""
    write_old, *_ = written(registry, topic)
    produce(kafka, topic, [(0, write_old(1))])
    server = thalweg(kafka=properties, **FAST)
    server.start(ready=False)
    until(lambda: not server.alive() or " is listening on http://" in server.out.read_text(), "a start or an end")
    if server.alive():
        server.ddl(table("sales", topic, COLUMNS))

        def says():
            found = one(server, "sales")
            return found["failure"] or (found["status"] == "waiting_for_schema" and json.dumps(found))

        said = server.until(says, lambda: f"the stream to say so: {one(server, 'sales')}", 60)
        assert "hunter2" not in told(server)
    else:
        said = server.log.read_text() + server.out.read_text()
    assert all(word in said for word in words) and "hunter2" not in said, said


def test_a_registry_at_a_wrong_path(kafka, thalweg, registry, topic):
    """The most common mistake: the server is right, and what answers is another API of it."""
    write_old, *_ = written(registry, topic)
    produce(kafka, topic, [(0, write_old(1))])
    server = connected_to(thalweg, registry.url.split("/apis")[0]).start()
    server.ddl(table("sales", topic, COLUMNS))
    said = waits(server, "sales", 0, "404")
    assert not re.search(r"does not know", said) or "schema.registry.url" in said, said
    nothing_is_rejected(server, "sales")
