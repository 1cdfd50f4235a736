"""What a token is worth from one moment to the next: revoked, removed, lowered, moved, rotated; and its sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from core.accounts import create_tenant
from core.database import Database, Session, as_owner
from core.errors import DatabaseUnavailable, PermissionDenied, Unauthenticated
from core.people import put_member
from core.permissions import Role
from core.sessions import OpenedSession, open_session, revoke_sessions
from core.settings import Settings
from core.signing_keys import list_signing_keys, rotate_signing_key, signing_key, states_of
from core.tenancy import Tenant, Tier
from core.tokens import issue, new_key
from tests.conftest import PASSWORD, make_key, make_person
from tests.web.conftest import Client, RunningWeb
from web.auth import look_ups
from web.auth import sessions as ring_module
from web.auth.sessions import SessionRing

ME = "{ viewer { role person { email } tenant { slug } } }"
SESSIONS = (
    "{ viewer { sessions(first: 50) { totalCount edges { node "
    "{ id method address agent isLocked isCurrent tenantSlug createdAt lastUsedAt expiresAt } } } } }"
)
TENANTS = "{ viewer { tenants { totalCount edges { node { slug name role since isCurrent } } } } }"
# What P23 allows a request, and half as much again for a busy machine.
REFUSED_WITHIN = 7.5
CLOSED_WITHIN = 30.0


def codes(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["extensions"]["code"]


async def until(is_so: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not await is_so():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.1)


async def mutate(client: Client, token: str, field: str, fields: str, **given: Any) -> dict[str, Any]:
    kind = field[0].upper() + field[1:]
    query = (
        f"mutation($input: {kind}Input!) {{ {field}(input: $input) {{ __typename ... on {kind}Payload {{ {fields} }} "
        "... on Error { code message path } } }"
    )
    data = await client.data(token, query, input=given)
    found: dict[str, Any] = data[field]
    return found


@asynccontextmanager
async def socket_of(web: RunningWeb, token: str) -> AsyncIterator[ClientConnection]:
    url = web.url.replace("http", "ws", 1) + "/graphql"
    async with connect(url, subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]
        payload = {"authorization": f"Bearer {token}"}
        await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
        yield socket


async def closed_with(socket: ClientConnection) -> int:
    """The code that the server closes with."""
    try:
        async with asyncio.timeout(CLOSED_WITHIN):
            while True:
                await socket.recv()
    except ConnectionClosed as closed:
        assert closed.rcvd is not None
        return closed.rcvd.code


async def test_a_revoked_session_is_refused_and_its_socket_closed(
    web: RunningWeb, client: Client, database: Database, tenant: Tenant
) -> None:
    person = await make_person(database, tenant)
    mine, other = await client.login(person.email), await client.login(person.email)
    async with socket_of(web, other["access_token"]) as socket:
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        listed = (await client.data(mine["access_token"], SESSIONS))["viewer"]["sessions"]
        assert listed["totalCount"] == 2
        nodes = [edge["node"] for edge in listed["edges"]]
        assert [node["isCurrent"] for node in nodes].count(True) == 1
        gone = next(node for node in nodes if not node["isCurrent"])
        assert (gone["method"], gone["address"], gone["tenantSlug"]) == ("password", client.address, tenant.slug)
        done = await mutate(client, mine["access_token"], "revokeSession", "id", id=gone["id"])
        assert done == {"__typename": "RevokeSessionPayload", "id": gone["id"]}

        async def is_refused() -> bool:
            answer = await client.ask(other["access_token"], ME)
            return answer.status_code == 401 and codes(answer)[1] == "SESSION_REVOKED"

        await until(is_refused, REFUSED_WITHIN, "a revoked session is still answered")
        assert await closed_with(socket) == 4403
    answer = await client.post("/auth/refresh", {"refresh_token": other["refresh_token"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "session_revoked")
    assert (await client.ask(mine["access_token"], ME)).status_code == 200
    again = await mutate(client, mine["access_token"], "revokeSession", "id", id=gone["id"])
    assert again["__typename"] == "NotFound"


async def test_nobody_sees_or_ends_anothers_session(client: Client, database: Database, tenant: Tenant) -> None:
    one, other = await make_person(database, tenant, role=Role.OWNER), await make_person(database, tenant)
    mine, theirs = await client.login(one.email), await client.login(other.email)
    query = "query($id: ID!) { node(id: $id) { id } }"
    listed = (await client.data(theirs["access_token"], SESSIONS))["viewer"]["sessions"]["edges"]
    id = listed[0]["node"]["id"]
    assert (await client.data(theirs["access_token"], query, id=id))["node"] == {"id": id}
    assert (await client.data(mine["access_token"], query, id=id))["node"] is None
    refused = await mutate(client, mine["access_token"], "revokeSession", "id", id=id)
    unknown = await mutate(client, mine["access_token"], "revokeSession", "id", id="U2Vzc2lvbjp4")
    assert refused == unknown and refused["__typename"] == "NotFound"
    assert (await client.ask(theirs["access_token"], ME)).status_code == 200


async def test_the_others_end_and_this_one_only_if_it_is_said(
    client: Client, database: Database, tenant: Tenant
) -> None:
    person = await make_person(database, tenant)
    tokens = [(await client.login(person.email)) for _ in range(3)]
    mine = tokens[0]["access_token"]
    assert (await mutate(client, mine, "revokeOtherSessions", "endedSessions"))["endedSessions"] == 2
    for signed_in in tokens[1:]:
        answer = await client.post("/auth/refresh", {"refresh_token": signed_in["refresh_token"]})
        assert answer.json()["error"]["code"] == "session_revoked"
    ended = await mutate(client, mine, "revokeOtherSessions", "endedSessions", includeCurrent=True)
    assert ended["endedSessions"] == 1


async def test_another_password_asks_for_the_one_before_it_and_ends_the_other_sessions(
    client: Client, database: Database, tenant: Tenant, superuser_url: str
) -> None:
    person = await make_person(database, tenant)
    mine, other = await client.login(person.email), await client.login(person.email)
    token, fresh = mine["access_token"], "seven purple anchors drift"

    async def change(current: str, new: str) -> dict[str, Any]:
        given = {"currentPassword": current, "newPassword": new}
        return await mutate(client, token, "changePassword", "endedSessions", **given)

    for current, new, path in (
        ("wrong", fresh, "currentPassword"),
        (PASSWORD, "short", "newPassword"),
        (PASSWORD, "Password1234!", "newPassword"),
        (PASSWORD, "lovelace-and-more", "newPassword"),
        (PASSWORD, PASSWORD, "newPassword"),
    ):
        refused = await change(current, new)
        assert (refused["__typename"], refused["path"]) == ("ValidationError", ["input", path]), new
    assert await change(PASSWORD, fresh) == {"__typename": "ChangePasswordPayload", "endedSessions": 1}
    answer = await client.post("/auth/refresh", {"refresh_token": other["refresh_token"]})
    assert answer.json()["error"]["code"] == "session_revoked"
    assert (await client.post("/auth/refresh", {"refresh_token": mine["refresh_token"]})).status_code == 200
    await client.login(person.email, fresh)
    refused_login = await client.post("/auth/login", {"email": person.email, "password": PASSWORD})
    assert refused_login.status_code == 401
    async with as_owner(superuser_url) as connection:
        rows = await connection.fetch(
            "SELECT action, diff FROM audit_log WHERE actor = $1 ORDER BY at, id", f"person:{person.id}"
        )
    actions = [row["action"] for row in rows]
    assert actions == ["session.open", "session.open", "person.change_password", "session.revoke", "session.open"]
    assert PASSWORD not in str(rows) and fresh not in str(rows)


async def test_guessing_ones_own_password_with_a_stolen_token_is_slowed(
    client: Client, database: Database, tenant: Tenant
) -> None:
    person = await make_person(database, tenant)
    token = (await client.login(person.email))["access_token"]
    kinds = []
    for n in range(12):
        given = {"currentPassword": f"guess {n}", "newPassword": "seven purple anchors drift"}
        kinds.append((await mutate(client, token, "changePassword", "endedSessions", **given))["__typename"])
    assert kinds[0] == "ValidationError" and "LimitReached" in kinds


async def test_a_person_renames_itself_and_the_trail_tells_both_names(
    client: Client, database: Database, tenant: Tenant, superuser_url: str
) -> None:
    person = await make_person(database, tenant)
    token = (await client.login(person.email))["access_token"]
    done = await mutate(client, token, "updateProfile", "person { name email }", name="  Grace Hopper ")
    assert done["person"] == {"name": "Grace Hopper", "email": person.email}
    for name in ("", "   ", "x" * 201, "a\nb"):
        refused = await mutate(client, token, "updateProfile", "person { name }", name=name)
        assert (refused["__typename"], refused["path"]) == ("ValidationError", ["input", "name"])
    async with as_owner(superuser_url) as connection:
        diff = await connection.fetchval(
            "SELECT diff FROM audit_log WHERE subject = $1 AND action = 'person.update'", str(person.id)
        )
    assert json.loads(diff) == {"name": [person.name, "Grace Hopper"]}


async def test_a_person_switches_tenants_and_the_stale_token_is_refused(
    client: Client, database: Database, tenant: Tenant
) -> None:
    other = await create_tenant(database, slug=f"other-{uuid4().hex[:8]}", name="Other", tier=Tier.FREE)
    strange = await create_tenant(database, slug=f"strange-{uuid4().hex[:8]}", name="", tier=Tier.FREE)
    person = await make_person(database, tenant, role=Role.ADMIN)
    async with database.as_tenant(other.id, is_write=True) as session:
        await put_member(session, other.id, person.id, Role.VIEWER)
    before = await client.login(person.email, tenant=tenant.slug)
    token = before["access_token"]
    listed = (await client.data(token, TENANTS))["viewer"]["tenants"]
    nodes = {edge["node"]["slug"]: edge["node"] for edge in listed["edges"]}
    assert nodes.keys() == {tenant.slug, other.slug} and listed["totalCount"] == 2
    assert nodes[tenant.slug]["isCurrent"] and not nodes[other.slug]["isCurrent"]

    for slug in (strange.slug, "no-such", "../x"):
        refused = await mutate(client, token, "switchTenant", "accessToken", slug=slug)
        assert refused["__typename"] == "NotFound"
    moved = await mutate(client, token, "switchTenant", "accessToken expiresIn tenant { slug role }", slug=other.slug)
    assert moved["tenant"] == {"slug": other.slug, "role": "VIEWER"} and moved["expiresIn"] == 600
    viewer = (await client.data(moved["accessToken"], ME))["viewer"]
    assert viewer["tenant"]["slug"] == other.slug and viewer["role"] == "VIEWER"

    async def is_refused() -> bool:
        return codes_or_none(await client.ask(token, ME)) == (403, "TENANT_SWITCHED")

    await until(is_refused, REFUSED_WITHIN, "the token of the tenant that was left is still answered")
    # It does not disturb the one that is good, and refreshing goes on where the session is.
    assert (await client.ask(moved["accessToken"], ME)).status_code == 200
    again = (await client.post("/auth/refresh", {"refresh_token": before["refresh_token"]})).json()
    assert again["tenant"]["slug"] == other.slug


def codes_or_none(answer: httpx2.Response) -> tuple[int, str] | None:
    return codes(answer) if answer.status_code != 200 else None


async def locked(settings: Settings, database: Database, tenant: Tenant, person_id: Any) -> OpenedSession:
    return await open_session(
        database, settings, person_id=person_id, tenant_id=tenant.id, method="saml", address="192.0.2.1", agent="x",
        locked=True,
    )  # fmt: skip


async def test_who_vouches_for_a_person_in_one_tenant_learns_nothing_of_its_others(
    web: RunningWeb, client: Client, database: Database, tenant: Tenant
) -> None:
    other = await create_tenant(database, slug=f"other-{uuid4().hex[:8]}", name="Other", tier=Tier.FREE)
    person = await make_person(database, tenant, other)
    elsewhere = await client.login(person.email, tenant=other.slug)
    session = await locked(web.settings, database, tenant, person.id)
    token = session.access_token
    listed = (await client.data(token, TENANTS))["viewer"]["tenants"]
    assert [edge["node"]["slug"] for edge in listed["edges"]] == [tenant.slug] and listed["totalCount"] == 1
    seen = (await client.data(token, SESSIONS))["viewer"]["sessions"]
    assert [edge["node"]["tenantSlug"] for edge in seen["edges"]] == [tenant.slug] and seen["totalCount"] == 1
    assert seen["edges"][0]["node"]["isLocked"]
    refreshed = await client.post("/auth/refresh", {"refresh_token": session.refresh_token})
    assert [one["slug"] for one in refreshed.json()["tenants"]] == [tenant.slug]
    refused = await mutate(client, token, "switchTenant", "accessToken", slug=other.slug)
    assert refused["__typename"] == "PermissionDenied"
    assert (await mutate(client, token, "updateProfile", "person { name }", name="M"))["__typename"] == (
        "PermissionDenied"
    )
    theirs = (await client.data(elsewhere["access_token"], SESSIONS))["viewer"]["sessions"]["edges"]
    current = next(edge["node"]["id"] for edge in theirs if edge["node"]["isCurrent"])
    assert (await mutate(client, token, "revokeSession", "id", id=current))["__typename"] == "NotFound"
    ended = await mutate(client, token, "revokeOtherSessions", "endedSessions", includeCurrent=True)
    assert ended["endedSessions"] == 1
    assert (await client.ask(elsewhere["access_token"], ME)).status_code == 200


async def test_a_key_is_no_person(client: Client, database: Database, settings: Settings, tenant: Tenant) -> None:
    _, secret = await make_key(database, settings, tenant)
    viewer = await client.data(
        secret, "{ viewer { person { email } sessions { edges { cursor } } tenants { edges { cursor } } } }"
    )
    assert viewer["viewer"] == {"person": None, "sessions": {"edges": []}, "tenants": {"edges": []}}
    refused = await mutate(client, secret, "revokeOtherSessions", "endedSessions")
    assert refused["__typename"] == "PermissionDenied"


@pytest.mark.parametrize("change", ["removed", "lowered"])
async def test_a_removed_member_and_a_lowered_role_are_known_everywhere_in_time(
    web: RunningWeb, client: Client, database: Database, tenant: Tenant, superuser_url: str, change: str
) -> None:
    person = await make_person(database, tenant, role=Role.ADMIN)
    signed_in = await client.login(person.email)
    token = signed_in["access_token"]
    # The list is an administrator's; a viewer is refused it.
    letters = "{ tenant { deadLetters { edges { cursor } } } }"
    async with socket_of(web, token) as socket:
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        assert "errors" not in (await client.ask(token, letters)).json()
        text = (
            "DELETE FROM members WHERE person_id = $1"
            if change == "removed"
            else "UPDATE members SET role = 'viewer' WHERE person_id = $1"
        )
        async with as_owner(superuser_url) as connection:
            await connection.execute(text, person.id)

        async def is_refused() -> bool:
            answer = (await client.ask(token, letters)).json()
            return "errors" in answer and answer["errors"][0]["extensions"]["code"] in (
                "NOT_A_MEMBER", "PERMISSION_DENIED",
            )  # fmt: skip

        await until(is_refused, REFUSED_WITHIN, "the change is not known")
        assert await closed_with(socket) == 4403
    answer = await client.post("/auth/refresh", {"refresh_token": signed_in["refresh_token"]})
    assert answer.status_code == (401 if change == "removed" else 200)


async def test_a_token_that_expires_on_a_living_socket_closes_it_and_no_new_one_opens_with_it(
    web: RunningWeb, client: Client, database: Database, tenant: Tenant
) -> None:
    person = await make_person(database, tenant)
    session = await open_session(
        database, web.settings, person_id=person.id, tenant_id=tenant.id, method="password", address="", agent="",
        locked=False,
    )  # fmt: skip
    key = await signing_key(database, web.settings.master_key_bytes())
    who = {"person_id": person.id, "session_id": session.session_id, "tenant_id": tenant.id}
    soon = issue(key, issuer=web.url, now=int(time.time()) - 598, **who)  # type: ignore[arg-type]
    async with socket_of(web, soon) as socket:
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        assert await closed_with(socket) == 4401
    expired = issue(key, issuer=web.url, now=int(time.time()) - 661, **who)  # type: ignore[arg-type]
    assert codes(await client.ask(expired, ME)) == (401, "TOKEN_EXPIRED")
    async with socket_of(web, expired) as socket:
        assert await closed_with(socket) == 4401


@pytest.mark.parametrize("token", ["e30.e30.e30", "x" * 9000, "a.b.c", "..", "cm_rt_" + "A" * 64, "Bearer x", "é.b.c"])
async def test_what_is_no_access_token_is_refused_on_both_doors(web: RunningWeb, client: Client, token: str) -> None:
    raw = f"Bearer {token}".encode("latin-1")
    headers = {"Authorization": raw.decode("latin-1"), "X-Forwarded-For": client.address}
    answer = await client.http.post(
        f"{client.url}/graphql", json={"query": ME}, headers=httpx2.Headers(headers, encoding="latin-1")
    )
    assert answer.status_code == 401 and codes(answer)[1] in ("INVALID_TOKEN", "INVALID_API_KEY")
    async with socket_of(web, token) as socket:
        assert await closed_with(socket) == 4401


async def test_a_refresh_token_is_no_access_token_and_the_other_way_round(
    client: Client, database: Database, tenant: Tenant
) -> None:
    person = await make_person(database, tenant)
    signed_in = await client.login(person.email)
    assert (await client.ask(signed_in["refresh_token"], ME)).status_code == 401
    answer = await client.post("/auth/refresh", {"refresh_token": signed_in["access_token"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_token")


async def test_each_person_has_a_bucket_of_requests_of_its_own(client: Client, database: Database) -> None:
    free = await create_tenant(database, slug=f"free-{uuid4().hex[:8]}", name="", tier=Tier.FREE)
    busy, other = await make_person(database, free), await make_person(database, free)
    one, two = await client.login(busy.email), await client.login(other.email)
    answer = await client.ask(one["access_token"], ME)
    for _ in range(150):
        answer = await client.ask(one["access_token"], ME)
        if answer.status_code == 429:
            break
    assert answer.status_code == 429 and answer.headers["ratelimit-limit"] == "100"
    assert (await client.ask(two["access_token"], ME)).status_code == 200


async def test_keys_are_published_without_their_secret_and_followed_with_an_overlap(
    web: RunningWeb, client: Client, database: Database, tenant: Tenant, superuser_url: str
) -> None:
    person = await make_person(database, tenant)
    first = (await client.login(person.email))["access_token"]

    async def published() -> set[str]:
        answer = await client.http.get(f"{client.url}/.well-known/jwks.json")
        assert answer.status_code == 200 and "max-age=300" in answer.headers["cache-control"]
        keys = answer.json()["keys"]
        for key in keys:
            assert set(key) == {"kty", "kid", "use", "alg", "n", "e"}
            assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")
        return {key["kid"] for key in keys}

    (old,) = await published()
    fresh = await rotate_signing_key(database, web.settings.master_key_bytes())

    async def are_both() -> bool:
        return await published() == {old, fresh}

    await until(are_both, REFUSED_WITHIN, "the new key is not published")
    keys = await list_signing_keys(database)
    assert states_of(keys, datetime.now(UTC)) == {fresh: "waiting", old: "signing"}
    assert (await signing_key(database, web.settings.master_key_bytes())).kid == old

    async with as_owner(superuser_url) as connection:
        # Its time has come.
        await connection.execute("UPDATE signing_keys SET signs_from = now() WHERE kid = $1", fresh)
    assert states_of(await list_signing_keys(database), datetime.now(UTC)) == {fresh: "signing", old: "retiring"}
    second = (await client.login(person.email))["access_token"]
    for token in (first, second):
        assert (await client.ask(token, ME)).status_code == 200

    last = await rotate_signing_key(database, web.settings.master_key_bytes(), at_once=True)

    async def is_the_last() -> bool:
        return await published() == {last}

    await until(is_the_last, REFUSED_WITHIN, "keys that were taken out are still published")
    for token in (first, second):
        assert codes(await client.ask(token, ME)) == (401, "INVALID_TOKEN")
    third = (await client.login(person.email))["access_token"]
    assert (await client.ask(third, ME)).status_code == 200


class Sometimes(Database):
    """A database that can be away."""

    is_away = False

    @asynccontextmanager
    async def as_doorkeeper(self, *, is_write: bool = False) -> AsyncIterator[Session]:
        if self.is_away:
            raise DatabaseUnavailable(retry_after=2.0)
        async with super().as_doorkeeper(is_write=is_write) as session:
            yield session


async def test_while_the_database_is_away_who_was_seen_goes_on_and_nobody_else(
    settings: Settings, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "FRESH_SECONDS", 0.0)
    database = Sometimes(settings, pool_size=2)
    try:
        person = await make_person(database, tenant, role=Role.EDITOR)
        seen = await locked(settings, database, tenant, person.id)
        unseen = await locked(settings, database, tenant, person.id)
        ring = SessionRing(database, settings.public_base)
        caller = await ring.by_token(seen.access_token)
        assert caller.principal.role is Role.EDITOR
        database.is_away = True
        assert (await ring.by_token(seen.access_token)).principal == caller.principal
        with monkeypatch.context() as later, pytest.raises(DatabaseUnavailable):
            later.setattr(look_ups, "UNCONFIRMED_SECONDS", 0.0)
            await ring.by_token(seen.access_token)
        with pytest.raises(DatabaseUnavailable):
            await ring.by_token(unseen.access_token)
        with pytest.raises(DatabaseUnavailable):
            await SessionRing(database, settings.public_base).by_token(seen.access_token)
        database.is_away = False
        async with database.as_doorkeeper(is_write=True) as session:
            await revoke_sessions(session, person_id=person.id, reason="test")
        with pytest.raises(Unauthenticated):
            await ring.by_token(seen.access_token)
    finally:
        await database.close()


class Stuck(Database):
    """A database that answers nobody once it is stuck, and tells that somebody asked."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, pool_size=2)
        self.is_stuck = False
        self.was_asked, self.go_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def as_doorkeeper(self, *, is_write: bool = False) -> AsyncIterator[Session]:
        if self.is_stuck:
            self.was_asked.set()
            await self.go_on.wait()
        async with super().as_doorkeeper(is_write=is_write) as session:
            yield session


