"""What no single request shows: heavy operations side by side, time-outs that end their SQL, masked faults, documents
that are trusted, and that a document is parsed and validated once."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from core.database import Database, as_owner
from core.errors import CloudMetricsError, DatabaseUnavailable, InvalidRequest, Misconfigured, TooMany
from core.permissions import OF_EVERYBODY, ROLE_PERMISSIONS, Permission, Role
from core.settings import Settings
from core.tenancy import PersonId, Principal, PrincipalKind, Tenant, TenantId
from schema import prepare as preparing
from schema.trusted import TrustedDocuments, TrustMode, manifest_of, sha256_of
from tests.conftest import make_key
from web import graphql_operation, heavy
from web.auth.callers import Caller
from web.auth.keys import KnownKey
from web.graphql_door import GraphQLDoor
from web.graphql_operation import Operation, prepare
from web.graphql_request import GraphQLRequest, request_of
from web.heavy import MAX_RUNNING, MAX_WAITING, HeavyOperations
from web.ingest.rest import IngestDoor
from web.services import open_services

SERIES = 'query($m: String = "events") { series(query: {metric: $m, range: {last: "1h"}}) { source } }'
TENANT = TenantId(uuid4())


@pytest.fixture
async def door(settings: Settings) -> AsyncIterator[GraphQLDoor]:
    async with open_services(settings) as services:
        yield GraphQLDoor(services, IngestDoor(services).ingest)


@pytest.fixture
async def key(database: Database, settings: Settings, tenant: Tenant) -> Caller:
    return KnownKey((await make_key(database, settings, tenant))[0], (), 0).caller()


@pytest.fixture
def person(tenant: Tenant) -> Caller:
    return Caller(Principal.of_person(tenant, PersonId(uuid4()), Role.OWNER, None), "person")


@pytest.fixture
def share_link(tenant: Tenant) -> Caller:
    permissions = OF_EVERYBODY | {Permission.METRICS_READ}
    principal = Principal(
        tenant=tenant, actor="share:1", kind=PrincipalKind.SHARE_LINK, permissions=frozenset(permissions)
    )
    return Caller(principal, "share:1")


async def operation(door: GraphQLDoor, caller: Caller, query: str | None, hash: str | None = None) -> Operation:
    return await prepare(door, caller, GraphQLRequest(query, hash=hash), None, "request")


# --- trusted documents


def trusting(door: GraphQLDoor, mode: TrustMode, *texts: str) -> None:
    door.trusted = TrustedDocuments(mode, {sha256_of(text): text for text in texts})


async def test_a_document_is_run_by_its_hash_in_either_form(door: GraphQLDoor, key: Caller) -> None:
    text = "{ tenant { slug } }"
    trusting(door, TrustMode.ON, text)
    for body in (
        {"documentId": f"sha256:{sha256_of(text)}"},
        {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": sha256_of(text)}}},
        {"query": text, "documentId": f"sha256:{sha256_of(text)}"},
    ):
        answer = await (await prepare(door, key, request_of(body), None, "request")).result()
        assert answer["data"]["tenant"]["slug"] == key.principal.tenant.slug
    assert (await (await operation(door, key, "{ viewer { actor } }")).result())["data"]


@pytest.mark.parametrize(
    ("mode", "query", "hash", "code"),
    [
        (TrustMode.OFF, None, "0" * 64, "PERSISTED_QUERY_NOT_SUPPORTED"),
        (TrustMode.ON, None, "0" * 64, "PERSISTED_QUERY_NOT_FOUND"),
        (TrustMode.ONLY, None, "0" * 64, "PERSISTED_QUERY_NOT_FOUND"),
        (TrustMode.OFF, "{ __typename }", "0" * 64, "PERSISTED_QUERY_MISMATCH"),
        (TrustMode.ON, "{ __typename }", "0" * 64, "PERSISTED_QUERY_MISMATCH"),
        (TrustMode.ONLY, "{ __typename }", None, "DOCUMENT_NOT_TRUSTED"),
        (TrustMode.ONLY, "{ __typename }", sha256_of("{ __typename }"), "DOCUMENT_NOT_TRUSTED"),
    ],
)
async def test_what_is_not_in_the_manifest_does_not_run_for_a_person(
    door: GraphQLDoor, person: Caller, mode: TrustMode, query: str | None, hash: str | None, code: str
) -> None:
    trusting(door, mode, "{ tenant { slug } }")
    with pytest.raises(InvalidRequest) as refusal:
        await operation(door, person, query, hash)
    assert refusal.value.code == code


async def test_under_only_a_person_and_a_link_run_the_manifest_and_a_key_anything(
    door: GraphQLDoor, person: Caller, share_link: Caller, key: Caller
) -> None:
    text = "{ viewer { actor } }"
    trusting(door, TrustMode.ONLY, text)
    for caller in (person, share_link):
        assert (await (await operation(door, caller, text)).result())["data"]["viewer"][
            "actor"
        ] == caller.principal.actor
        assert (await (await operation(door, caller, None, sha256_of(text))).result())["data"]
        with pytest.raises(InvalidRequest, match="Only documents of the manifest"):
            await operation(door, caller, text + " ")
    assert (await (await operation(door, key, text + " ")).result())["data"]


def test_a_manifest_is_made_of_files_and_read_back(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/a.graphql").write_text("query A { __typename }\n")
    (tmp_path / "b.graphql").write_text("query B { viewer { actor } }\n")
    manifest = manifest_of([tmp_path])
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    documents = TrustedDocuments.load(TrustMode.ONLY, str(path))
    for text in ("query A { __typename }\n", "query B { viewer { actor } }\n"):
        assert documents.text_of(None, sha256_of(text), is_browser=True) == text
    assert len(manifest) == 2


@pytest.mark.parametrize("text", ["", "[]", "{", '{"0": "{ a }"}', '{"0": 1}'])
def test_a_manifest_that_is_none_stops_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(Misconfigured):
        TrustedDocuments.load(TrustMode.ON, str(path))
    with pytest.raises(Misconfigured):
        TrustedDocuments.load(TrustMode.ON, "")
    with pytest.raises(Misconfigured, match="Syntax Error"):
        (tmp_path / "bad.graphql").write_text("{")
        manifest_of([tmp_path])


# --- introspection


async def test_a_share_link_may_not_introspect_and_others_may(
    door: GraphQLDoor, share_link: Caller, person: Caller, key: Caller
) -> None:
    for text in (
        "{ __schema { types { name } } }",
        '{ viewer { actor } __type(name: "Query") { name } }',
        "{ ...f } fragment f on Query { ... { __schema { queryType { name } } } }",
    ):
        with pytest.raises(InvalidRequest) as refusal:
            await operation(door, share_link, text)
        assert refusal.value.code == "INTROSPECTION_DISABLED"
        for caller in (person, key):
            assert "errors" not in await (await operation(door, caller, text)).result()
    assert (await (await operation(door, share_link, "{ __typename viewer { __typename } }")).result())["data"]


# --- parsed and validated once


async def test_a_document_is_parsed_and_validated_once_however_often_it_runs(
    door: GraphQLDoor, key: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"parse": 0, "validate": 0}

    def counted(name: str, of: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            counts[name] += 1
            return of(*args, **options)

        return call

    for module in (preparing, __import__("strawberry.schema.schema", fromlist=["schema"])):
        for name in counts:
            monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    for _ in range(3):
        await (await operation(door, key, "{ tenant { slug createdAt } }")).result()
    assert counts == {"parse": 1, "validate": 1}


def test_the_cache_of_documents_is_bounded_in_number_and_in_size(door: GraphQLDoor) -> None:
    for n in range(preparing.CACHE_ENTRIES + 50):
        door.documents.prepare(f"{{ __typename a{n}: __typename }}", None, {})
    assert len(door.documents._known) == preparing.CACHE_ENTRIES
    for n in range(40):
        door.documents.prepare(f"{{ __typename }} #{n}" + "x" * 15_000, None, {})
    assert sum(map(len, door.documents._known)) == door.documents._length <= preparing.MAX_CACHED_TOTAL
    door.documents.prepare("{ __typename } #" + "x" * preparing.MAX_CACHED_LENGTH, None, {})
    assert max(map(len, door.documents._known)) <= preparing.MAX_CACHED_LENGTH


# --- heavy operations


async def test_five_of_a_tenant_run_some_wait_in_turn_and_the_rest_are_refused() -> None:
    places, running, order = HeavyOperations(), 0, list[int]()
    go = asyncio.Event()

    async def one(n: int) -> None:
        nonlocal running
        async with places.place(TENANT):
            running += 1
            assert running <= MAX_RUNNING
            order.append(n)
            await go.wait()
            running -= 1

    tasks = [asyncio.create_task(one(n)) for n in range(MAX_RUNNING + MAX_WAITING + 3)]
    await asyncio.sleep(0.01)
    assert running == MAX_RUNNING and sum(task.done() for task in tasks) == 3
    async with places.place(TenantId(uuid4())):
        # Another tenant does not notice.
        pass
    go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [n for n, error in enumerate(found) if isinstance(error, TooMany)] == [25, 26, 27]
    assert order == list(range(MAX_RUNNING + MAX_WAITING)) and places._tenants == {}


async def test_who_waits_too_long_or_goes_away_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heavy, "WAIT_SECONDS", 0.05)
    places, go = HeavyOperations(), asyncio.Event()

    async def one() -> None:
        async with places.place(TENANT):
            await go.wait()

    held = [asyncio.create_task(one()) for _ in range(MAX_RUNNING)]
    await asyncio.sleep(0)
    with pytest.raises(TooMany) as refusal:
        await one()
    assert refusal.value.code == "rate_limited" and refusal.value.retry_after > 0
    waiting = [asyncio.create_task(one()) for _ in range(5)]
    await asyncio.sleep(0)
    # One is given its place and is cancelled before it knows.
    held[0].cancel()
    waiting[0].cancel()
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*held, *waiting, return_exceptions=True)
    assert places._tenants == {}
    await asyncio.wait_for(one(), 1)


async def test_twenty_heavy_queries_of_one_tenant_are_five_statements_at_once(
    door: GraphQLDoor, key: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their table is locked, so each waits in the database until its time is up; then its statement is cancelled."""
    monkeypatch.setattr(graphql_operation, "EXECUTE_SECONDS", 1.5)
    monkeypatch.setattr(heavy, "WAIT_SECONDS", 0.5)
    # Freshness, which is asked first, has other tables.
    async with as_owner(settings.owner_url) as owner, as_owner(settings.owner_url) as watcher:
        lock = owner.transaction()
        await lock.start()
        await owner.execute("LOCK TABLE rollup_1m, rollup_5m, rollup_1h, events IN ACCESS EXCLUSIVE MODE")
        # Each another question: of equal ones one is asked for all.
        asked = [SERIES.replace('last: "1h"', f'last: "{n}h"') for n in range(1, 21)]
        tasks = [asyncio.create_task(refused_or_told(operation(door, key, query))) for query in asked]
        most = 0
        while not all(task.done() for task in tasks):
            most = max(most, await waiting_statements(watcher))
            await asyncio.sleep(0.05)
        codes = [task.result() for task in tasks]
        assert most == MAX_RUNNING
        assert codes.count("TIMEOUT") == MAX_RUNNING and codes.count("rate_limited") == 15, codes
        async with asyncio.timeout(5):
            while await waiting_statements(watcher):
                await asyncio.sleep(0.05)
        await lock.rollback()
    assert await refused_or_told(operation(door, key, SERIES)) == "answered"


