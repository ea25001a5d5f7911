"""Roll-ups: an aggregate of a stream is the same from the states of a view and from the rows, whatever was asked; and
what a client sees of them.

Random queries are asked twice at one frontier, and measures of views beside aggregates of rows. THALWEG_ROLLUP_SEED is the seed of the queries, THALWEG_ROLLUP_QUERIES
their number.
"""

import math
import os
import random
import re
import subprocess

import psycopg
import pytest
from definitions import FROM_ROWS, stream
from harness.producer import Production
from harness.thalweg import Refused

FAST = dict(epoch_interval="200ms", mark_interval="400ms", batch_interval="500ms")
SEED = int(os.environ.get("THALWEG_ROLLUP_SEED", 1))
QUERIES = int(os.environ.get("THALWEG_ROLLUP_QUERIES", 150))

CALLS = [
    "count(*)", "count(temperature)", "sum(counter)", "avg(temperature)", "avg(cost)", "min(temperature)",
    "max(temperature)", "max(ts)", "min(note)", "count(DISTINCT note)", "approx_distinct(note)", "stddev(temperature)",
    "bool_and(ok)", "bool_or(ok)", "sum(cost)", "count(*) FILTER (WHERE temperature > 20)",
    "first_value(note ORDER BY ts, _partition, _offset)", "median(counter)", "var_pop(temperature)",
    "sum(temperature * 2 + 1)", "sum(DISTINCT counter)",
]  # fmt: skip
VIEWS = {
    "by_minute": ("device, date_trunc('minute', ts)", ""),
    "by_second": ("date_bin(INTERVAL '1 second', ts), ok", "device <> 'd-001'"),
    "by_note": ("note, upper(device), ok", ""),
    "by_value": ("temperature, device", "temperature IS NOT NULL"),
    "whole": ("", ""),
}
# What queries group by and ask of rows: much of it is a function of some view's groups, and much is not.
GROUPS = [
    "device", "upper(device)", "date_trunc('minute', ts)", "date_trunc('hour', ts)", "date_bin(INTERVAL '5 minutes', ts)",
    "CAST(ts AS DATE)", "extract(minute FROM ts)", "extract(second FROM ts)", "ok", "note", "length(note)", "temperature",
    "device = 'd-000'", "CASE WHEN ok THEN device END", "_partition", "temperature > 20", "date_trunc('week', ts)",
    "CAST(temperature AS STRING)", "coalesce(note, 'none')",
]  # fmt: skip
CONDITIONS = [
    "device <> 'd-001'", "device IN ('d-000', 'd-002', 'd-003')", "ok", "NOT ok", "ok IS NULL", "note LIKE '%e%'",
    "ts >= TIMESTAMP '2026-03-01 12:05:00'", "ts < TIMESTAMP '2026-03-01 12:10:30'", "ts > '2026-03-01 12:03:00'",
    "ts BETWEEN '2026-03-01 12:03:00' AND '2026-03-01 12:08:59.999999'", "temperature IS NOT NULL", "temperature > 20",
    "upper(device) <> 'D-002'", "device = 'd-000' OR ok", "ts < date_trunc('day', now())", "false", "_offset % 2 = 0",
    "device IN (SELECT device FROM by_minute WHERE n > 3)", "temperature < 0.0", "counter > 0", "note = ''",
]  # fmt: skip


def definition(name, groups, condition):
    calls = ", ".join(f"{call} AS a{i}" for i, call in enumerate(CALLS))
    named = ", ".join(f"{group} AS g{i}" for i, group in enumerate(split(groups)))
    return (
        f"CREATE MATERIALIZED VIEW {name} AS SELECT {named + ', ' if named else ''}{calls}, count(*) AS n FROM sensor_data"
        + (f" WHERE {condition}" if condition else "")
        + (f" GROUP BY {', '.join(split(groups))}" if groups else "")
    )


def split(groups):
    """The expressions of a list, in which commas within parentheses stand too."""
    found, depth = [""], 0
    for c in groups:
        depth += (c == "(") - (c == ")")
        if c == "," and not depth:
            found.append("")
        else:
            found[-1] += c
    return [group.strip() for group in found if group.strip()]


