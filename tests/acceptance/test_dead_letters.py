"""What no worker could process is kept, shown, and counted once when it is replayed after all."""

from __future__ import annotations

import asyncio
import os
import re
import time
from typing import Any
from uuid import UUID

import pytest

from cloudmetrics.data_folder import DataFolder
from core.log import open_log
from core.topics import raw_topic
from tests.acceptance.test_graphql_reads import ask, data
from tests.acceptance.test_tenant_topics import counted, send
from tests.conftest import Instance

pytestmark = pytest.mark.slow

BYTES = b"no record of ours"


def test_a_letter_is_listed_shown_replayed_and_dropped(instance: Instance) -> None:
    tenant_id = UUID(re.findall(r"demo .* ([0-9a-f-]{36})", instance.cli("tenant", "list").stdout)[0])
    assert "no dead letters" in instance.cli("deadletters", "list").stdout
    asyncio.run(append(instance, tenant_id, BYTES))
    place = wait_for_letter(instance)
    assert place.startswith(f"enrich:events.raw.{tenant_id}:0:")
    assert instance.cli("deadletters", "show", place).stdout.encode() == BYTES
    assert "1 dead letters" in instance.cli("deadletters", "list", "--tenant", "demo").stdout

    # Nothing was mended: replayed, it is put aside again, at its new place.
    assert "replayed 1" in instance.cli("deadletters", "replay", place).stdout
    again = wait_for_letter(instance)
    assert again != place
    refused = instance.cli("deadletters", "drop", place, check=False)
    assert refused.returncode == 1 and "There is no dead letter" in refused.stderr
    assert "dropped 1" in instance.cli("deadletters", "drop", "--all").stdout
    assert "no dead letters" in instance.cli("deadletters", "list").stdout
    # The others' events went their way all the time.
    assert send(instance, ["0190b6f0-7e5a-7000-8000-2f1d8f6f4a11"]) == 1
    deadline = time.monotonic() + 20
    while counted(instance) != 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert counted(instance) == 1


LETTERS = """query($first: Int, $after: String) { tenant { deadLetters(first: $first, after: $after) {
  edges { cursor node { id worker topic partition offset reason createdAt size preview } }
  pageInfo { hasNextPage endCursor } } } }"""
REPLAY = """mutation($input: ReplayDeadLetterInput!) { replayDeadLetter(input: $input) {
  __typename ... on ReplayDeadLetterPayload { id } ... on Error { code message path } } }"""
DROP = """mutation($input: DropDeadLetterInput!) { dropDeadLetter(input: $input) {
  __typename ... on DropDeadLetterPayload { id } ... on Error { code message path } } }"""


def letters(instance: Instance, **variables: object) -> list[dict[str, Any]]:
    page = data(instance, LETTERS, **variables)["tenant"]["deadLetters"]
    return [edge["node"] for edge in page["edges"]]