async def test_a_made_up_key_makes_nobody_wait_who_is_signed_in(
    settings: Settings, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FRESH_SECONDS", "LOOK_UP_SECONDS"):
        monkeypatch.setattr(ring_module, name, 600.0)
    database = Stuck(settings)
    try:
        person = await make_person(database, tenant)
        opened = await locked(settings, database, tenant, person.id)
        ring = SessionRing(database, settings.public_base)
        await ring.by_token(opened.access_token)
        who = {"person_id": person.id, "session_id": opened.session_id, "tenant_id": tenant.id}
        made_up = issue(new_key(), issuer=settings.public_base, now=int(time.time()), **who)  # type: ignore[arg-type]
        database.is_stuck = True
        stranger = asyncio.create_task(ring.by_token(made_up))
        await database.was_asked.wait()
        signed_in = asyncio.create_task(ring.by_token(opened.access_token))
        await asyncio.wait({signed_in}, timeout=10)
        assert signed_in.done() and not stranger.done()
        assert (await signed_in).principal.person_id == person.id
        database.go_on.set()
        with pytest.raises(Unauthenticated):
            await stranger
    finally:
        database.go_on.set()
        await database.close()


async def test_a_token_of_one_person_does_not_open_the_session_of_another(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    """Nobody can make such a token but us; what is looked up is still what counts."""
    one, other = await make_person(database, tenant), await make_person(database, tenant)
    session = await locked(settings, database, tenant, one.id)
    key = await signing_key(database, settings.master_key_bytes())
    ring = SessionRing(database, settings.public_base)
    elsewhere = await create_tenant(database, slug=f"else-{uuid4().hex[:8]}", name="", tier=Tier.FREE)
    now, issuer = int(time.time()), settings.public_base
    forged = issue(key, issuer=issuer, now=now, person_id=other.id, session_id=session.session_id, tenant_id=tenant.id)
    with pytest.raises(Unauthenticated):
        await ring.by_token(forged)
    forged = issue(key, issuer=issuer, now=now, person_id=one.id, session_id=session.session_id, tenant_id=elsewhere.id)
    with pytest.raises(PermissionDenied):
        await ring.by_token(forged)
