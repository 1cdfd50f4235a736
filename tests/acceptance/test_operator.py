"""The operator's commands, as typed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from cloudmetrics.__main__ import COMMANDS
from cloudmetrics.data_folder import DataFolder
from cloudmetrics.embedded import postgres, valkey
from tests.acceptance.test_main_job import is_alive
from tests.conftest import ROOT, Instance, free_port, run_cli, start_instance

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["import", "access-log"], ["key", "create"]])
def test_every_command_has_help(command: list[str]) -> None:
    done = run_cli(*command, "--help")
    assert "usage: python -m cloudmetrics" in done.stdout


@pytest.mark.parametrize("module", ["pipeline", "web", "sql"])
def test_every_process_has_help(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"usage: python -m {module}" in done.stdout


@pytest.mark.parametrize(
    ("command", "code"),
    [(["nope"], 2), (["import", "access-log"], 2), (["up", "--port", "x"], 2), (["demo", "--rate", "0"], 1)],
)
def test_wrong_use_exits_2_and_failure_1(tmp_path: Path, command: list[str], code: int) -> None:
    done = run_cli(*command, check=False)
    assert done.returncode == code and done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["status", "--data", "/dev/null"], "not a folder"),
        (["up", "--data", ""], "--data is empty"),
        (["up", "--data", "/proc/nowhere"], "No such file or directory"),
        (["up", "--data", "/tmp/" + "x" * 300], "File name too long"),
        (["up", "--port", "99999"], "CLOUDMETRICS_PORT must be 1 to 65535"),
        (["up", "--host", "no.such.host.invalid"], "there is no host"),
        (["import", "access-log", __file__, "--url", "http://127.0.0.1:9", "--key", "x"], "--key must be"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(tmp_path: Path, command: list[str], said: str) -> None:
    data = [] if "--data" in command or "--url" in command else ["--data", str(tmp_path / "data")]
    done = run_cli(*command, *data, check=False)
    assert done.returncode == 1
    assert said in done.stderr and len(done.stderr.splitlines()) == 1


def test_an_argument_that_is_no_utf8_is_said_so() -> None:
    command = [sys.executable, "-m", "cloudmetrics", "tenant", "create", "x", "--name", b"\xff"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 2 and done.stderr == b"cloudmetrics: an argument is not UTF-8\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kind", "publishable", "--origin", "https://shop.example/cart"], "without a path"),
        (["--kind", "publishable", "--origin", "nonsense"], "scheme, host and port"),
        (["--kind", "publishable", "--unsigned"], "never signs"),
        (["--kind", "secret", "--origin", "https://shop.example"], "Only publishable keys"),
        (["--name", "a\x1b[31mb"], "printable"),
        (["--name", "x" * 201], "at most 200"),
    ],
)
def test_a_key_that_could_never_serve_is_not_made(instance: Instance, arguments: list[str], said: str) -> None:
    done = instance.cli("key", "create", *arguments, check=False)
    assert done.returncode == 1 and said in done.stderr


@pytest.mark.parametrize(
    "command", [["status"], ["doctor"], ["watch"], ["demo"], ["tenant", "list"], ["import", "events", "-"]]
)
def test_a_command_without_an_instance_says_how_to_start_one(tmp_path: Path, command: list[str]) -> None:
    done = run_cli(*command, "--data", str(tmp_path / "none"), check=False)
    assert done.returncode == 1
    assert "up --data" in done.stderr and "Traceback" not in done.stderr


def test_up_again_on_a_running_folder_prints_the_same_block(instance: Instance) -> None:
    again = json.loads(run_cli("up", "--data", str(instance.data), "--detach", "--json").stdout)
    assert (again["url"], again["secret_key"]) == (instance.url, instance.secret_key)
    assert set(again) == {
        "url", "graphql", "graphql_ws", "events", "tenant", "secret_key", "secret_key_id", "publishable_key",
        "email", "password",
    }  # fmt: skip
    foreground = run_cli("up", "--data", str(instance.data), check=False)
    assert foreground.returncode == 1 and "in use by a running instance" in foreground.stderr


def test_a_taken_port_is_said_with_the_remedy(instance: Instance, tmp_path: Path) -> None:
    port = instance.url.rsplit(":", 1)[1]
    done = run_cli("up", "--data", str(tmp_path / "other"), "--port", port, "--detach", check=False)
    assert done.returncode == 1
    assert f"port {port}" in done.stderr and f"--port {int(port) + 1}" in done.stderr


def test_keys_lie_readable_by_their_owner_alone(instance: Instance) -> None:
    for name in ("credentials.json", "secrets.json"):
        assert (instance.data / name).stat().st_mode & 0o077 == 0
    assert instance.data.stat().st_mode & 0o077 == 0


def test_status_tells_processes_memory_and_lag(instance: Instance) -> None:
    found = json.loads(instance.cli("status", "--json").stdout)
    assert {"supervisor", "web", "pipeline", "valkey", "postgres"} <= found["processes"].keys()
    assert all(process["memory_mb"] > 1 for process in found["processes"].values())
    assert set(found["health"]["lag"]) == {"enrich", "aggregate", "bridge"}
    assert "records behind" in instance.cli("status").stdout


def test_doctor_follows_a_probe_through_every_hop_and_moves_nobodys_numbers(instance: Instance) -> None:
    found = json.loads(instance.cli("doctor", "--json").stdout)
    assert found["ok"]
    assert [hop["hop"] for hop in found["hops"]] == [
        "web", "database", "log", "live stream opens", "accept", "enrich", "aggregate", "bridge", "read back",
        "live frame",
    ]  # fmt: skip
    query = (
        '{ series(query: {metric: "events", range: {last: "1h"}, filters: [{dimension: "type", values: ["probe"]}]})'
    )
    answer = httpx2.post(
        f"{instance.url}/graphql",
        json={"query": query + " { series { total } } }"},
        headers={"Authorization": f"Bearer {instance.secret_key}"},
    ).json()
    assert answer["data"]["series"]["series"] == [{"total": 0}]


def test_status_tells_whose_records_wait_and_where(instance: Instance) -> None:
    pipeline = instance.pid("pipeline")
    os.kill(pipeline, signal.SIGSTOP)
    try:
        headers = {"Authorization": f"Bearer {instance.publishable_key}"}
        for _ in range(3):
            httpx2.post(f"{instance.url}/v1/events", json={"events": [{"type": "waits"}]}, headers=headers)
        found = json.loads(instance.cli("status", "--json").stdout)
        text = instance.cli("status").stdout
    finally:
        os.kill(pipeline, signal.SIGCONT)
    (mine,) = [place for place in found["behind"] if place["tenant"] == "demo"]
    assert (mine["group"], mine["records"]) == ("enrich", 3) and mine["topic"].startswith("events.raw.")
    assert f"3 behind on {mine['topic']}[0] of demo" in text


def test_doctor_says_where_it_stops_and_what_to_do(instance: Instance) -> None:
    pipeline = instance.pid("pipeline")
    os.kill(pipeline, signal.SIGSTOP)
    try:
        done = instance.cli("doctor", check=False)
    finally:
        os.kill(pipeline, signal.SIGCONT)
    assert done.returncode == 1
    assert "FAIL  enrich" in done.stdout and "logs/pipeline.log" in done.stdout


def test_a_child_that_dies_is_started_again_and_said_so(instance: Instance) -> None:
    before = instance.pid("web")
    os.kill(before, signal.SIGKILL)
    end = time.monotonic() + 20
    while instance.pid("web") in (0, before) or not is_up(instance):
        assert time.monotonic() < end
        time.sleep(0.1)
    log = (instance.data / "logs/supervisor.log").read_text()
    assert "web ended with -9; starting it again" in log
    assert json.loads(instance.cli("status", "--json").stdout)["processes"]["web"]["restarts"] == 1


def is_up(instance: Instance) -> bool:
    try:
        return httpx2.get(f"{instance.url}/health/ready", timeout=2).status_code == 200
    except (httpx2.HTTPError, json.JSONDecodeError):
        return False


def test_watch_shows_what_arrives(instance: Instance) -> None:
    command = [sys.executable, "-m", "cloudmetrics", "watch", "events", "--data", str(instance.data)]
    with ending(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().startswith("SNAPSHOT  total ")
        headers = {"Authorization": f"Bearer {instance.publishable_key}"}
        event = {"type": "seen", "context": {"user_agent": ""}}
        httpx2.post(f"{instance.url}/v1/events", json={"events": [event]}, headers=headers)
        assert watch.stdout.readline().startswith(("DELTA", "REVISION"))
        watch.send_signal(signal.SIGINT)
        assert watch.wait(10) == 1


@contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone when the test is, and is killed where it would hang."""
    alarm = threading.Timer(30, process.kill)
    alarm.start()
    try:
        with process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        alarm.cancel()


