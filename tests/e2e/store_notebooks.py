"""Executes the notebooks against a running demo and stores them with their outputs.

It exists because outputs in the tree are for readers, and have to be made anew when a notebook changes:

    python tests/e2e/store_notebooks.py [NAME …]

The addresses are those that the notebooks read themselves: NOTEBOOK_HTTP, NOTEBOOK_POSTGRES and NOTEBOOK_FLIGHT_SQL.
"""

import sys
import time

from harness.notebooks import BOOKS, execute, faults, read, store


def main(names):
    wrong = []
    for path in BOOKS:
        if names and path.stem not in names:
            continue
        begin = time.monotonic()
        store(execute(read(path), {}), path)
        wrong += [f"{path.name}: {fault}" for fault in faults(read(path))]
        print(f"{path.name}: {time.monotonic() - begin:.1f} s")
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main(sys.argv[1:])
