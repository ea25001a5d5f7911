"""The command line and the HTTP API as a person meets them: help, mistakes, and what is said about them."""

import json
import socket

import pytest
import requests
from definitions import FROM_ROWS, STREAM_TOTALS, stream
from harness.producer import Production
from harness.thalweg import Refused, Thalweg, free_port, run
from harness.wait import until

COMMANDS = [
    "up",
    "speed",
    "batch",
    "serve",
    "init",
    "check",
    "completions",
    "apply",
    "sql",
    "status",
    "produce",
    "audit",
    "batch run",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert f"thalweg {command}" in done.stdout


def test_version():
    done = run("--version")
    assert done.returncode == 0 and done.stdout.startswith("thalweg ")


def failed(done, *words, code=None):
    """It ended with an error that names what is wrong, in words and not in a backtrace."""
    said = done.stderr
    assert done.returncode != 0, f"it went well:\n{done.stdout}{said}"
    assert code is None or done.returncode == code, said
    assert "panicked" not in said and "RUST_BACKTRACE" not in said, said
    for word in words:
        assert word in said, f"'{word}' is not in:\n{said}"
    return said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--nonsense"],
        ["nonsense"],
        ["up", "--nonsense"],
        ["up", "surplus"],
        ["sql", "--nonsense"],
        ["apply"],
        ["batch", "nonsense"],
        ["batch", "--batch-interval", "1m", "run"],
        ["serve", "--partitions", "1"],
    ],
    ids=lambda a: " ".join(a) or "nothing",
)
def test_wrong_usage(arguments):
    failed(run(*arguments), "Usage", code=2)


@pytest.mark.parametrize(
    "option, value",
    [
        ("http-addr", "nonsense"),
        ("http-addr", "127.0.0.1"),
        ("http-addr", "127.0.0.1:99999"),
        ("warehouse", "ftp://somewhere/else"),
        ("warehouse", "s3://"),
        ("config", "/does/not/exist.toml"),
        ("kafka", "no-equals-sign"),
        ("storage", "no-equals-sign"),
        ("apply", "/does/not/exist.sql"),
        ("batch-interval", "often"),
        ("batch-interval", "-1s"),
        ("batch-interval", "0s"),
        ("epoch-interval", "soon"),
        ("epoch-interval", "0s"),
        ("mark-interval", "5"),
        ("grace", ""),
        ("epoch-bytes", "big"),
        ("epoch-bytes", "0"),
        ("epoch-bytes", "-1MiB"),
        ("memory-budget", "plenty"),
        ("memory-budget", "0"),
        ("log-format", "xml"),
        ("log-level", "shouting=="),
    ],
    ids=lambda v: v or "empty",
)
def test_a_bad_value_is_named(option, value, tmp_path):
    arguments = ["up", "--http-addr", f"127.0.0.1:{free_port()}", "--data-dir", tmp_path / "data"]
    if option == "http-addr":
        arguments = ["up", "--data-dir", tmp_path / "data"]
    said = failed(run(*arguments, f"--{option}={value}", timeout=20))
    assert option in said or option.replace("-", "_") in said or (value and value in said), said


def test_the_data_folder_is_a_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    failed(run("up", "--data-dir", file, "--http-addr", "127.0.0.1:0", timeout=20), str(file))


def test_the_address_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
        failed(run("up", "--data-dir", tmp_path, "--http-addr", address, timeout=20), address)


def test_an_unknown_setting_in_a_file_and_in_the_environment(tmp_path):
    config = tmp_path / "thalweg.toml"
    config.write_text('http_adr = "127.0.0.1:1"\n')
    failed(run("up", "--config", config, "--data-dir", tmp_path, timeout=20), "http_adr")
    config.write_text("http_addr = \n")
    failed(run("up", "--config", config, "--data-dir", tmp_path, timeout=20), "thalweg.toml")
    failed(run("up", "--data-dir", tmp_path, timeout=20, THALWEG_EPOCH_BITES="1MiB"), "epoch_bites")


def test_commands_without_a_server():
    address = f"http://127.0.0.1:{free_port()}"
    for command in (["sql", "SELECT 1"], ["status"], ["audit"]):
        failed(run(*command, "--url", address, timeout=20), address, code=1)


