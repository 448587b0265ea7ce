"""Models that look features up: `engine = "features"` over a Redis and a PostgreSQL of the tests' own.

The model of `docs/features.md` is the one that is asked, so what the page shows is what is tested.
"""

import json
import re
import socket
import subprocess

import pytest
import requests
from harness import BINARY, PATIENCE_S, REPO
from redis_server import Redis
from test_jobs_outages import cluster  # noqa: F401 (fixture)

PAGE = (REPO / "docs" / "features.md").read_text()
DOCUMENTED, DOCUMENTED_TABLE = re.findall(r"```toml\n(engine = .*?)```", PAGE, re.S)[:2]

TEXT = """
engine = "features"
[features]
key = "name"
key_type = "text"
missing = "error"
{where}
[[feature]]
name = "city"
dtype = "text"
"""


def model(folder, name, text):
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "model.toml").write_text(text)


class Cli:
    """A connection that says what it is told, as `redis-cli` would."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.file = self.socket.makefile("rb")

    def __call__(self, *words):
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        return self._read()

    def _read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        assert kind in b"+:$", line
        return self.file.read(int(rest) + 2)[:-2].decode() if kind == b"$" else rest.decode()

    def stat(self, section, pattern):
        found = re.search(pattern, self("INFO", section))
        return int(found[1]) if found else 0


def sql(cluster, url, text):
    command = [str(cluster.binaries / "psql"), url, "-v", "ON_ERROR_STOP=1", "-qc", text]
    subprocess.run(command, check=True, timeout=PATIENCE_S, capture_output=True)


def ask(server, name, keys, dtype="INT64", key="user_id", status=200, **options):
    body = {"inputs": [{"name": key, "datatype": dtype, "shape": [len(keys), 1], "data": keys}]}
    reply = requests.post(f"{server.url}/v2/models/{name}/infer", json=body, timeout=PATIENCE_S, **options)
    assert reply.status_code == status, f"{reply.status_code} {reply.text}"
    if status != 200:
        return reply.json()["error"]
    return {output["name"]: output["data"] for output in reply.json()["outputs"]}


def fill_redis(cli):
    cli("DEL", "user:7", "user:8", "user:9")  # Other tests write users there, too.
    cli("HSET", "user:7", "age_years", "41", "taste", "[0.5, -1, 2]", "premium", "1")
    cli("HSET", "user:8", "taste", "1,2,3", "premium", "false")


def fill_postgres(cluster, url):
    sql(cluster, url, "CREATE TABLE user_features (user_id bigint PRIMARY KEY, age_years real, taste real[], premium boolean)")
    sql(cluster, url, "INSERT INTO user_features VALUES (7, 41, '{0.5,-1,2}', true), (8, NULL, '{1,2,3}', false)")


@pytest.fixture(scope="module", params=["redis", "postgres"])
def served(request, start, tmp_path_factory):
    """A server with the documented model, and one with keys of text."""
    folder = tmp_path_factory.mktemp("models")
    if request.param == "redis":
        redis = request.getfixturevalue("redis")
        url, text, where = f"redis://127.0.0.1:{redis.port}/0", DOCUMENTED, 'redis_key = "name:{key}"'
        cli = Cli(redis.port)
        fill_redis(cli)
        cli("HSET", "name:Ada", "city", "London")
    else:
        cluster = request.getfixturevalue("postgres")
        url, text, where = cluster.database(), DOCUMENTED_TABLE, 'table = "names"'
        fill_postgres(cluster, url)
        sql(cluster, url, "CREATE TABLE names (name text PRIMARY KEY, city text)")
        sql(cluster, url, "INSERT INTO names VALUES ('Ada', 'London')")
    model(folder, "users", text)
    model(folder, "names", TEXT.format(where=where))
    return start(folder, "--feature-store", url)


def test_rows_are_answered_by_key(served):
    outputs = ask(served, "users", [7, 9, 8, 7])
    assert outputs == {
        "age": [41, 30, 30, 41],
        "taste": [0.5, -1, 2, 0, 0, 0, 1, 2, 3, 0.5, -1, 2],
        "premium": [True, False, False, True],
        "found": [True, False, True, True],
    }
    metadata = served.get("/v2/models/users").json()
    assert metadata["inputs"] == [{"name": "user_id", "datatype": "INT64", "shape": [-1, 1]}]
    assert [(output["name"], output["datatype"], output["shape"]) for output in metadata["outputs"]] == [
        ("age", "FP32", [-1, 1]), ("taste", "FP32", [-1, 3]), ("premium", "BOOL", [-1, 1]), ("found", "BOOL", [-1, 1]),
    ]


def test_the_documented_question_has_the_documented_answer(served):
    body, answer = re.search(r"predict -d '(.*)'\n```\n\n```json\n(.*)\n```", PAGE).groups()
    reply = requests.post(f"{served.url}/models/users/predict", data=body, timeout=PATIENCE_S)
    assert (reply.status_code, reply.json()) == (200, json.loads(answer)), reply.text


def test_a_key_that_must_be_there_is_named(served):
    assert ask(served, "names", ["Ada"], "BYTES", "name") == {"city": ["London"], "found": [True]}
    error = ask(served, "names", ["Ada", "Bob'\n" + "x" * 100], "BYTES", "name", status=404)
    assert "model 'names': there is no row for key 'Bob\\'\\nxxx" in error and "…" in error and len(error) < 250


@pytest.mark.parametrize("key", [
    "'", "''; DROP TABLE names; --", '"', "\\", "$1", "{key}", "*", "a\r\nFLUSHALL\r\n", "\u202e\U0001f600", "", "x" * 512,
])
def test_a_hostile_key_is_nothing_but_a_key(served, key):
    ask(served, "names", [key], "BYTES", "name", status=404)
    assert ask(served, "names", ["Ada"], "BYTES", "name")["city"] == ["London"]


def test_what_cannot_be_a_key_is_refused(served):
    error = ask(served, "names", ["x" * (1 << 20)], "BYTES", "name", status=400)
    assert "at most 512 bytes, got one of 1048576" in error and len(error) < 300
    # A name in Redis may hold any byte; text in PostgreSQL may not.
    ask(served, "names", ["a\0b"], "BYTES", "name", status=404 if "redis" in str(served.command) else 400)
    ask(served, "users", list(range(65_537)), status=413)


def test_lookups_are_counted(served):
    def counted():
        pattern = r'salver_feature_lookups_total\{model="users",version="1",result="(\w+)"\} (\d+)'
        return dict(re.findall(pattern, served.get("/metrics").text))

    before = {result: int(count) for result, count in counted().items()}
    ask(served, "users", [7, 9, 8])
    after = {result: int(count) for result, count in counted().items()}
    assert {result: after[result] - before[result] for result in after} == {"found": 2, "missing": 1, "failed": 0}


def test_a_hundred_keys_are_one_round_trip(redis, start, tmp_path):
    model(tmp_path / "models", "users", DOCUMENTED.replace("user:", "many:"))
    server = start(tmp_path / "models", "--feature-store", f"redis://127.0.0.1:{redis.port}")
    cli = Cli(redis.port)
    for key in range(100):
        cli("HSET", f"many:{key}", "age_years", key)
    ask(server, "users", [0])
    calls, reads = (("commandstats", r"cmdstat_hmget:calls=(\d+)"), ("stats", r"total_reads_processed:(\d+)"))
    before = cli.stat(*calls), cli.stat(*reads)
    assert ask(server, "users", list(range(100)) * 2)["age"] == list(range(100)) * 2
    after = cli.stat(*calls), cli.stat(*reads)
    assert after[0] - before[0] == 100, "a key that is asked for twice is looked up once"
    # Two of them are this test's own.
    assert after[1] - before[1] <= 4


@pytest.mark.announced_errors("in the feature store 'default'")
def test_a_value_that_is_none_is_named(redis, start, tmp_path):
    model(tmp_path / "models", "users", DOCUMENTED.replace("user:", "bad:"))
    server = start(tmp_path / "models", "--feature-store", f"redis://127.0.0.1:{redis.port}")
    cli = Cli(redis.port)
    cli("HSET", "bad:1", "age_years", "old\x1b[31m" + "x" * 500)
    cli("HSET", "bad:2", "taste", "[1, 2]")
    cli("SET", "bad:3", "a string")
    error = ask(server, "users", [1], status=500)
    assert "field 'age_years' of key 1 in the feature store 'default': expected a number" in error
    assert "found 'old\\u{1b}[31mxx" in error and len(error) < 300
    assert "a list of 3 values, not of 2" in ask(server, "users", [2], status=500)
    assert "'bad:3'" in ask(server, "users", [3], status=500)
    assert ask(server, "users", [4])["found"] == [False]


def fails_and_recovers(server, kill, bring_back):
    """A store that is away fails requests in bounded time, keeps no model from being ready, and comes back."""
    assert ask(server, "users", [7])["age"] == [41]
    kill()
    body = {"inputs": [{"name": "user_id", "datatype": "INT64", "shape": [1, 1], "data": [7]}]}

    def reply():
        return requests.post(f"{server.url}/v2/models/users/infer", json=body, timeout=PATIENCE_S / 2)

    # The processes of a PostgreSQL notice by themselves that their first one is gone.
    server.until(lambda: reply().status_code != 200, "without its store")
    refused = reply()
    assert refused.status_code in (503, 504) and "feature store 'default'" in refused.json()["error"], refused.text
    assert server.get("/v2/models/users/ready").status_code == 200
    bring_back()
    server.until(lambda: reply().status_code == 200, "able to look features up again")
    assert ask(server, "users", [7])["age"] == [41]


def test_a_redis_that_was_killed_is_used_again(redis, start, tmp_path):
    own = Redis(tmp_path)
    try:
        fill_redis(Cli(own.port))
        model(tmp_path / "models", "users", DOCUMENTED)
        server = start(tmp_path / "models", "--feature-store", f"redis://127.0.0.1:{own.port}")
        fails_and_recovers(server, own.kill, own.start)
    finally:
        own.kill()


def test_a_postgres_that_was_killed_is_used_again(cluster, start, tmp_path):  # noqa: F811
    url = cluster.database()
    fill_postgres(cluster, url)
    # The test's cluster does not sync; what it must not lose it writes out.
    sql(cluster, url, "CHECKPOINT")
    model(tmp_path / "models", "users", DOCUMENTED_TABLE)
    server = start(tmp_path / "models", "--feature-store", url)
    fails_and_recovers(server, cluster.kill, cluster.start_again)


def test_a_server_starts_while_its_store_is_down(start, tmp_path):
    model(tmp_path / "models", "users", DOCUMENTED)
    server = start(tmp_path / "models", "--feature-store", "default=redis://:hunter2@127.0.0.1:1")
    error = ask(server, "users", [7], status=503)
    assert "cannot be reached" in error
    assert "hunter2" not in server.log() and "hunter2" not in error


@pytest.mark.announced_errors("the feature store 'default' is not known")
def test_an_unknown_store_says_how_to_give_it(start, tmp_path):
    model(tmp_path / "models", "users", DOCUMENTED)
    server = start(tmp_path / "models", "--feature-store", "other=redis://127.0.0.1:1", ready=False)

    def reason():
        index = requests.post(f"{server.url}/v2/repository/index", json={}, timeout=PATIENCE_S).json()
        return next((entry.get("reason", "") for entry in index if entry["name"] == "users"), "")

    server.until(lambda: "feature-store" in reason(), "refused")
    assert "the feature store 'default' is not known (there is other)" in reason()
    assert "--feature-store default=URL" in reason()


def test_settings_of_every_form_are_read_and_redacted(tmp_path):
    file = tmp_path / "salver.toml"
    file.write_text('[feature_stores]\ndefault = "redis://:hunter2@a:1"\nusers = "postgres://u:hunter2@b/x"\n')
    words = [str(BINARY), "config", "--config", str(file), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert "hunter2" not in done.stdout
    assert '"default=redis://:***@a:1"' in done.stdout and '"users=postgres://u:***@b/x"' in done.stdout
    for bad in ("x=redis://:hunter2@", "hunter2", "a=redis://h,a=redis://h", "a=postgres://:hunter2@h:port"):
        words = [str(BINARY), "serve", "--http", "127.0.0.1:0", "--grpc", "off", "--feature-store", bad]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE_S)
        assert done.returncode != 0 and "--feature-store" in done.stderr, done.stderr
        assert "hunter2" not in done.stdout + done.stderr
