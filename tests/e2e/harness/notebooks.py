"""Notebooks executed cell by cell in a kernel of their own, and what a stored notebook has to be.

A notebook is a document and a test at once: its outputs are stored for readers, and its cells assert what they claim.
"""

import os
import pathlib
import re

import nbformat
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).resolve().parents[3] / "notebooks"
BOOKS = sorted(FOLDER.glob("*.ipynb"))
# What a stored output must not name: folders and ports of the machine that made it.
OF_A_MACHINE = re.compile(r"(?<![\w.])/(home|root|tmp|work|Users|usr|var)/|~/\.|\b(127\.0\.0\.1|localhost):\d+")


def addresses(http, postgres, flight_sql):
    """The variables that the first cell of every notebook reads, for doors at `host:port`."""
    return {
        "NOTEBOOK_HTTP": f"http://{http}",
        "NOTEBOOK_POSTGRES": f"postgresql://me@{postgres}/thalweg",
        "NOTEBOOK_FLIGHT_SQL": f"grpc://{flight_sql}",
    }


def read(path):
    return nbformat.read(path, as_version=4)


def execute(book, variables, folder=FOLDER):
    """Runs all cells; a cell that raises ends it with its traceback. The outputs are in `book` then."""
    client = NotebookClient(
        book,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        # Nothing is written to the history of the user's own IPython.
        extra_arguments=["--HistoryManager.enabled=False"],
    )
    client.execute(env={**os.environ, **variables})
    return book


def store(book, path):
    """Writes a notebook without what differs from machine to machine."""
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in book.cells:
        cell.metadata = {}
    nbformat.write(book, path)


def faults(book):
    """What is wrong with a notebook as it is stored."""
    found, plots = [], 0
    for cell in book.cells:
        wide = [line for line in cell.source.splitlines() if len(line) > 120]
        found += [f"{cell.id} has a line of {len(line)} columns" for line in wide]
        if cell.cell_type != "code":
            continue
        if cell.execution_count is None:
            found.append(f"{cell.id} is stored without having been executed")
        if cell.metadata:
            found.append(f"{cell.id} has metadata: {dict(cell.metadata)}")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"{cell.id} is stored with an error: {output.ename}")
            if output.get("name") == "stderr":
                found.append(f"{cell.id} is stored with a warning: {output.text}")
            data = output.get("data", {})
            plots += "image/png" in data
            texts = [output.get("text", ""), *(text for kind, text in data.items() if kind.startswith("text/"))]
            named = [match for text in texts if (match := OF_A_MACHINE.search(text))]
            found += [f"{cell.id} names a machine: {match[0]}" for match in named]
    if not plots:
        found.append("there is no plot")
    return found