def test_apply_says_where_the_mistake_is(tmp_path):
    file = tmp_path / "wrong.sql"
    file.write_text("-- a comment\n\nCREATE MATERIALIZED VIEW v AS\n  SELEC 1;\n")
    failed(run("apply", file, "--data-dir", tmp_path / "data", timeout=20), "wrong.sql", "4")
    file.write_text("")
    run("apply", file, "--data-dir", tmp_path / "data", timeout=20)
    failed(run("apply", tmp_path / "missing.sql", "--data-dir", tmp_path / "data", timeout=20), "missing.sql")


def test_apply_works_without_a_server_and_a_running_one_sees_it(thalweg, kafka, topic, tmp_path):
    file = tmp_path / "site.sql"
    file.write_text(f"-- the site\n{stream(kafka, topic)};\n{STREAM_TOTALS.ddl};\n")
    server = thalweg()
    assert run("apply", file, *server.where()).returncode == 0
    server.start()
    assert server.sql("SELECT events FROM stream_totals").rows == [(0,)]

    file.write_text("CREATE MATERIALIZED VIEW other AS SELECT count(*) AS n FROM sensor_data;")
    assert run("apply", file, *server.where()).returncode == 0
    until(lambda: "other" in server.get("/v1/views").text, "the view", timeout=10)
    assert server.sql("SELECT n FROM other").rows == [(0,)]
    # A definition that stands as it is written is no conflict; another one is.
    again = run("apply", file, *server.where())
    assert again.returncode == 0 and again.stdout == "view other is as it was\n", again
    file.write_text("CREATE MATERIALIZED VIEW other AS SELECT count(*) + 1 AS n FROM sensor_data;")
    failed(run("apply", file, *server.where()), "other", code=1)


@pytest.fixture(scope="module")
def site(kafka, tmp_path_factory):
    """A server with a few rows, for questions."""
    kafka.create_topic("cli", 2)
    production = (
        Production(kafka, "cli", seed=5, weights=(1, 1), transactions=False)
        .row(device="a")
        .row(device="b", partition=1)
    )
    server = Thalweg(tmp_path_factory.mktemp("cli"), kafka={"bootstrap.servers": kafka.bootstrap}).start()
    server.ddl(stream(kafka, "cli"))
    server.ddl(STREAM_TOTALS.ddl)
    server.reached("sensor_data", production.record.ends())
    yield server
    server.close()


@pytest.mark.parametrize(
    "sql, words, place",
    [
        ("SELECT * FROM nowhere", ["nowhere"], None),
        ("SELECT nothing FROM sensor_data", ["nothing"], None),
        ("SELECT * FORM sensor_data", [], (1, None)),
        ("SELECT 1;\nSELECT *\nFROM sensor_data WHERE", [], (3, None)),
        ("SELECT count(* FROM sensor_data", [], (1, 16)),
        ("", [], None),
        ("nonsense", [], (1, 1)),
        ("SELECT 1; SELECT 2", [], None),
        ("SELECT frobnicate(device) FROM sensor_data", ["frobnicate"], None),
        ("SELECT device + INTERVAL FROM sensor_data", [], None),
        ("INSERT INTO sensor_data VALUES (1)", [], None),
        ("CREATE TABLE t (a INT)", [], None),
        ("COPY sensor_data TO '/tmp/stolen.csv'", [], None),
        ("CREATE EXTERNAL TABLE passwords STORED AS CSV LOCATION '/etc/passwd'", [], None),
        ("SET datafusion.execution.batch_size = 1", [], None),
        ("SELECT 1 / 0", [], None),
        ("SELECT CAST('x' AS INT)", ["x"], None),
    ],
    ids=lambda v: v[:40] if isinstance(v, str) else None,
)
def test_a_wrong_question_is_refused(site, sql, words, place):
    with pytest.raises(Refused) as refused:
        site.ask(sql)
    error = refused.value
    assert 400 <= error.status < 500, error
    assert error.code and error.message, error
    assert "panicked" not in error.message
    for word in words:
        assert word in error.message, error
    if place:
        line, column = place
        assert error.line == line, error
        assert error.column and (column is None or error.column == column), error
    # The same by command: exit code 1 and the same sentence.
    failed(site.cli("sql", sql), error.message.splitlines()[0][:60], code=1)


