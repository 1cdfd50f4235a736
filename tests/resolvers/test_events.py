"""Events by what they have, sessions page by page, and what is refused of both."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from core.database import Database
from core.settings import Settings
from core.tenancy import Tenant
from tests.conftest import make_key
from tests.query.journeys import START, in_order, make_journeys, moment_of, stored
from tests.resolvers.asking import Answers, answers_of
from web.auth.callers import Caller
from web.auth.keys import KnownKey

EVENTS = make_journeys(41, sessions=30)
RANGE = {"from": START.isoformat(), "to": (START + timedelta(days=5)).isoformat()}
LIST = """query($filter: EventFilter, $first: Int, $after: String) { tenant { events(filter: $filter, first: $first,
    after: $after) { edges { node { eventId visitor properties } } pageInfo { hasNextPage endCursor } } } }"""
SESSIONS = """query($q: SessionsQuery!, $first: Int, $after: String) { tenant { visitorSessions(query: $q,
    first: $first, after: $after) { edges { cursor node { sessionId visitor startedAt events } }
    pageInfo { hasNextPage endCursor } } } }"""
PATHS = "query($q: PathsQuery!) { paths(query: $q) { total nodes { id step count } links { source target count } } }"


@pytest.fixture(scope="module")
async def tenant(settings: Settings) -> Tenant:
    return await stored(settings, "events", EVENTS)


@pytest.fixture
async def caller(database: Database, settings: Settings, tenant: Tenant) -> Caller:
    key, _ = await make_key(database, settings, tenant)
    return KnownKey(key, (), 0).caller()


@pytest.fixture
async def answers(settings: Settings, database: Database) -> AsyncIterator[Answers]:
    async with answers_of(settings, database) as answers:
        yield answers


async def all_pages(answers: Answers, caller: Caller, query: str, field: str, size: int, **given: Any) -> list[Any]:
    nodes, after = [], None
    while True:
        page = (await answers.data(caller, query, first=size, after=after, **given))["tenant"][field]
        nodes += [edge["node"] for edge in page["edges"]]
        if not page["pageInfo"]["hasNextPage"]:
            return nodes
        after = page["pageInfo"]["endCursor"]


async def test_events_are_found_by_property_session_and_visitor(answers: Answers, caller: Caller) -> None:
    conditions = [
        {"dimension": "properties.screen", "op": "EQ", "values": ["a"]},
        {"dimension": "properties.n", "op": "GTE", "values": ["2"]},
        {"dimension": "country", "op": "NE", "values": ["NL"]},
    ]
    found = await all_pages(answers, caller, LIST, "events", 3, filter={"conditions": conditions})
    wanted = [
        event
        for event in in_order(EVENTS)[::-1]
        if (read := json.loads(event.properties))["screen"] == "a" and read["n"] >= 2 and event.country != "NL"
    ]
    assert [node["properties"] for node in found] == [json.loads(event.properties) for event in wanted]
    assert len(wanted) > 3
    visitor = str(wanted[0].visitor)
    found = await all_pages(answers, caller, LIST, "events", 100, filter={"visitor": visitor})
    assert len(found) == sum(str(event.visitor) == visitor for event in EVENTS)
    assert {node["visitor"] for node in found} == {visitor}
    found = await all_pages(answers, caller, LIST, "events", 100, filter={"sessionId": wanted[0].session_id})
    assert len(found) == sum(event.session_id == wanted[0].session_id for event in EVENTS)
    assert await all_pages(answers, caller, LIST, "events", 100, filter={"anonymousId": "nobody"}) == []


@pytest.mark.parametrize(
    ("filter", "code", "says"),
    [
        ({"visitor": "ten"}, "bad_filter", "filter.visitor"),
        ({"visitor": "9223372036854775808"}, "bad_filter", "filter.visitor"),
        ({"visitor": "١٢"}, "bad_filter", "filter.visitor"),
        ({"anonymousId": "\0"}, "bad_filter", "filter.anonymousId"),
        ({"conditions": [{"dimension": "weather", "values": ["1"]}]}, "unknown_dimension", "weather"),
        ({"conditions": [{"dimension": "properties.a..b", "values": ["1"]}]}, "bad_property", "properties.<name>"),
        ({"conditions": [{"dimension": "type", "values": []}]}, "bad_filter", "exactly one"),
        ({"conditions": [{"dimension": "type", "values": ["a"]}] * 21}, "too_many_filters", "20"),
        ({"conditions": [{"dimension": "properties.n", "op": "GT", "values": ["1e9"]}]}, "bad_filter", "number"),
    ],
)
async def test_a_filter_that_cannot_be_is_refused_and_says_what_to_mend(
    answers: Answers, caller: Caller, filter: dict[str, Any], code: str, says: str
) -> None:
    found, message = await answers.refusal(caller, LIST, filter=filter)
    assert found == code and says in message
    assert answers.statements == 0


async def test_pages_of_sessions_follow_one_another(answers: Answers, caller: Caller) -> None:
    found = await all_pages(answers, caller, SESSIONS, "visitorSessions", 4, q={"range": RANGE, "includeBots": True})
    sessions = {event.session_id for event in EVENTS} - {""}
    assert [node["sessionId"] for node in found] == sorted(
        sessions, key=lambda id: min(moment_of(e) for e in EVENTS if e.session_id == id), reverse=True
    )
    assert sum(node["events"] for node in found) == sum(event.session_id != "" for event in EVENTS)


async def test_a_cursor_of_another_list_is_no_place_among_sessions(answers: Answers, caller: Caller) -> None:
    page = (await answers.data(caller, LIST, first=1))["tenant"]["events"]
    code, _ = await answers.refusal(caller, SESSIONS, q={"range": RANGE}, first=1, after=page["pageInfo"]["endCursor"])
    assert code == "invalid_cursor"


async def test_another_tenant_sees_nothing_of_any_of_it(
    answers: Answers, settings: Settings, database: Database, caller: Caller
) -> None:
    other = await stored(settings, "events-other", [])
    key, _ = await make_key(database, settings, other)
    stranger = KnownKey(key, (), 0).caller()
    question = {"range": RANGE, "includeBots": True}
    assert (await answers.data(stranger, PATHS, q=question))["paths"] == {"total": 0, "nodes": [], "links": []}
    assert await all_pages(answers, stranger, SESSIONS, "visitorSessions", 4, q=question) == []
    found = await answers.data(
        stranger, '{ tenant { eventProperties { eventsRead } topValues(field: "type") { eventsRead } } }'
    )
    assert found["tenant"] == {"eventProperties": {"eventsRead": 0}, "topValues": {"eventsRead": 0}}
    assert (await answers.data(caller, PATHS, q=question))["paths"]["total"] > 0


@pytest.mark.parametrize(
    ("query", "fields", "code"),
    [
        (PATHS, {"depth": 9}, "bad_depth"),
        (PATHS, {"direction": "BOTH"}, "bad_anchor"),
        (PATHS, {"stepBy": "weather"}, "unknown_dimension"),
        (PATHS, {"range": {"last": "forever"}}, "bad_range"),
        (SESSIONS, {"having": {"types": []}}, "bad_filter"),
        (SESSIONS, {"timezone": "Mars/Base"}, "unknown_timezone"),
    ],
)
async def test_a_question_that_cannot_be_is_refused_unread(
    answers: Answers, caller: Caller, query: str, fields: dict[str, Any], code: str
) -> None:
    assert (await answers.refusal(caller, query, q={"range": RANGE, **fields}))[0] == code
    assert answers.statements == 0
