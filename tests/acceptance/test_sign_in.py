"""What docs/sign-in.md tells people to type works as it is written, with the owner that `up` makes; and the operator's
keys."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import ROOT, Instance

pytestmark = pytest.mark.slow

COMMANDS = re.findall(r"^```bash\n(.*?)^```", (ROOT / "docs/sign-in.md").read_text(), re.MULTILINE | re.DOTALL)


def test_every_command_of_the_page_works_in_its_order(instance: Instance, tmp_path: Path) -> None:
    if shutil.which("jq") is None and not os.environ.get("CI"):
        pytest.skip("the page's commands use jq, as the README says; in CI its absence is a failure")
    environ = {**os.environ, "URL": instance.url, "EMAIL": instance.email, "PASSWORD": instance.password}
    answers: list[Any] = []
    for command in COMMANDS:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        answers.append(json.loads(done.stdout) if done.stdout else None)
    _, viewer, _, switched, out, keys = answers
    assert viewer["data"]["viewer"]["role"] == "OWNER"
    assert viewer["data"]["viewer"]["person"]["email"] == instance.email
    assert switched["data"]["switchTenant"]["tenant"] == {"slug": "demo", "role": "OWNER"}
    assert out == {"status": 204}
    assert [key["kty"] for key in keys["keys"]] == ["RSA"]
    signed_in, refreshed = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("signed-in", "refreshed"))
    assert signed_in["refresh_token"] != refreshed["refresh_token"]


def test_the_operator_lists_and_rotates_keys_and_nobody_is_signed_out(instance: Instance) -> None:
    def login() -> str:
        body = {"email": instance.email, "password": instance.password}
        return str(httpx2.post(f"{instance.url}/auth/login", json=body, timeout=20).json()["access_token"])

    def status(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        body = {"query": "{ viewer { actor } }"}
        return httpx2.post(f"{instance.url}/graphql", json=body, headers=headers, timeout=20).status_code

    before = login()
    assert "signing" in instance.cli("auth", "list-keys").stdout
    assert "is published, and signs in 10 minutes" in instance.cli("auth", "rotate-key").stdout
    states = [key["state"] for key in json.loads(instance.cli("auth", "list-keys", "--json").stdout)]
    assert states == ["waiting", "signing"]
    assert status(before) == status(login()) == 200
    stolen = json.loads(instance.cli("auth", "rotate-key", "--at-once", "--json").stdout)
    assert stolen["signs_in_seconds"] == 0
    assert status(login()) == 200
    assert instance.cli("auth", check=False).returncode == 2


def test_what_the_first_start_made_is_kept_readable_by_its_owner_alone(instance: Instance) -> None:
    file = instance.data / "credentials.json"
    kept = json.loads(file.read_text())
    assert (kept["email"], kept["password"]) == (instance.email, instance.password)
    assert file.stat().st_mode & 0o077 == 0
    assert instance.email == "owner@demo.local" and len(instance.password) >= 20
    for log in (instance.data / "logs").iterdir():
        # What `up --detach` prints goes through the supervisor's, in a folder that is its owner's alone.
        assert log.name == "supervisor.log" or instance.password not in log.read_text(errors="replace")