VIEW = "CREATE MATERIALIZED VIEW refused AS "


@pytest.mark.parametrize(
    "sql, words",
    [
        (VIEW + "SELECT device, row_number() OVER (ORDER BY ts) AS n FROM sensor_data", ["indow"]),
        (VIEW + "SELECT device, count(*) AS n FROM sensor_data GROUP BY device LIMIT 3", ["LIMIT"]),
        (VIEW + "SELECT device, count(*) AS n FROM sensor_data GROUP BY device ORDER BY n", ["ORDER BY"]),
        (
            VIEW
            + "SELECT a.device, count(*) AS n FROM sensor_data a JOIN sensor_data b ON a.device = b.device GROUP BY 1",
            [],
        ),
        (
            VIEW + "SELECT device, ok, count(*) AS n FROM sensor_data GROUP BY GROUPING SETS ((device), (ok))",
            ["GROUPING SETS"],
        ),
        (VIEW + "SELECT device, count(*) AS n FROM sensor_data GROUP BY ROLLUP (device)", []),
        (VIEW + "SELECT sum(temperature * random()) AS n FROM sensor_data", ["random"]),
        (VIEW + "SELECT count(*) AS n FROM sensor_data WHERE ts > now() - INTERVAL '1 hour'", ["now"]),
        (VIEW + "SELECT count(*) AS n FROM sensor_data WHERE device IN (SELECT device FROM sensor_data)", []),
        (VIEW + "SELECT device, temperature FROM sensor_data", []),
        (VIEW + "SELECT DISTINCT device FROM sensor_data LIMIT 1", []),
        (VIEW + "SELECT count(*) AS n FROM stream_totals", ["stream_totals"]),
        (VIEW + "SELECT count(*) AS n FROM nowhere", ["nowhere"]),
        (VIEW + "SELECT count(nothing) AS n FROM sensor_data", ["nothing"]),
        (VIEW + "SELECT 1 AS n", []),
        (VIEW + "SELECT count(*) AS n FROM sensor_data UNION ALL SELECT count(*) FROM sensor_data", []),
        (VIEW + "SELECT count(*) AS n, count(*) AS n FROM sensor_data", ["n"]),
        ("CREATE VIEW refused AS SELECT count(*) AS n FROM sensor_data", ["MATERIALIZED"]),
        ("CREATE MATERIALIZED VIEW stream_totals AS SELECT count(*) AS n FROM sensor_data", ["stream_totals"]),
        ("CREATE MATERIALIZED VIEW sensor_data AS SELECT count(*) AS n FROM sensor_data", ["sensor_data"]),
        ("CREATE EXTERNAL TABLE s (a INT, PRIMARY KEY (a)) STORED AS KAFKA LOCATION 't'", ["PRIMARY KEY"]),
        ("CREATE EXTERNAL TABLE s (a INT) STORED AS KAFKA LOCATION 't' OPTIONS ('format' 'xml')", ["xml"]),
        ("CREATE EXTERNAL TABLE s (a INT) STORED AS KAFKA LOCATION 't' OPTIONS ('fromat' 'json')", ["fromat"]),
        ("CREATE EXTERNAL TABLE s (a INT) STORED AS KAFKA LOCATION 't' OPTIONS ('event_time' 'b')", ["b"]),
        ("CREATE EXTERNAL TABLE s (_offset INT) STORED AS KAFKA LOCATION 't'", ["_offset"]),
        ("CREATE EXTERNAL TABLE s (a TIME) STORED AS KAFKA LOCATION 't'", ["a"]),
        ("CREATE EXTERNAL TABLE s STORED AS KAFKA LOCATION 't'", []),
        ("CREATE EXTERNAL TABLE sensor_data (a INT) STORED AS KAFKA LOCATION 't'", ["sensor_data"]),
        ("DROP TABLE sensor_data", ["stream_totals"]),
        ("DROP VIEW nowhere", ["nowhere"]),
    ],
    ids=lambda v: v.removeprefix(VIEW)[:60] if isinstance(v, str) else None,
)
def test_a_refused_definition_says_why(site, sql, words):
    views = site.json("/v1/views")["views"]
    with pytest.raises(Refused) as refused:
        site.ddl(sql)
    error = refused.value
    assert 400 <= error.status < 500, error
    assert len(error.message) > 20, error
    for word in words:
        assert word in error.message, error
    assert [v["name"] for v in site.json("/v1/views")["views"]] == [v["name"] for v in views]


