"""Fixtures: the servers are started once a run, every test has its own topic, folder and warehouse."""

import itertools
import pathlib
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness.faultproxy import FaultProxy
from harness.registryproxy import RegistryProxy
from harness.servers import S3, Kafka, Registry
from harness.thalweg import Thalweg, binary

_numbers = itertools.count(1)


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: judges times, so nothing else may run beside it")


def pytest_sessionstart(session):
    if not session.config.option.collectonly and not pathlib.Path(binary()).exists():
        pytest.exit(f"there is no binary at {binary()}: `make build`, or set THALWEG_BIN", returncode=2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" and report.failed:
        for server in item.funcargs.get("thalweg", Servers(None)).started:
            if server.starts:
                report.sections.append((f"thalweg in {server.folder}", server.tail()))
    return report


class Servers:
    """Makes `thalweg` processes that end with the test."""

    def __init__(self, folder, kafka=None):
        self.folder = folder
        self.kafka = kafka
        self.started = []

    def __call__(self, name="one", **settings):
        if self.kafka and settings.get("role") != "batch":
            settings["kafka"] = {"bootstrap.servers": self.kafka.bootstrap, **settings.get("kafka", {})}
        server = Thalweg(self.folder / name, **settings)
        self.started.append(server)
        return server


@pytest.fixture
def thalweg(tmp_path, request):
    """Processes whose default connection is the Kafka of the test, if it has one."""
    name = next((name for name in ("cluster", "kafka") if name in request.fixturenames), None)
    servers = Servers(tmp_path, name and request.getfixturevalue(name))
    yield servers
    for server in servers.started:
        server.close()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory):
    server = Kafka(tmp_path_factory.mktemp("kafka"))
    yield server
    server.down()


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    server = S3(tmp_path_factory.mktemp("s3"))
    yield server
    server.down()


@pytest.fixture
def proxy(s3):
    """A proxy before the S3 server, without faults until one is armed."""
    proxy = FaultProxy(s3.options["aws_endpoint"])
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    server = Registry(tmp_path_factory.mktemp("registry"))
    yield server
    server.down()


@pytest.fixture
def registry_proxy(registry):
    """A proxy before the registry, which behaves until it is told otherwise."""
    proxy = RegistryProxy(registry.url)
    yield proxy
    proxy.close()


@pytest.fixture
def place(request):
    """A name of this test's own, for topics and warehouses."""
    return re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60] + f"-{next(_numbers)}"


@pytest.fixture
def topic(kafka, place):
    """A new topic with two partitions."""
    kafka.create_topic(place, 2)
    return place
