"""The notebooks: each runs to its end against a demo, and its stored outputs are whole.

Cells assert what they claim, so a door that answers wrongly fails here with the cell and its traceback.
"""

import json

import nbformat
import pytest
from harness.demo import DemoProcess
from harness.notebooks import BOOKS, FOLDER, addresses, execute, faults, read
from harness.wait import until
from nbclient.exceptions import CellExecutionError

# A debug build on a busy machine is slow; runs come often, so that both layers take part early.
FLAGS = "--demo-rate 400/s --epoch-interval 1s --mark-interval 2s --batch-interval 5s".split()
# What the notebooks are about: minutes to draw, an attack, and a cut in every view.
MINUTES = "SELECT count(DISTINCT minute) >= 20 AS enough FROM stock_bars"
ATTACKS = "SELECT count(*) > 0 AS enough FROM suspicious_addresses"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    process = DemoProcess(tmp_path_factory.mktemp("demo"), *FLAGS)
    try:
        process.start()
        for question in (MINUTES, ATTACKS):
            until(lambda: process.sql(question).one()["enough"], question, 120)

        def recomputed():
            views = process.http.get(f"{process.url}/v1/views", timeout=20).json()["views"]
            return all(sum((view["cut"] or {}).values()) > 0 for view in views)

        until(recomputed, "every view to be recomputed", 120)
        yield process
    finally:
        process.close()


def doors(demo):
    """The addresses are on the screen."""
    return addresses(
        demo.says(r"http://([\d.]+:\d+)"), demo.says(r"postgres://([\d.]+:\d+)"), demo.says(r"grpc://([\d.]+:\d+)")
    )


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(path, demo):
    execute(read(path), doors(demo))


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_whole(path):
    assert faults(read(path)) == []


def test_there_are_notebooks():
    assert [path.name[:3] for path in BOOKS] == ["01_", "02_", "03_", "04_", "05_"]


def pins(path):
    return dict(line.split("==") for line in path.read_text().split())


def test_readers_and_tests_have_the_same_versions():
    readers, tests = pins(FOLDER / "requirements.txt"), pins(FOLDER.parent / "tests" / "requirements.txt")
    # Tests need no browser, and pandas brings numpy.
    assert {name: version for name, version in readers.items() if tests.get(name) != version}.keys() == {
        "jupyterlab", "numpy",
    }  # fmt: skip


def made_up(*cells):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])


def test_a_cell_that_raises_is_noticed(tmp_path):
    ran = execute(made_up("import os\nos.environ['NOTEBOOK_HTTP']"), addresses("a", "b", "c"), tmp_path)
    assert "http://a" in json.dumps(ran.cells[0].outputs)
    with pytest.raises(CellExecutionError, match="1 is not 2"):
        execute(made_up("assert 1 == 2, '1 is not 2'"), {}, tmp_path)


def test_faults_of_stored_outputs_are_noticed():
    book = made_up("1", "2", "3", "4", "'" + "a" * 120 + "'", "6")
    output = nbformat.v4.new_output
    for cell in book.cells[1:]:
        cell.execution_count = 1
    book.cells[1].outputs = [output("error", ename="ValueError")]
    book.cells[2].outputs = [output("execute_result", {"text/plain": "see /tmp/x", "image/svg": "/tmp/x"})]
    book.cells[3].outputs = [output("stream", name="stderr", text="a warning")]
    book.cells[5].metadata = {"execution": {}}
    words = ["without having been", "ValueError", "names a machine", "warning", "122 columns", "has metadata", "no plot"]
    found = faults(book)
    assert len(found) == len(words) and all(any(word in fault for fault in found) for word in words), found
    book = made_up("1")
    # A picture is bytes in base64, which may spell anything.
    plot = output("display_data", {"image/png": "ab/tmp/x", "text/plain": "a/b"})
    book.cells[0].update(execution_count=1, outputs=[plot])
    assert faults(book) == []
