"""The shell as a person meets it, in a terminal; and the same statements from files and pipes."""

import subprocess

import pytest
from definitions import STREAM_TOTALS, stream
from harness.producer import Production
from harness.terminal import CTRL_C, CTRL_D, ENTER, TAB, UP, Terminal
from harness.thalweg import Thalweg, binary, environment, free_port, run
from harness.wait import until

PROMPT = "thalweg> "
ENDLESS = "SELECT sum(sin(value)) FROM generate_series(1, 100000000000)"


@pytest.fixture(scope="module")
def site(kafka, tmp_path_factory):
    """A server with two rows and a view."""
    kafka.create_topic("shell", 2)
    production = (
        Production(kafka, "shell", seed=5, weights=(1, 1), transactions=False)
        .row(device="a")
        .row(device="b", partition=1)
    )
    server = Thalweg(tmp_path_factory.mktemp("shell"), kafka={"bootstrap.servers": kafka.bootstrap}).start()
    server.ddl(stream(kafka, "shell"))
    server.ddl(STREAM_TOTALS.ddl)
    server.reached("sensor_data", production.record.ends())
    assert server.sql("SELECT events FROM stream_totals").rows == [(2,)]
    yield server
    server.close()


class Shell(Terminal):
    def __init__(self, site, folder, *flags, **variables):
        variables = {"PAGER": "", "XDG_STATE_HOME": str(folder), **variables}
        super().__init__("sql", "--url", site.url, *flags, **variables)
        self.greeting = self.expect(PROMPT)

    def ask(self, line, pattern):
        """Types a line, and reads from what it answers to the next prompt."""
        self.type(line + ENTER)
        return self.expect(f"{pattern}.*?{PROMPT}")

    def leave(self):
        self.type(CTRL_D)
        assert self.ended() == 0


@pytest.fixture
def shell(site, tmp_path):
    with Shell(site, tmp_path) as shell:
        yield shell


def test_a_statement_may_take_several_lines(shell):
    assert "2 tables" in shell.greeting
    shell.type("SELECT device, ';' AS x" + ENTER)
    shell.type("FROM sensor_data -- not yet;" + ENTER)
    said = shell.ask("ORDER BY device;", r"a +; *\nb +; *\n\(2 rows, [^)]+\)")
    assert 'exact at {"sensor_data":{"0":1,"1":1}}' in said
    assert "(1 row" in shell.ask("SELECT 1 AS n; SELECT NULL AS m, '' AS t;", r"\(1 row.*NULL *\n\(1 row")
    shell.leave()


def test_tab_completes_names(shell):
    shell.type("SELECT devi" + TAB)
    shell.expect("SELECT device")
    shell.type(" FROM sens" + TAB)
    shell.expect("FROM sensor_data")
    shell.ask(" ORDER BY 1;", r"\(2 rows")
    shell.type("SELECT approx_percentile_cont_w" + TAB)
    shell.expect(r"approx_percentile_cont_with_weight\(")
    shell.type(CTRL_C)
    shell.expect(PROMPT)
    shell.type("\\d rej" + TAB + "sen" + TAB)
    assert "_payload" in shell.ask("", "rejects.sensor_data of|sensor_data of topic.*could not be decoded")


def test_commands_describe(shell):
    listed = shell.ask("\\d", r"name +kind +of +status")
    assert "topic shell" in listed and "stream sensor_data" in listed
    one = shell.ask("\\d stream_totals", r"view stream_totals of stream sensor_data: serving")
    assert "CREATE MATERIALIZED VIEW stream_totals" in one and "BIGINT" in one
    one = shell.ask("\\d sensor_data", r"stream sensor_data of topic shell: running")
    assert "views: stream_totals" in one and "TIMESTAMP" in one and "STRING" in one
    assert "lag" in shell.ask("\\dt", "stream +topic")
    assert "stream_totals" in shell.ask("\\dv", "view +stream")
    assert "date_bin" in shell.ask("\\df date_", "name +kind +call")
    assert "approx_distinct" in shell.ask("\\df approx_distinct", "row 1")
    assert "lag" in shell.ask("\\status", "stream sensor_data")
    assert "\\d lists them" in shell.ask("\\d nowhere", "error:")
    assert "\\? lists them" in shell.ask("\\nonsense", "error:")
    assert "\\watch" in shell.ask("\\?", "SQL ends with a semicolon")
    assert "\\watch" in shell.ask("help", "SQL ends with a semicolon")
    shell.type("\\q" + ENTER)
    assert shell.ended() == 0


