"""The main job on real input, by the real commands against the real processes."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import ROOT, Instance, start_instance

pytestmark = pytest.mark.slow
ON_BOTH_STORES = True

LOG = ROOT / "tests/data/access.log.gz"
RANGE = {"from": "2015-05-17T00:00:00Z", "to": "2015-05-21T00:00:00Z"}
QUERY = "query($q: MetricQuery!) { series(query: $q) { columns source } }"
STATUSES = {"200": 9126, "304": 445, "404": 213, "301": 164, "206": 45, "500": 3, "416": 2, "403": 2}
METHODS = {"GET": 9952, "HEAD": 42, "POST": 5, "OPTIONS": 1}


def ask(instance: Instance, metric: str, **more: Any) -> list[dict[str, Any]]:
    question = {"metric": metric, "range": RANGE, "interval": "DAY", "includeBots": True, "limit": 100, **more}
    deadline = time.monotonic() + 30
    while True:
        answer = httpx2.post(
            f"{instance.url}/graphql",
            json={"query": QUERY, "variables": {"q": question}},
            headers={"Authorization": f"Bearer {instance.secret_key}"},
            timeout=30,
        ).json()
        if not is_put_off(answer) or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert "errors" not in answer, answer
    series: list[dict[str, Any]] = answer["data"]["series"]["columns"]["series"]
    return series


def is_put_off(answer: dict[str, Any]) -> bool:
    """Whether the database that was just killed is not back yet: the import rides that out, so its end says nothing."""
    return any(error["extensions"].get("code") == "DATABASE_UNAVAILABLE" for error in answer.get("errors", ()))


def totals(series: list[dict[str, Any]], label: str) -> dict[str, int]:
    return {line["labels"][label]: line["total"] for line in series}


def read_independently() -> tuple[int, dict[str, float]]:
    """Bytes in all, and the error rate by day, by a few lines that share nothing with the importer."""
    sent, errors, requests = 0, Counter[str](), Counter[str]()
    with gzip.open(LOG, "rt", encoding="utf-8", errors="replace") as file:
        for line in file:
            day = line.split("[")[1][:11]
            status, size = re.findall(r'" (\d{3}) (\d+|-)', line)[0]
            sent += 0 if size == "-" else int(size)
            requests[day] += 1
            errors[day] += int(status) >= 500
    return sent, {day: errors[day] / requests[day] for day in requests}


def check_numbers(instance: Instance) -> None:
    (requests,) = ask(instance, "requests")
    assert requests["values"] == [1632, 2893, 2896, 2579]
    assert requests["total"] == 10_000
    assert totals(ask(instance, "requests", groupBy=["status"]), "status") == STATUSES
    assert totals(ask(instance, "requests", groupBy=["method"]), "method") == METHODS
    sent, rates = read_independently()
    assert ask(instance, "bytes_sent")[0]["total"] == sent == 2_747_282_740
    assert ask(instance, "error_rate")[0]["values"] == [rates[f"{day}/May/2015"] for day in (17, 18, 19, 20)]
    for interval in ("MINUTE", "FIVE_MINUTES", "HOUR"):
        (line,) = ask(instance, "requests", interval=interval)
        assert sum(line["values"]) == 10_000
    raw = ask(instance, "requests", filters=[
        {"dimension": "status", "op": "EQ", "values": ["200"]}, {"dimension": "method", "op": "EQ", "values": ["GET"]},
    ])  # fmt: skip
    assert raw[0]["total"] < STATUSES["200"]


def start_import(instance: Instance) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cloudmetrics", "import", "access-log", str(LOG), "--data", str(instance.data)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_an_imported_log_comes_back_exactly_and_a_second_import_adds_nothing(instance: Instance) -> None:
    first = instance.cli("import", "access-log", str(LOG))
    assert "10,000 accepted" in first.stdout and "0 unreadable" in first.stdout
    check_numbers(instance)
    second = instance.cli("import", "access-log", str(LOG))
    assert "0 accepted, 10,000 already there" in second.stdout
    check_numbers(instance)


def test_numbers_survive_a_restart(instance: Instance) -> None:
    instance.cli("down")
    port = instance.url.rsplit(":", 1)[1]
    instance.cli("up", "--port", port, "--detach")
    check_numbers(instance)


def test_a_file_from_standard_input_counts_as_the_same_lines(instance: Instance) -> None:
    with gzip.open(LOG) as file:
        lines = b"".join(islice(file, 300))
    command = [sys.executable, "-m", "cloudmetrics", "import", "access-log", "-", "--data", str(instance.data)]
    done = subprocess.run(command, cwd=ROOT, input=lines, capture_output=True, check=True, timeout=60)
    assert b"0 accepted, 300 already there" in done.stdout


@pytest.mark.parametrize("victim", ["pipeline", "web", "valkey", "postgres"])
def test_a_kill_in_the_middle_of_an_import_loses_and_doubles_nothing(tmp_path: Path, victim: str) -> None:
    instance = start_instance(tmp_path / "data", "--empty")
    try:
        running = start_import(instance)
        for _ in range(3):
            time.sleep(0.5)
            if pid := instance.pid(victim):
                os.kill(pid, signal.SIGKILL)
            time.sleep(1.0)
        out, err = running.communicate(timeout=120)
        assert running.returncode == 0, err
        assert b"0 rejected" in out
        check_numbers(instance)
    finally:
        instance.cli("down")


def test_a_killed_supervisor_leaves_no_process_and_no_loss(tmp_path: Path) -> None:
    data = tmp_path / "data"
    instance = start_instance(data, "--empty")
    instance.cli("import", "access-log", str(LOG))
    pids = [instance.pid(name) for name in ("supervisor", "web", "pipeline", "valkey", "postgres")]
    os.kill(pids[0], signal.SIGKILL)
    deadline = time.monotonic() + 15
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [pid for pid in pids if is_alive(pid)] == []
    again = start_instance(data)
    try:
        check_numbers(again)
    finally:
        again.cli("down")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_an_event_sent_is_read_back_within_a_moment(instance: Instance) -> None:
    event = {"type": "signup", "user_id": "ada", "context": {"user_agent": ""}}
    sent = httpx2.post(
        f"{instance.url}/v1/events",
        json={"events": [event]},
        headers={"Authorization": f"Bearer {instance.publishable_key}"},
    )
    assert sent.status_code == 202
    question = {"metric": "events", "range": {"last": "1h"}, "groupBy": ["type"]}
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        answer = httpx2.post(
            f"{instance.url}/graphql",
            json={"query": QUERY, "variables": {"q": question}},
            headers={"Authorization": f"Bearer {instance.secret_key}"},
        ).json()
        found = totals(answer["data"]["series"]["columns"]["series"], "type")
        if found.get("signup") == 1:
            return
        time.sleep(0.05)
    pytest.fail(f"not read back: {json.dumps(found)}")
