"""The border of trust, through the binary and a real Kafka: who may query gets no file, variable or password of the server,
makes no process connect where the operator did not allow, and changes nothing without the token for that."""

import json
import socket
import subprocess
import threading

import pytest
import requests
from definitions import STREAM_TOTALS, stream
from harness.producer import Production
from harness.thalweg import Refused, binary, environment, free_port, run
from harness.wait import until

FAST = dict(epoch_interval="200ms", mark_interval="400ms", batch_interval="500ms")
TOKENS = {"THALWEG_HTTP_TOKEN": "may-query", "THALWEG_HTTP_ADMIN_TOKEN": "may-define"}


def attack(location, *options):
    said = ", ".join(f"'{key}' {value}" for key, value in options)
    return f"CREATE EXTERNAL TABLE x (a INT) STORED AS KAFKA LOCATION '{location}' OPTIONS ({said})"


def told(server):
    """Everything that a server has said to anybody: answers about its state, its log, its catalog."""
    texts = [server.get(path).text for path in ("/v1/streams", "/v1/views", "/v1/process", "/metrics", "/readyz")]
    texts += [path.read_text() for path in (server.folder / "data/warehouse/catalog").glob("*")]
    texts += [server.log.read_text(errors="replace"), server.out.read_text(errors="replace")]
    return "\n".join(texts)


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def test_a_definition_reads_no_file_and_connects_nowhere(thalweg, kafka, topic, tmp_path):
    """The attacks of a client who may even define: files in properties of librdkafka, and a broker of the attacker's."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    settings = tmp_path / "settings.toml"
    password = "the operator's own password"
    settings.write_text(
        f"[kafka]\n'sasl.password' = \"{password}\"\n'sasl.username' = 'ann'\n[connection.secure]\n"
        + "".join(f"'{key}' = '{value}'\n" for key, value in kafka.secure.items())
    )
    server = thalweg(config=settings, environment={"HUNTER": "hunter2"}, **FAST).start()
    connected = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as evil:
        evil.settimeout(5)

        def listen():
            try:
                evil.accept()
                connected.set()
            except OSError:
                pass

        listener = threading.Thread(target=listen)
        listener.start()
        address = f"'127.0.0.1:{evil.getsockname()[1]}'"
        for options in [
            [("kafka.debug", f"'${{file:{secret}}}'")],
            [("kafka.debug", "'${env:HUNTER}'")],
            [("kafka.client.id", f"'${{file:{secret}}}'")],
            [("kafka.client.id", "'x${env:HUNTER}'")],
            [("kafka.bootstrap.servers", address), ("kafka.security.protocol", "'SASL_PLAINTEXT'"), ("kafka.sasl.mechanism", "'PLAIN'")],
            [("kafka.bootstrap.servers", address)],
            [("KAFKA.Bootstrap.Servers", address)],
            [("kafka.metadata.broker.list", address)],
            [("kafka.plugin.library.paths", f"'{secret}'")],
            [("kafka.ssl.engine.location", f"'{secret}'")],
            [("kafka.sasl.oauthbearer.token.endpoint.url", address)],
            [("connection", f"'../{secret}'")],
        ]:
            with pytest.raises(Refused) as refused:
                server.ddl(attack(topic, *options))
            assert refused.value.code == "refused" and "hunter2" not in refused.value.message, refused.value
        server.ddl(attack(topic, ("connection", "'nowhere'")))
        failure = until(lambda: server.json("/v1/streams")["streams"][0]["failure"], "the stream to stop")
        assert "`nowhere`" in failure and "[connection.nowhere]" in failure, failure
        # The other streams go on.
        production = Production(kafka, topic, seed=3, weights=(1, 1)).send(500)
        server.ddl(stream(kafka, topic, connection="secure"))
        server.reached("sensor_data", production.record.ends())
        listener.join()
    assert not connected.is_set(), "a process connected to the attacker"
    said = told(server) + server.cli("status", "--json").stdout + server.cli("sql", "SHOW CREATE TABLE sensor_data").stdout
    for secret in ("hunter2", password, kafka.secure["sasl.password"]):
        assert secret not in said


def test_a_secret_in_an_older_catalog_is_neither_used_nor_shown(thalweg, kafka, topic):
    server = thalweg(**FAST).start()
    server.ddl(stream(kafka, topic))
    server.stop()
    for file in (server.folder / "data/warehouse/catalog").glob("*.json"):
        catalog = json.loads(file.read_text())
        for entry in catalog["streams"].values():
            entry["sql"] = entry["sql"][:-1] + ", 'kafka.sasl.password' E'hunter2', kafka.sasl.username hunter3)"
        file.write_text(json.dumps(catalog))
    server.start(ready=False).listening()
    failure = until(lambda: server.json("/v1/streams")["streams"][0]["failure"], "the stream to stop")
    assert "kafka.sasl.password" in failure and "CREATE OR REPLACE" in failure, failure
    said = server.get("/v1/streams").text + server.log.read_text() + server.cli("status", "--json").stdout
    said += server.cli("sql", "SELECT definition FROM information_schema.views").stdout
    assert "hunter" not in said and "***" in said
    server.ddl(stream(kafka, topic).replace("CREATE", "CREATE OR REPLACE"))
    until(lambda: server.json("/v1/streams")["streams"][0]["status"] == "running", "the stream to be read")


def test_a_wrong_value_of_a_connection_is_not_shown(thalweg, kafka, topic):
    server = thalweg(kafka={"debug": "${env:HUNTER}"}, environment={"HUNTER": "hunter2"}, **FAST).start()
    server.ddl(stream(kafka, topic))
    failure = until(lambda: server.json("/v1/streams")["streams"][0]["failure"], "the stream to stop")
    assert "the value of debug" in failure and "[kafka]" in failure, failure
    assert "hunter2" not in told(server)


def test_tokens(thalweg, kafka, topic, tmp_path):
    """With curl and with the commands."""
    server = thalweg(environment=TOKENS, **FAST).start(ready=False).listening()
    server.http.headers.update(bearer("may-define"))
    server.ddl(stream(kafka, topic))
    server.ddl(STREAM_TOTALS.ddl)
    server.ready()

    def curl(path, token, body=None):
        flags = ["--header", f"authorization: Bearer {token}"] if token else []
        flags += ["--data-binary", body] if body is not None else []
        done = subprocess.run(
            ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", *flags, server.url + path],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return int(done.stdout)

    query, create = "SELECT events FROM stream_totals", "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM sensor_data"
    for path, body, codes in [
        ("/v1/sql", query, (401, 401, 200, 200)),
        ("/v1/streams", None, (401, 401, 200, 200)),
        ("/metrics", None, (401, 401, 200, 200)),
        ("/v1/sql", create, (401, 401, 403, 200)),
        ("/v1/audit", "", (401, 401, 403, 200)),
        ("/v1/batch/run", "", (401, 401, 403, 200)),
        ("/readyz", None, (200, 200, 200, 200)),
    ]:
        assert tuple(curl(path, token, body) for token in ("", "wrong", "may-query", "may-define")) == codes, path

    token = tmp_path / "token"
    token.write_text("may-query\n")
    for flags, variables in [
        (["--token", "may-query"], {}),
        (["--token", f"${{file:{token}}}"], {}),
        ([], {"THALWEG_TOKEN": "may-query"}),
    ]:
        for command in (["sql", query], ["status"]):
            done = run(*command, "--url", server.url, *flags, **variables)
            assert done.returncode == 0, done.stderr
    none = run("sql", query, "--url", server.url)
    assert none.returncode == 1 and "--token" in none.stderr and "THALWEG_TOKEN" in none.stderr, none.stderr
    reader = run("audit", "--url", server.url, "--token", "may-query")
    assert reader.returncode == 1 and "http_admin_token" in reader.stderr, reader.stderr
    assert run("audit", "--url", server.url, THALWEG_TOKEN="may-define").returncode in (0, 3)
    said = told(server)
    assert not any(token in said for token in TOKENS.values())


def test_strangers_are_kept_out_at_the_start(tmp_path):
    for role in ("up", "serve"):
        refused = run(role, "--http-addr", "0.0.0.0:0", "--data-dir", tmp_path, timeout=20)
        assert refused.returncode == 2 and "THALWEG_HTTP_TOKEN" in refused.stderr, refused.stderr
    refused = run(
        "serve", "--workers", "group", "--http-addr", "127.0.0.1:0", "--data-dir", tmp_path, timeout=20,
        THALWEG_CLUSTER_TOKEN="secret",
    )
    assert refused.returncode == 2 and "tls_ca" in refused.stderr, refused.stderr
    for setting, value, word in [
        ("THALWEG_STORAGE_AWS_ENDPOIND", "x", "aws_endpoint"),
        ("THALWEG_KAFKA_AUTO_OFFSET_RESET", "earliest", "auto.offset.reset"),
        ("THALWEG_CONNECTION_EU_GROUP_ID", "x", "group.id"),
    ]:
        refused = run("up", "--http-addr", "127.0.0.1:0", "--data-dir", tmp_path, timeout=20, **{setting: value})
        assert refused.returncode != 0 and word in refused.stderr, refused.stderr


def test_a_replica_only_reads(thalweg, kafka, topic, tmp_path):
    where = dict(warehouse=f"file://{tmp_path}/warehouse")
    replica = thalweg("replica", role="serve", workers=f"127.0.0.1:{free_port()}", **where)
    replica.start(ready=False).listening()
    with pytest.raises(Refused) as refused:
        replica.ddl(stream(kafka, topic))
    assert refused.value.status == 403 and "replica_definitions" in refused.value.message, refused.value

    definitions = tmp_path / "definitions.sql"
    definitions.write_text(f"{stream(kafka, topic)};\n{STREAM_TOTALS.ddl};")
    assert run("apply", definitions, "--warehouse", where["warehouse"]).returncode == 0
    until(lambda: replica.json("/v1/views")["views"], "the view to be known")
    # An audit of what is not archived yet creates nothing.
    replica.http.post(f"{replica.url}/v1/audit", timeout=60)
    assert not (tmp_path / "warehouse/streams").exists()


def test_a_web_page_under_another_name_is_refused(thalweg):
    server = thalweg().start()
    for host, status in [("localhost", 200), ("evil.example", 403), (f"evil.example:{server.port}", 403)]:
        answer = requests.get(f"{server.url}/v1/streams", headers={"host": host}, timeout=10)
        assert answer.status_code == status, (host, answer.text)


def test_deep_sql_ends_nothing(thalweg, tmp_path):
    server = thalweg().start()
    deep = {
        "plus": "SELECT 1" + "+1" * 100_000,
        "or": "SELECT true" + " OR true" * 100_000,
        "union": "SELECT 1" + " UNION ALL SELECT 1" * 50_000,
        "brackets": "SELECT " + "(" * 100_000 + "1" + ")" * 100_000,
    }
    for name, sql in deep.items():
        with pytest.raises(Refused) as refused:
            server.ask(sql)
        assert refused.value.code == "syntax", (name, refused.value)
        with pytest.raises(Refused) as refused:
            server.ask(f"CREATE MATERIALIZED VIEW v AS {sql}")
        assert refused.value.code == "syntax", (name, refused.value)
        file = tmp_path / "deep.sql"
        file.write_text(f"CREATE MATERIALIZED VIEW v AS {sql};")
        for command in ("check", "apply"):
            done = subprocess.run(
                [binary(), command, file, *(server.where() if command == "apply" else [])],
                capture_output=True, text=True, timeout=60, env=environment(),
            )
            assert done.returncode == 1, (name, command, done.returncode, done.stderr[:200])
    with pytest.raises(Refused) as refused:
        server.ask("SELECT 1" + " UNION ALL SELECT 1" * 100_000)
    assert refused.value.code == "too_large", refused.value
    assert server.ask(f"SELECT 7 IN ({', '.join(map(str, range(100_000)))}) AS found").one() == {"found": True}
    assert server.get("/healthz").status_code == 200