def test_how_answers_look(shell):
    assert "(1 row, " in shell.ask("SELECT 1 AS n;", r"\(1 row")
    shell.ask("\\timing", "timing is off")
    assert "(1 row)" in shell.ask("SELECT 1 AS n;", r"\(1 row")
    shell.ask("\\x", "one line per column is on")
    shell.ask("SELECT 7 AS n, NULL AS long;", r"-\[ row 1 \]-+\nn     7\nlong  NULL\n")
    shell.ask("\\format csv", "")
    shell.ask("SELECT 7 AS n, 'a,b' AS t;", r'n,t\n7,"a,b"\n')
    shell.ask("\\format json", "")
    shell.ask("SELECT 7 AS n;", r'"rows":\[\n\[7\]\]}\n')


def test_an_error_shows_the_place_and_keeps_the_shell(shell):
    said = shell.ask("SELECT device,\n  nothing FROM sensor_data;", "error: ")
    assert "(line 2, column 3)" in said
    assert "    nothing FROM sensor_data;\n    ^" in said or "    nothing FROM sensor_data\n    ^" in said
    assert "(1 row" in shell.ask("SELECT 1 AS n;", r"\(1 row")


def test_watch_repeats_until_it_is_stopped(shell):
    shell.ask("\\watch", "error: there is no query to repeat yet")
    shell.ask("SELECT count(*) AS n FROM sensor_data;", r"\(1 row")
    shell.type("\\watch 0.1" + ENTER)
    for _ in range(3):
        shell.expect(r"every 100ms: SELECT count\(\*\) AS n FROM sensor_data\n.*exact at {")
    shell.type(CTRL_C)
    shell.expect(f"stopped\n.*{PROMPT}")
    assert "(1 row" in shell.ask("SELECT 1 AS n;", r"\(1 row")


def test_ctrl_c_cancels_the_query_on_the_server(site, shell):
    def running(n):
        until(lambda: site.metrics()["thalweg_queries_running"][""] == n, f"{n} running queries", timeout=20)

    shell.type("SELECT 'half" + CTRL_C)
    shell.expect(f"half.*{PROMPT}")
    running(0)
    shell.type(ENDLESS + ";" + ENTER)
    running(1)
    shell.type(CTRL_C)
    shell.expect(f"cancelled\n.*{PROMPT}")
    running(0)
    assert "(1 row" in shell.ask("SELECT 1 AS n;", r"\(1 row")


def test_history_is_kept_between_shells(site, tmp_path):
    with Shell(site, tmp_path) as one:
        one.ask("SELECT 41 + 1\nAS answer;", r"\(1 row")
        one.leave()
    with Shell(site, tmp_path) as other:
        other.type(UP)
        other.expect("AS answer;")
        other.ask("", r"42 *\n\(1 row")
        other.leave()
    assert (tmp_path / "thalweg" / "sql_history").stat().st_mode & 0o077 == 0
    with Shell(site, tmp_path / "none", "--no-history") as third:
        third.ask("SELECT 1 AS n;", r"\(1 row")
        third.leave()
    assert not (tmp_path / "none").exists()


def test_long_answers_go_through_the_pager(site, tmp_path):
    with Shell(site, tmp_path, PAGER="sed s/^/paged:/") as shell:
        shell.ask("SELECT value FROM generate_series(1, 100);", r"paged: *100 *\n\(100 rows")
        assert "paged" not in shell.ask("SELECT value FROM generate_series(1, 3);", r"\(3 rows")
        shell.ask("\\pager", "pager is off")
        assert "paged" not in shell.ask("SELECT value FROM generate_series(1, 100);", r"\(100 rows")
    with Shell(site, tmp_path, PAGER="no-such-pager") as shell:
        shell.ask("SELECT value FROM generate_series(1, 100);", r" 100 *\n\(100 rows")