def test_events_as_lines_of_json_are_imported_once_and_a_grown_file_adds_its_new_lines(
    instance: Instance, tmp_path: Path
) -> None:
    lines = [json.dumps({"type": "old", "timestamp": "2020-01-01T00:00:00Z", "user_id": str(n)}) for n in range(250)]
    lines += [lines[0], "{broken", "[]", json.dumps({"type": 5})]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(lines))
    first = instance.cli("import", "events", str(file))
    assert "254 lines: 251 accepted, 0 already there, 1 rejected, 2 unreadable" in first.stdout
    assert "events.jsonl:252: not JSON" in first.stderr and "events.jsonl:253: not an object" in first.stderr
    assert "events.jsonl:254: wrong_type" in first.stderr
    file.write_text("\n".join([*lines, json.dumps({"type": "new", "timestamp": "2020-01-02T00:00:00Z"})]))
    assert "1 accepted, 251 already there" in instance.cli("import", "events", str(file)).stdout


def test_importing_elsewhere_wants_an_address_and_a_key(instance: Instance, tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text('10.0.0.1 - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 5\n')
    key = f"{instance.secret_key_id}:{instance.secret_key}"
    done = run_cli("import", "access-log", str(file), "--url", instance.url, "--key", key)
    assert "1 accepted" in done.stdout
    refused = run_cli(
        "import", "access-log", str(file), "--url", instance.url, "--key", "cm_pk_" + "x" * 43, check=False
    )
    assert refused.returncode == 1 and "invalid_api_key" in refused.stderr
    alone = run_cli("import", "access-log", str(file), "--url", instance.url, check=False)
    assert alone.returncode == 1 and "--url and --key go together" in alone.stderr


def test_the_first_start_feeds_marked_traffic_and_the_next_goes_on(tmp_path: Path) -> None:
    instance = start_instance(tmp_path / "data")
    try:
        end = time.monotonic() + 30
        while "demo traffic [" not in (instance.data / "logs/supervisor.log").read_text():
            assert time.monotonic() < end
            time.sleep(0.2)
        place = json.loads((instance.data / "demo.json").read_text())["sent_until_ms"]
        assert place > (time.time() - 7.1 * 86_400) * 1000
    finally:
        instance.cli("down")
    again = start_instance(tmp_path / "data")
    try:
        assert again.secret_key == instance.secret_key
        assert again.pid("demo") > 0
        query = "{ tenant { events(first: 5) { edges { node { properties } } } } }"
        answer = httpx2.post(
            f"{again.url}/graphql", json={"query": query}, headers={"Authorization": f"Bearer {again.secret_key}"}
        ).json()
        found = [edge["node"]["properties"]["demo"] for edge in answer["data"]["tenant"]["events"]["edges"]]
        assert found == [True] * 5
    finally:
        again.cli("down")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_foreground_shows_one_block_and_stops_in_order(tmp_path: Path, how: signal.Signals) -> None:
    command = [
        sys.executable,
        "-m",
        "cloudmetrics",
        "up",
        "--data",
        str(tmp_path),
        "--port",
        str(free_port()),
        "--empty",
    ]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with ending(started) as up:
        assert up.stdout is not None and up.stderr is not None
        lines = []
        while not lines or not lines[-1].startswith("Stop: "):
            lines.append(up.stdout.readline())
        assert "CloudMetrics is ready.\n" in lines
        pids = [child["pid"] for child in json.loads((tmp_path / "run.json").read_text())["children"].values()]
        up.send_signal(how)
        assert up.wait(15) == 0
        assert "stopping" in up.stderr.read()
    assert [pid for pid in pids if is_alive(pid)] == []
    assert not (tmp_path / "run.json").exists()


def test_a_server_left_behind_is_stopped_never_started_twice(tmp_path: Path) -> None:
    instance = start_instance(tmp_path / "data", "--empty")
    instance.cli("down")
    folder = DataFolder.at(tmp_path / "data")
    left = [postgres.start_postgres(folder), valkey.start_valkey(folder, folder.settings({}))]

    async def until_answering() -> None:
        while not await postgres.is_answering(folder) or not await valkey.is_answering(folder.settings({}).redis_url):
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(until_answering(), 20))
    again = start_instance(tmp_path / "data")
    try:
        assert [process.wait(5) is not None for process in left] == [True, True]
        assert again.pid("postgres") != left[0].pid
    finally:
        again.cli("down")


def test_a_large_tenant_is_spread_and_a_number_that_cannot_be_is_refused(instance: Instance) -> None:
    assert "spread demo over 4" in instance.cli("tenant", "spread", "demo", "4").stdout
    assert "LOG_PARTITIONS is 4" in instance.cli("tenant", "spread", "demo", "5").stdout
    refused = instance.cli("tenant", "spread", "demo", "257", check=False)
    assert refused.returncode == 1 and "1 to 256 sub-keys, not 257" in refused.stderr
    refused = instance.cli("tenant", "spread", "nobody", "2", check=False)
    assert refused.returncode == 1 and "There is no tenant 'nobody'" in refused.stderr
