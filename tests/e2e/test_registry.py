"""The schema registry of the tests: what it answers, and what Confluent's serializers write with it. No Thalweg here."""

import collections
import json
import struct
import uuid

import pytest
import requests
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.struct_pb2 import Value
from harness.avro_producer import AvroProduction, Writer, client, produce, record
from harness.registryproxy import DROPPED, ENDLESS, MISBEHAVIOURS, SILENT, RegistryProxy
from harness.servers import Registry

USER = record("User", ("name", "string"), ("age", "int"), namespace="people")


@pytest.mark.parametrize("secure", [False, True], ids=["open", "secure"])
def test_ids_survive_a_kill(tmp_path, secure):
    registry = Registry(tmp_path / "registry", secure)
    try:
        url = registry.url
        ids = [registry.register(f"s{n}-value", record(f"R{n}", ("a", "long"))) for n in range(3)]
        assert len(set(ids)) == 3
        registry.down("--kill")
        registry.up()
        assert registry.url == url
        for n, id in enumerate(ids):
            assert json.loads(registry.ask("GET", f"/schemas/ids/{id}")["schema"])["name"] == f"R{n}"
        if secure:
            authority = registry.properties["schema.registry.ssl.ca.location"]
            for user in (None, ("thalweg", "wrong")):
                refused = requests.get(f"{url}/subjects", auth=user, verify=authority, timeout=30)
                assert refused.status_code == 401
            with pytest.raises(requests.exceptions.SSLError):
                requests.get(f"{url}/subjects", timeout=30)
    finally:
        registry.down()


def test_what_the_registry_answers(registry, place):
    """The answers that Thalweg relies on."""
    one = registry.register(f"{place}-user", USER)
    group = record("Group", ("leader", "people.User"), ("members", {"type": "array", "items": "people.User"}))
    two = registry.register(f"{place}-value", group, [("people.User", f"{place}-user", 1)])
    assert registry.ask("GET", f"/schemas/ids/{one}") == {"schema": USER, "schemaType": "AVRO", "references": []}
    reference = {"name": "people.User", "subject": f"{place}-user", "version": 1}
    assert registry.ask("GET", f"/schemas/ids/{two}") == {
        "schema": group,
        "schemaType": "AVRO",
        "references": [reference],
    }
    version = registry.ask("GET", f"/subjects/{place}-user/versions/1")
    assert version == {
        "subject": f"{place}-user",
        "version": 1,
        "id": one,
        "schema": USER,
        "schemaType": "AVRO",
        "references": [],
    }
    assert registry.ask("GET", f"/subjects/{place}-user/versions/latest") == version
    for path, code in [
        ("/schemas/ids/999999", 40403),
        (f"/schemas/ids/{2**31}", 40403),
        (f"/schemas/ids/{2**32 - 1}", 40403),
        ("/subjects/nobody/versions/1", 40401),
        (f"/subjects/{place}-user/versions/7", 40402),
    ]:
        answer = registry.answer("GET", path)
        assert (answer.status_code, answer.json()["error_code"]) == (404, code), path
    # A URL that is not the registry's.
    assert (registry.answer("GET", "//schemas/ids/1").status_code, registry.answer("GET", "/x").text) == (404, "")


def test_messages_are_read_back(kafka, registry, topic):
    old, new = Writer(registry, topic, USER), Writer(registry, topic, USER.replace('"int"', '"long"'))
    sent = [(old, {"name": "Ada", "age": 36}), (new, {"name": "Bo", "age": 2**40}), (old, {"name": "", "age": -1})]
    produce(kafka, topic, [(0, writer(value)) for writer, value in sent])
    payloads = consumed(kafka, topic, len(sent))
    ids = [struct.unpack(">bI", payload[:5]) for payload in payloads]
    assert ids[0] == ids[2] != ids[1] and all(magic == 0 for magic, _ in ids)
    assert [decoder(registry, topic)(payload) for payload in payloads] == [value for _, value in sent]


