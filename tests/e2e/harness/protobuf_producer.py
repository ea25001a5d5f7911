"""Protobuf messages through Confluent's serializer, from classes that are made while a test runs."""

import struct

from confluent_kafka.schema_registry import header_schema_id_serializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2  # noqa: F401 (their files are known)
from google.type import date_pb2  # noqa: F401
from confluent_kafka.schema_registry.confluent.types import decimal_pb2  # noqa: F401

from .avro_producer import client

_TYPE = descriptor_pb2.FieldDescriptorProto


def enum(name, **numbers):
    made = descriptor_pb2.EnumDescriptorProto(name=name)
    for symbol, number in numbers.items():
        made.value.add(name=symbol, number=number)
    return made


def message(name, *fields, within=(), oneof=()):
    """Fields are `"int64 id = 1"`, as in a file, also `repeated`, `optional` and `map<string, T>`. Types with a dot are full
    names; `within` are messages and enums inside; the fields named in `oneof` are members of one."""
    made = descriptor_pb2.DescriptorProto(name=name)
    if oneof:
        made.oneof_decl.add(name="one")
    optional = []
    for text in fields:
        kind, number = text.rsplit("=", 1)
        kind, field_name = kind.strip().rsplit(" ", 1)
        field = made.field.add(name=field_name, number=int(number), label=_TYPE.LABEL_OPTIONAL)
        if kind.startswith("map<"):
            entry = "".join(part.capitalize() for part in field_name.split("_")) + "Entry"
            key, value = (part.strip() for part in kind[4:-1].split(","))
            within = [*within, message(entry, f"{key} key = 1", f"{value} value = 2")]
            within[-1].options.map_entry = True
            field.label, kind = _TYPE.LABEL_REPEATED, entry
        elif kind.startswith("repeated "):
            field.label, kind = _TYPE.LABEL_REPEATED, kind.removeprefix("repeated ")
        elif kind.startswith("optional "):
            field.proto3_optional, kind = True, kind.removeprefix("optional ")
            optional.append(field)
        elif field_name in oneof:
            field.oneof_index = 0
        scalar = getattr(_TYPE, f"TYPE_{kind.upper()}", None)
        if scalar is None:
            field.type_name = f".{kind}" if "." in kind else kind
        else:
            field.type = scalar
    for field in optional:
        field.oneof_index = len(made.oneof_decl)
        made.oneof_decl.add(name=f"_{field.name}")
    for inner in within:
        (made.enum_type if isinstance(inner, descriptor_pb2.EnumDescriptorProto) else made.nested_type).append(inner)
    return made


class Schema:
    """One version of a file, in a pool of its own, so that versions have the same names."""

    def __init__(self, path, *declared, package="", imports=(), before=()):
        """`imports` are paths that every compiler knows; `before` are other schemas that this one imports."""
        file = descriptor_pb2.FileDescriptorProto(name=path, package=package, syntax="proto3")
        for one in declared:
            (file.enum_type if isinstance(one, descriptor_pb2.EnumDescriptorProto) else file.message_type).append(one)
        known = descriptor_pool.Default()
        self.files = {}
        for path in imports:
            self._add(known.FindFileByName(path))
        for other in before:
            self.files.update(other.files)
        file.dependency.extend([*imports, *(other.file.name for other in before)])
        self.file = file
        self.files[file.name] = file
        self.pool = descriptor_pool.DescriptorPool()
        for one in self.files.values():
            self.pool.Add(one)

    def _add(self, descriptor):
        for inner in descriptor.dependencies:
            self._add(inner)
        proto = descriptor_pb2.FileDescriptorProto()
        descriptor.CopyToProto(proto)
        self.files[proto.name] = proto

    def type(self, name):
        """The class of a message, by its full name."""
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))


class ProtobufWriter:
    """One version of a program that writes to a topic: calling it with a message gives the bytes of a Kafka message."""

    def __init__(self, registry, topic, kind, in_header=False):
        """`kind` is a class. `in_header`: the schema is named in `headers` after each call."""
        self.headers = []
        self.kind = kind
        self.context = SerializationContext(topic, MessageField.VALUE, self.headers)
        options = {"schema.id.serializer": header_schema_id_serializer} if in_header else {}
        self.serializer = ProtobufSerializer(kind, client(registry), conf=options)

    def __call__(self, **fields):
        self.headers.clear()
        return self.serializer(self.kind(**fields), self.context)


def id_of(payload):
    """The id of the schema that a message names."""
    return struct.unpack(">I", payload[1:5])[0]
