"""The short form of soak.py: under load every answer is right, and nothing runs away."""

import pytest
from soak import Soak

pytestmark = pytest.mark.alone


def test_half_a_minute_under_load(tmp_path):
    soak = Soak(tmp_path, minutes=0.5).run()
    ends = soak.ends()
    first, last = ends["resident"]
    assert last < 2 * first + (200 << 20), f"memory went from {first >> 20} to {last >> 20} MiB"
    assert ends["one"][1] < 1 and ends["lookup"][1] < 2, ends
    assert ends["handles"][1] < 2 * ends["handles"][0] + 100, ends
