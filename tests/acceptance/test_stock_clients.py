"""The field's own JavaScript clients and its audit, against a running instance."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import httpx2
import pytest

from tests.conftest import ROOT, Instance

CLIENTS = Path(__file__).resolve().parent.parent / "clients"
HAS_NODE = shutil.which("node") is not None and (CLIENTS / "node_modules").is_dir()

pytestmark = [
    pytest.mark.slow,
    # In CI a client that could not start is a failure, not a skip.
    pytest.mark.skipif(not HAS_NODE and not os.environ.get("CI"), reason="needs node: make test installs the clients"),
]


def test_the_graphql_http_audit_finds_no_error_and_no_warning(instance: Instance) -> None:
    done = subprocess.run(
        ["node", "audit.mjs", f"{instance.url}/graphql", instance.secret_key],
        cwd=CLIENTS, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "61 audits: 0 errors, 0 warnings" in done.stdout


def test_urql_over_graphql_ws_reads_a_series_and_receives_a_live_delta(instance: Instance) -> None:
    command = ["node", "live.mjs", f"{instance.url}/graphql", instance.secret_key]
    with subprocess.Popen(command, cwd=CLIENTS, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        read = json.loads(client.stdout.readline())
        snapshot = json.loads(client.stdout.readline())
        assert (read["kind"], snapshot["kind"]) == ("QUERY", "SNAPSHOT")
        before = snapshot["columns"]["series"][0]["total"]
        assert read["columns"]["series"][0]["total"] == read["series"][0]["total"] == before
        sent = httpx2.post(
            f"{instance.url}/v1/events",
            json={"events": [{"type": "live", "context": {"user_agent": ""}}]},
            headers={"Authorization": f"Bearer {instance.publishable_key}"},
        )
        assert sent.status_code == 202
        frames = [json.loads(line) for line in client.stdout]
        assert client.wait(20) == 0
    assert frames[-1]["kind"] == "DELTA"
    assert frames[-1]["columns"]["series"][0]["total"] == before + 1


def test_graphql_sse_reads_is_refused_and_receives_a_live_delta(instance: Instance) -> None:
    command = ["node", "stream.mjs", f"{instance.url}/graphql", instance.secret_key]
    with subprocess.Popen(command, cwd=CLIENTS, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        read, refused, snapshot = (json.loads(client.stdout.readline()) for _ in range(3))
        assert read["kind"] == "QUERY" and refused == {"kind": "REFUSED", "code": "GRAPHQL_VALIDATION_FAILED"}
        if snapshot["kind"] == "GAP":
            snapshot = json.loads(client.stdout.readline())
        assert snapshot["kind"] == "SNAPSHOT"
        before = snapshot["columns"]["series"][0]["total"]
        assert read["columns"]["series"][0]["total"] == before
        sent = httpx2.post(
            f"{instance.url}/v1/events",
            json={"events": [{"type": "live", "context": {"user_agent": ""}}]},
            headers={"Authorization": f"Bearer {instance.publishable_key}"},
        )
        assert sent.status_code == 202
        frames = [json.loads(line) for line in client.stdout]
        assert client.wait(20) == 0
    assert frames[-1]["kind"] == "DELTA" and frames[-1]["columns"]["series"][0]["total"] == before + 1


def test_curl_streams_as_the_documentation_says(instance: Instance) -> None:
    (command,) = re.findall(r"^curl (?:.*\\\n)*.*(?:\n .*)*$", (ROOT / "docs/graphql.md").read_text(), re.MULTILINE)
    with subprocess.Popen(
        ["bash", "-c", command.replace("http://127.0.0.1:8000", instance.url).replace("curl", "exec curl -s", 1)],
        env={**os.environ, "SECRET_KEY": instance.secret_key}, stdout=subprocess.PIPE, text=True,
    ) as client:  # fmt: skip
        assert client.stdout is not None
        lines = []
        while '"SNAPSHOT"' not in "".join(lines):
            lines.append(client.stdout.readline())
            assert lines[-1] and len(lines) < 20, lines
        client.terminate()
    assert lines[0] == ":\n" and "event: next\n" in lines
