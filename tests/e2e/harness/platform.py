"""The processes of one platform: speed workers, replicas and a batch process over one warehouse."""

from .thalweg import free_port

# Who is silent for so long has left the group.
SILENT = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "1000"}
SPEED = dict(epoch_interval="1s", mark_interval="1s", epoch_bytes="8MiB", grace="20s")
TOKEN = {"THALWEG_CLUSTER_TOKEN": "a secret of this test"}
# A replica that applies definitions.
DEFINES = {"THALWEG_REPLICA_DEFINITIONS": "true"}
# What passes by itself while partitions move.
PASSING = frozenset({"not_ready", "not_held", "worker_failed", "stream_stopped"})


class Platform:
    """The processes of one platform."""

    def __init__(self, thalweg, warehouse, workers, kafka=None):
        """`kafka`: more properties of the connection."""
        self.start_one = thalweg
        self.kafka = kafka or {}
        self.warehouse = f"file://{warehouse}"
        self.ports = {name: free_port() for name in workers}
        self.workers = {}
        self.batch = self._start("batch", "batch", batch_interval="2s")
        listed = ",".join(f"127.0.0.1:{port}" for port in self.ports.values())
        self.replicas = [
            self._start("by-list", "serve", workers=listed, environment=DEFINES, kafka=self.kafka),
            self._start("by-group", "serve", workers="group"),
        ]

    def _start(self, name, role, **options):
        process = self.start_one(name, role=role, warehouse=self.warehouse, **options)
        process.passing = PASSING
        process.start(ready=False)
        process.listening()
        return process

    def join(self, *names):
        """Workers come, new or again."""
        for name in names:
            if name in self.workers:
                self.workers[name].start(ready=False)
                self.workers[name].listening()
            else:
                flight = f"127.0.0.1:{self.ports[name]}"
                options = dict(SPEED, flight_addr=flight, kafka={**SILENT, **self.kafka})
                self.workers[name] = self._start(name, "speed", **options)

    def ready(self, timeout=90):
        for replica in self.replicas:
            replica.until(lambda: all_is_served(replica), "a replica to be ready", timeout)

    def settled(self, timeout=90):
        """Waits until every partition is held by some worker."""
        first = self.replicas[0]
        first.until(lambda: not unheld(first), lambda: f"all partitions to be held: {unheld(first)}", timeout)


def all_is_served(replica):
    if replica.get("/readyz").status_code != 200:
        return False
    views = replica.get("/v1/views").json()["views"]
    return bool(views) and all(view["status"] == "serving" and view["segments"] is not None for view in views)


def streams(replica):
    return {one["name"]: one for one in replica.json("/v1/streams")["streams"]}


def unheld(replica):
    """Streams that do not run, with what status says."""
    return {name: one for name, one in streams(replica).items() if one["status"] != "running"}
