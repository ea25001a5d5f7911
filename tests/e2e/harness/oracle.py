"""DuckDB over the record of what was sent: what every answer has to be at its frontier.

It shares nothing with the system under test: not the parser, not the engine, not the bytes.
"""

import math
from datetime import date, datetime, timezone
from decimal import Decimal

import duckdb


class Oracle:
    def __init__(self, record):
        self.db = duckdb.connect()
        self.db.execute("SET TimeZone = 'UTC'")
        self.db.execute("SET threads = 2")
        self.db.register("record", record.table())
        self.db.execute("CREATE TABLE sent AS SELECT * FROM record")
        self.db.unregister("record")
        self.db.execute("CREATE TABLE frontier (p INTEGER, next BIGINT)")
        for name, valid in (("sensor_data", "valid"), ("rejects", "NOT valid")):
            self.db.execute(
                f"CREATE VIEW {name} AS SELECT sent.* FROM sent JOIN frontier ON _partition = p AND _offset < next"
                f" WHERE committed AND {valid}"
            )

    def at(self, frontier):
        """From now on, the tables hold exactly the messages below this frontier (partition -> next offset)."""
        self.db.execute("DELETE FROM frontier")
        if frontier:
            self.db.executemany("INSERT INTO frontier VALUES (?, ?)", list(frontier.items()))
        return self

    def rows(self, sql):
        cursor = self.db.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]

    def one(self, sql):
        return self.rows(sql)[0]


# How a value may differ from the oracle's.


def exact(got, want):
    return got == want


def close(got, want):
    """Float sums depend on the order of addition."""
    if got is None or want is None:
        return got is want
    return math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-9)


def counted_about(got, want):
    """HyperLogLog with 2^14 registers: standard error 0.8%."""
    return abs(got - want) <= max(1, 0.03 * want)


def ranked(got, want):
    """A quantile's estimate, between the exact values at the lowest and highest rank that the tolerance allows."""
    if want is None or want["lowest"] is None:
        return got is None
    return want["lowest"] - 1e-9 <= got <= want["highest"] + 1e-9


def quantile_bounds(column, q, tolerance=0.03):
    """DuckDB: the exact values around the q-quantile, `tolerance` in rank apart, at least two values."""
    values = f"list_sort(list({column}) FILTER ({column} IS NOT NULL))"
    n = f"count({column})"
    low = f"greatest(1, floor({n} * {q} - greatest(2, {n} * {tolerance})))::BIGINT"
    high = f"least({n}, ceil({n} * {q} + greatest(2, {n} * {tolerance})))::BIGINT"
    return f"{{'lowest': {values}[{low}], 'highest': {values}[{high}]}}"


def value(got, kind):
    """A JSON value as the type that its column says."""
    kind = kind.lower()
    if got is None:
        return None
    if kind.startswith("timestamp") or kind.startswith("date"):
        when = datetime.fromisoformat(got)
        return when.astimezone(timezone.utc).replace(tzinfo=None) if when.tzinfo else when
    if kind.startswith("decimal"):
        return Decimal(str(got))
    if kind.startswith("float") or kind.startswith("double"):
        return float(got)
    return got


def differences(answer, wanted, keys, checks, limit=5):
    """What is wrong with an answer, in lines for a person; empty when nothing is."""
    got = {}
    for row in answer.rows:
        row = {name: value(v, answer.types[name]) for name, v in zip(answer.names, row)}
        key = tuple(row[k] for k in keys)
        if key in got:
            return [f"the group {key} is there twice"]
        got[key] = row
    want = {tuple(_plain(row[k]) for k in keys): row for row in wanted}
    wrong = [f"missing: {key}" for key in want.keys() - got.keys()]
    wrong += [f"too many: {key}: {got[key]}" for key in got.keys() - want.keys()]
    for key in want.keys() & got.keys():
        for name, truth in want[key].items():
            if name not in keys and not checks.get(name, exact)(got[key][name], _plain(truth)):
                wrong.append(f"{key}.{name}: got {got[key][name]!r}, expected {truth!r}")
    return wrong[:limit] + ([f"... {len(wrong)} differences in {len(want)} groups"] if len(wrong) > limit else [])


def _plain(truth):
    if isinstance(truth, date) and not isinstance(truth, datetime):
        return datetime(truth.year, truth.month, truth.day)
    return truth
