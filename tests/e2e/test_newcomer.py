"""What goes wrong in the first hour: each mistake says what happened and what to do, in one line or in the status."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess

import pytest
from definitions import STREAM_TOTALS, stream
from harness.producer import Production
from harness.thalweg import ROOT, Thalweg, binary, environment, free_port, run
from harness.screen import Screen
from harness.wait import until

VIEW = "CREATE MATERIALIZED VIEW v AS\n  SELECT device, max(temprature) AS peak FROM sensor_data GROUP BY 1"


def one_line(done, *words, code=1):
    """It failed with one `error:` line that has these words."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == code, done
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0], f"'{word}' is not in: {lines[0]}"


def in_status(server, *words, code):
    """The status comes to have these words, and ends with this code."""
    last = []

    def shown():
        done = server.cli("status")
        last[:] = [done.stdout + done.stderr]
        return done.returncode == code and all(word in done.stdout for word in words)

    until(shown, lambda: f"{words} in the status:\n{last[0]}", timeout=60, every=0.3)


def mount(folder, options):
    """A file system in memory, unmounted by the caller; skips the test where that is not allowed."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr}")


def test_the_port_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
        done = run("up", "--data-dir", tmp_path, "--http-addr", address, timeout=20)
        one_line(done, f"{address} is in use", "another `thalweg up`", "--http-addr")


def test_the_broker_does_not_answer(thalweg):
    address = f"127.0.0.1:{free_port()}"
    server = thalweg(kafka={"bootstrap.servers": address})
    server.start(ready=False).listening()
    server.ddl("CREATE EXTERNAL TABLE s (a INT) STORED AS KAFKA LOCATION 't'")
    in_status(server, "stopped", address, "no broker answers there", "start it, or correct bootstrap.servers", code=1)
    assert server.get("/readyz").status_code == 503
    assert server.stop() == 0


def test_no_broker_is_named(thalweg):
    server = thalweg()
    server.start(ready=False).listening()
    server.ddl("CREATE EXTERNAL TABLE s (a INT) STORED AS KAFKA LOCATION 't'")
    in_status(server, "does not say where Kafka is", "--kafka bootstrap.servers=HOST:PORT", "thalweg.toml", code=1)


def test_the_topic_does_not_exist_until_it_does(thalweg, kafka, place):
    server = thalweg(kafka={"bootstrap.servers": kafka.bootstrap})
    server.start(ready=False).listening()
    server.ddl(f"CREATE EXTERNAL TABLE s (a INT) STORED AS KAFKA LOCATION '{place}'")
    in_status(server, f"topic `{place}` does not exist on {kafka.bootstrap}", "create it, or correct LOCATION", code=1)
    kafka.create_topic(place, 1)
    in_status(server, "s (topic", "running", code=0)


def test_a_wrong_column_in_a_query_and_in_a_definition(thalweg, kafka, topic, tmp_path):
    server = thalweg().start()
    server.ddl(stream(kafka, topic))
    server.sql("SELECT count(*) FROM sensor_data")
    did_you_mean = ["there is no column `temprature`", "did you mean `temperature`?"]
    one_line(server.cli("sql", "SELECT device,\n  temprature FROM sensor_data"), *did_you_mean, "line 2, column 3")
    one_line(server.cli("sql", "SELECT pressure FROM sensor_data"), "no column `pressure`", "columns are device")
    one_line(server.cli("sql", "SELECT 1 FROM sensor_date"), "sensor_date")
    one_line(server.cli("sql", VIEW), *did_you_mean)
    file = tmp_path / "v.sql"
    file.write_text(f"{stream(kafka, topic)};\n{VIEW}")
    folder = ["--data-dir", tmp_path / "data"]
    one_line(run("apply", file, *folder), *did_you_mean, "nothing was applied", "`thalweg check FILE`")


def test_check_reports_everything_and_touches_nothing(kafka, topic, tmp_path):
    file = tmp_path / "v.sql"
    file.write_text(
        "CREATE EXTERNAL TABLE s (device STRING, temperature DOUBLE) STORED AS KAFKA LOCATION 't';\n"
        "CREATE MATERIALIZED VIEW a AS\n  SELECT max(temprature) AS n FROM s;\n"
        "CREATE MATERIALIZED VIEW b AS SELECT count(DISTINCT device) AS n FROM s;\n"
        "CREATE MATERIALIZED VIEW c AS SELEC 1;\n"
    )
    done = run("check", file, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr == ""
    assert done.stdout == (
        "error: there is no column `temprature`\n"
        f" --> {file}:3:14\n"
        "  |\n"
        "3 |   SELECT max(temprature) AS n FROM s;\n"
        "  |              ^^^^^^^^^^\n"
        "  = help: did you mean `temperature`?\n\n"
        "warning: the state of count(DISTINCT device) grows with the number of events in a group\n"
        f" --> {file}:4:38\n"
        "  |\n"
        "4 | CREATE MATERIALIZED VIEW b AS SELECT count(DISTINCT device) AS n FROM s;\n"
        "  |                                      ^^^^^\n\n"
        "error: Expected: SELECT, VALUES, or a subquery in the query body, found: SELEC\n"
        f" --> {file}:5:31\n"
        "  |\n"
        "5 | CREATE MATERIALIZED VIEW c AS SELEC 1;\n"
        "  |                               ^^^^^\n\n"
        "2 errors, 1 warning; nothing of this would be applied\n"
    )
    assert list(tmp_path.iterdir()) == [file]
    found = json.loads(run("check", file, "--format", "json").stdout)
    assert [(f["line"], f["column"], f["end_column"], f["severity"]) for f in found["findings"]] == [
        (3, 14, 24, "error"),
        (4, 38, 43, "warning"),
        (5, 31, 36, "error"),
    ]
    sound = "CREATE MATERIALIZED VIEW sound AS SELECT count(*) AS n FROM sensor_data"
    sound = f"{stream(kafka, topic)};{sound}"
    sound = subprocess.run([binary(), "check", "-"], input=sound, capture_output=True, text=True)
    assert (sound.returncode, sound.stdout) == (0, "ok: 1 stream and 1 view\n"), sound
    one_line(run("check", tmp_path / "missing.sql"), "missing.sql cannot be read", code=2)


def test_an_old_toolchain_is_told_so_by_cargo(tmp_path):
    cargo = shutil.which("cargo") or pytest.skip("no cargo")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/lib.rs").touch()
    manifest = '[package]\nname = "thalweg"\nversion = "0.1.0"\nedition = "2024"\nrust-version = "1.999"\n'
    (tmp_path / "Cargo.toml").write_text(manifest)
    done = subprocess.run([cargo, "check", "--offline"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and "thalweg@0.1.0 requires rustc 1.999" in done.stderr, done.stderr
    # With rustup it does not come to that: the toolchain that the project names is fetched.
    ours = (ROOT / "rust-toolchain.toml").read_text()
    assert 'rust-version = "1.95"' in (ROOT / "Cargo.toml").read_text() and "1.95" in ours


def test_the_folder_cannot_be_written(tmp_path):
    if pathlib.Path("/sys/kernel").exists():
        done = run("up", "--data-dir", "/sys/thalweg", "--http-addr", "127.0.0.1:0", timeout=20)
        one_line(done, "/sys/thalweg", "the folder cannot be created", "--data-dir or --warehouse")
    folder = tmp_path / "fixed"
    mount(folder, "size=1m")
    try:
        (folder / "data/warehouse").mkdir(parents=True)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        done = run("up", "--data-dir", folder / "data", "--http-addr", "127.0.0.1:0", timeout=20)
        one_line(done, "the folder cannot be written", "Read-only file system", "--data-dir or --warehouse")
        one_line(run("init", folder / "site"), str(folder / "site"), "Read-only file system")
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_outlasted(thalweg, kafka, topic, tmp_path):
    disk = tmp_path / "disk"
    mount(disk, "size=4m")
    try:
        server = thalweg(epoch_interval="500ms", mark_interval="500ms", batch_interval="1s")
        (disk / "data").mkdir()
        (server.folder / "data").symlink_to(disk / "data")
        production = Production(kafka, topic, seed=8, weights=(1, 1), transactions=False).send(200)
        server.start()
        server.ddl(stream(kafka, topic))
        server.ddl(STREAM_TOTALS.ddl)
        server.reached("sensor_data", production.record.ends())
        until(lambda: archived(server) == production.record.ends(), "the archive")
        with (disk / "filler").open("wb", buffering=0) as filler:
            with pytest.raises(OSError, match="No space left"):
                while True:
                    filler.write(bytes(4096))
        production.send(2000)
        server.reached("sensor_data", production.record.ends())
        in_status(server, "not archived for now", "No space left on device", code=0)
        assert server.get("/readyz").status_code == 200
        counted = server.sql("SELECT count(*) AS n FROM sensor_data").one()["n"]
        assert server.sql("SELECT events FROM stream_totals").one()["events"] == counted
        view = "CREATE MATERIALIZED VIEW late AS SELECT count(*) AS n FROM sensor_data"
        one_line(server.cli("sql", view), "No space left on device")

        (disk / "filler").unlink()
        until(lambda: archived(server) == production.record.ends(), "the archive to go on", timeout=60)
        assert "not archived" not in server.cli("status").stdout
        assert server.sql("SELECT events FROM stream_totals").one()["events"] == counted
        assert server.stop() == 0
    finally:
        for server in thalweg.started:
            server.close()
        subprocess.run(["umount", disk], check=True)


def archived(server):
    partitions = server.json("/v1/streams")["streams"][0]["partitions"]
    return {int(p): state["archive_frontier"] for p, state in partitions.items()}


def test_a_setting_is_mistyped(tmp_path):
    config = tmp_path / "thalweg.toml"
    config.write_text('http_adr = "127.0.0.1:1"\n')
    done = run("up", "--config", config, "--data-dir", tmp_path, timeout=20)
    one_line(done, "thalweg.toml", "`http_adr` is not a setting", "did you mean `http_addr`?", code=2)
    done = run("up", "--data-dir", tmp_path, timeout=20, THALWEG_COLOUR="red")
    one_line(done, "the environment", "`colour` is not a setting", "`thalweg config` lists them all", code=2)


def test_no_server_is_running():
    address = f"http://127.0.0.1:{free_port()}"
    for command in (["sql", "SELECT 1"], ["status"]):
        done = run(*command, "--url", address, timeout=20)
        one_line(done, f"no answer from {address}", "start `thalweg up`", "--url")


def test_init_writes_a_project_that_works(kafka, tmp_path):
    site = tmp_path / "site"
    done = run("init", site)
    assert done.returncode == 0 and "thalweg up --apply definitions.sql" in done.stderr, done
    files = sorted(path.name for path in site.iterdir())
    assert files == [".gitignore", "README.md", "definitions.sql", "thalweg.toml"]
    one_line(run("init", site), "thalweg.toml", "--force")
    assert run("init", site, "--force").returncode == 0
    assert run("check", "definitions.sql", cwd=site).returncode == 0

    kafka.create_topic("sensor_data", 1)
    production = Production(kafka, "sensor_data", seed=9, weights=(1,), transactions=False).row(device="a")
    settings = site / "thalweg.toml"
    port = free_port()
    text = settings.read_text()
    assert "localhost:9092" in text and ":8642" in text
    settings.write_text(text.replace("localhost:9092", kafka.bootstrap).replace(":8642", f":{port}"))
    log = (tmp_path / "log").open("wb")
    up = [binary(), "up", "--apply", "definitions.sql"]
    process = subprocess.Popen(up, cwd=site, env=environment(), stdout=log, stderr=log)
    try:
        server = Thalweg(tmp_path / "asked")
        server.process, server.url, server.log = process, f"http://127.0.0.1:{port}", tmp_path / "log"
        server.ready()
        server.reached("sensor_data", production.record.ends())
        assert server.sql("SELECT device, readings FROM device_minutes").rows == [("a", 1)]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        log.close()
    assert (site / "thalweg-data/warehouse/catalog").is_dir()


def test_the_live_status_shows_recovers_and_gives_the_terminal_back(thalweg, kafka, topic):
    server = thalweg(kafka={"bootstrap.servers": kafka.bootstrap})
    server.start()
    server.ddl(stream(kafka, topic))
    server.ddl(STREAM_TOTALS.ddl)
    with Screen("status", "--watch", "0.2", "--url", server.url) as terminal:
        terminal.shows("STREAM", "sensor_data", "running", "VIEW", "stream_totals", "quit")
        server.kill()
        terminal.shows("silent for", "no answer from")
        assert "silent" in terminal.redrawn(30, 100)
        server.start()
        until(lambda: "silent" not in terminal.redrawn(24, 80) and "sensor_data" in terminal.drawn(), "the recovery")
        terminal.type("jjkp")
        terminal.shows("paused;")
        terminal.type("q")
        assert terminal.ended() == 0
        assert terminal.is_restored()
    with Screen("status", "--watch", "--url", server.url) as terminal:
        terminal.shows("STREAM")
        terminal.type("\x03")
        assert terminal.ended() == 0 and terminal.is_restored()
    with Screen("status", "--watch", "--url", server.url) as terminal:
        terminal.shows("STREAM")
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.ended() == 0 and terminal.is_restored()


def test_the_status_is_printed_again_and_again_without_a_terminal(thalweg, kafka, topic):
    server = thalweg().start()
    server.ddl(stream(kafka, topic))
    watch = [binary(), "status", "--watch", "0.1", "--url", server.url]
    process = subprocess.Popen(watch, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        heads = 0
        while heads < 3:
            heads += process.stdout.readline().startswith("stream sensor_data (topic")
        server.kill()
        assert process.stderr.readline().startswith(f"error: no answer from {server.url}")
        process.stdout.close()
        server.start()
        # The reader has gone: that is no failure.
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "elvish", "powershell"])
def test_completions(shell, tmp_path):
    done = run("completions", shell)
    assert done.returncode == 0 and "thalweg" in done.stdout and "epoch-interval" in done.stdout
    if shell == "bash":
        script = tmp_path / "thalweg.bash"
        script.write_text(done.stdout)
        ask = f"source {script}; COMP_WORDS=(thalweg stat); COMP_CWORD=1; _thalweg thalweg stat thalweg; echo $COMPREPLY"
        assert subprocess.run(["bash", "-c", ask], capture_output=True, text=True).stdout == "status\n"