def test_the_formats_of_an_answer(site):
    table = site.cli("sql", "SELECT device, temperature FROM sensor_data ORDER BY device")
    assert table.returncode == 0
    assert [word in table.stdout for word in ("device", "temperature", "a", "b")] == [True] * 4
    csv = site.cli("sql", "SELECT device, temperature FROM sensor_data ORDER BY device", "--format", "csv")
    assert csv.stdout.splitlines() == ["device,temperature", "a,1.0", "b,1.0"]
    answer = json.loads(site.cli("sql", "SELECT device FROM sensor_data ORDER BY 1", "--format", "json").stdout)
    assert answer["rows"] == [["a"], ["b"]]
    assert answer["frontier"] == {"sensor_data": {"0": 1, "1": 1}}
    text, frontier = site.csv("SELECT 'a,b' AS \"x\"\"y\", NULL AS n, DOUBLE 'NaN' AS nan, DOUBLE 'Infinity' AS inf")
    assert frontier == {}
    assert text.decode().splitlines()[1].startswith('"a,b",,')


def test_special_values_in_json(site):
    answer = site.sql(
        "SELECT DOUBLE 'NaN' AS nan, DOUBLE 'Infinity' AS inf, DOUBLE '-Infinity' AS neg, NULL AS nothing,"
        " 9223372036854775807 AS big, TIMESTAMP '2026-03-01 00:00:00.000001' AS ts, true AS yes, 'ü\"\n' AS text,"
        " [1, NULL] AS list"
    ).one()
    assert answer["nan"] == "NaN" and answer["inf"] == "Infinity" and answer["neg"] == "-Infinity"
    assert answer["nothing"] is None and answer["big"] == 9223372036854775807 and answer["yes"] is True
    assert answer["text"] == 'ü"\n' and answer["list"] == [1, None]
    assert answer["ts"].startswith("2026-03-01T00:00:00.000001")


def test_the_http_api_refuses_what_it_does_not_know(site):
    assert requests.get(site.url + "/nowhere", timeout=10).status_code == 404
    assert requests.get(site.url + "/v1/sql", timeout=10).status_code == 400
    for body, kind in (
        (b"{", "application/json"),
        (b'{"query": "SELECT 1"}', "application/json"),
        (b"\xff", "text/plain"),
    ):
        answer = requests.post(site.url + "/v1/sql", data=body, headers={"content-type": kind}, timeout=10)
        assert 400 <= answer.status_code < 500
        assert answer.json()["error"]["message"]


def test_two_instances_side_by_side(thalweg, kafka, topic):
    one, other = thalweg("one"), thalweg("other")
    production = Production(kafka, topic, seed=6, weights=(1, 1), transactions=False).send(500)
    for server in (one, other):
        server.start()
        server.ddl(stream(kafka, topic))
        server.reached("sensor_data", production.record.ends())
    one.ddl(STREAM_TOTALS.ddl)
    assert one.sql("SELECT events FROM stream_totals").rows == one.sql(FROM_ROWS + "SELECT count(*) FROM sensor_data").rows
    with pytest.raises(Refused):
        other.ask("SELECT * FROM stream_totals")
    one.kill()
    assert other.sql("SELECT count(*) AS n FROM sensor_data").one()["n"] > 400


def test_status_tells_what_a_person_asks_first(site):
    done = site.cli("status")
    assert done.returncode == 0
    for word in ("sensor_data", "stream_totals", "lag", "rejects"):
        assert word in done.stdout.lower(), done.stdout
