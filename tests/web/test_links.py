"""Invitations and password resets over HTTP: pages, forms, JSON, and what is refused."""

from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser
from urllib.parse import urlencode

import httpx2
import pytest

from core.accounts import create_tenant
from core.attempts import ADDRESS_A_MINUTE
from core.database import Database
from core.invitations import invite_member
from core.members import Authority, list_members
from core.outbox import list_messages
from core.permissions import Role
from core.settings import Settings
from core.tenancy import Tenant, Tier
from tests.conftest import PASSWORD, make_person
from tests.core.people_builder import make_tenant
from tests.web.conftest import Client, RunningWeb
from tests.web.test_sign_in import code_of

NEW_PASSWORD = "nine herons cross 2 fields"
FORM = "application/x-www-form-urlencoded"


async def link_for(database: Database, web: RunningWeb, tenant: Tenant, email: str, role: Role = Role.EDITOR) -> str:
    issued = await invite_member(database, web.settings, Authority.operator(tenant.id), email, role)
    return issued.link


def token_in(text: str) -> str:
    return re.findall(r"cm_(?:inv|rst)_[A-Za-z0-9_-]{43}", text)[0]


async def reset_token(database: Database, settings: Settings, email: str) -> str:
    every = await list_messages(database, settings.master_key_bytes(), tenant_id=None, has_all=True, most=1000)
    return next(token_in(message.text) for message in every if message.recipient == email and "cm_rst" in message.text)


async def get(client: Client, url: str) -> httpx2.Response:
    return await client.http.get(url, headers={"X-Forwarded-For": client.address})


async def submit(client: Client, path: str, **fields: str) -> httpx2.Response:
    headers = {"X-Forwarded-For": client.address, "Content-Type": FORM, "Origin": "null"}
    return await client.http.post(client.url + path, content=urlencode(fields), headers=headers)


class Page(HTMLParser):
    """What matters of a page: its form, its inputs by name, and whatever would make a request."""

    def __init__(self, answer: httpx2.Response) -> None:
        super().__init__()
        self.action = ""
        self.inputs: dict[str, dict[str, str | None]] = {}
        self.labels: set[str | None] = set()
        self.tags: list[str] = []
        self.outward: list[str] = []
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.outward += [value for name, value in attrs if name in ("src", "href", "style") or name.startswith("on")]  # type: ignore[misc]
        if tag == "form":
            self.action = given["action"] or ""
        if tag == "input":
            self.inputs[given["name"] or ""] = given
        if tag == "label":
            self.labels.add(given.get("for"))


async def test_an_invitations_page_is_a_form_that_needs_no_script_and_leaks_nothing(
    client: Client, web: RunningWeb, database: Database, tenant: Tenant
) -> None:
    link = await link_for(database, web, tenant, "page1@example.com")
    answer = await get(client, link)
    page = Page(answer)
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert (page.action, page.inputs["token"]["value"]) == ("/auth/invitations/accept", token_in(link))
    assert page.labels == {"name", "password"} and page.inputs["password"]["autocomplete"] == "current-password"
    assert page.outward == ["/auth/password/forgot"] and not {"script", "img", "link", "iframe"} & set(page.tags)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer" and answer.headers["cache-control"] == "no-store"
    # Mail filters look at links; that changes nothing.
    assert (await get(client, link)).status_code == 200


async def test_an_invitations_page_is_the_same_whether_its_address_has_an_account(
    client: Client, web: RunningWeb, database: Database, tenant: Tenant
) -> None:
    other = await make_tenant(database, f"with-account-{tenant.slug}")
    person = await make_person(database, other, email="same2b@example.com")
    pages = []
    for email in ("same2a@example.com", person.email):
        link = await link_for(database, web, tenant, email)
        answer = await get(client, link)
        pages.append(answer.text.replace(token_in(link), "").replace(email, ""))
    assert pages[0] == pages[1]


async def test_by_its_form_a_new_person_joins_and_can_sign_in(
    client: Client, web: RunningWeb, database: Database, tenant: Tenant
) -> None:
    link = await link_for(database, web, tenant, "form3@example.com")
    weak = await submit(client, "/auth/invitations/accept", token=token_in(link), name="A <b>", password="short")
    page = Page(weak)
    assert weak.status_code == 400 and page.inputs["password"]["aria-invalid"] == "true" and 'role="alert"' in weak.text
    assert page.inputs["name"]["value"] == "A <b>" and "value" not in page.inputs["password"]
    done = await submit(client, "/auth/invitations/accept", token=token_in(link), name="A <b>", password=NEW_PASSWORD)
    assert done.status_code == 200 and "You are a member now, as editor." in done.text
    signed_in = await client.login("form3@example.com", NEW_PASSWORD)
    assert signed_in["tenant"]["slug"] == tenant.slug
    again = await submit(client, "/auth/invitations/accept", token=token_in(link), name="A", password=NEW_PASSWORD)
    assert again.status_code == 400 and "This link is not good" in again.text