def query(chance):
    """A random aggregate of the stream, written in one of several ways."""
    view = chance.choice(list(VIEWS.values()))
    # Half of the queries keep the conditions of a view.
    conditions = [view[1]] if view[1] and chance.random() < 0.8 else []
    conditions += chance.sample(CONDITIONS, chance.choice([0, 0, 1, 1, 2]))
    pool = split(view[0]) + GROUPS[:4] if chance.random() < 0.6 else GROUPS
    groups = chance.sample(pool, min(len(pool), chance.choice([0, 1, 1, 2])))
    calls = chance.sample(CALLS, chance.choice([0, 1, 2, 3]) if groups else chance.choice([1, 2, 3]))
    if chance.random() < 0.2:
        calls.append(chance.choice(["count(DISTINCT device)", "min(device)", "max(date_trunc('hour', ts))"]))
    calls = [
        f"{call} FILTER (WHERE device <> 'd-002')" if "FILTER" not in call and chance.random() < 0.15 else call
        for call in calls
    ]
    shown = [f"{item} AS x{i}" for i, item in enumerate(groups + calls)]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    table = chance.choice(["sensor_data", "public.sensor_data", "(SELECT * FROM sensor_data) AS s"])
    by = ", ".join(groups)
    if not groups:
        return f"SELECT {', '.join(shown)} FROM {table}{where}"
    if not calls and chance.random() < 0.5:
        return f"SELECT DISTINCT {', '.join(shown)} FROM {table}{where}"
    if chance.random() < 0.1:
        by = f"{chance.choice(['ROLLUP', 'CUBE'])} ({by})"
    having = " HAVING count(*) > 2" if chance.random() < 0.2 else ""
    return f"SELECT {', '.join(shown)} FROM {table}{where} GROUP BY {by}{having}"


def rank(row):
    return [(value is None, str(value)) for value in row]


def same(got, want):
    if isinstance(got, float) and isinstance(want, float):
        return math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(got) and math.isnan(want))
    return got == want


def agree(got, want):
    """True if both have the same rows in any order. Sums of floats may differ by their rounding."""
    floats = lambda row: [round(v, 6) if isinstance(v, float) else v for v in row]  # noqa: E731
    got = sorted(got, key=lambda row: rank(floats(row)))
    want = sorted(want, key=lambda row: rank(floats(row)))
    return len(got) == len(want) and all(len(g) == len(w) and all(map(same, g, w)) for g, w in zip(got, want))


@pytest.fixture
def server(thalweg, kafka, topic):
    """A stream that stands still, with views of many shapes."""
    server = thalweg(**FAST).start()
    server.ddl(stream(kafka, topic))
    for name, (groups, condition) in VIEWS.items():
        server.ddl(definition(name, groups, condition))
    production = Production(kafka, topic, seed=31, weights=(2, 1), transactions=False).send(3000)
    server.ready()
    server.reached("sensor_data", production.record.ends())
    return server


def postgres(server):
    port = re.search(r"postgres://127\.0\.0\.1:(\d+)", server.out.read_text())[1]
    return f"host=127.0.0.1 port={port} user=me dbname=thalweg"


def plan(server, sql):
    return "\n".join(str(cell) for row in server.sql(f"EXPLAIN {sql}").rows for cell in row)


def test_random_queries_have_the_same_answer_from_states_and_from_rows(server):
    chance = random.Random(SEED)
    rolled = 0
    for number in range(QUERIES):
        sql = query(chance)
        try:
            want = server.sql(FROM_ROWS + sql)
        except Refused as refused:
            with pytest.raises(Refused) as again:
                server.sql(sql)
            assert again.value.code == refused.code, f"query {number} of seed {SEED}: {sql}"
            continue
        got = server.sql(sql)
        rolled += " batch below" in plan(server, sql)
        assert got.frontier == want.frontier and got.names == want.names and got.types == want.types, sql
        assert agree(got.rows, want.rows), f"query {number} of seed {SEED}: {sql}\n{got.rows[:5]}\n{want.rows[:5]}"
    assert rolled > QUERIES / 5, f"only {rolled} of {QUERIES} queries were rolled up"


# Of a view's group {0} and another {1}: in the words of the view, and of the stream.
OF_GROUPS = ["{0}", "{1}", "{0} IS NULL", "coalesce(CAST({0} AS STRING), 'none')", "CASE WHEN {1} IS NULL THEN {0} END"]
OF_ROWS = ["{0} IS NOT NULL", "{0} <> {0} OR {1} IS NOT NULL", "CAST({0} AS STRING) > 'd-001'"]


