"""The GraphQL rows of the threat table as data: G1 to G22 and G24. What no request alone can show is in
tests/web/test_graphql_operation.py: G12 of share links, G14, G21, G23."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.attacks.attack import Attack, asking

SERIES = "query($q: MetricQuery!) { series(query: $q) { columns } }"
EVENTS = "query($f: EventFilter, $n: Int, $a: String) { tenant { events(filter: $f, first: $n, after: $a) { edges { cursor } } } }"
NODE = "query($id: ID!) { node(id: $id) { id } }"
REPLAY = "mutation($id: ID!) { replayDeadLetter(input: {id: $id}) { __typename ... on Error { code message path } } }"
DROP = REPLAY.replace("replay", "drop")
INGEST = "mutation($e: [EventInput!]!) { ingestEvents(input: {events: $e, dryRun: true}) { __typename ... on Error { code } } }"
LITERAL = 'mutation {{ ingestEvents(input: {{events: [{{type: "a", properties: {{a: {} }}}}], dryRun: true}}) {{ __typename }} }}'
FIRST = "{{ tenant {{ events(first: {}) {{ edges {{ cursor }} }} }} }}"
MB = 1024 * 1024


def nested(depth: int) -> str:
    return "{" + "a{" * (depth - 1) + "a" + "}" * depth


def doubling(count: int) -> str:
    chain = " ".join(f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(count - 1))
    return f"{{ ...f0 }} {chain} fragment f{count - 1} on Query {{ viewer {{ actor }} }}"


def series(**question: Any) -> bytes:
    return asking(SERIES, q={"metric": "events", "range": {"last": "1h"}, **question})


def global_id(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def introspecting(depth: int) -> str:
    return "{ __schema { types { " + "fields { type { " * depth + "name" + " } }" * depth + " } } }"


OVERLAPPING = "{ tenant {" + "... on Tenant { metrics(first: 1) { edges { node { key kind } } } }" * 45 + "} }"
CONFLICTING = "{ tenant {" + "".join(f'm: metric(key: "{n}") {{ key }} ' for n in range(15)) + "} }"
WIDE = "{ tenant {" + "slug " * 980 + "} }"
UNKNOWN = "{" + " ".join(f"a{n}" for n in range(990)) + "}"
STRANGE_IDS = {
    "malformed": "%%%",
    "empty": "",
    "minus one": "-1",
    "of a wrong type": global_id("Metric:events"),
    "of another tenant": global_id("Tenant:019b0000-0000-7000-8000-000000000000"),
    "of an event that is not there": global_id("Event:1:019b0000-0000-7000-8000-000000000000"),
    "of no kind": global_id("Nothing:1"),
    "with SQL": global_id("Event:1' OR 1=1 --:x"),
    "of a time beyond all": global_id("Event:99999999999999999999:019b0000-0000-7000-8000-000000000000"),
    "with NUL": global_id("DeadLetter:a\0b|t|0|1"),
    "of 10 kB": "A" * 10_000,
}

DOCUMENTS = [
    Attack("G1", "depth 9", asking(nested(9)), "DEPTH_LIMIT"),
    Attack("G1", "depth 200", asking(nested(200)), "DEPTH_LIMIT"),
    Attack("G1", "depth 2000", asking(nested(2000)), "DEPTH_LIMIT"),
    Attack("G1", "depth hidden in inline fragments", asking("{" + "...{" * 60 + "viewer{actor}" + "}" * 61), "DEPTH_LIMIT"),
    Attack("G2", "fragments in a circle", asking("{...a} fragment a on Query {...b} fragment b on Query {...a}"), "GRAPHQL_VALIDATION_FAILED"),
    Attack("G2", "fragment that spreads itself", asking("{...a} fragment a on Query {...a}"), "GRAPHQL_VALIDATION_FAILED"),
    Attack("G2", "fragment that is not there", asking("{...nope}"), "GRAPHQL_VALIDATION_FAILED", lacks="KeyError"),
    Attack("G3", "doubling fragments, 20", asking(doubling(20)), "COMPLEXITY_LIMIT"),
    Attack("G3", "doubling fragments, 25", asking(doubling(25)), "FRAGMENT_LIMIT"),
    Attack("G3", "doubling fragments, 30", asking(doubling(30)), "FRAGMENT_LIMIT"),
    Attack("G4", "16 aliases", asking("{" + " ".join(f"a{n}: __typename" for n in range(16)) + "}"), "ALIAS_LIMIT"),
    Attack("G4", "aliases in a fragment that is spread 4 times", asking("{...f ...f ...f ...f} fragment f on Query {a: viewer{b: actor} c: viewer{d: actor}}"), "ALIAS_LIMIT"),
    Attack("G5", "100 times @include", asking("{ __typename " + "@include(if: true) " * 100 + "}"), "DIRECTIVE_LIMIT"),
    Attack("G5", "1000 times @include", asking("{ __typename " + "@include(if: true) " * 1000 + "}"), "TOKEN_LIMIT"),
    Attack("G5", "5000 unknown directives", asking("{ __typename " + "@a " * 5000 + "}"), "TOKEN_LIMIT"),
    Attack("G6", "the same field 3000 times", asking("{" + "__typename " * 3000 + "}"), "TOKEN_LIMIT"),
    Attack("G6", "45 overlapping inline fragments", asking(OVERLAPPING), None),
    Attack("G6", "60 overlapping inline fragments", asking(OVERLAPPING.replace("{ tenant {", "{ tenant {" + "...on Tenant{slug}" * 15)), "TOKEN_LIMIT"),
    Attack("G6", "conflicting fields", asking(CONFLICTING), "GRAPHQL_VALIDATION_FAILED"),
    Attack("G6", "the same field 980 times", asking(WIDE), "REPEAT_LIMIT"),
    Attack("G6", "80 fields with what is below them", asking("{" + "viewer {tenant {slug}} " * 80 + "}"), None),
    Attack("G6", "the same field 840 times in places that merge", asking("{" + f"tenant {{ {'slug ' * 28} }}" * 30 + "}"), "REPEAT_LIMIT"),
    Attack("G6", "six fields 80 times each", asking("{ tenant {" + " ".join(f"{name} " * 80 for name in ("id", "slug", "name", "tier", "createdAt", "__typename")) + "} }"), None),
    Attack("G6", "990 unknown fields", asking(UNKNOWN), "GRAPHQL_VALIDATION_FAILED"),
    Attack("G7", "1001 tokens", asking("{" + "a " * 999 + "}"), "TOKEN_LIMIT"),
    Attack("G7", "document of 70,000 characters", asking("{" + "n" * 70_000 + "}"), "LENGTH_LIMIT"),
    Attack("G7", "document of 257 KiB", asking("{" + "n" * 257 * 1024 + "}"), "BODY_TOO_LARGE", 413),
    Attack("G7", "literal of 5000 digits", asking(LITERAL.format("9" * 5000)), "GRAPHQL_VALIDATION_FAILED"),
    Attack("G8", "variables of 10 MB", asking(NODE, id="x" * 10 * MB), "BODY_TOO_LARGE", 413),
    Attack("G8", "variables 100 levels deep", b'{"query": "{__typename}", "variables": {"a": ' + b"[" * 100 + b"]" * 100 + b"}}", "INPUT_LIMIT"),
    Attack("G8", "a list of a million ids", asking("query($i: [ID!]!) {nodes(ids: $i) {id}}", i=["x"] * 1_000_000), "BODY_TOO_LARGE", 413),
    Attack("G8", "a list of 101 ids", asking("query($i: [ID!]!) {nodes(ids: $i) {id}}", i=["x"] * 101), "INPUT_LIMIT"),
    Attack("G8", "20,000 small values", asking("{__typename}", a={f"k{n}": {f"k{m}": m for m in range(200)} for n in range(100)}), "INPUT_LIMIT"),
    Attack("G9", "batching", b'[{"query": "{__typename}"}]', "BATCHING_DISABLED", 400),
    Attack("G9", "11 operations", asking(" ".join(f"query q{n} {{__typename}}" for n in range(11)), "q1"), "OPERATION_LIMIT"),
    Attack("G9", "1000 operations", asking(" ".join(f"query q{n} {{__typename}}" for n in range(1000)), "q1"), "TOKEN_LIMIT"),
    Attack("G9", "operationName absent", asking("query a {__typename} query b {__typename}"), "GRAPHQL_VALIDATION_FAILED"),
    Attack("G9", "operationName of none", asking("query a {__typename} query b {__typename}", "c"), "GRAPHQL_VALIDATION_FAILED"),
    Attack("G9", "operationName an object", b'{"query": "{__typename}", "operationName": {}}', "BAD_REQUEST", 400),
]  # fmt: skip

REQUESTS = [
    *(Attack("G10", f"body {body[:24].decode(errors='replace')}", body, "BAD_REQUEST", 400)
      for body in (b"", b"1", b"null", b'"x"', b"{}", b'{"query":1}', b'{"query":null}', b'{"query":"{__typename}","variables":[]}',
                   b'{"query":"{__typename}","extensions":5}', b"[" * 100_000, b"9" * 5000, b'{"query":"\xff"}',
                   b'{"query":"{__typename}","variables":{"a":NaN}}')),
    Attack("G11", "query by GET", b"", "METHOD_NOT_ALLOWED", 405, "GET"),
    Attack("G11", "by PUT", asking("{__typename}"), "METHOD_NOT_ALLOWED", 405, "PUT"),
    *(Attack("G11", f"as {media}", body, "UNSUPPORTED_MEDIA_TYPE", 415, headers={"Content-Type": media})
      for media, body in (("text/plain", asking("{__typename}")), ("application/x-www-form-urlencoded", b"query={__typename}"),
                          ("multipart/form-data; boundary=x", b"--x--"), ("application/graphql", b"{__typename}"),
                          ("application/json; charset=utf-16", asking("{__typename}")))),
    Attack("G12", "introspection 30 levels deep", asking(introspecting(15)), "DEPTH_LIMIT"),
    Attack("G12", "introspection in a fragment, deep", asking("{...f} fragment f on Query {" + introspecting(15)[1:]), "DEPTH_LIMIT"),
    Attack("G13", "misspelt field", asking("{ tenannt { slug } }"), "GRAPHQL_VALIDATION_FAILED"),
    Attack("G13", "misspelt argument", asking('{ tenant { metric(kee: "a") { key } } }'), "GRAPHQL_VALIDATION_FAILED"),
    Attack("G13", "misspelt type", asking("query($q: MetricQuary!) { series(query: $q) { columns } }"), "GRAPHQL_VALIDATION_FAILED"),
    Attack("G13", "misspelt fragment type", asking("{ tenant { ... on Tenent { slug } } }"), "GRAPHQL_VALIDATION_FAILED"),
    Attack("G13", "misspelt enum literal", asking('{series(query: {metric: "events", range: {last: "1h"}, interval: MINUT}) {source}}'), "GRAPHQL_VALIDATION_FAILED"),
    Attack("G13", "misspelt enum variable", series(interval="MINUT"), "BAD_USER_INPUT"),
    Attack("G13", "misspelt input field", series(metrik="x"), "BAD_USER_INPUT"),
    Attack("G15", "1e999 as a literal", asking(LITERAL.format("1e999")), "GRAPHQL_VALIDATION_FAILED"),
    Attack("G15", "1e999 in variables", b'{"query":"{__typename}","variables":{"a":1e999}}', "BAD_REQUEST", 400),
    Attack("G15", "2^31 as a page's size", asking(EVENTS, n=2**31), "PAGE_SIZE"),
    Attack("G15", "2^31 as a limit", series(limit=2**31), "BAD_USER_INPUT"),
    Attack("G15", "percentile 1e308", series(metric="request_duration", percentiles=[1e308]), "BAD_PERCENTILES"),
    *(Attack("G16", f"first: {size}", asking(FIRST.format(size)), "PAGE_SIZE") for size in (0, -1, 101, 10**9, 10**30)),
    *(Attack("G16", f"first: {size!r} in a variable", asking(EVENTS, n=size), "PAGE_SIZE") for size in (0, -1, 101, "5", 1.5, True and 10**9)),
    Attack("G16", "lists in lists beyond the cost", asking("{ tenant { events(first: 100) { edges { node { " + "".join(f"p{n}: properties " for n in range(10)) + "} } } metrics(first: 100) {" + "edges { node { id } }" * 49 + "} } }"), "COMPLEXITY_LIMIT"),
]  # fmt: skip

VALUES = [
    *(Attack("G17", f"cursor {name}", asking(EVENTS, a=cursor), "INVALID_CURSOR")
      for name, cursor in (("made up", "abc"), ("empty", ""), ("of 10 kB", "A" * 10_000), ("no base64", "ü%"), ("with NUL", "\0"),
                           ("of a place unsigned", base64.b64encode(b"2026-01-01T00:00:00|x").decode()))),
    Attack("G18", "100 years by the minute", series(range={"from": "1930-01-01T00:00:00Z", "to": "2030-01-01T00:00:00Z"}, interval="MINUTE"), "BAD_RANGE"),
    Attack("G18", "20 years by the minute", series(range={"from": "2006-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, interval="MINUTE"), "RANGE_TOO_LARGE"),
    Attack("G18", "end before start", series(range={"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}), "BAD_RANGE"),
    Attack("G18", "last: a million weeks", series(range={"last": "1000000w"}), "BAD_RANGE"),
    Attack("G18", "last: 5000 digits", series(range={"last": "9" * 5000 + "h"}), "BAD_RANGE"),
    *(Attack("G18", f"zone {zone[:20]!r}", series(timezone=zone), "UNKNOWN_TIMEZONE")
      for zone in ("Mars/Base", "../../etc/passwd", "localtime", "a\0b", "Z" * 10_000)),
    *(Attack("G19", f"node {name}", asking(NODE, id=id), None, holds='{"data":{"node":null}') for name, id in STRANGE_IDS.items() if name != "of a wrong type"),
    *(Attack("G19", f"{verb} {name}", asking(text, id=id), "NOT_FOUND", holds="There is no DeadLetter with that id.")
      for verb, text in (("replay", REPLAY), ("drop", DROP)) for name, id in STRANGE_IDS.items()),
    Attack("G20", "a reader replays", asking(REPLAY, id="x"), "PERMISSION_DENIED", caller="metrics:read"),
    Attack("G20", "a reader drops", asking(DROP, id="x"), "PERMISSION_DENIED", caller="metrics:read"),
    Attack("G20", "a reader sends events", asking(INGEST, e=[{"type": "a"}]), "PERMISSION_DENIED", caller="metrics:read"),
    Attack("G20", "a sender reads", series(), "PERMISSION_DENIED", caller="events:write"),
    Attack("G20", "a sender reads dead letters", asking("{viewer {tenant {deadLetters {edges {cursor}}}}}"), "PERMISSION_DENIED", caller="events:write"),
    Attack("G20", "a reader reads dead letters", asking("{viewer {tenant {deadLetters {edges {cursor}}}}}"), "PERMISSION_DENIED", caller="metrics:read"),
    Attack("G22", "SQL as a metric", series(metric="events'; DROP TABLE events; --"), "UNKNOWN_METRIC"),
    Attack("G22", "SQL as a group", series(groupBy=["country'); DELETE FROM events; --"]), "UNKNOWN_DIMENSION"),
    Attack("G22", "SQL as a dimension", series(filters=[{"dimension": "1=1 OR type", "op": "EQ", "values": ["a"]}]), "UNKNOWN_DIMENSION"),
    Attack("G22", "SQL as an operator", series(filters=[{"dimension": "type", "op": "= '' OR 1=1 --", "values": ["a"]}]), "BAD_USER_INPUT"),
    Attack("G22", "SQL as a value is a value", series(filters=[{"dimension": "type", "op": "EQ", "values": ["' OR '1'='1"]}]), None),
    Attack("G22", "SQL as a type of events is a type", asking(EVENTS, f={"types": ["' OR '1'='1"]}), None, holds='"edges":[]'),
    Attack("G22", "wildcards in a filter are text", series(filters=[{"dimension": "type", "op": "CONTAINS", "values": ["%_%"]}]), None, holds='"total":0'),
    Attack("G24", "hash that is not the document's", json.dumps({"query": "{__typename}", "extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}}).encode(), "PERSISTED_QUERY_MISMATCH"),
    Attack("G24", "hash of nothing", json.dumps({"documentId": "sha256:" + "0" * 64}).encode(), "PERSISTED_QUERY_NOT_SUPPORTED"),
    Attack("G24", "hash of 10 kB", json.dumps({"documentId": "sha256:" + "0" * 10_000}).encode(), "BAD_REQUEST", 400),
    Attack("G24", "hash that is a path", json.dumps({"documentId": "../../etc/passwd"}).encode(), "BAD_REQUEST", 400),
    Attack("G24", "persistedQuery a list", json.dumps({"extensions": {"persistedQuery": []}}).encode(), "BAD_REQUEST", 400),
]  # fmt: skip

ATTACKS = [*DOCUMENTS, *REQUESTS, *VALUES]
