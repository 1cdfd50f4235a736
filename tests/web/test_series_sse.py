"""Saved questions as server-sent events: the whole, then changes; resumed, refused and ended as any stream is."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from core import accounts, api_keys
from core.audit import Author
from core.database import Database
from core.permissions import Scope
from core.settings import Settings
from core.tenancy import Tenant, Tier
from resolvers import live_hub, saved_streams
from tests.conftest import make_key
from tests.resolvers.test_live_hub import Counting, until_connected
from tests.web.serving import Serving, serving, until
from web import credentials, crowd
from web.auth import keys
from web.series_sse import STREAM, TICKETS

SAVE = """mutation($q: MetricQuery!) { createQuestion(input: {name: "n", query: $q}) {
  ... on CreateQuestionPayload { question { id } } ... on Error { message } } }"""
UPDATE = """mutation($id: ID!, $q: MetricQuery!) { updateQuestion(input: {id: $id, revision: 1, query: $q}) {
  ... on UpdateQuestionPayload { question { id } } ... on Error { message } } }"""
SHARE = """mutation($id: ID!) { createShareLink(input: {objectId: $id, name: "n"}) {
  ... on CreateShareLinkPayload { token } ... on Error { message } } }"""
QUERY = {"metric": "events", "range": {"last": "3h"}, "interval": "HOUR"}


@pytest.fixture
async def web(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serving]:
    monkeypatch.setattr(saved_streams, "FRAME_SECONDS", 0.3)
    async with serving(dataclasses.replace(settings, heartbeat_seconds=0.3)) as running:
        await until_connected(running.services)
        yield running


@pytest.fixture
async def secret(database: Database, settings: Settings, tenant: Tenant) -> str:
    return (await make_key(database, settings, tenant))[1]


async def graphql(web: Serving, secret: str, text: str, **variables: Any) -> Any:
    async with httpx2.AsyncClient(timeout=30) as client:
        body = {"query": text, "variables": variables}
        answer = await client.post(f"{web.url}/graphql", json=body, headers=bearer(secret))
        (found,) = answer.json()["data"].values()
        return found


@pytest.fixture
async def question(web: Serving, secret: str) -> str:
    return str((await graphql(web, secret, SAVE, q=QUERY))["question"]["id"])


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


class Events:
    """A stream's events as a browser would tell them."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.answer = answer
        self.retry = 0
        self.ids: list[str] = []
        self._lines = answer.aiter_lines()

    async def next(self) -> tuple[str, Any]:
        """(event, data); "message" of one without a name."""
        event, data = "message", ""
        async for line in self._lines:
            name, _, value = line.partition(": ")
            match name:
                case "retry":
                    self.retry = int(value)
                case "id":
                    self.ids.append(value)
                case "event":
                    event = value
                case "data":
                    data = value
                case "" if data:
                    return event, json.loads(data)
        raise EOFError

    async def until(self, *kinds: str) -> Any:
        async with asyncio.timeout(30):
            while True:
                event, data = await self.next()
                assert event == "message", data
                if data["kind"] in kinds:
                    return data


@asynccontextmanager
async def stream(web: Serving, secret: str, *questions: str, query: str = "", **headers: str) -> AsyncIterator[Events]:
    asked = "&".join([*(f"question={id}" for id in questions), query])
    async with httpx2.AsyncClient(timeout=30) as client:
        sent = {**(bearer(secret) if secret else {}), **headers}
        async with client.stream("GET", f"{web.url}{STREAM}?{asked}", headers=sent) as answer:
            yield Events(answer)


async def refused(web: Serving, secret: str, *questions: str, query: str = "") -> tuple[int, Any]:
    async with stream(web, secret, *questions, query=query) as events:
        await events.answer.aread()
        return events.answer.status_code, events.answer.json()["error"]


@pytest.fixture
def counting(web: Serving, database: Database, tenant: Tenant) -> Counting:
    class Context:
        backends = web.services

    return Counting(database, tenant, Context())  # type: ignore[arg-type]