def measures(chance):
    """A random query that measures columns of a view, and the same over the rows of the stream."""
    view, (groups, condition) = chance.choice([item for item in VIEWS.items() if item[1][0]])
    groups = split(groups)
    picked = [chance.randrange(len(groups)), chance.randrange(len(groups))]
    of_view, of_stream = [f"g{i}" for i in picked], [groups[i] for i in picked]
    items = chance.sample(OF_GROUPS, chance.choice([0, 1, 2]))
    # 0.0 and -0.0 are one group, and texts tell them apart.
    wheres = [] if view == "by_value" else chance.sample(OF_ROWS, chance.choice([0, 0, 1]))
    items = [item for item in items if view != "by_value" or "CAST" not in item]
    calls = chance.sample(range(len(CALLS)), chance.choice([1, 2, 4]))

    def written(words, call, table, kept):
        fill = lambda text: text.format(*words)  # noqa: E731
        shown = [f"{fill(item)} AS x{i}" for i, item in enumerate(items)] + [f"{call(i)} AS m{i}" for i in calls]
        where = [fill(text) for text in wheres] + kept
        where = f" WHERE {' AND '.join(where)}" if where else ""
        by = f" GROUP BY {', '.join(fill(item) for item in items)}" if items else ""
        return f"SELECT {', '.join(shown)} FROM {table}{where}{by}"

    return (
        written(of_view, lambda i: f"measure(a{i})", view, []),
        written(of_stream, lambda i: CALLS[i], "sensor_data", [condition] if condition else []),
    )


def test_random_measures_of_views_are_aggregates_of_their_streams(server):
    chance = random.Random(SEED)
    for number in range(QUERIES):
        measured, whole = measures(chance)
        got, want = server.sql(measured), server.sql(FROM_ROWS + whole)
        assert got.frontier == want.frontier and got.types == want.types, f"{measured}\n{whole}"
        assert agree(got.rows, want.rows), (
            f"query {number} of seed {SEED}: {measured}\n{whole}\n{got.rows[:5]}\n{want.rows[:5]}"
        )


def test_a_client_of_postgresql_rolls_up_measures_and_turns_it_off(server):
    hours = "SELECT date_trunc('hour', ts), count(*), avg(temperature) FROM sensor_data WHERE device <> %s GROUP BY 1"
    with psycopg.connect(postgres(server), autocommit=True) as connection:
        read = lambda sql, *values: connection.execute(sql, values).fetchall()  # noqa: E731
        assert "by_minute batch below" in str(read("EXPLAIN " + hours, "d-003"))
        from_states = read(hours, "d-003")
        measured = read(
            "SELECT date_trunc('hour', g1), measure(n), measure(a3) FROM by_minute WHERE g0 <> %s GROUP BY 1", "d-003"
        )
        connection.execute("SET thalweg.rollups = false")
        assert "by_minute" not in str(read("EXPLAIN " + hours, "d-003"))
        from_rows = read(hours, "d-003")
        assert agree(from_states, from_rows) and agree(measured, from_rows)
        with pytest.raises(psycopg.errors.Error, match="depends on a column by which the view groups"):
            read("SELECT measure(g0) FROM by_minute")
        connection.execute("RESET thalweg.rollups")
        assert "by_minute batch below" in str(read("EXPLAIN " + hours, "d-003"))


def test_a_view_that_fails_is_not_rolled_up(server, kafka, topic):
    server.ddl("CREATE MATERIALIZED VIEW fragile AS SELECT ok, count(*) AS n, sum(1 / (counter - counter)) AS x "
               "FROM sensor_data GROUP BY ok")  # fmt: skip
    failed = lambda: next(v for v in server.json("/v1/views")["views"] if v["name"] == "fragile")["status"] == "failed"  # noqa: E731
    server.until(failed, "the view to fail", 60)
    sql = "SELECT ok, count(*) AS n FROM sensor_data GROUP BY ok"
    assert agree(server.sql(sql).rows, server.sql(FROM_ROWS + sql).rows)
    assert "fragile" not in plan(server, sql)


def test_the_command_line_shows_what_a_query_reads(server):
    printed = server.cli("sql", "EXPLAIN SELECT DISTINCT device FROM sensor_data")
    assert printed.returncode == 0 and " batch below" in printed.stdout, printed.stderr
    assert subprocess.run(["curl", "--silent", f"{server.url}/v1/sql?query=SELECT+1&rollups=perhaps"], capture_output=True,
                          text=True, timeout=60).stdout.count("rollups is `true` or `false`")  # fmt: skip
