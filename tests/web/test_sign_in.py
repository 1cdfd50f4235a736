"""Signing in over HTTP: tokens, cookies, refusals, floods."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from starlette.responses import Response

from core.accounts import create_tenant
from core.attempts import ACCOUNT_A_MINUTE, ADDRESS_A_MINUTE
from core.database import Database, as_owner
from core.permissions import Role
from core.settings import Settings
from core.tenancy import Tenant, Tier
from core.topics import bucket_key
from core.valkey import open_valkey
from tests.conftest import PASSWORD, make_person
from tests.web.conftest import Client, RunningWeb
from web.auth.cookies import dropped, put_refresh_token

VIEWER = "{ viewer { kind role actor permissions person { name email } tenant { slug } } }"


def code_of(answer: httpx2.Response) -> str:
    error = answer.json()["error"]
    assert error["message"] and error["request_id"] == answer.headers["x-request-id"]
    return str(error["code"])


async def test_a_person_signs_in_and_is_who_asks(client: Client, database: Database, tenant: Tenant) -> None:
    person = await make_person(database, tenant, role=Role.EDITOR)
    signed_in = await client.login(person.email.upper())
    assert set(signed_in) == {"access_token", "token_type", "expires_in", "refresh_token", "tenant", "tenants"}
    assert (signed_in["token_type"], signed_in["expires_in"]) == ("Bearer", 600)
    assert signed_in["tenant"] == {"slug": tenant.slug, "name": tenant.name, "role": "editor"}
    viewer = (await client.data(signed_in["access_token"], VIEWER))["viewer"]
    assert viewer["person"] == {"name": person.name, "email": person.email}
    assert (viewer["kind"], viewer["role"], viewer["actor"]) == ("PERSON", "EDITOR", f"person:{person.id}")
    assert viewer["tenant"] == {"slug": tenant.slug}
    assert "questions:write" in viewer["permissions"] and "members:write" not in viewer["permissions"]


async def test_what_is_wrong_is_told_nowhere(client: Client, database: Database, tenant: Tenant) -> None:
    person = await make_person(database, tenant)
    nobody = await client.post("/auth/login", {"email": "nobody@people.example", "password": PASSWORD})
    wrong = await client.post("/auth/login", {"email": person.email, "password": PASSWORD + "!"})
    over_long = await client.post("/auth/login", {"email": person.email, "password": "x" * 5000})
    for answer in (nobody, wrong, over_long):
        assert (answer.status_code, code_of(answer)) == (401, "invalid_credentials")
        assert {**answer.json()["error"], "request_id": ""} == {**wrong.json()["error"], "request_id": ""}
        assert answer.headers.keys() == wrong.headers.keys()


async def test_a_tenant_may_be_chosen_else_it_is_the_last_used(
    client: Client, database: Database, tenant: Tenant
) -> None:
    other = await create_tenant(database, slug=f"other-{uuid4().hex[:8]}", name="Other", tier=Tier.FREE)
    strange = await create_tenant(database, slug=f"strange-{uuid4().hex[:8]}", name="", tier=Tier.FREE)
    person = await make_person(database, tenant, other)
    first = await client.login(person.email)
    assert first["tenant"]["slug"] == tenant.slug
    assert {one["slug"] for one in first["tenants"]} == {tenant.slug, other.slug}
    assert (await client.login(person.email, tenant=other.slug))["tenant"]["slug"] == other.slug
    assert (await client.login(person.email))["tenant"]["slug"] == other.slug
    for slug in (strange.slug, "no-such-tenant"):
        answer = await client.post("/auth/login", {"email": person.email, "password": PASSWORD, "tenant": slug})
        assert (answer.status_code, code_of(answer)) == (403, "not_a_member")
        assert slug not in answer.text


async def test_a_person_of_no_tenant_is_told_so_only_with_the_right_password(
    client: Client, database: Database
) -> None:
    person = await make_person(database)
    answer = await client.post("/auth/login", {"email": person.email, "password": PASSWORD})
    assert (answer.status_code, code_of(answer)) == (403, "no_tenant")
    answer = await client.post("/auth/login", {"email": person.email, "password": "wrong"})
    assert code_of(answer) == "invalid_credentials"


async def test_a_hash_of_lesser_cost_is_replaced_when_its_person_signs_in(
    client: Client, database: Database, tenant: Tenant, superuser_url: str
) -> None:
    person = await make_person(database, tenant)
    await client.login(person.email)
    async with as_owner(superuser_url) as connection:
        kept = await connection.fetchval("SELECT password_hash FROM people WHERE id = $1", person.id)
    assert person.password_hash and ",t=1," in person.password_hash and "m=47104,t=2,p=1" in kept
    await client.login(person.email)


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "invalid_body", None),
        ({"email": "a@b.example"}, "invalid_body", None),
        ({"email": 1, "password": "x"}, "invalid_body", "email"),
        ({"email": "a@b.example", "password": ["x"]}, "invalid_body", "password"),
        ({"email": "a@b.example", "password": "x", "admin": True}, "invalid_body", None),
        ({"email": "nonsense", "password": "x"}, "bad_email", "email"),
        ({"email": "a@b", "password": "x"}, "bad_email", "email"),
        ({"email": "a\r\nBcc: c@d.example@b.example", "password": "x"}, "bad_email", "email"),
        ({"email": "ä@b.example", "password": "x"}, "bad_email", "email"),
        ({"email": "a" * 300 + "@b.example", "password": "x"}, "bad_email", "email"),
        ([], "invalid_body", None),
        ("x", "invalid_body", None),
        (5, "invalid_body", None),
    ],
)
async def test_a_body_of_another_shape_is_refused_with_its_field(
    client: Client, body: Any, code: str, field: str | None
) -> None:
    answer = await client.post("/auth/login", body)
    assert (answer.status_code, code_of(answer), answer.json()["error"].get("field")) == (400, code, field)


@pytest.mark.parametrize("path", ["/auth/login", "/auth/refresh", "/auth/logout"])
async def test_what_is_no_small_json_body_is_refused(client: Client, path: str) -> None:
    async def code(content: bytes, **headers: str) -> tuple[int, str]:
        given = {"Content-Type": "application/json", "X-Forwarded-For": client.address, **headers}
        answer = await client.http.post(client.url + path, content=content, headers=given)
        return answer.status_code, code_of(answer)

    for content in (b"{", b"\xff\xfe{}", b'{"refresh_token":"\xff"}', b'{"email":"\\ud800","password":"x"}', b"NaN"):
        assert (await code(content))[0] == 400
    for content in (b"[" * 5000, b'{"refresh_token":' * 900, b'{"email":' + b"[" * 5000):
        assert (await code(content))[0] == 400
    assert await code(b"{") == (400, "invalid_json")
    assert await code(b" " * 20_000) == (413, "body_too_large")
    assert await code(b"email=a", **{"Content-Type": "application/x-www-form-urlencoded"}) == (
        415,
        "unsupported_media_type",
    )
    get = await client.http.get(client.url + path)
    assert get.status_code == 405 and get.headers["allow"] == "POST"


async def test_a_browser_gets_its_refresh_token_in_a_cookie_that_no_script_reads(
    client: Client, database: Database, tenant: Tenant
) -> None:
    person = await make_person(database, tenant)
    body = {"email": person.email, "password": PASSWORD}
    answer = await client.post("/auth/login", body, Origin=client.url, Sec_Fetch_Site="same-origin")
    assert answer.status_code == 200 and "refresh_token" not in answer.json()
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("cm_refresh=cm_rt_")
    assert {"HttpOnly", "Path=/auth", "SameSite=strict"} <= set(cookie.split("; ")) and "Secure" not in cookie
    assert answer.headers["cache-control"] == "no-store"

    # The client keeps cookies, as a browser does.
    second = await client.post("/auth/refresh", Origin=client.url)
    assert second.status_code == 200 and "refresh_token" not in second.json()
    assert second.headers["set-cookie"] != cookie
    assert (await client.ask(second.json()["access_token"], VIEWER)).status_code == 200

    out = await client.post("/auth/logout", Origin=client.url)
    assert out.status_code == 204 and "Max-Age=0" in out.headers["set-cookie"]
    assert (await client.post("/auth/refresh", Origin=client.url)).status_code == 401


@pytest.mark.parametrize("path", ["/auth/login", "/auth/refresh", "/auth/logout"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://user@127.0.0.1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
async def test_another_sites_page_is_refused_and_ends_nothing(
    client: Client, database: Database, tenant: Tenant, path: str, headers: dict[str, str]
) -> None:
    person = await make_person(database, tenant)
    body = {"email": person.email, "password": PASSWORD}
    await client.post("/auth/login", body, Origin=client.url)
    refused = await client.post(path, body if path.endswith("login") else None, **headers)
    assert (refused.status_code, code_of(refused)) == (403, "cross_site")
    assert "access-control-allow-origin" not in refused.headers
    assert (await client.post("/auth/refresh", Origin=client.url)).status_code == 200


def test_over_https_the_cookie_is_sent_over_nothing_else(settings: Settings) -> None:
    secure = dataclasses.replace(settings, public_url="https://cm.example")
    response = Response()
    put_refresh_token(response, secure, "cm_rt_x", datetime.now(UTC) + timedelta(days=1))
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("__Secure-cm_refresh=cm_rt_x;") and "; Secure" in cookie
    assert dropped(secure).startswith("__Secure-cm_refresh=;") and "; Secure" in dropped(secure)


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_flood_on_an_account_is_slowed_and_its_person_still_gets_in_from_where_it_works(
    client: Client, database: Database, tenant: Tenant, is_known: bool
) -> None:
    person = await make_person(database, tenant)
    assert await client.login(person.email)
    email = person.email if is_known else "nobody-at-all@people.example"

    async def guess() -> httpx2.Response:
        # Each from an address of its own, as a botnet does.
        stranger = Client(client.url, client.http)
        return await stranger.post("/auth/login", {"email": email, "password": "guess"})

    answers = await asyncio.gather(*(guess() for _ in range(3 * ACCOUNT_A_MINUTE)))
    slowed = [answer for answer in answers if answer.status_code == 429]
    assert len(slowed) >= ACCOUNT_A_MINUTE
    assert {code_of(answer) for answer in slowed} == {"too_many_attempts"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in slowed)
    assert {answer.status_code for answer in answers} <= {401, 429, 503}
    assert await client.login(person.email)


async def test_a_flood_from_an_address_is_slowed_and_good_sign_ins_do_not_help_it(
    client: Client, database: Database, tenant: Tenant
) -> None:
    person = await make_person(database, tenant)

    async def strike(email: str) -> int:
        return (await client.post("/auth/login", {"email": email, "password": PASSWORD})).status_code

    assert await strike(person.email) == 200
    # Cheap ones and all at once, so that the bucket is emptied faster than it fills.
    seen = await asyncio.gather(*(strike("none") for _ in range(2 * ADDRESS_A_MINUTE)))
    assert seen.count(429) >= ADDRESS_A_MINUTE // 2
    assert {"ratelimit-limit", "ratelimit-remaining"} <= (
        await Client(client.url, client.http).post("/auth/login", {"email": "a@b.example", "password": "x"})
    ).headers.keys()


async def test_a_flood_of_sign_ins_does_not_keep_others_from_their_queries(
    client: Client, database: Database, tenant: Tenant
) -> None:
    """Most are told to come back while the hashing is busy; whoever is signed in asks on meanwhile."""
    person = await make_person(database, tenant)
    token = (await client.login(person.email))["access_token"]

    async def strike(n: int) -> int:
        stranger = Client(client.url, client.http)
        body = {"email": f"flood-{n}@people.example", "password": "guess"}
        return (await stranger.post("/auth/login", body)).status_code

    flood = asyncio.gather(*(strike(n) for n in range(90)))
    answered = 0
    while not flood.done():
        assert (await client.ask(token, VIEWER)).status_code == 200
        answered += 1
    statuses = await flood
    assert set(statuses) == {401, 503} and answered >= 5


async def test_refreshing_gives_the_same_shape_and_a_reuse_ends_the_session(
    client: Client, database: Database, tenant: Tenant, superuser_url: str
) -> None:
    person = await make_person(database, tenant)
    first = await client.login(person.email)
    second = (await client.post("/auth/refresh", {"refresh_token": first["refresh_token"]})).json()
    assert second.keys() == first.keys() and second["tenant"] == first["tenant"]
    third = (await client.post("/auth/refresh", {"refresh_token": second["refresh_token"]})).json()
    stolen = await client.post("/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert (stolen.status_code, code_of(stolen)) == (401, "session_revoked")
    after = await client.post("/auth/refresh", {"refresh_token": third["refresh_token"]})
    assert (after.status_code, code_of(after)) == (401, "session_revoked")
    async with as_owner(superuser_url) as connection:
        row = await connection.fetchrow(
            "SELECT * FROM audit_log WHERE actor = $1 AND action = 'session.revoke'", f"person:{person.id}"
        )
    assert row["tenant_id"] == tenant.id and "token_reused" in row["diff"] and client.address in row["diff"]
    assert row["request_id"] == stolen.headers["x-request-id"]


async def test_a_flood_of_refresh_tokens_is_refused_before_the_database_is_asked(
    web: RunningWeb, client: Client, database: Database, tenant: Tenant, superuser_url: str
) -> None:
    person = await make_person(database, tenant)
    token = (await client.login(person.email))["refresh_token"]
    valkey = open_valkey(web.settings.redis_url, seconds=5.0)
    try:
        for path in ("/auth/refresh", "/auth/logout"):
            # As after a flood: there is nothing in the address's bucket, until it is looked at.
            emptied = {"tokens": "-6000", "at": str((await valkey.time())[0])}
            await valkey.hset(bucket_key(f"tokens:address:{client.address}"), mapping=emptied)
            answer = await client.post(path, {"refresh_token": token})
            assert (answer.status_code, code_of(answer)) == (429, "rate_limited")
            assert int(answer.headers["retry-after"]) >= 1
    finally:
        await valkey.aclose()
    async with as_owner(superuser_url) as connection:
        row = await connection.fetchrow("SELECT rotated_at, revoked_at FROM sessions WHERE person_id = $1", person.id)
    assert (row["rotated_at"], row["revoked_at"]) == (None, None)
    elsewhere = await Client(client.url, client.http).post("/auth/refresh", {"refresh_token": token})
    assert elsewhere.status_code == 200


@pytest.mark.parametrize("body", [{}, {"refresh_token": ""}, {"refresh_token": "x" * 10_000}, None])
async def test_refreshing_without_a_good_token_is_refused(client: Client, body: Any) -> None:
    answer = await client.post("/auth/refresh", body)
    assert (answer.status_code, code_of(answer)) == (401, "invalid_token")
    assert (await client.post("/auth/logout", body)).status_code == 204


async def test_no_secret_of_a_sign_in_is_logged(
    web: RunningWeb, client: Client, database: Database, tenant: Tenant
) -> None:
    person = await make_person(database, tenant)
    signed_in = await client.login(person.email)
    await client.post("/auth/login", {"email": person.email, "password": "a-wrong-password-here"})
    text = web.log.read_text()
    assert "sign-in refused" in text and str(person.id) in text
    for secret in (PASSWORD, "a-wrong-password-here", signed_in["refresh_token"], signed_in["access_token"]):
        assert secret not in text
