"""The process dies, or its storage lies, at each single write of an epoch commit, a publication and a definition.

A proxy before a real S3 server chooses the write. Afterwards a new process stands on what is there, and every answer
has to be what DuckDB says of everything that was produced.
"""

import pytest
from definitions import DEVICE_MINUTES, EDGES, STREAM_TOTALS, stream
from harness.faultproxy import KILL_AFTER, KILL_BEFORE, LAND_THEN_500, REFUSE_503
from harness.oracle import Oracle
from harness.producer import Production
from harness.thalweg import Refused
from harness.wait import until
from test_exactness import compare_rejects, compare_rows

EPOCH = r"^PUT .*/streams/"
PUBLICATION = r"^PUT .*/views/"
CHECKPOINT = r"^(PUT|POST) .*/_delta_log/.*checkpoint"
DEFINITION = r"^PUT .*/catalog/"

VIEWS = [DEVICE_MINUTES, STREAM_TOTALS]


class Site:
    """A small stream with two views on S3 through the proxy."""

    def __init__(self, thalweg, kafka, topic, proxy, s3):
        self.proxy = proxy
        self.production = Production(kafka, topic, seed=3, weights=(3, 1), transactions=False, malformed=0.05)
        self.server = thalweg(
            warehouse=f"s3://thalweg/{topic}",
            storage=s3.reached_through(proxy.endpoint),
            epoch_interval="200ms",
            mark_interval="400ms",
            batch_interval="500ms",
        )
        self.server.start()
        self.server.ddl(stream(kafka, topic))
        for view in VIEWS:
            self.server.ddl(view.ddl)
        self.production.send(2_000)
        self.server.reached("sensor_data", self.production.record.ends())

    def break_at(self, action, pattern, nth=1, times=1):
        """Sends rows until the fault strikes: writes only happen when there is something to write."""
        fault = self.proxy.arm(action, pattern, nth, times, kill=lambda: self.server.process.kill())

        def struck():
            self.production.send(100)
            return len(fault.struck) >= times

        until(struck, lambda: f"{action} at write {nth} of {pattern}\n{self.server.tail()}", timeout=90)
        return fault

    def is_exact(self, what, views=VIEWS):
        self.server.reached("sensor_data", self.production.record.ends())
        oracle = Oracle(self.production.record)
        for view in views:
            answer = self.server.sql(f"SELECT * FROM {view.name}")
            wrong = view.differences(answer, oracle.at(answer.frontier["sensor_data"]))
            assert not wrong, f"after {what}, {view.name}:\n" + "\n".join(wrong)
        compare_rows(self.server, oracle)
        compare_rejects(self.server, oracle)


@pytest.fixture
def site(thalweg, kafka, topic, proxy, s3):
    return Site(thalweg, kafka, topic, proxy, s3)


@pytest.mark.parametrize("pattern, writes", [(EPOCH, 3), (PUBLICATION, 5)], ids=["epoch", "publication"])
def test_killed_at_each_write(site, pattern, writes):
    for nth in range(1, writes + 1):
        for action in (KILL_BEFORE, KILL_AFTER):
            fault = site.break_at(action, pattern, nth)
            site.server.died()
            site.proxy.disarm()
            site.server.start()
            site.is_exact(f"{action} at {fault.struck[0]}")
    assert site.server.cli("audit").returncode == 0


@pytest.mark.parametrize("action", [KILL_BEFORE, KILL_AFTER], ids=["before", "after"])
def test_killed_at_a_definition(site, kafka, topic, action):
    fault = site.proxy.arm(action, DEFINITION, kill=lambda: site.server.process.kill())
    with pytest.raises(OSError):
        site.server.ddl("CREATE MATERIALIZED VIEW third AS SELECT count(*) AS events FROM sensor_data")
    assert fault.struck
    site.server.died()
    site.proxy.disarm()
    site.server.start()
    # The statement either happened or did not; either way it can be said again.
    site.server.ddl("CREATE OR REPLACE MATERIALIZED VIEW third AS SELECT count(*) AS events FROM sensor_data")
    until(lambda: _events(site.server) is not None, "the view")
    site.is_exact(f"{action} at {fault.struck[0]}")


def _events(server):
    try:
        return server.ask("SELECT events FROM third").one()["events"]
    except Refused:
        return None


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("action", [KILL_BEFORE, KILL_AFTER], ids=["before", "after"])
def test_killed_while_a_new_view_is_built(site, action, nth):
    fault = site.proxy.arm(action, PUBLICATION, nth, kill=lambda: site.server.process.kill())
    answered = False
    try:
        site.server.ddl(EDGES.ddl)
        answered = True
        until(lambda: fault.struck, "the build to write", every=0.01)
    except OSError:
        assert fault.struck
    site.server.died()
    site.proxy.disarm()
    site.server.start()
    if not answered:
        # A publication of another view came first: whether the definition was written is not known.
        site.server.ddl(EDGES.ddl.replace("MATERIALIZED VIEW", "MATERIALIZED VIEW IF NOT EXISTS"))
    site.is_exact(f"{action} at {fault.struck[0]}", [*VIEWS, EDGES])


@pytest.mark.parametrize(
    "pattern",
    [
        EPOCH + r".*/_delta_log/",
        EPOCH + r".*\.parquet",
        PUBLICATION + r".*/_delta_log/",
        PUBLICATION + r".*\.parquet",
        DEFINITION,
    ],
    ids=["epoch-commit", "epoch-data", "publication-commit", "publication-data", "definition"],
)
@pytest.mark.parametrize("action", [LAND_THEN_500, REFUSE_503], ids=["landed-but-500", "503"])
def test_storage_that_lies_or_refuses(site, pattern, action):
    """A write that landed and was answered 500 is retried by the client, and then looks like somebody else's."""
    if pattern is DEFINITION:
        fault = site.proxy.arm(action, pattern)
        site.server.ddl("CREATE MATERIALIZED VIEW third AS SELECT count(*) AS events FROM sensor_data")
        assert fault.struck
        until(lambda: _events(site.server) is not None, "the view")
    else:
        site.break_at(action, pattern, times=1)
        site.proxy.disarm()
        site.break_at(action, pattern, times=2)
    site.proxy.disarm()
    site.is_exact(f"{action} at {pattern}")
    assert site.server.alive()
    assert site.server.cli("audit").returncode == 0
    assert site.server.stop() == 0
    site.server.start()
    site.is_exact("a restart")


@pytest.mark.parametrize(
    "action", [KILL_BEFORE, KILL_AFTER, LAND_THEN_500, REFUSE_503], ids=["before", "after", "landed-but-500", "503"]
)
def test_a_checkpoint_that_fails(site, action):
    """The commit before it landed: nothing may be written twice."""
    fault = site.break_at(action, CHECKPOINT)
    if action in (KILL_BEFORE, KILL_AFTER):
        site.server.died()
    site.proxy.disarm()
    if not site.server.alive():
        site.server.start()
    site.is_exact(f"{action} at {fault.struck[0]}")
