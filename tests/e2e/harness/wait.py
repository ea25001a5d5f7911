"""Polling with a deadline: the only way in which these tests wait."""

import time


class TimedOut(AssertionError):
    """A condition did not become true in time."""


def until(condition, what, timeout=60, every=0.05):
    """Calls `condition` until it answers something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimedOut(f"waited {timeout} s for {what() if callable(what) else what}")
        time.sleep(every)
