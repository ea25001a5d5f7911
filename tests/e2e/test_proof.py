"""The proof proves something: the comparison with the oracle notices every kind of wrong answer.

No server here: answers are forged from the oracle's own rows, right ones and wrong ones.
"""

import random
from datetime import datetime
from decimal import Decimal

import pytest
from definitions import VIEWS
from harness.oracle import Oracle
from harness.producer import Record, Script

TYPES = {
    datetime: "Timestamp(µs)",
    Decimal: "Decimal128(28, 4)",
    float: "Float64",
    int: "Int64",
    str: "Utf8",
    bool: "Boolean",
}


class Forged:
    """What a server would have answered, from rows as the oracle gives them."""

    def __init__(self, rows):
        self.names = list(rows[0])
        values = {name: [self._said(row[name]) for row in rows] for name in self.names}
        self.types = {name: TYPES[next((type(v) for v in values[name] if v is not None), str)] for name in self.names}
        self.rows = [
            tuple(v.isoformat() if isinstance(v, datetime) else str(v) if isinstance(v, Decimal) else v for v in row)
            for row in zip(*values.values())
        ]

    @staticmethod
    def _said(value):
        return value["highest"] if isinstance(value, dict) else value


@pytest.fixture(scope="module")
def oracle():
    record, script, places = Record(), Script(seed=1), random.Random(1)
    ends = [0, 0, 0]
    for number in range(20_000):
        payload, row = script.next()
        partition = places.randrange(3)
        index = record.add(payload, row, 1_772_366_400_000 + number)
        record.where[index] = (partition, ends[partition])
        record.committed[index] = number % 50 != 0
        ends[partition] += 1
    oracle = Oracle(record)
    oracle.ends = dict(enumerate(ends))
    return oracle


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_right_answers_pass_and_wrong_ones_do_not(oracle, view):
    frontier = {p: end * 2 // 3 for p, end in oracle.ends.items()}
    rows = oracle.at(frontier).rows(view.truth)
    assert view.differences(Forged(rows), oracle) == []
    # Two hundred messages of one partition are missing, or too many.
    below = {**frontier, 1: frontier[1] - 200}
    assert view.differences(Forged(rows), oracle.at(below))
    assert view.differences(Forged(oracle.rows(view.truth)), oracle.at(frontier))
    if view.keys:
        oracle.at(frontier)
        assert view.differences(Forged(rows[1:]), oracle) == [f"missing: {tuple(rows[0][k] for k in view.keys)}"]
        assert view.differences(Forged([*rows, rows[0]]), oracle)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_column_is_compared(oracle, view):
    rows = oracle.at(oracle.ends).rows(view.truth)
    for name in rows[0].keys() - set(view.keys):
        wrong = [dict(row) for row in rows]
        victim = next(row for row in wrong if row[name] is not None)
        value = victim[name]
        if isinstance(value, dict):
            victim[name] = value["highest"] + 1.0
        elif isinstance(value, bool):
            victim[name] = not value
        elif isinstance(value, str):
            victim[name] = value + "x"
        elif isinstance(value, datetime):
            victim[name] = value.replace(microsecond=(value.microsecond + 1) % 1_000_000)
        elif isinstance(value, float):
            victim[name] = value * (1 + 1e-7) + 1e-7
        else:
            victim[name] = int(value * 1.1) + 2 if name in view.checks else value + 1
        assert view.differences(Forged(wrong), oracle), f"a wrong {name} passed"


def test_a_script_is_the_same_for_the_same_seed():
    one, other = Script(seed=4), Script(seed=4)
    assert [one.next() for _ in range(5_000)] == [other.next() for _ in range(5_000)]


def test_a_script_has_what_it_promises():
    script = Script(seed=9)
    rows = [row for _, row in (script.next() for _ in range(50_000))]
    good = [row for row in rows if row]
    assert 0.005 < 1 - len(good) / len(rows) < 0.02, "about one message of a hundred is no row"
    assert all(any(row[name] is None for row in good) for name in good[0])
    assert len({row["device"] for row in good}) > 200
    times = [row["ts"] for row in good if row["ts"]]
    assert sum(a > b for a, b in zip(times, times[1:])) > len(times) / 4, "times are out of order"