def test_a_production_is_what_its_record_says(kafka, registry, topic):
    production = AvroProduction(kafka, topic, 5, registry, weights=(1,), transactions=False, malformed=0.05)
    for version in range(3):
        production.script.version = version
        production.send(2_000)
    decode = decoder(registry, topic)
    versions, broken = collections.Counter(), 0
    payloads = consumed(kafka, topic, len(production.record))
    for payload, row in zip(payloads, production.record.rows):
        if row is None:
            broken += 1
            continue
        got = decode(payload)
        versions["firmware" in got, "extras" in got] += 1
        got = {name.lower(): value for name, value in got.items()}
        for name, value in row.items():
            found = got.get(name)
            found = found.replace(tzinfo=None) if name == "ts" and found else found
            assert found == value, (name, found, value)
    assert 200 < broken < 400 and min(versions.values()) > 200 and len(versions) == 3, (broken, versions)


def test_the_other_serializers(registry, topic):
    """JSON with a schema, and Protobuf."""
    where = SerializationContext(topic, MessageField.VALUE)
    person = json.dumps({"title": "Person", "type": "object", "properties": {"name": {"type": "string"}}})
    payload = JSONSerializer(person, client(registry))({"name": "Ada"}, where)
    assert json.loads(payload[5:]) == {"name": "Ada"} and payload[0] == 0
    assert JSONDeserializer(person)(payload, where) == {"name": "Ada"}
    options = {"use.deprecated.format": False}
    payload = ProtobufSerializer(Value, client(registry), options)(Value(number_value=1.5), where)
    id = struct.unpack(">I", payload[1:5])[0]
    assert registry.ask("GET", f"/schemas/ids/{id}")["schemaType"] == "PROTOBUF"
    assert ProtobufDeserializer(Value, options)(payload, where).number_value == 1.5


@pytest.mark.parametrize("how", MISBEHAVIOURS)
def test_the_proxy_misbehaves(registry, registry_proxy, how):
    with registry_proxy.misbehaving(how):
        if how in (DROPPED, SILENT):
            with pytest.raises(requests.RequestException):
                requests.get(f"{registry_proxy.url}/subjects", timeout=1)
        elif how == ENDLESS:
            with requests.get(f"{registry_proxy.url}/subjects", timeout=10, stream=True) as answer:
                assert len(answer.raw.read(10_000_000)) == 10_000_000
        else:
            answer = requests.get(f"{registry_proxy.url}/subjects", timeout=10, allow_redirects=False)
            with pytest.raises(Exception):
                assert answer.status_code == 200
                assert "schema" in answer.json()
    assert requests.get(f"{registry_proxy.url}/subjects", timeout=10).status_code == 200
    assert registry_proxy.asked("/subjects") >= 2


def test_the_proxy_hides_demands_and_gives_guids(registry, place):
    id = registry.register(f"{place}-value", USER)
    proxy = RegistryProxy(registry.url, demands="Bearer secret")
    try:
        assert requests.get(f"{proxy.url}/schemas/ids/{id}", timeout=10).status_code == 401
        asked = {"headers": {"authorization": "Bearer secret"}, "timeout": 10}
        assert requests.get(f"{proxy.url}/schemas/ids/{id}", **asked).json()["schema"] == USER
        proxy.hidden = {f"/schemas/ids/{id}"}
        assert requests.get(f"{proxy.url}/schemas/ids/{id}", **asked).json()["error_code"] == 40403
        with pytest.raises(Exception, match="401"):
            Writer(proxy.url, place, USER)({"name": "Ada", "age": 1})
        proxy.demands = None
        proxy.hidden = set()
        write = Writer(proxy.url, place, USER, in_header=True)
        write({"name": "Ada", "age": 1})
        guid = str(uuid.UUID(bytes=write.headers[0][1][1:]))
        assert requests.get(f"{proxy.url}/schemas/guids/{guid}", timeout=10).json()["schema"] == USER
        assert requests.get(f"{proxy.url}/schemas/guids/{uuid.uuid4()}", timeout=10).status_code == 404
        proxy.shut()
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{proxy.url}/subjects", **asked)
        proxy.open()
        assert requests.get(f"{proxy.url}/subjects", **asked).status_code == 200
    finally:
        proxy.close()


def decoder(registry, topic):
    decode = AvroDeserializer(client(registry))
    return lambda payload: decode(payload, SerializationContext(topic, MessageField.VALUE))


def consumed(kafka, topic, count):
    """So many messages of partition 0."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": topic, "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    payloads = []
    while len(payloads) < count:
        for message in consumer.consume(count - len(payloads), 30):
            assert message.error() is None, message.error()
            payloads.append(message.value())
    consumer.close()
    return payloads
