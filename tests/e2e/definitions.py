"""The stream and the views of the proofs: what Thalweg is told, and the same question in DuckDB's words."""

from dataclasses import dataclass, field

from harness.oracle import close, counted_about, differences, quantile_bounds, ranked
from harness.producer import COLUMNS


def stream(kafka, topic, name="sensor_data", columns=COLUMNS, **options):
    """`kafka` has the topic; the settings of a process say where it is."""
    assert kafka.bootstrap
    said = {"format": "json", "event_time": "ts", **options}
    options = ", ".join(f"'{key}' '{value}'" for key, value in said.items())
    return f"CREATE EXTERNAL TABLE {name} ({columns}) STORED AS KAFKA LOCATION '{topic}' OPTIONS ({options})"


@dataclass
class View:
    name: str
    query: str
    truth: str
    keys: list = field(default_factory=list)
    checks: dict = field(default_factory=dict)

    @property
    def ddl(self):
        return f"CREATE MATERIALIZED VIEW {self.name} AS {self.query}"

    def differences(self, answer, oracle, where=""):
        """`where` filters on group columns, in words that both engines understand."""
        truth = f"SELECT * FROM ({self.truth}) {where}"
        return differences(answer, oracle.rows(truth), self.keys, self.checks)


DEVICE_MINUTES = View(
    "device_minutes",
    """SELECT device, date_bin(INTERVAL '1 minute', ts) AS minute, count(*) AS readings, avg(temperature) AS mean,
              max(temperature) AS peak, approx_percentile_cont(temperature, 0.99) AS p99,
              count(*) FILTER (WHERE temperature > 100) AS alarms
       FROM sensor_data GROUP BY 1, 2""",
    f"""SELECT device, date_trunc('minute', ts) AS minute, count(*) AS readings, avg(temperature) AS mean,
               max(temperature) AS peak, {quantile_bounds("temperature", 0.99)} AS p99,
               count(*) FILTER (WHERE temperature > 100) AS alarms
        FROM sensor_data GROUP BY 1, 2""",
    keys=["device", "minute"],
    checks={"mean": close, "p99": ranked},
)

# No GROUP BY: one row, also of an empty stream.
STREAM_TOTALS = View(
    "stream_totals",
    """SELECT count(*) AS events, count(temperature) AS measured, count(DISTINCT device) AS devices, sum(cost) AS cost,
              sum(counter) AS counter, min(ts) AS first, max(ts) AS latest, min(note) AS low, max(note) AS high,
              min(cost) AS cheapest, max(counter) AS most, avg(temperature) AS mean, bool_and(ok) AS all_ok
       FROM sensor_data""",
    """SELECT count(*) AS events, count(temperature) AS measured, count(DISTINCT device) AS devices, sum(cost) AS cost,
              sum(counter)::BIGINT AS counter, min(ts) AS first, max(ts) AS latest, min(note) AS low, max(note) AS high,
              min(cost) AS cheapest, max(counter) AS most, avg(temperature) AS mean, bool_and(ok) AS all_ok
       FROM sensor_data""",
    checks={"mean": close},
)

# Expressions over aggregates, WHERE, HAVING, FILTER.
DEVICE_HEALTH = View(
    "device_health",
    """SELECT device, sum(temperature) / count(*) AS load, max(counter) - min(counter) AS width,
              count(*) FILTER (WHERE ok) AS good, sum(cost) FILTER (WHERE temperature > 60) AS hot_cost,
              stddev(temperature) AS spread, count(DISTINCT note) + 1 AS notes
       FROM sensor_data WHERE counter > -1000000000 AND note <> '' GROUP BY device HAVING count(*) > 40""",
    """SELECT device, sum(temperature) / count(*) AS load, max(counter) - min(counter) AS width,
              count(*) FILTER (WHERE ok) AS good, sum(cost) FILTER (WHERE temperature > 60) AS hot_cost,
              stddev_samp(temperature) AS spread, count(DISTINCT note) + 1 AS notes
       FROM sensor_data WHERE counter > -1000000000 AND note <> '' GROUP BY device HAVING count(*) > 40""",
    keys=["device"],
    checks={"load": close, "spread": close},
)

# Order inside an aggregate, with ties, nulls and both directions; where keys tie, partition and offset decide.
EDGES = View(
    "edges",
    """SELECT ok, first_value(note ORDER BY ts) AS first_note, last_value(temperature ORDER BY ts, counter) AS last_temperature,
              first_value(counter ORDER BY temperature DESC NULLS LAST) AS of_hottest, last_value(device ORDER BY ok) AS last_device,
              approx_distinct(device) AS devices, approx_distinct(note) AS notes, count(*) AS events
       FROM sensor_data GROUP BY ok""",
    """SELECT ok, first(note ORDER BY ts NULLS LAST, _partition, _offset) AS first_note,
              last(temperature ORDER BY ts NULLS LAST, counter NULLS LAST, _partition, _offset) AS last_temperature,
              first(counter ORDER BY temperature DESC NULLS LAST, _partition, _offset) AS of_hottest,
              last(device ORDER BY ok, _partition, _offset) AS last_device,
              count(DISTINCT device) AS devices, count(DISTINCT note) AS notes, count(*) AS events
       FROM sensor_data GROUP BY ok""",
    keys=["ok"],
    checks={"devices": counted_about, "notes": counted_about},
)

# The hours of devices, as a query of the stream that the states of `device_minutes` answer, and as measures of that view.
HOURS_OF_ROWS = View(
    "the hours of rows",
    """SELECT device, date_trunc('hour', ts) AS hour, count(*) AS readings, avg(temperature) AS mean,
              max(temperature) AS peak, approx_percentile_cont(temperature, 0.99) AS p99,
              count(*) FILTER (WHERE temperature > 100) AS alarms
       FROM sensor_data WHERE device <> 'd-001' GROUP BY 1, 2""",
    f"""SELECT device, date_trunc('hour', ts) AS hour, count(*) AS readings, avg(temperature) AS mean,
               max(temperature) AS peak, {quantile_bounds("temperature", 0.99)} AS p99,
               count(*) FILTER (WHERE temperature > 100) AS alarms
        FROM sensor_data WHERE device <> 'd-001' GROUP BY 1, 2""",
    keys=["device", "hour"],
    checks={"mean": close, "p99": ranked},
)
HOURS_OF_MINUTES = View(
    "the hours of minutes",
    """SELECT device, date_trunc('hour', minute) AS hour, measure(readings) AS readings, measure(mean) AS mean,
              measure(peak) AS peak, measure(p99) AS p99, measure(alarms) AS alarms
       FROM device_minutes WHERE device <> 'd-001' GROUP BY 1, 2""",
    HOURS_OF_ROWS.truth,
    keys=["device", "hour"],
    checks={"mean": close, "p99": ranked},
)
ROLLED_UP = [HOURS_OF_ROWS, HOURS_OF_MINUTES]

VIEWS = [DEVICE_MINUTES, STREAM_TOTALS, DEVICE_HEALTH, EDGES]

# Aggregates of a stream are computed from its rows, so that a view and its stream are two witnesses.
FROM_ROWS = "SET thalweg.rollups = false; "

# One question to two views and the raw stream: three counts of the same rows, equal at one frontier.
THREE_COUNTS = f"""{FROM_ROWS}SELECT events, by_minute, raw FROM (SELECT events FROM stream_totals)
    CROSS JOIN (SELECT sum(readings) AS by_minute FROM device_minutes) CROSS JOIN (SELECT count(*) AS raw FROM sensor_data)"""