async def test_a_stream_begins_with_the_whole_and_goes_on_with_what_changed(
    web: Serving, secret: str, question: str, counting: Counting
) -> None:
    async with stream(web, secret, question) as events:
        assert events.answer.status_code == 200
        assert events.answer.headers["content-type"].startswith("text/event-stream")
        assert events.answer.headers["ratelimit-limit"] and "no-cache" in events.answer.headers["cache-control"]
        whole = await events.until("SNAPSHOT")
        assert events.retry > 0 and events.ids[-1] == whole["cursor"]
        assert [change["index"] for change in whole["changes"]] == [0]
        await counting.add(0)
        delta = await events.until("DELTA")
        (change,) = delta["changes"]
        assert change["columns"]["series"][0]["total"] == 1 and change["from"] and change["to"]
        assert delta["epoch"] == whole["epoch"] and delta["seq"] > whole["seq"]
        assert (await events.until("HEARTBEAT"))["watermark"]
    await until(lambda: web.readers() == 0)


async def test_last_event_id_goes_on_from_there(web: Serving, secret: str, question: str, counting: Counting) -> None:
    async with stream(web, secret, question) as events:
        cut = await events.until("SNAPSHOT")
    await counting.add(0)
    for asked in ({"Last-Event-ID": cut["cursor"]}, {"query": f"last_event_id={cut['cursor']}"}):
        async with stream(web, secret, question, **asked) as events:
            frame = await events.until("SNAPSHOT", "DELTA", "GAP")
        assert frame["kind"] == "DELTA" and frame["epoch"] == cut["epoch"]


@pytest.mark.parametrize("cursor", ["nonsense", "abcdef.7", "x" * 5000, "0" * 40 + ".1"])
async def test_a_last_event_id_that_is_none_begins_with_a_gap(
    web: Serving, secret: str, question: str, cursor: str
) -> None:
    """A browser sends what it has by itself, and gives up for good when that is refused."""
    async with stream(web, secret, question, **{"Last-Event-ID": cursor}) as events:
        assert [(await events.next())[1]["kind"] for _ in range(2)] == ["GAP", "SNAPSHOT"]


async def test_several_questions_are_one_stream_and_equal_ones_are_shared(
    web: Serving, secret: str, question: str
) -> None:
    other = (await graphql(web, secret, SAVE, q={**QUERY, "metric": "requests"}))["question"]["id"]
    async with stream(web, secret, question, other) as one, stream(web, secret, question, other) as two:
        mine, theirs = await one.until("SNAPSHOT"), await two.until("SNAPSHOT")
        assert [change["index"] for change in mine["changes"]] == [0, 1]
        assert mine["epoch"] == theirs["epoch"] and len(web.services.hub.streams()) == 1


async def test_a_question_that_is_edited_begins_anew(
    web: Serving, secret: str, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_streams, "RELOAD_SECONDS", 0.0)
    async with stream(web, secret, question) as events:
        whole = await events.until("SNAPSHOT")
        await graphql(web, secret, UPDATE, id=question, q={**QUERY, "range": {"last": "6h"}})
        await events.until("GAP")
        after = await events.until("SNAPSHOT")
    points = [len(frame["changes"][0]["columns"]["timestamps"]) for frame in (whole, after)]
    assert points[1] == points[0] + 3


async def test_a_ticket_opens_one_stream(web: Serving, secret: str, question: str) -> None:
    async with httpx2.AsyncClient() as client:
        made = await client.post(f"{web.url}{TICKETS}", headers=bearer(secret))
        assert made.status_code == 200 and made.headers["cache-control"] == "no-store"
        stranger = await client.post(f"{web.url}{TICKETS}")
        assert stranger.status_code == 401
    ticket = made.json()["ticket"]
    assert made.json()["expires_in"] == 30 and secret not in ticket
    async with stream(web, "", question, query=f"ticket={ticket}") as events:
        assert (await events.until("SNAPSHOT"))["changes"]
    for spent in (ticket, "cm_st_" + "x" * 43, "x", "", "x" * 5000):
        status, error = await refused(web, "", question, query=f"ticket={spent}")
        assert (status, error["code"]) == (401, "invalid_ticket") and TICKETS in error["message"]