async def waiting_statements(watcher: Any) -> int:
    """Connections that wait for a lock in this database."""
    return int(
        await watcher.fetchval(
            "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    )


async def answered(asked: Awaitable[Operation]) -> dict[str, Any]:
    return await (await asked).result()


async def refused_or_told(asked: Awaitable[Operation]) -> str:
    try:
        await (await asked).result()
    except CloudMetricsError as error:
        return error.code
    return "answered"


# --- faults of ours


async def test_a_hundred_faults_at_once_tell_nothing_but_the_request(
    door: GraphQLDoor, key: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="web.graphql")

    async def fail(*args: object) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("SELECT secret FROM api_keys; password=hunter2 /etc/cloudmetrics")

    engine = door._backends.engine
    monkeypatch.setattr(type(engine), "answer", fail)
    monkeypatch.setattr(heavy, "MAX_RUNNING", 200)
    prepared = [
        await prepare(door, key, GraphQLRequest(SERIES, {"m": f"m{n}"}), None, f"request-{n}") for n in range(100)
    ]
    answers = await asyncio.gather(*(operation.result() for operation in prepared))
    for n, answer in enumerate(answers):
        (error,) = answer["errors"]
        assert error["extensions"] == {"code": "INTERNAL", "requestId": f"request-{n}"}
        text = json.dumps(answer)
        assert "secret" not in text and "hunter2" not in text and "RuntimeError" not in text


async def test_the_database_away_is_an_error_with_its_code(
    door: GraphQLDoor, key: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: object) -> None:
        raise DatabaseUnavailable(retry_after=2.0)

    monkeypatch.setattr(type(door._backends.engine), "answer", away)
    (error,) = (await (await operation(door, key, SERIES)).result())["errors"]
    assert error["extensions"]["code"] == "DATABASE_UNAVAILABLE" and error["extensions"]["retryAfter"] == 2.0


async def test_a_caller_is_what_it_was_when_it_asked(door: GraphQLDoor, person: Caller) -> None:
    """Each operation is given a caller that was looked up for it: a role that is lowered holds from the next one on."""
    before = await operation(door, person, "{ tenant { deadLetters { edges { cursor } } } }")
    lowered = dataclasses.replace(person.principal, role=Role.VIEWER, permissions=ROLE_PERMISSIONS[Role.VIEWER])
    after = await operation(door, Caller(lowered, "person"), "{ tenant { deadLetters { edges { cursor } } } }")
    assert "errors" not in await before.result()
    assert (await after.result())["errors"][0]["extensions"]["code"] == "PERMISSION_DENIED"
