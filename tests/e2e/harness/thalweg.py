"""One `thalweg` process under test: started, asked, killed, started again on what it left behind.

It keeps the greatest frontier that any answer carried, across restarts, and fails when a later answer goes below it:
no test can forget to check that.
"""

import itertools
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time

import requests

from .wait import TimedOut, until

ROOT = pathlib.Path(__file__).resolve().parents[3]


def binary():
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    return os.environ.get("THALWEG_BIN", f"{target}/debug/thalweg")


# Below the ports that systems give to outgoing connections, which could take one before a server listens on it.
FIRST_PORT = 11_000
# Tests that run at the same time, each in a process of its own, have ranges of their own.
PORTS_EACH = 1_000
_ports = itertools.count(os.getpid() % PORTS_EACH)


def free_port():
    """A port that nobody takes until a server listens on it."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 20
    for _ in range(PORTS_EACH):
        port = FIRST_PORT + worker * PORTS_EACH + next(_ports) % PORTS_EACH
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise RuntimeError("every port of this test run is taken")


def environment():
    """Without the tests' own variables, which the binary would refuse as unknown settings, and nobody's credentials. The
    ports of the doors beside HTTP are free ones, because processes stand side by side."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("THALWEG_", "AWS_"))}
    return {**own, "THALWEG_POSTGRES_ADDR": "127.0.0.1:0", "THALWEG_FLIGHT_SQL_ADDR": "127.0.0.1:0"}


