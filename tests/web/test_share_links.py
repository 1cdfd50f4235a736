"""People who signed in share a question; the link ends with what they may, in time, over HTTP and on sockets."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import pytest
import websockets
from websockets.typing import Subprotocol

from core.database import Database
from core.permissions import Role
from core.tenancy import Tenant
from resolvers.global_ids import global_id
from tests.conftest import make_person
from tests.resolvers.test_questions import ACCESS, CREATE, SHARE, UPDATE
from tests.web.conftest import Client

SHOW = "{ sharedQuestion { name } viewer { kind } }"
ROLE = "mutation($input: ChangeMemberRoleInput!) { changeMemberRole(input: $input) { __typename } }"
REMOVE = "mutation($input: RemoveMemberInput!) { removeMember(input: $input) { __typename } }"
QUERY = {"metric": "events", "range": {"last": "24h"}}


@dataclass(frozen=True, slots=True)
class Sharing:
    """An owner, an editor who has shared a question of the owner's that it manages, and its link's token."""

    client: Client
    owner: str
    editor: str
    editor_id: str
    question: str
    token: str

    async def do(self, who: str, text: str, **input: Any) -> dict[str, Any]:
        answer: dict[str, Any] = next(iter((await self.client.data(who, text, input=input)).values()))
        return answer

    async def end(self, way: str) -> None:
        """Takes from the editor what the link stands on."""
        if way == "removed":
            await self.do(self.owner, REMOVE, id=self.editor_id)
        elif way == "lowered":
            await self.do(self.owner, ROLE, id=self.editor_id, role="VIEWER")
        else:
            await self.do(self.owner, ACCESS, id=self.question, accessRevision=2, access=[])


@pytest.fixture
async def sharing(database: Database, tenant: Tenant, client: Client) -> Sharing:
    owner, editor = [await make_person(database, tenant, role=role) for role in (Role.OWNER, Role.EDITOR)]
    tokens = [(await client.login(person.email))["access_token"] for person in (owner, editor)]
    editor_id = global_id("Member", str(editor.id))
    half = Sharing(client, *tokens, editor_id, "", "")
    question = (await half.do(half.owner, CREATE, name="Shared", query=QUERY, access="PRIVATE"))["question"]["id"]
    line = {"member": editor_id, "level": "MANAGE"}
    given = await half.do(half.owner, ACCESS, id=question, accessRevision=1, access=[line])
    assert given["__typename"] == "SetQuestionAccessPayload"
    made = await half.do(half.editor, SHARE, objectId=question)
    return Sharing(client, *tokens, editor_id, question, made["token"])


async def test_two_people_at_one_question_see_each_others_versions(sharing: Sharing) -> None:
    first = await sharing.do(sharing.owner, UPDATE, id=sharing.question, revision=1, name="Of the owner")
    assert first["question"]["revision"] == 2
    second = await sharing.do(sharing.editor, UPDATE, id=sharing.question, revision=1, name="Of the editor")
    assert (second["__typename"], second["theirs"]["name"], second["yours"]["name"]) == (
        "QuestionConflict", "Of the owner", "Of the editor",
    )  # fmt: skip


@pytest.mark.parametrize("way", ["removed", "lowered", "taken off the list"])
async def test_a_link_ends_with_what_its_maker_may_within_five_seconds_and_its_sockets_within_thirty(
    sharing: Sharing, way: str
) -> None:
    client, token = sharing.client, sharing.token
    shown = await client.data(token, SHOW)
    assert shown == {"sharedQuestion": {"name": "Shared"}, "viewer": {"kind": "SHARE_LINK"}}
    url = f"{client.url.replace('http', 'ws', 1)}/graphql"
    async with websockets.connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
        init = {"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}
        await socket.send(json.dumps(init))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        await sharing.end(way)
        ended_at = time.monotonic()
        while (await client.ask(token, SHOW)).status_code == 200:
            assert time.monotonic() - ended_at < 7
            await asyncio.sleep(0.1)
        assert (await client.ask(token, SHOW)).status_code == 401
        async with asyncio.timeout(30):
            await socket.wait_closed()
        assert socket.close_code in (4401, 4403)
