"""Every refusal is a JSON error with code, message and request id; never a 5xx, never a traceback."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import time
from typing import Any

import httpx2
import pytest
import zstandard

from tests.conftest import Instance

pytestmark = pytest.mark.slow
GOOD = {"events": [{"type": "ping", "context": {"user_agent": ""}}]}


def send(instance: Instance, body: bytes, **headers: str) -> httpx2.Response:
    base = {"Authorization": f"Bearer {instance.publishable_key}", "Content-Type": "application/json"}
    wanted = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.post(f"{instance.url}/v1/events", content=body, headers={**base, **wanted}, timeout=20)


def signed(instance: Instance, body: bytes, *, age: int = 0, secret: str | None = None) -> dict[str, str]:
    now = int(time.time()) - age
    text = f"{now}.POST./v1/events.{hashlib.sha256(body).hexdigest()}"
    digest = hmac.digest((secret or instance.secret_key).encode(), text.encode(), "sha256").hex()
    return {"X-CM-Key": instance.secret_key_id, "X-CM-Signature": f"t={now},v1={digest}"}


def is_refused(answer: httpx2.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["message"] and error["request_id"] == answer.headers["x-request-id"]
    if answer.request.url.path == "/v1/events" and status != 405:
        assert {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"} <= answer.headers.keys()


MANY = gzip.compress(b'{"events":[' + b"0," * 2_000_000 + b"0]}")
BOMB = gzip.compress(b'{"events":["' + b" " * 100_000_000 + b'"]}')


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{}", {"Authorization": ""}, 401, "invalid_api_key"),
        (b"{}", {"Authorization": "Bearer nonsense"}, 401, "invalid_api_key"),
        (b"{}", {"Authorization": "Bearer cm_pk_" + "x" * 43}, 401, "invalid_api_key"),
        (b"x" * (1024 * 1024 + 1), {}, 413, "body_too_large"),
        (BOMB, {"Content_Encoding": "gzip"}, 413, "decompressed_too_large"),
        (zstandard.compress(b" " * 50_000_000), {"Content_Encoding": "zstd"}, 413, "decompressed_too_large"),
        (b"nonsense", {"Content_Encoding": "gzip"}, 400, "invalid_encoding"),
        (gzip.compress(b"{}")[:-4], {"Content_Encoding": "gzip"}, 400, "invalid_encoding"),
        (b"{}", {"Content_Encoding": "br"}, 415, "unsupported_encoding"),
        (b"{}", {"Content_Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"", {}, 400, "invalid_json"),
        (b"{", {}, 400, "invalid_json"),
        (b'{"events":[NaN]}', {}, 400, "invalid_json"),
        (b"[" * 10_000, {}, 400, "invalid_body"),
        (b'{"events":' + b"[" * 10_000 + b"]" * 10_000 + b"}", {}, 400, "json_too_deep"),
        (b'{"events":{}}', {}, 400, "invalid_body"),
        (b'{"events":[]}', {}, 422, "empty_batch"),
        (json.dumps({"events": [{"type": "a"}] * 101}).encode(), {}, 413, "batch_too_large"),
        (
            gzip.compress(b'{"events":[' + b"0," * 2_000_000 + b"0]}"),
            {"Content_Encoding": "gzip"},
            413,
            "batch_too_large",
        ),
        (b'{"events":[{"type":"a","user_id":"\\ud800"}]}', {}, 400, "invalid_unicode"),
        (json.dumps({**GOOD, "sent_at": "yesterday"}).encode(), {}, 422, "timestamp_out_of_range"),
    ],
)
def test_a_bad_request_is_refused(instance: Instance, body: bytes, headers: Any, status: int, code: str) -> None:
    is_refused(send(instance, body, **headers), status, code)


def test_a_bad_event_never_takes_the_good_ones_down(instance: Instance) -> None:
    events = [{"type": "ok"}, {"type": "big", "properties": {"x": "y" * 33 * 1024}}, {"type": 5}, {"type": "ok"}]
    answer = send(instance, json.dumps({"events": events}).encode())
    assert answer.status_code == 202
    assert [r["status"] for r in answer.json()["results"]] == ["accepted", "rejected", "rejected", "accepted"]
    assert answer.json()["results"][1]["code"] == "event_too_large"
    assert answer.json()["accepted"] == 2


def test_a_repeat_is_told_a_duplicate_within_and_across_requests(instance: Instance) -> None:
    event = {"type": "once", "id": "0190b6f0-7e5a-7000-8000-2f1d8f6f4a99"}
    body = json.dumps({"events": [event, event]}).encode()
    assert [r["status"] for r in send(instance, body).json()["results"]] == ["accepted", "duplicate"]
    assert [r["status"] for r in send(instance, body).json()["results"]] == ["duplicate", "duplicate"]


def test_a_dry_run_takes_nothing(instance: Instance) -> None:
    body = {"events": [{"type": "dry", "id": "0190b6f0-7e5a-7000-8000-2f1d8f6f4a98"}]}
    url, headers = f"{instance.url}/v1/events?dry_run=true", {"Authorization": f"Bearer {instance.publishable_key}"}
    for _ in range(2):
        answer = httpx2.post(url, json=body, headers=headers).json()
        assert answer["results"][0]["status"] == "accepted"


def test_signed_requests_pass_once_and_not_when_old_or_changed(instance: Instance) -> None:
    body = json.dumps(GOOD).encode()
    url = f"{instance.url}/v1/events"
    json_type = {"Content-Type": "application/json"}
    headers = {**json_type, **signed(instance, body)}
    assert httpx2.post(url, content=body, headers=headers).json()["accepted"] == 1
    replay = httpx2.post(url, content=body, headers=headers)
    assert replay.status_code == 202 and replay.json()["results"][0]["status"] == "duplicate"
    is_refused(httpx2.post(url, content=body + b" ", headers=headers), 401, "invalid_signature")
    old = {**json_type, **signed(instance, body, age=301)}
    is_refused(httpx2.post(url, content=body, headers=old), 401, "timestamp_out_of_window")
    wrong = {**json_type, **signed(instance, body, secret="cm_sk_wrong")}
    is_refused(httpx2.post(url, content=body, headers=wrong), 401, "invalid_signature")


def test_a_secret_key_in_an_address_is_refused_and_a_publishable_one_taken(instance: Instance) -> None:
    refused = httpx2.post(f"{instance.url}/v1/events?key={instance.secret_key}", json=GOOD)
    is_refused(refused, 400, "credentials_in_url")
    assert httpx2.post(f"{instance.url}/v1/events?key={instance.publishable_key}", json=GOOD).status_code == 202


def test_a_revoked_key_is_refused_within_five_seconds(instance: Instance) -> None:
    made = instance.cli("key", "create", "--kind", "publishable", "--origin", "https://shop.example").stdout.split()
    key_id, secret = made[2], made[4]
    auth = {"Authorization": f"Bearer {secret}"}
    assert httpx2.post(f"{instance.url}/v1/events", json=GOOD, headers=auth).status_code == 202
    other_page = {**auth, "Origin": "https://evil.example"}
    is_refused(httpx2.post(f"{instance.url}/v1/events", json=GOOD, headers=other_page), 403, "origin_not_allowed")
    instance.cli("key", "revoke", key_id)
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        answer = httpx2.post(f"{instance.url}/v1/events", json=GOOD, headers=auth)
        if answer.status_code == 401:
            return
        time.sleep(0.2)
    pytest.fail("still taken")


def test_both_secrets_sign_during_a_rotation(instance: Instance) -> None:
    made = instance.cli("key", "create").stdout.split()
    key_id, old = made[2], made[4]
    new = instance.cli("key", "rotate", key_id).stdout.split()[4]
    time.sleep(0.1)
    for secret in (old, new):
        body = json.dumps({"events": [{"type": "rotated", "user_id": secret[-4:]}]}).encode()
        now = int(time.time())
        text = f"{now}.POST./v1/events.{hashlib.sha256(body).hexdigest()}"
        digest = hmac.digest(secret.encode(), text.encode(), "sha256").hex()
        headers = {"X-CM-Key": key_id, "X-CM-Signature": f"t={now},v1={digest}", "Content-Type": "application/json"}
        assert httpx2.post(f"{instance.url}/v1/events", content=body, headers=headers).status_code == 202


def test_a_free_tenant_meets_its_rate_limit_exactly(instance: Instance) -> None:
    instance.cli("tenant", "create", "small", "--tier", "free")
    made = instance.cli("key", "create", "--tenant", "small", "--kind", "publishable", "--origin", "*").stdout.split()
    auth = {"Authorization": f"Bearer {made[4]}"}
    with httpx2.Client() as client:
        answers = [client.post(f"{instance.url}/v1/events?dry_run=1", json=GOOD, headers=auth) for _ in range(120)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert answers[0].headers["ratelimit-limit"] == "100"
    assert 10 <= len(refused) <= 20
    assert int(refused[0].headers["retry-after"]) >= 1
    is_refused(refused[0], 429, "rate_limited")


def graphql(instance: Instance, body: bytes, **headers: str) -> httpx2.Response:
    base = {"Authorization": f"Bearer {instance.secret_key}", "Content-Type": "application/json"}
    return httpx2.post(f"{instance.url}/graphql", content=body, headers={**base, **headers}, timeout=20)


def series(**question: Any) -> bytes:
    asked = {"metric": "events", "range": {"last": "1h"}, **question}
    text = "query($q: MetricQuery!) { series(query: $q) { columns } }"
    return json.dumps({"query": text, "variables": {"q": asked}}).encode()


DOUBLING = "{ ...f0 } " + " ".join(
    f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(19)
) + " fragment f19 on Query { __typename }"  # fmt: skip


# Twenty-three inline fragments around more aliases than are allowed: they must not hide them.
HIDDEN = "{" + "...{" * 40 + " ".join(f"a{n}: __typename" for n in range(40)) + "}" * 41


def events(**conditions: Any) -> bytes:
    text = "query($f: EventFilter) { tenant { events(filter: $f) { edges { cursor } } } }"
    return json.dumps({"query": text, "variables": {"f": conditions}}).encode()


def literal(value: str) -> bytes:
    event = f'{{type: "a", properties: {{a: {value}}}}}'
    text = f"mutation {{ ingestEvents(input: {{events: [{event}], dryRun: true}}) {{ __typename }} }}"
    return json.dumps({"query": text}).encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"1", "BAD_REQUEST"),
        (b"null", "BAD_REQUEST"),
        (b'"x"', "BAD_REQUEST"),
        (b"[]", "BATCHING_DISABLED"),
        (b"[" * 100_000, "BAD_REQUEST"),
        (b"9" * 5000, "BAD_REQUEST"),
        (b'{"query":1}', "BAD_REQUEST"),
        (b'{"query":"{__typename}","variables":[]}', "BAD_REQUEST"),
        (b'{"query":"{"}', "GRAPHQL_PARSE_FAILED"),
        (b'{"query":"{ nope }"}', "GRAPHQL_VALIDATION_FAILED"),
        (b'{"query":"{ ...a } fragment a on Query { ...a }"}', "GRAPHQL_VALIDATION_FAILED"),
        (json.dumps({"query": "{" + "".join(f"a{n}:__typename " for n in range(16)) + "}"}).encode(), "ALIAS_LIMIT"),
        (json.dumps({"query": "{" + "__typename " * 1001 + "}"}).encode(), "TOKEN_LIMIT"),
        (json.dumps({"query": DOUBLING}).encode(), "COMPLEXITY_LIMIT"),
        (json.dumps({"query": "{ tenant { events(first: 101) { edges { cursor } } } }"}).encode(), "PAGE_SIZE"),
        (json.dumps({"query": '{ tenant { events(after: "x") { edges { cursor } } } }'}).encode(), "INVALID_CURSOR"),
        (json.dumps({"query": HIDDEN}).encode(), "DEPTH_LIMIT"),
        (json.dumps({"query": "{" + "a{" * 300 + "b" + "}" * 301}).encode(), "DEPTH_LIMIT"),
        (json.dumps({"query": "{" + "n" * 70_000 + "}"}).encode(), "LENGTH_LIMIT"),
        (events(**{"from": "0001-01-01T00:00:00+14:00"}), "BAD_RANGE"),
        (events(to="9999-12-31T23:59:59-14:00"), "BAD_RANGE"),
        (events(userId="\0"), "BAD_FILTER"),
        (events(sessionId="\0"), "BAD_FILTER"),
        (events(types=["\0"]), "BAD_FILTER"),
        (literal("9" * 5000), "GRAPHQL_VALIDATION_FAILED"),
        (literal("1e999"), "GRAPHQL_VALIDATION_FAILED"),
        (
            json.dumps({"query": '{series(query:{metrik:"events",range:{last:"1h"}}){source}}'}).encode(),
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (series(timezone="localtime"), "UNKNOWN_TIMEZONE"),
        (series(metric="nope"), "UNKNOWN_METRIC"),
        (series(timezone="Mars/Base"), "UNKNOWN_TIMEZONE"),
        (series(groupBy=["password"]), "UNKNOWN_DIMENSION"),
        (series(range={"last": "yesterday"}), "BAD_RANGE"),
        (series(range={"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}), "BAD_RANGE"),
        (
            series(range={"from": "2015-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z"}, interval="MINUTE"),
            "RANGE_TOO_LARGE",
        ),
        (series(limit=0), "BAD_LIMIT"),
        (series(filters=[{"dimension": "country", "op": "GT", "values": ["1"]}]), "BAD_FILTER"),
        (series(interval="NEVER"), "BAD_USER_INPUT"),
        (
            json.dumps(
                {"query": 'subscription { series(query:{metric:"events",range:{last:"1h"}}) { seq } }'}
            ).encode(),
            "BAD_REQUEST",
        ),
    ],
)
def test_a_bad_operation_is_refused_with_its_code(instance: Instance, body: bytes, code: str) -> None:
    answer = graphql(instance, body)
    assert answer.status_code < 500, answer.text
    error = answer.json()["errors"][0]
    assert error["extensions"]["code"] == code, error
    assert error["extensions"]["requestId"] == answer.headers["x-request-id"]
    assert "Did you mean" not in error["message"]


def test_a_variable_left_out_of_properties_leaves_them_out(instance: Instance) -> None:
    text = (
        'mutation($p: JSON) { ingestEvents(input: {events: [{type: "a", properties: {a: $p, b: 1}}], dryRun: true})'
        " { ... on IngestEventsPayload { accepted } } }"
    )
    answer = graphql(instance, json.dumps({"query": text}).encode()).json()
    assert answer["data"] == {"ingestEvents": {"accepted": 1}}


def test_a_path_with_a_slash_too_much_is_not_redirected(instance: Instance) -> None:
    headers = {"Host": "evil.example"}
    is_refused(httpx2.post(f"{instance.url}/v1/events/", json=GOOD, headers=headers), 404, "not_found")


def test_graphql_wants_a_secret_key(instance: Instance) -> None:
    for header in ("", "Bearer x", f"Bearer {instance.publishable_key}"):
        answer = graphql(instance, b'{"query":"{__typename}"}', Authorization=header)
        assert answer.status_code == 401
        assert answer.json()["errors"][0]["extensions"]["code"] == "INVALID_API_KEY"
        assert answer.headers["ratelimit-limit"] == "600"


def test_queries_by_get_are_refused(instance: Instance) -> None:
    answer = httpx2.get(f"{instance.url}/graphql?query={{__typename}}")
    assert answer.status_code == 405 and answer.headers["allow"] == "POST"


def test_unknown_paths_and_methods_are_json(instance: Instance) -> None:
    is_refused(httpx2.get(f"{instance.url}/nope"), 404, "not_found")
    is_refused(httpx2.put(f"{instance.url}/v1/events"), 405, "method_not_allowed")


def test_no_traceback_was_written(instance: Instance) -> None:
    for log in (instance.data / "logs").glob("*.log"):
        assert "Traceback" not in log.read_text(errors="replace"), log.name
