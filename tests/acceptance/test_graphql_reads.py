"""Reading and writing over GraphQL, as a front-end developer does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.conftest import Instance

pytestmark = pytest.mark.slow
ON_BOTH_STORES = True

INGEST = """mutation($input: IngestEventsInput!) { ingestEvents(input: $input) {
  __typename
  ... on IngestEventsPayload { accepted requestId results { index id status code field message } }
  ... on Error { code message path }
} }"""
EVENTS = """query($filter: EventFilter, $first: Int, $after: String) { tenant { events(filter: $filter, first: $first,
  after: $after) { edges { cursor node { id type timestamp userId properties context pagePath } }
  pageInfo { hasNextPage endCursor } } } }"""


def ask(instance: Instance, query: str, *, key: str = "", **variables: Any) -> dict[str, Any]:
    answer = httpx2.post(
        f"{instance.url}/graphql",
        json={"query": query, "variables": variables},
        headers={"Authorization": f"Bearer {key or instance.secret_key}"},
        timeout=20,
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def data(instance: Instance, query: str, **variables: Any) -> Any:
    found = ask(instance, query, **variables)
    assert "errors" not in found, found
    return found["data"]


@pytest.fixture(scope="module")
def session(instance: Instance) -> str:
    """25 events of one session, a second apart, the odd ones of a user; counted."""
    session = str(uuid4())
    start = datetime.now(UTC) - timedelta(minutes=30)
    events = [
        {
            "type": "step" if n % 5 else "page_view",
            "timestamp": (start + timedelta(seconds=n)).isoformat(),
            "sessionId": session,
            "userId": "ada" if n % 2 else None,
            "properties": {"n": n, "nested": {"list": [1, "two", None]}},
            "context": {"userAgent": "", "pageUrl": f"https://shop.example/p{n}?x=1", "ip": "203.0.113.7"},
        }
        for n in range(25)
    ]
    receipt = data(instance, INGEST, input={"events": events})["ingestEvents"]
    assert receipt["accepted"] == 25
    for _ in range(100):
        if len(page(instance, session, first=100)["edges"]) == 25:
            break
    return session


def page(instance: Instance, session: str, **arguments: Any) -> Any:
    where = {"sessionId": session, **arguments.pop("filter", {})}
    return data(instance, EVENTS, filter=where, **arguments)["tenant"]["events"]


def test_events_come_newest_first_page_by_page_without_hole_or_repeat(instance: Instance, session: str) -> None:
    seen, after = [], None
    for _ in range(4):
        found = page(instance, session, first=7, after=after)
        seen += [edge["node"]["properties"]["n"] for edge in found["edges"]]
        after = found["pageInfo"]["endCursor"]
        if not found["pageInfo"]["hasNextPage"]:
            break
    assert seen == list(reversed(range(25)))


def test_events_are_filtered(instance: Instance, session: str) -> None:
    steps = page(instance, session, first=100, filter={"types": ["page_view"]})["edges"]
    assert [edge["node"]["properties"]["n"] for edge in steps] == [20, 15, 10, 5, 0]
    assert len(page(instance, session, first=100, filter={"userId": "ada"})["edges"]) == 12


def test_an_event_tells_what_was_sent_and_what_was_found(instance: Instance, session: str) -> None:
    node = page(instance, session, first=1)["edges"][0]["node"]
    assert node["properties"] == {"n": 24, "nested": {"list": [1, "two", None]}}
    assert node["pagePath"] == "/p24" and node["context"]["ip"] == "203.0.113.0"
    assert "203.0.113.7" not in str(node)


def test_nodes_come_back_by_id_in_the_order_asked_and_strangers_as_null(instance: Instance, session: str) -> None:
    ids = [edge["node"]["id"] for edge in page(instance, session, first=3)["edges"]]
    tenant = data(instance, "{ tenant { id } }")["tenant"]["id"]
    metric = data(instance, '{ tenant { metric(key: "events") { id } } }')["tenant"]["metric"]["id"]
    asked = [ids[2], "bm9uc2Vuc2U", tenant, ids[0], metric, "", "VGVuYW50OjEyMw"]
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"
    found = data(instance, query, ids=asked)["nodes"]
    assert [node and node["__typename"] for node in found] == ["Event", None, "Tenant", "Event", "Metric", None, None]
    assert [node and node["id"] for node in found] == [ids[2], None, tenant, ids[0], metric, None, None]
    one = data(instance, "query($id: ID!) { node(id: $id) { ... on Event { type } } }", id=ids[0])
    assert one["node"]["type"] == "step"


def test_another_tenants_events_are_not_there_by_list_or_by_id(instance: Instance, session: str) -> None:
    instance.cli("tenant", "create", "nosy")
    made = instance.cli("key", "create", "--tenant", "nosy", "--scope", "metrics:read", "--unsigned").stdout.split()
    event = page(instance, session, first=1)["edges"][0]["node"]["id"]
    found = ask(instance, "query($id: ID!) { node(id: $id) { id } }", key=made[4], id=event)
    assert found["data"]["node"] is None
    listed = ask(instance, EVENTS, key=made[4], filter={"sessionId": session})
    assert listed["data"]["tenant"]["events"]["edges"] == []
    cursor = page(instance, session, first=1)["pageInfo"]["endCursor"]
    refused = ask(instance, EVENTS, key=made[4], after=cursor)
    assert refused["errors"][0]["extensions"]["code"] == "INVALID_CURSOR"


def test_a_key_reads_and_writes_as_its_scopes_say(instance: Instance) -> None:
    def key(scope: str) -> str:
        return instance.cli("key", "create", "--scope", scope, "--unsigned").stdout.split()[4]

    writer, reader = key("events:write"), key("metrics:read")
    series = '{ series(query: {metric: "events", range: {last: "1h"}}) { columns } }'
    assert ask(instance, series, key=writer)["errors"][0]["extensions"]["code"] == "PERMISSION_DENIED"
    assert "errors" not in ask(instance, series, key=reader)
    refused = ask(instance, INGEST, key=reader, input={"events": [{"type": "a"}]})["data"]["ingestEvents"]
    assert (refused["__typename"], refused["code"]) == ("PermissionDenied", "PERMISSION_DENIED")
    assert ask(instance, INGEST, key=writer, input={"events": [{"type": "a"}]})["data"]["ingestEvents"]["accepted"] == 1


def test_ingest_by_mutation_answers_as_the_rest_shim_does(instance: Instance) -> None:
    same = {"type": "a", "id": str(uuid4())}
    events = [same, same, {"type": ""}, {"type": "b", "properties": {"x": "y" * 9000}}]
    payload = data(instance, INGEST, input={"events": events})["ingestEvents"]
    assert [r["status"] for r in payload["results"]] == ["ACCEPTED", "DUPLICATE", "REJECTED", "REJECTED"]
    assert payload["results"][3]["field"] == "properties.x" and payload["results"][3]["code"] == "limit_exceeded"
    dry = data(instance, INGEST, input={"events": [{"type": "dry"}], "dryRun": True})["ingestEvents"]
    assert dry["accepted"] == 1
    for bad in ([], [{"type": "a"}] * 101):
        found = ask(instance, INGEST, input={"events": bad})
        assert "errors" in found or found["data"]["ingestEvents"]["__typename"] == "ValidationError"


def test_a_breakdown_ranks_and_shares(instance: Instance, session: str) -> None:
    query = """{ breakdown(query: {metric: "events", range: {last: "2h"}, groupBy: ["page_path"], limit: 3,
      filters: [{dimension: "page_path", op: PREFIX, values: ["/p"]}]}) { total rows { labels { value } value share } }
      }"""
    found = data(instance, query)["breakdown"]
    assert [row["value"] for row in found["rows"]] == [1, 1, 1, 22]
    assert found["rows"][-1]["labels"] == [{"value": "__other__"}]
    assert found["total"] == 25 and sum(row["share"] for row in found["rows"]) == pytest.approx(1)


def test_typed_points_and_columns_say_the_same(instance: Instance, session: str) -> None:
    query = """query($q: MetricQuery!) { series(query: $q) { columns timestamps from to interval isComplete freshUntil
      rowsRead tookMs warnings { code message } series { labels { name value } values total } } }"""
    question = {"metric": "events", "range": {"last": "2h"}, "interval": "HOUR", "groupBy": ["type"], "limit": None}
    found = data(instance, query, q=question)["series"]
    columns = found["columns"]
    assert [series["values"] for series in found["series"]] == [series["values"] for series in columns["series"]]
    assert {s["labels"]["type"]: s["total"] for s in columns["series"]}["step"] == 20
    assert found["timestamps"][0] == found["from"]
    assert datetime.fromisoformat(found["from"]).timestamp() * 1000 == columns["timestamps"][0]


def test_the_viewer_the_tenant_and_its_metrics(instance: Instance, session: str) -> None:
    query = """{ viewer { actor kind role scopes permissions tenant { slug } rateLimit { limit remaining } }
      tenant { slug name tier createdAt limits { eventsPerMonth } usage { accepted }
        metrics(first: 3, search: "event") { totalCount edges { node { key kind unit description version } } }
        metric(key: "visitors") { kind } missing: metric(key: "nope") { kind } } }"""
    found = data(instance, query)
    assert found["viewer"]["actor"] == instance.secret_key_id
    assert found["viewer"]["scopes"] == ["admin", "events:write", "metrics:read"]
    assert (found["viewer"]["kind"], found["viewer"]["role"]) == ("KEY", None)
    assert {"audit:read", "keys:write"} < set(found["viewer"]["permissions"])
    assert found["tenant"]["tier"] == "SELF_HOSTED" and found["tenant"]["limits"]["eventsPerMonth"] is None
    assert found["tenant"]["usage"]["accepted"] >= 25
    assert [edge["node"]["key"] for edge in found["tenant"]["metrics"]["edges"]] == [
        "bot_events",
        "events",
        "ingest_accepted",
    ]
    assert found["tenant"]["metric"]["kind"] == "UNIQUE" and found["tenant"]["missing"] is None


def test_the_sdl_is_served(instance: Instance) -> None:
    answer = httpx2.get(f"{instance.url}/schema.graphql")
    assert answer.status_code == 200 and "type Query" in answer.text


def test_a_page_may_send_from_its_origin(instance: Instance) -> None:
    made = instance.cli("key", "create", "--kind", "publishable", "--origin", "https://shop.example").stdout.split()
    page_headers = {"Origin": "https://shop.example"}
    preflight = httpx2.options(
        f"{instance.url}/v1/events", headers={**page_headers, "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 204
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    sent = httpx2.post(
        f"{instance.url}/v1/events",
        json={"events": [{"type": "a"}]},
        headers={**page_headers, "Authorization": f"Bearer {made[4]}"},
    )
    assert sent.status_code == 202
    assert sent.headers["access-control-allow-origin"] == "https://shop.example"
    assert "RateLimit-Remaining" in sent.headers["access-control-expose-headers"]
    assert int(sent.headers["ratelimit-remaining"]) < int(sent.headers["ratelimit-limit"])