def test_the_tenants_administrator_pages_replays_and_drops_over_graphql(instance: Instance) -> None:
    tenant_id = UUID(re.findall(r"demo .* ([0-9a-f-]{36})", instance.cli("tenant", "list").stdout)[0])
    for n in range(3):
        asyncio.run(append(instance, tenant_id, BYTES + bytes([48 + n]) + b" cm_sk_secret 203.0.113.9"))
    deadline = time.monotonic() + 20
    while len(letters(instance)) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    page = data(instance, LETTERS, first=2)["tenant"]["deadLetters"]
    assert page["pageInfo"]["hasNextPage"]
    rest = letters(instance, first=2, after=page["pageInfo"]["endCursor"])
    every = [edge["node"] for edge in page["edges"]] + rest
    assert sorted(letter["preview"] for letter in every) == [
        f"no record of ours{n} cm_sk_… 203.0.113.0" for n in range(3)
    ]
    assert {(letter["worker"], letter["topic"], letter["partition"]) for letter in every} == {
        ("enrich", f"events.raw.{tenant_id}", 0)
    }
    assert all("not an accepted request" in letter["reason"] for letter in every)

    gone = every[0]["id"]
    assert data(instance, DROP, input={"id": gone})["dropDeadLetter"] == {
        "__typename": "DropDeadLetterPayload", "id": gone,
    }  # fmt: skip
    for mutation, name in ((DROP, "dropDeadLetter"), (REPLAY, "replayDeadLetter")):
        for missing in (gone, "nonsense", every[1]["id"][:-2]):
            answer = data(instance, mutation, input={"id": missing})[name]
            assert (answer["__typename"], answer["code"], answer["path"]) == ("NotFound", "NOT_FOUND", ["input", "id"])
    # Nothing was mended: replayed, it comes back, at a place of its own.
    answer = data(instance, REPLAY, input={"id": every[1]["id"]})["replayDeadLetter"]
    assert answer["__typename"] == "ReplayDeadLetterPayload"
    deadline = time.monotonic() + 20
    while len(letters(instance)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert {letter["id"] for letter in letters(instance)} & {every[0]["id"], every[1]["id"]} == set()
    instance.cli("deadletters", "drop", "--all")


def test_who_is_no_administrator_and_who_is_another_tenants_sees_none(instance: Instance) -> None:
    tenant_id = UUID(re.findall(r"demo .* ([0-9a-f-]{36})", instance.cli("tenant", "list").stdout)[0])
    asyncio.run(append(instance, tenant_id, BYTES))
    wait_for_letter(instance)
    (letter,) = letters(instance)
    instance.cli("tenant", "create", "stranger")
    reader = key_of(instance, "demo", "metrics:read")
    stranger = key_of(instance, "stranger", "admin")
    refused = ask(instance, LETTERS, key=reader)["errors"][0]
    assert refused["extensions"]["code"] == "PERMISSION_DENIED" and "admin" in refused["message"]
    for mutation, name in ((DROP, "dropDeadLetter"), (REPLAY, "replayDeadLetter")):
        answer = ask(instance, mutation, key=reader, input={"id": letter["id"]})["data"][name]
        assert answer["__typename"] == "PermissionDenied"
        answer = ask(instance, mutation, key=stranger, input={"id": letter["id"]})["data"][name]
        assert answer["__typename"] == "NotFound"
    assert ask(instance, LETTERS, key=stranger)["data"]["tenant"]["deadLetters"]["edges"] == []
    node = "query($id: ID!) { node(id: $id) { id __typename } }"
    assert [ask(instance, node, key=key, id=letter["id"])["data"]["node"] for key in (reader, stranger)] == [None, None]
    assert data(instance, node, id=letter["id"])["node"]["__typename"] == "DeadLetter"
    cursor = data(instance, LETTERS)["tenant"]["deadLetters"]["edges"][0]["cursor"]
    answer = ask(instance, LETTERS, key=stranger, after=cursor)
    assert answer["errors"][0]["extensions"]["code"] == "INVALID_CURSOR"
    instance.cli("deadletters", "drop", "--all")


def key_of(instance: Instance, tenant: str, scope: str) -> str:
    made = instance.cli("key", "create", "--tenant", tenant, "--scope", scope, "--unsigned").stdout
    return re.findall(r"cm_sk_\S+", made)[-1]


async def append(instance: Instance, tenant_id: UUID, value: bytes) -> None:
    log = open_log(DataFolder.at(instance.data).running_settings(os.environ))
    try:
        await log.append(raw_topic(tenant_id, "each"), tenant_id.bytes, value)
    finally:
        await log.close()


def wait_for_letter(instance: Instance) -> str:
    """The place of the one letter."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        listed = instance.cli("deadletters", "list").stdout
        if found := re.match(r"(\S+)  tenant", listed):
            return found[1]
        time.sleep(0.2)
    pytest.fail(listed)