def run(*arguments, timeout=60, cwd=None, **variables):
    """One command of the binary, to its end."""
    return subprocess.run(
        [binary(), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd or tempfile.gettempdir(),
        env={**environment(), **variables},
    )


class Refused(Exception):
    """The server's error answer."""

    def __init__(self, status, error):
        super().__init__(f"{status} {error}")
        self.status = status
        self.code = error.get("code")
        self.message = error.get("message", "")
        self.line = error.get("line")
        self.column = error.get("column")


class Answer:
    """Columns, rows and the frontier that the rows are exact at."""

    def __init__(self, body, header):
        self.names = [column["name"] for column in body["columns"]]
        self.types = {column["name"]: column["type"] for column in body["columns"]}
        self.rows = [tuple(row) for row in body["rows"]]
        self.frontier = frontiers(body["frontier"])
        assert frontiers(json.loads(header)) == self.frontier, "header and body name different frontiers"

    def dicts(self):
        return [dict(zip(self.names, row)) for row in self.rows]

    def one(self):
        assert len(self.rows) == 1, f"expected one row, got {len(self.rows)}"
        return self.dicts()[0]


def frontiers(by_stream):
    return {stream: {int(p): int(o) for p, o in parts.items()} for stream, parts in by_stream.items()}


class Client:
    """One connection to a server. Keeps the greatest frontier that its answers carried, and fails on one below it."""

    # Refusals that waiting cures.
    passing = frozenset({"not_ready"})

    def __init__(self, url):
        self.url = url
        self.http = requests.Session()
        self.seen = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.close()

    def ask(self, sql, **headers):
        """One request. Raises Refused for an error answer."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.http.post(f"{self.url}/v1/sql", json={"sql": sql}, headers=headers, timeout=120)
        if response.status_code != 200:
            raise Refused(response.status_code, response.json()["error"])
        answer = Answer(response.json(), response.headers["thalweg-frontier"])
        answer.partial = response.headers.get("thalweg-partial")
        self._never_back(answer.frontier, sql)
        return answer

    def sql(self, sql, timeout=60):
        """Asks until the server is ready to answer."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self.ask(sql)
            except Refused as refused:
                if refused.code not in self.passing or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def _never_back(self, frontier, sql):
        for stream, parts in frontier.items():
            # The batch layer alone answers up to its cut, which follows the frontier.
            seen = self.seen.setdefault((stream, "FROM batch." in sql), {})
            for partition, offset in parts.items():
                assert offset >= seen.get(partition, 0), (
                    f"the frontier of {stream}/{partition} went back from {seen[partition]} to {offset}: {sql}"
                )
                seen[partition] = offset


class Thalweg(Client):
    """A process and everything that can be done to it."""

    def __init__(self, folder, *, role="up", warehouse=None, storage=None, kafka=None, environment=None, **options):
        """`options` are flags of `thalweg up` or of another role, with underscores for dashes."""
        self.port = free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.role = role
        self.environment = environment or {}
        self.warehouse = warehouse
        self.storage = storage or {}
        self.kafka = kafka or {}
        self.options = options
        self.process = None
        self.starts = 0

    # Life and death.

    def where(self):
        """The flags that say which warehouse: the same for every command."""
        flags = ["--data-dir", str(self.folder / "data")]
        if self.warehouse:
            flags += ["--warehouse", self.warehouse]
        for key, value in self.storage.items():
            flags += ["--storage", f"{key}={value}"]
        return flags

    def start(self, ready=True, timeout=60):
        assert not self.alive(), "started twice"
        self.starts += 1
        flags = [self.role, *self.where(), "--http-addr", f"127.0.0.1:{self.port}"]
        for key, value in self.kafka.items():
            flags += ["--kafka", f"{key}={value}"]
        for key, value in self.options.items():
            flags += [f"--{key.replace('_', '-')}", str(value)]
        self.log = self.folder / f"thalweg.{self.starts}.log"
        self.out = self.folder / f"thalweg.{self.starts}.out"
        with self.log.open("wb") as log, self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [binary(), *flags],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env={**environment(), **self.environment},
                cwd=self.folder,
            )
        if ready:
            self.listening(timeout)
            self.ready(timeout)
        return self

    def listening(self, timeout=60):
        self.until(lambda: " is listening on http://" in self.out.read_text(), "the listening line", timeout)
        return self

    def ready(self, timeout=60):
        """Ready, and no view is being built any more: views that are do not keep a process from being ready."""

        def all_is_served():
            if self.get("/readyz").status_code != 200:
                return False
            views = self.get("/v1/views").json()["views"]
            return all(view["status"] == "serving" and view["segments"] is not None for view in views)

        self.until(all_is_served, "readiness", timeout)
        return self

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """SIGKILL: no chance to write anything."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout=60):
        """SIGTERM: a graceful end. Returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def pause(self):
        """SIGSTOP: alive for the system, silent for everyone else."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def died(self, timeout=60):
        """Waits for the process to end by itself and returns its exit code."""
        until(lambda: not self.alive(), lambda: f"the process to end\n{self.tail()}", timeout)
        return self.process.returncode

    def close(self):
        if self.alive():
            self.kill()

    def tail(self, lines=40):
        return f"--- the end of {self.log} ---\n" + "\n".join(
            self.log.read_text(errors="replace").splitlines()[-lines:]
        )

    def until(self, condition, what, timeout):
        def check():
            if not self.alive():
                awaited = what() if callable(what) else what
                raise AssertionError(f"thalweg ended ({self.process.returncode}) before {awaited}\n{self.tail()}")
            try:
                return condition()
            except requests.ConnectionError:
                return False

        try:
            return until(check, what, timeout)
        except TimedOut as error:
            raise TimedOut(f"{error}\n{self.tail()}") from None

    # Questions.

    def get(self, path, **more):
        return self.http.get(self.url + path, timeout=30, **more)

    def json(self, path):
        answer = self.get(path)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def sql(self, sql, timeout=60):
        """As a client's, but fails at once when the process has ended."""

        def attempt():
            try:
                return self.ask(sql)
            except Refused as refused:
                if refused.code in self.passing:
                    return None
                raise

        return self.until(attempt, f"an answer to {sql}", timeout)

    def csv(self, sql):
        response = self.http.post(
            f"{self.url}/v1/sql",
            data=sql.encode(),
            headers={"content-type": "text/plain", "accept": "text/csv"},
            timeout=300,
        )
        assert response.status_code == 200, response.text
        frontier = frontiers(json.loads(response.headers["thalweg-frontier"]))
        self._never_back(frontier, sql)
        return response.content, frontier

    def ddl(self, sql, timeout=60):
        """Statements that change definitions. They answer without rows."""
        deadline = time.monotonic() + timeout
        while True:
            response = self.http.post(
                f"{self.url}/v1/sql", data=sql.encode(), headers={"content-type": "text/plain"}, timeout=60
            )
            if response.status_code < 300:
                return
            error = response.json()["error"]
            if error.get("code") != "not_ready" or time.monotonic() > deadline:
                raise Refused(response.status_code, error)
            time.sleep(0.05)

    def cli(self, *arguments, **more):
        """A command that talks to this server."""
        return run(*arguments, "--url", self.url, **more)

    def reached(self, stream, ends, timeout=120):
        """Waits until answers cover `ends` (partition -> next offset)."""
        last = {}

        def check():
            frontier = self.sql(f"SELECT count(*) AS n FROM {stream}", timeout).frontier.get(stream, {})
            last.update(frontier)
            return all(frontier.get(p, 0) >= end for p, end in ends.items())

        return self.until(check, lambda: f"{stream} to reach {ends}, was at {last}", timeout)

    def metrics(self):
        """Prometheus text as {name: {labels: value}}."""
        text = self.get("/metrics").text
        found = {}
        for name, labels, value in re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
            found.setdefault(name, {})[labels] = float(value)
        return found
