"""What is found of properties and values is what a naive count over the same events finds."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from core.database import Database
from core.errors import BadInput
from core.events import EnrichedEvent
from core.settings import Settings
from core.tenancy import Tenant
from query import discovery
from query.discovery import DiscoveryQuestion, check_discovery, list_properties, top_values
from query.narrowing import Range
from query.planner import Source
from tests.pipeline.builders import enriched
from tests.query.journeys import START, in_order, moment_of, raw_of, stored

ON_BOTH_STORES = True
RANGE = Range(from_=START, to=START + timedelta(days=1))
VALUES: list[Any] = [1, 1.5, "1", "free", "Free plan", "", True, None, [1, {"in": 2}], {}, {"b": 1}, {"b": {"c": "x"}}]


def make_events(seed: int, count: int) -> list[EnrichedEvent]:
    chance = random.Random(seed)
    return [
        enriched(
            id=uuid4().bytes, type=chance.choice(["page_view", "signup"]),
            timestamp_ms=round((START + timedelta(seconds=chance.randrange(80_000))).timestamp() * 1000),
            country=chance.choice(["", "DE", "NL", "GB"]), page_path=chance.choice(["/Home", "/home/x", "/shop"]),
            properties=json.dumps({
                name: chance.choice(VALUES) for name in ("plan", "cart", "a.b", "größe", "x" * 300)
                if chance.random() < 0.6
            }).encode(),
        )
        for _ in range(count)
    ]  # fmt: skip


EVENTS = make_events(31, 700)


@pytest.fixture(scope="module")
async def tenant(settings: Settings) -> Tenant:
    return await stored(settings, "discovery", EVENTS)


def json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "BOOLEAN"
    names = {int: "NUMBER", float: "NUMBER", str: "STRING", list: "ARRAY", dict: "OBJECT", type(None): "NULL"}
    return names[type(value)]


def walked(found: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str]]:
    ways = []
    for key, value in found.items():
        ways.append(((*path, key), json_type(value)))
        if isinstance(value, dict):
            ways += walked(value, (*path, key))
    return ways


@pytest.mark.parametrize("types", [None, ("signup",), ("none",)])
@pytest.mark.parametrize("search", ["", "PLAN", "b", "."])
async def test_properties_are_those_that_events_have(
    settings: Settings, database: Database, tenant: Tenant, types: tuple[str, ...] | None, search: str
) -> None:
    question = DiscoveryQuestion(range=RANGE, types=types, search=search)
    found = await list_properties(raw_of(settings, database), tenant, question)
    events = [event for event in EVENTS if types is None or event.type in types]
    wanted: Counter[tuple[tuple[str, ...], str]] = Counter()
    for event in events:
        wanted.update(walked(json.loads(event.properties)))
    wanted = Counter({(p, t): n for (p, t), n in wanted.items() if search.lower() in ".".join(p).lower()})
    assert found.events_read == len(events)
    assert found.oldest == min(map(moment_of, events), default=None)
    # A name with a point in it and one within an object look alike, so they are counted by both.
    got = Counter[tuple[str, str]]()
    for each in found.properties:
        got.update({(each.name, t.type.value): t.count for t in each.types})
        assert each.count == sum(t.count for t in each.types) and each.share == each.count / len(events)
    expected = Counter[tuple[str, str]]()
    for (path, kind), count in wanted.items():
        expected["properties." + ".".join(path), kind] += count
    assert got == expected
    assert [p.count for p in found.properties] == sorted((p.count for p in found.properties), reverse=True)


async def test_a_property_that_no_condition_can_name_says_so(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    found = await list_properties(raw_of(settings, database), tenant, DiscoveryQuestion(range=RANGE))
    sayable = {each.name: each.is_filterable for each in found.properties}
    assert sayable["properties.plan"] and sayable["properties.cart.b.c"] and sayable["properties.größe"]
    assert not sayable["properties.a.b"] or sum(p.name == "properties.a.b" for p in found.properties) == 2
    assert not sayable["properties." + "x" * 300]


def text_of(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float, str)) else ""


@pytest.mark.parametrize("search", ["", "FREE", "1", "%"])
async def test_values_of_a_property_are_ranked(
    settings: Settings, database: Database, tenant: Tenant, search: str
) -> None:
    question = DiscoveryQuestion(range=RANGE, search=search, first=3)
    found = await top_values(raw_of(settings, database), tenant, "properties.plan", question)
    counts = Counter(text_of(json.loads(event.properties).get("plan")) for event in EVENTS)
    wanted = sorted(
        ((text, n) for text, n in counts.items() if text and search.lower() in text.lower()),
        key=lambda pair: (-pair[1], pair[0]),
    )
    assert [(each.value, each.count) for each in found.values] == wanted[:3]
    assert (found.events_read, found.source) == (len(EVENTS), Source.RAW)
    assert all(each.share == each.count / len(EVENTS) for each in found.values)


@pytest.mark.parametrize("field", ["country", "page_path", "type"])
@pytest.mark.parametrize("types", [None, ("signup",)])
@pytest.mark.parametrize("search", ["", "HO"])
async def test_values_of_a_dimension_are_counted_in_rollups(
    settings: Settings, database: Database, tenant: Tenant, field: str, types: tuple[str, ...] | None, search: str
) -> None:
    question = DiscoveryQuestion(range=RANGE, types=types, search=search)
    found = await top_values(raw_of(settings, database), tenant, field, question)
    events = [event for event in EVENTS if types is None or event.type in types]
    counts = Counter(str(getattr(event, field)) for event in events)
    wanted = sorted(
        ((text, n) for text, n in counts.items() if text and search.lower() in text.lower()),
        key=lambda pair: (-pair[1], pair[0]),
    )
    assert [(each.value, each.count) for each in found.values] == wanted
    assert (found.events_read, found.source) == (len(events), Source.ROLLUP_1H)


async def test_a_sample_is_of_the_newest_events_and_says_how_many(
    settings: Settings, database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "MAX_SCANNED", 200)
    monkeypatch.setattr(discovery, "MAX_SAMPLED", 50)
    raw, newest = raw_of(settings, database), in_order(EVENTS)[::-1]
    signups = [event for event in newest[:200] if event.type == "signup"][:50]
    question = DiscoveryQuestion(range=RANGE, types=("signup",))
    for found in (
        await list_properties(raw, tenant, question),
        await top_values(raw, tenant, "properties.plan", question),
    ):
        assert (found.events_read, found.oldest) == (50, moment_of(signups[-1]))
    monkeypatch.setattr(discovery, "MAX_SAMPLED_BYTES", 2_000)
    assert 0 < (await list_properties(raw, tenant, question)).events_read < 50


async def test_where_nothing_happened_there_is_nothing_to_ask_for(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    raw, now = raw_of(settings, database), datetime(2027, 1, 1, tzinfo=UTC)
    question = DiscoveryQuestion(range=Range(from_=now, to=now + timedelta(days=1)))
    assert (await list_properties(raw, tenant, question)).properties == ()
    assert (await top_values(raw, tenant, "properties.plan", question)).values == ()
    assert (await top_values(raw, tenant, "country", question)).values == ()


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"first": 0}, "page_size", "first"),
    ({"first": 101}, "page_size", "first"),
    ({"search": "\0"}, "bad_filter", "search"),
    ({"search": "x" * 1025}, "bad_filter", "search"),
    ({"types": ()}, "bad_filter", "types"),
    ({"types": ("\ud800",)}, "bad_filter", "types"),
]


@pytest.mark.parametrize(("fields", "code", "field"), BAD)
def test_a_question_that_is_none_is_refused_with_a_remedy(fields: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_discovery(DiscoveryQuestion(**fields))
    assert (refused.value.code, refused.value.field) == (code, field)


async def test_values_of_what_is_no_field_are_refused(settings: Settings, database: Database, tenant: Tenant) -> None:
    for name, code in (("weather", "unknown_dimension"), ("properties.", "bad_property")):
        with pytest.raises(BadInput) as refused:
            await top_values(raw_of(settings, database), tenant, name, DiscoveryQuestion())
        assert (refused.value.code, refused.value.field) == (code, "field")
