"""A Produce request written byte by byte, for messages that no Kafka client writes but any program may.

Source: https://kafka.apache.org/protocol (Produce, version 7) and https://kafka.apache.org/documentation/#messageformat.
"""

import socket
import struct


def crc32c(data):
    """The checksum of a record batch (Castagnoli)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def varint(number):
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def sized(data):
    return varint(-1) if data is None else varint(len(data)) + data


def record(value, headers, timestamp_delta=0, offset_delta=0):
    body = b"\0" + varint(timestamp_delta) + varint(offset_delta) + sized(None) + sized(value) + varint(len(headers))
    body += b"".join(sized(name) + sized(content) for name, content in headers)
    return varint(len(body)) + body


def batch(value, headers, timestamp_ms):
    records = record(value, headers)
    after_crc = struct.pack(">hiqqqhii", 0, 0, timestamp_ms, timestamp_ms, -1, -1, -1, 1) + records
    whole = struct.pack(">ibI", -1, 2, crc32c(after_crc)) + after_crc
    return struct.pack(">qi", 0, len(whole)) + whole


def text(name):
    return struct.pack(">h", len(name)) + name.encode()


def receive(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        assert more, "the broker closed the connection"
        data += more
    return data


def produce(bootstrap, topic, value, headers=(), timestamp_ms=1_767_225_600_000):
    """Appends one message to partition 0 of the broker's topic and returns its offset."""
    records = batch(value, list(headers), timestamp_ms)
    body = struct.pack(">hhi", -1, -1, 30_000)
    body += struct.pack(">i", 1) + text(topic) + struct.pack(">iii", 1, 0, len(records)) + records
    request = struct.pack(">hhi", 0, 7, 1) + text("raw") + body
    host, port = bootstrap.split(",")[0].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", receive(connection, 4))
        answer = receive(connection, size)
    # Correlation id, count of topics, the topic's name, count of partitions.
    at = 4 + 4 + 2 + len(topic) + 4
    partition, error, offset = struct.unpack_from(">ihq", answer, at)
    assert (partition, error) == (0, 0), f"the broker answered error {error}"
    return offset