async def test_a_share_link_streams_what_it_shows_and_nothing_else(
    web: Serving, secret: str, question: str, counting: Counting
) -> None:
    token = (await graphql(web, secret, SHARE, id=question))["token"]
    other = (await graphql(web, secret, SAVE, q={**QUERY, "metric": "requests"}))["question"]["id"]
    async with stream(web, token, question) as named, stream(web, token) as bare, stream(web, secret, question) as own:
        frames = [await events.until("SNAPSHOT") for events in (named, bare, own)]
        # The link pays for what its bearers read, so they share a stream of their own.
        assert frames[0]["epoch"] == frames[1]["epoch"] != frames[2]["epoch"]
        await counting.add(0)
        assert (await named.until("DELTA"))["changes"][0]["columns"]["series"][0]["total"] == 1
    assert (await refused(web, token, other))[0] == 404


async def test_what_cannot_be_streamed_is_answered_with_its_status(
    web: Serving, secret: str, question: str, database: Database, settings: Settings, tenant: Tenant
) -> None:
    _, writer = await make_key(database, settings, tenant, scopes=frozenset({Scope.EVENTS_WRITE}))
    for asked, status, code in (
        ((secret,), 404, "not_found"),
        ((secret, "nonsense"), 404, "not_found"),
        ((secret, "x" * 3000), 404, "not_found"),
        ((secret, *[question] * 21), 400, "too_many_questions"),
        (("", question), 401, "invalid_api_key"),
        (("cm_sk_" + "x" * 43, question), 401, "invalid_api_key"),
        ((writer, question), 403, "permission_denied"),
    ):
        found = await refused(web, *asked)
        assert (found[0], found[1]["code"]) == (status, code), found
    status, error = await refused(web, "", question, query=f"token={secret}")
    assert (status, error["code"]) == (400, "credentials_in_url") and secret not in error["message"]
    assert web.readers() == 0


async def test_another_tenants_question_is_one_that_is_not_there(
    web: Serving, question: str, database: Database, settings: Settings
) -> None:
    stranger = await accounts.create_tenant(database, slug="stranger", name="", tier=Tier.SELF_HOSTED)
    _, secret = await make_key(database, settings, stranger)
    status, theirs = await refused(web, secret, question)
    _, missing = await refused(web, secret, question[:-4] + "AAAA")
    assert (status, theirs["message"]) == (404, missing["message"])


async def test_a_key_that_is_revoked_ends_its_stream_with_the_reason(
    web: Serving, question: str, database: Database, settings: Settings, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "RECHECK_SECONDS", 0.1)
    monkeypatch.setattr(keys, "FRESH_SECONDS", 0.1)
    key, secret = await make_key(database, settings, tenant)
    async with stream(web, secret, question) as events, asyncio.timeout(30):
        await events.until("SNAPSHOT")
        await api_keys.revoke_key(database, key.tenant.id, key.id, Author.operator(key.tenant.id))
        event, data = "message", {}
        while event == "message":
            event, data = await events.next()
        assert event == "refused" and data["error"]["code"] == "invalid_api_key"
        with pytest.raises(EOFError):
            await events.next()


async def test_a_stream_that_has_lived_its_time_says_so(
    web: Serving, secret: str, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_hub, "LIFE_SECONDS", 0.5)
    async with stream(web, secret, question) as events, asyncio.timeout(30):
        event, data = "message", {}
        while event == "message":
            event, data = await events.next()
        assert event == "going_away" and "resumeFrom" in data["error"]["message"]


async def test_one_stream_too_many_is_refused_before_anything_is_asked(
    web: Serving, secret: str, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowd, "MAX_OF_ADDRESS", 1)
    async with stream(web, secret, question) as events:
        await events.until("SNAPSHOT")
        status, error = await refused(web, secret, question)
        assert (status, error["code"]) == (429, "too_many_sockets")
    await until(lambda: web.readers() == 0)
    async with stream(web, secret, question) as events:
        await events.until("SNAPSHOT")
