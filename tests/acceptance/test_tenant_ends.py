"""A tenant is exported, deleted, restored and deleted for good, by the operator's commands and over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cloudmetrics.data_folder import DataFolder
from core.database import as_owner
from tests.acceptance.test_graphql_reads import ask, data
from tests.conftest import Instance

pytestmark = pytest.mark.slow

EXPORT = """mutation { exportTenant(input: {includeEvents: true}) { __typename
  ... on ExportTenantPayload { job { id } } ... on Error { message } } }"""
JOB = "query($id: ID!) { node(id: $id) { ... on Job { state error progress file { name bytes sha256 } } } }"
LINK = """mutation($input: CreateExportLinkInput!) { createExportLink(input: $input) { __typename
  ... on CreateExportLinkPayload { url expiresAt } ... on Error { message } } }"""
SECONDS = 60.0


def key_of(instance: Instance, tenant: str, *scopes: str) -> str:
    arguments = [word for scope in scopes for word in ("--scope", scope)]
    made = instance.cli("key", "create", "--tenant", tenant, "--unsigned", *arguments).stdout
    return re.findall(r"cm_sk_\S+", made)[-1]


def send(instance: Instance, key: str) -> httpx2.Response:
    body = {"events": [{"type": "signup", "user_id": "ada", "context": {"user_agent": ""}}]}
    return httpx2.post(f"{instance.url}/v1/events", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=20)


def finished(instance: Instance, key: str, job: str) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found: dict[str, Any] = ask(instance, JOB, key=key, id=job)["data"]["node"]
        if found["state"] not in ("WAITING", "RUNNING"):
            return found
        time.sleep(0.2)
    pytest.fail("the job did not end")


def test_an_export_is_downloaded_by_a_link_that_is_good_for_nothing_else(instance: Instance, tmp_path: Path) -> None:
    instance.cli("tenant", "create", "acme")
    admin = key_of(instance, "acme", "admin", "events:write")
    assert send(instance, admin).status_code == 202
    job = ask(instance, EXPORT, key=admin)["data"]["exportTenant"]["job"]["id"]
    done = finished(instance, admin, job)
    assert (done["state"], done["progress"]) == ("DONE", 1.0)
    link = ask(instance, LINK, key=admin, input={"jobId": job})["data"]["createExportLink"]["url"]
    answer = httpx2.get(instance.url + link)
    assert (answer.status_code, len(answer.content)) == (200, done["file"]["bytes"])
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["content-disposition"] == f'attachment; filename="{done["file"]["name"]}"'
    file = tmp_path / "export.zip"
    file.write_bytes(answer.content)
    with zipfile.ZipFile(file) as archive:
        assert json.loads(archive.read("manifest.json"))["rows"]["api_keys"] == 1

    part = httpx2.get(instance.url + link, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, answer.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(answer.content)}"
    head = httpx2.head(instance.url + link)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(answer.content)))
    many = httpx2.get(instance.url + link, headers={"Range": "bytes=" + ",".join(["0-0"] * 1000)})
    assert (many.status_code, many.json()["error"]["code"]) == (416, "range_not_satisfiable")
    assert httpx2.post(instance.url + link).status_code == 405

    # Any other path is answered alike, whether it is nearly right, of another's job, or nothing at all.
    forged = [link[:-2] + ("AA" if link[-2:] != "AA" else "BB"), "/exports/x", "/exports/" + "A" * 500, "/exports/%00"]
    answers = {(bad.status_code, bad.json()["error"]["code"]) for bad in (httpx2.get(instance.url + p) for p in forged)}
    assert answers == {(404, "not_found")}
    # What was done is in the trail, and the trail is whole.
    log = '{ tenant { auditLog(filter: {action: "export."}) { edges { node { action } } } } }'
    actions = [edge["node"]["action"] for edge in ask(instance, log, key=admin)["data"]["tenant"]["auditLog"]["edges"]]
    assert actions == ["export.download"] + ["export.link", "export.ask"]
    assert "whole" in instance.cli("audit", "verify", "--tenant", "acme").stdout
    printed = instance.cli("tenant", "export", "acme", "--no-events").stdout.strip()
    assert zipfile.is_zipfile(printed)


def test_a_tenant_that_ends_is_refused_at_every_door_and_gone_after_its_grace(instance: Instance) -> None:
    instance.cli("tenant", "create", "doomed")
    admin = key_of(instance, "doomed", "admin", "events:write")
    assert send(instance, admin).status_code == 202
    bystanders = data(instance, "{ tenant { auditLog { totalCount } jobs { totalCount } } }")
    wrong = instance.cli("tenant", "delete", "doomed", "--confirm", "demo", check=False)
    assert wrong.returncode == 1 and "Type the tenant's slug exactly" in wrong.stderr
    assert "tenant restore doomed" in instance.cli("tenant", "delete", "doomed", "--confirm", "doomed").stdout
    assert "to be deleted from" in instance.cli("tenant", "list").stdout

    wait_until(lambda: send(instance, admin).status_code == 403)
    refusal = send(instance, admin).json()["error"]
    assert refusal["code"] == "tenant_ending" and "restoreTenant" in refusal["message"]
    asked = httpx2.post(
        f"{instance.url}/graphql", json={"query": "{ viewer { actor } }"}, headers={"Authorization": f"Bearer {admin}"}
    )
    assert "TENANT_ENDING" in asked.text.upper()

    assert "stays" in instance.cli("tenant", "restore", "doomed").stdout
    wait_until(lambda: send(instance, admin).status_code == 202)
    gone = instance.cli("tenant", "delete", "doomed", "--confirm", "doomed", "--grace-days", "0", "--wait")
    assert "gone 20" in gone.stdout and re.search(r"tenants +1 +0\n", gone.stdout)
    wait_until(lambda: send(instance, admin).status_code == 401)
    proof = json.loads(instance.cli("tenant", "deleted", "doomed", "--json").stdout)
    assert {found["left"] for found in proof["tables"].values()} == {0} and proof["tables"]["events"]["removed"] >= 2
    assert re.fullmatch(r"[0-9a-f]{64}", proof["audit_hash"]) and proof["others"]["valkey_keys_left"] == 0
    missing = instance.cli("tenant", "deleted", "never-was", check=False)
    assert missing.returncode == 1 and "No tenant 'never-was' was deleted" in missing.stderr
    assert data(instance, "{ tenant { auditLog { totalCount } jobs { totalCount } } }") == bystanders
    # The slug is free again, and another tenant's from then on.
    instance.cli("tenant", "create", "doomed")
    assert send(instance, key_of(instance, "doomed", "events:write")).status_code == 202


def test_verify_says_by_its_exit_code_whether_the_trail_is_whole(instance: Instance) -> None:
    instance.cli("tenant", "create", "audited")
    key_of(instance, "audited", "admin")
    verdict = json.loads(instance.cli("audit", "verify", "--tenant", "audited", "--json").stdout)
    assert (verdict["entries"], verdict["findings"]) == (2, [])
    assert "whole" in instance.cli("audit", "verify", "--tenant", "audited", "--anchor", verdict["end"]).stdout
    bad = instance.cli("audit", "verify", "--anchor", verdict["end"], check=False)
    assert bad.returncode == 1 and "--tenant" in bad.stderr
    asyncio.run(tamper(instance))
    found = instance.cli("audit", "verify", check=False)
    assert found.returncode == 1 and "entry 2 was changed" in found.stdout and "demo: " in found.stdout
    (finding,) = json.loads(instance.cli("audit", "verify", "--tenant", "audited", "--json", check=False).stdout)[
        "findings"
    ]
    assert (finding["wrong"], finding["first"]) == ("changed", 2)
    assert instance.cli("audit", "nonsense", check=False).returncode == 2


async def tamper(instance: Instance) -> None:
    async with as_owner(DataFolder.at(instance.data).database_url("superuser")) as connection:
        await connection.execute(
            "UPDATE audit_log SET actor = 'mallory' WHERE sequence = 2 AND tenant_id = "
            "(SELECT id FROM tenants WHERE slug = 'audited')"
        )


def wait_until(is_so: Any) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.2)