def test_definitions_work_and_are_completed(site, shell):
    view = "shell_made AS SELECT count(*) AS made FROM sensor_data;"
    shell.ask(f"CREATE MATERIALIZED VIEW {view}", r"\(1 row")
    until(lambda: site.sql("SELECT made FROM shell_made").rows == [(2,)], "the view")
    shell.ask(f"CREATE MATERIALIZED VIEW IF NOT EXISTS {view}", r"\(1 row")
    shell.type("SELECT made FROM shell_m" + TAB)
    shell.expect("shell_made")
    shell.ask(";", r"2 *\n\(1 row")
    shell.ask("DROP MATERIALIZED VIEW shell_made;", r"\(1 row")


def test_a_file_in_the_shell(shell, tmp_path):
    file = tmp_path / "some file.sql"
    file.write_text("SELECT 1 AS n;\nSELECT nothing;\nSELECT 3 AS n;\n")
    said = shell.ask(f"\\i {file}", "error: ")
    assert "some file.sql:2:8: " in said and "3 as n" not in said.lower()
    file.write_text(f"\\i {file}\n")
    assert "deep" in shell.ask(f"\\i {file}", "error: ")
    assert "cannot be read" in shell.ask("\\i /does/not/exist.sql", "error: ")


def piped(site, text, *flags):
    return subprocess.run(
        [binary(), "sql", "--url", site.url, *flags],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )


def test_statements_from_a_pipe(site):
    done = piped(site, "-- two\nSELECT 1 AS one;\n\\format csv\nSELECT ';' AS two, NULL AS n")
    assert done.returncode == 0, done.stderr
    assert [line.strip() for line in done.stdout.splitlines()] == ["one", "1", "two,n", ";,"]
    assert done.stderr.splitlines() == ["(1 row)"]
    assert piped(site, "").returncode == 0


def test_a_script_stops_at_its_first_error(site, tmp_path):
    script = "SELECT 1 AS one;\nSELECT 2 AS\n two, nothing;\n\\nonsense\nSELECT 3 AS three;\n"
    done = piped(site, script)
    assert done.returncode == 1 and "one" in done.stdout and "three" not in done.stdout
    assert "error: stdin:3:7: " in done.stderr and "two, nothing\n        ^" in done.stderr, done.stderr
    done = piped(site, script, "--keep-going")
    assert done.returncode == 1 and "three" in done.stdout and "stdin:4: " in done.stderr
    file = tmp_path / "script.sql"
    file.write_text(script)
    done = run("sql", "--file", file, "--url", site.url)
    assert done.returncode == 1 and f"{file}:3:7: " in done.stderr and "three" not in done.stdout
    done = run("sql", "-f", tmp_path / "missing.sql", "--url", site.url)
    assert done.returncode == 2 and "missing.sql" in done.stderr


def test_one_statement_shows_the_place_too(site):
    done = run("sql", "SELECT nothing FROM sensor_data", "--url", site.url)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == ["  SELECT nothing FROM sensor_data", "         ^"]


def test_without_a_server_it_says_how_to_start_one(tmp_path):
    address = f"http://127.0.0.1:{free_port()}"
    with Terminal("sql", "--url", address, XDG_STATE_HOME=str(tmp_path)) as terminal:
        assert "thalweg up" in terminal.expect("error: no answer from.*\n")
        assert terminal.ended() == 1


def test_a_server_that_comes_back_is_asked_again(thalweg, tmp_path):
    server = thalweg().start()
    with Shell(server, tmp_path) as shell:
        server.kill()
        assert "thalweg up" in shell.ask("SELECT 1 AS n;", "error: no answer from")
        server.start()
        shell.ask("SELECT 1 AS n;", r"\(1 row")
        shell.leave()