async def test_a_tenants_name_is_text_on_the_page(client: Client, web: RunningWeb, database: Database) -> None:
    nasty = await create_tenant(database, slug="nasty4", name='"><script>alert(1)</script>', tier=Tier.SELF_HOSTED)
    answer = await get(client, await link_for(database, web, nasty, "nasty4@example.com"))
    assert "<script" not in answer.text and "&lt;script&gt;" in answer.text


async def test_over_json_and_by_password_or_access_token_for_who_has_an_account(
    client: Client, web: RunningWeb, database: Database, tenant: Tenant
) -> None:
    first, second = [await make_tenant(database, f"{n}-{tenant.slug}") for n in ("first", "second")]
    person, other = await make_person(database, tenant), await make_person(database, tenant)
    token = token_in(await link_for(database, web, first, person.email))
    wrong = await client.post("/auth/invitations/accept", {"token": token, "name": "X", "password": NEW_PASSWORD})
    assert (wrong.status_code, code_of(wrong)) == (401, "wrong_password")
    done = await client.post("/auth/invitations/accept", {"token": token, "password": PASSWORD})
    assert (done.status_code, done.json()) == (200, {
        "tenant": {"slug": first.slug, "name": first.name, "role": "editor"}, "email": person.email,
    })  # fmt: skip

    token = token_in(await link_for(database, web, second, person.email))
    strangers = (await client.login(other.email))["access_token"]
    refused = await client.post("/auth/invitations/accept", {"token": token}, Authorization=f"Bearer {strangers}")
    assert (refused.status_code, code_of(refused)) == (403, "other_address")
    own = (await client.login(person.email))["access_token"]
    done = await client.post("/auth/invitations/accept", {"token": token}, Authorization=f"Bearer {own}")
    assert done.json()["tenant"]["slug"] == second.slug
    assert {t["slug"] for t in (await client.login(person.email))["tenants"]} == {tenant.slug, first.slug, second.slug}


@pytest.mark.parametrize("authorization", ["Bearer nonsense", "Bearer a.b.c", "Basic YTpi", ""])
async def test_a_credential_that_is_none_is_refused_and_not_passed_over(
    client: Client, web: RunningWeb, database: Database, tenant: Tenant, authorization: str
) -> None:
    link = await link_for(database, web, tenant, f"auth6{len(authorization)}@example.com")
    body = {"token": token_in(link), "name": "New", "password": NEW_PASSWORD}
    answer = await client.post("/auth/invitations/accept", body, Authorization=authorization)
    assert answer.status_code == 401


async def test_an_invitation_of_tenant_a_is_good_for_nothing_in_tenant_b(
    client: Client, web: RunningWeb, database: Database, tenant: Tenant
) -> None:
    """T12: the tenant is the invitation's, whatever a request adds; and its id names nothing elsewhere."""
    other = await make_tenant(database, f"b-{tenant.slug}")
    admin = await make_person(database, other, role=Role.OWNER)
    token = token_in(await link_for(database, web, tenant, "t12@example.com", Role.ADMIN))
    body = {"token": token, "name": "New", "password": NEW_PASSWORD}
    for more in ({"tenant": other.slug}, {"tenant_id": str(other.id)}, {"role": "owner"}):
        refused = await client.post("/auth/invitations/accept", {**body, **more})
        assert (refused.status_code, code_of(refused)) == (400, "invalid_body")
    in_b = (await client.login(admin.email))["access_token"]
    refused = await client.post("/auth/invitations/accept", {"token": token}, Authorization=f"Bearer {in_b}")
    assert (refused.status_code, code_of(refused)) == (403, "other_address")
    done = await client.post(f"/auth/invitations/accept?tenant={other.slug}", body)
    assert done.json()["tenant"]["slug"] == tenant.slug
    members_of_b = await list_members(database, other.id, most=10, search="", after=None)
    assert [member.email for member in members_of_b] == [admin.email]
    signed_in = await client.login("t12@example.com", NEW_PASSWORD)
    refused = await client.post(
        "/auth/login", {"email": "t12@example.com", "password": NEW_PASSWORD, "tenant": other.slug}
    )
    assert refused.status_code == 403 and signed_in["tenant"]["role"] == "admin"


async def test_a_forgotten_password_is_set_by_the_link_and_every_session_ends(
    client: Client, web: RunningWeb, database: Database, tenant: Tenant
) -> None:
    person = await make_person(database, tenant)
    before = await client.login(person.email)
    asked = await client.post("/auth/password/forgot", {"email": person.email})
    nobody = await client.post("/auth/password/forgot", {"email": "nobody8@example.com"})
    assert asked.status_code == nobody.status_code == 202 and asked.text == nobody.text
    assert set(asked.headers) == set(nobody.headers)

    token = await reset_token(database, web.settings, person.email)
    page = Page(await get(client, f"{client.url}/auth/reset?token={token}"))
    assert (page.action, page.inputs["password"]["autocomplete"]) == ("/auth/password/reset", "new-password")
    weak = await client.post("/auth/password/reset", {"token": token, "password": "short"})
    assert (weak.status_code, weak.json()["error"]["field"]) == (400, "password")
    done = await client.post("/auth/password/reset", {"token": token, "password": NEW_PASSWORD})
    assert done.status_code == 204
    again = await client.post("/auth/password/reset", {"token": token, "password": NEW_PASSWORD})
    assert (again.status_code, code_of(again)) == (400, "invalid_link")
    refused = await client.post("/auth/refresh", {"refresh_token": before["refresh_token"]})
    assert (refused.status_code, code_of(refused)) == (401, "session_revoked")
    old = await client.post("/auth/login", {"email": person.email, "password": PASSWORD})
    assert old.status_code == 401
    await client.login(person.email, NEW_PASSWORD)


async def test_the_pages_of_a_forgotten_password_work_without_script(
    client: Client, web: RunningWeb, database: Database, tenant: Tenant
) -> None:
    person = await make_person(database, tenant)
    page = Page(await get(client, f"{client.url}/auth/password/forgot"))
    assert page.labels == {"email"} and page.action == "/auth/password/forgot"
    bad = await submit(client, page.action, email="nonsense")
    assert bad.status_code == 400 and Page(bad).inputs["email"]["aria-invalid"] == "true"
    asked = await submit(client, page.action, email=person.email)
    assert asked.status_code == 202 and "on its way" in asked.text
    token = await reset_token(database, web.settings, person.email)
    weak = await submit(client, "/auth/password/reset", token=token, password="short")
    assert weak.status_code == 400 and Page(weak).inputs["token"]["value"] == token
    done = await submit(client, "/auth/password/reset", token=token, password=NEW_PASSWORD)
    assert done.status_code == 200 and "Your password is changed" in done.text
    dead = await get(client, f"{client.url}/auth/reset?token={token}")
    assert dead.status_code == 400 and "This link is not good" in dead.text


@pytest.mark.parametrize("path", ["/auth/invitations/accept", "/auth/password/forgot", "/auth/password/reset"])
@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"1", "application/json", 400),
        (b'{"token": 5, "email": 5, "password": 5}', "application/json", 400),
        (b'{"token": "\xff"}', "application/json", 400),
        (b"[" * 10_000, "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "multipart/form-data", 415),
        (b"x" * 20_000, "application/json", 413),
        (b"token=%ff&email=%ff&password=%ff", FORM, 400),
        (b"a=1&" * 5_000, FORM, 413),
        (b"a=1&" * 50, FORM, 400),
        (b"token\x00=%00&email=%00&password=%00", FORM, 400),
        (b"", FORM, 400),
        (b'{"token": "cm_inv_\\u0000", "email": "a@b.c\\u0000", "password": "\\ud800"}', "application/json", 400),
    ],
)
async def test_what_is_no_request_is_refused_by_name(
    client: Client, path: str, body: bytes, media: str, status: int
) -> None:
    headers = {"X-Forwarded-For": client.address, "Content-Type": media}
    answer = await client.http.post(client.url + path, content=body, headers=headers)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("path", ["/auth/invitation", "/auth/reset"])
@pytest.mark.parametrize(
    "token", ["", "x", "cm_inv_" + "A" * 43, "cm_rst_" + "A" * 43, "%00", "%ff", "A" * 5000, "<script>"]
)
async def test_a_page_of_no_link_says_so_and_repeats_nothing(client: Client, path: str, token: str) -> None:
    answer = await get(client, f"{client.url}{path}?token={token}")
    assert answer.status_code == 400 and "This link is not good" in answer.text
    assert "<script" not in answer.text and (len(token) < 7 or token not in answer.text)


async def test_attempts_are_counted_by_address_and_on_an_account_with_those_of_sign_in(
    client: Client, web: RunningWeb, database: Database, tenant: Tenant
) -> None:
    person = await make_person(database, await make_tenant(database, f"flood-{tenant.slug}"))
    token = token_in(await link_for(database, web, tenant, person.email))

    async def guess(n: int) -> httpx2.Response:
        headers = {"X-Forwarded-For": f"198.51.100.{n}"}
        body = {"token": token, "password": f"wrong but long enough {n}"}
        return await client.http.post(f"{client.url}/auth/invitations/accept", json=body, headers=headers)

    answers = await asyncio.gather(*(guess(n) for n in range(20)))
    assert sorted({answer.status_code for answer in answers}) == [401, 429]
    login = await client.post("/auth/login", {"email": person.email, "password": PASSWORD})
    assert (login.status_code, code_of(login)) == (429, "too_many_attempts")
    asked = [
        await client.post("/auth/password/forgot", {"email": "x@example.com"}) for _ in range(ADDRESS_A_MINUTE + 1)
    ]
    assert asked[-1].status_code == 429 and asked[-1].headers["retry-after"]
