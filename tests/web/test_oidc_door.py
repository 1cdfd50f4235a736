"""Sign-in by an OpenID provider, whole: a real provider, a real web process, a browser's cookies; and every attack of
the table's rows O1 to O7 (docs/sso.md)."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx2
import pytest

from core.accounts import create_tenant
from core.database import Database
from core.invitations import invite_member
from core.members import Authority
from core.permissions import Role
from core.settings import Settings
from core.tenancy import Tenant, Tier
from tests.conftest import Servers, free_port
from tests.web.oidc_provider import CLIENT_ID, CLIENT_SECRET
from tests.web.sso_site import Browser, Site, administrator, code_of, rows, running, running_site

CREATE = """mutation($input: CreateSignInConnectionInput!) { createSignInConnection(input: $input) { __typename
  ... on CreateSignInConnectionPayload { connection { id startUrl oidc { issuer redirectUri } } }
  ... on Error { message path } ... on ValidationError { reason } } }"""
UPDATE = """mutation($input: UpdateSignInConnectionInput!) { updateSignInConnection(input: $input) { __typename
  ... on UpdateSignInConnectionPayload { connection { isEnabled } } ... on Error { message } } }"""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    base = f"http://127.0.0.1:{(port := free_port())}"
    log = tmp_path_factory.mktemp("provider") / "log"
    command = [sys.executable, "tests/web/oidc_provider.py", str(port)]
    with running(command, f"{base}/.well-known/openid-configuration", log):
        yield base


@pytest.fixture(scope="module")
def site(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(settings, tmp_path_factory.mktemp("site")) as running_one:
        yield running_one


@pytest.fixture
async def tell(provider: str) -> AsyncIterator[Any]:
    """Tells the provider what to do; what it was asked so far."""

    async def told(**what: Any) -> list[dict[str, str]]:
        async with httpx2.AsyncClient(timeout=20) as client:
            seen: list[dict[str, str]] = (await client.post(f"{provider}/control", json=what)).json()["seen"]
            return seen

    await told()
    yield told
    await told()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    browser = Browser()
    yield browser
    await browser.close()


@pytest.fixture
async def secret(database: Database, settings: Settings, tenant: Tenant) -> str:
    return await administrator(database, settings, tenant)


async def connect(site: Site, secret: str, provider: str, **changes: Any) -> dict[str, Any]:
    """A connection to the provider, made by the tenant's administrator."""
    oidc = {"issuer": provider, "clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}
    asked = {"preset": "OIDC", "name": f"OpenID {uuid4()}", "oidc": oidc, **changes}
    made = (await site.graphql(secret, CREATE, {"input": asked}))["createSignInConnection"]
    assert made["__typename"] == "CreateSignInConnectionPayload", made
    connection: dict[str, Any] = made["connection"]
    return connection


async def back_at_us(browser: Browser, connection: dict[str, Any], next_page: str = "/") -> str:
    """Through the provider, and the address at which it sends the browser back."""
    away = await browser.get(f"{connection['startUrl']}?next={next_page}")
    assert away.status_code == 303, away.text
    back = await browser.get(away.headers["location"])
    assert back.status_code == 303, back.text
    return back.headers["location"]


async def signed_in(browser: Browser, connection: dict[str, Any], next_page: str = "/") -> httpx2.Response:
    return await browser.get(await back_at_us(browser, connection, next_page))


async def test_a_first_sign_in_makes_a_person_of_the_tenant_alone_and_a_locked_session(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, tenant: Tenant, servers: Servers,
    settings: Settings,
) -> None:  # fmt: skip
    connection = await connect(site, secret, provider)
    answer = await signed_in(browser, connection, "/dashboards/abc")
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboards/abc")
    assert browser.has("cm_refresh") and not browser.has("cm_sign_in")
    found = await rows(
        servers, settings,
        "SELECT m.role, p.name, p.email, p.asserted_email, p.home_tenant_id, s.is_locked, s.method FROM members m "
        "JOIN people p ON p.id = m.person_id JOIN sessions s ON s.person_id = p.id WHERE m.tenant_id = $1", tenant.id,
    )  # fmt: skip
    assert found == [("viewer", "Ada", None, "ada@example.com", tenant.id, True, "oidc")]
    # The same again is the same person.
    assert (await signed_in(browser, connection)).status_code == 303
    assert len(await rows(servers, settings, "SELECT 1 FROM members WHERE tenant_id = $1", tenant.id)) == 1
    actions = [row[0] for row in await rows(
        servers, settings, "SELECT action FROM audit_log WHERE tenant_id = $1 ORDER BY id", tenant.id)]  # fmt: skip
    assert actions.count("member.join") == 1 and actions.count("session.open") == 2


async def test_the_refresh_cookie_becomes_an_access_token_of_that_tenant(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, tenant: Tenant
) -> None:
    connection = await connect(site, secret, provider)
    await signed_in(browser, connection)
    answer = await browser.client.post(f"{site.url}/auth/refresh", headers={"Origin": site.url})
    assert answer.status_code == 200, answer.text
    viewer = await site.graphql(answer.json()["access_token"], "{ viewer { role tenant { slug } } }")
    assert viewer["viewer"] == {"role": "VIEWER", "tenant": {"slug": tenant.slug}}


# O1: state.
@pytest.mark.parametrize("change", ["missing", "unknown", "malformed", "of another browser", "without a cookie"])
async def test_o1_a_state_that_this_browser_did_not_begin_is_refused(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, change: str
) -> None:
    place = urlsplit(await back_at_us(browser, await connect(site, secret, provider)))
    query = {name: values[0] for name, values in parse_qs(place.query).items()}
    if change in ("missing", "unknown", "malformed"):
        query["state"] = {"missing": "", "unknown": "A" * 43, "malformed": "../x"}[change]
    other = Browser()
    if change == "of another browser":
        await back_at_us(other, await connect(site, secret, provider))
    using = other if change in ("of another browser", "without a cookie") else browser
    answer = await using.client.get(f"{site.url}{place.path}", params=query)
    await other.close()
    assert code_of(answer) == (400, "invalid_state") and not using.has("cm_refresh")


async def test_o1_a_state_is_good_once_and_in_two_requests_at_once_for_one(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str
) -> None:
    place = await back_at_us(browser, await connect(site, secret, provider))
    answers = await asyncio.gather(*(browser.get(place) for _ in range(5)))
    assert sorted(code_of(answer)[0] for answer in answers) == [303, 400, 400, 400, 400]
    assert code_of(await browser.get(place)) == (400, "invalid_state")


async def test_o1_a_state_that_was_begun_ten_minutes_ago_is_too_old(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, servers: Servers, settings: Settings
) -> None:
    place = await back_at_us(browser, await connect(site, secret, provider))
    await rows(servers, settings, "UPDATE sign_in_attempts SET expires_at = now() - interval '1 s' RETURNING 1")
    assert code_of(await browser.get(place)) == (400, "invalid_state")


async def test_o1_who_is_sent_by_another_site_is_asked_before_anything_begins(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, tenant: Tenant, servers: Servers,
    settings: Settings,
) -> None:  # fmt: skip
    connection = await connect(site, secret, provider)
    start = f"{connection['startUrl']}?next=/dashboards/a?b=c"
    page = await browser.client.get(start, headers={"Sec-Fetch-Site": "cross-site"})
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "set-cookie" not in page.headers and "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert tenant.slug in page.text and tenant.name in page.text
    waiting = "SELECT 1 FROM sign_in_attempts WHERE tenant_id = $1"
    assert await rows(servers, settings, waiting, tenant.id) == []
    (link,) = re.findall(r'<a href="([^"]+)">', page.text)
    for origin in ("same-origin", "none", "same-site"):
        away = await browser.client.get(site.url + unescape(link), headers={"Sec-Fetch-Site": origin})
        assert away.status_code == 303 and away.headers["location"].startswith(provider)
    answer = await browser.get((await browser.get(away.headers["location"])).headers["location"])
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboards/a?b=c")


# O2: what the ID token says.
@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"nonce": None}, "invalid_id_token"),
        ({"nonce": "another"}, "invalid_id_token"),
        ({"aud": "another-client"}, "invalid_id_token"),
        ({"aud": []}, "invalid_id_token"),
        ({"aud": [CLIENT_ID, "another"]}, "invalid_id_token"),
        ({"azp": "another-client"}, "invalid_id_token"),
        ({"iss": "https://accounts.google.com"}, "invalid_id_token"),
        ({"exp": {"now": -61}}, "token_expired"),
        ({"exp": None}, "invalid_id_token"),
        ({"exp": "tomorrow"}, "invalid_id_token"),
        ({"iat": {"now": 3600}}, "invalid_id_token"),
        ({"iat": {"now": -3600}}, "invalid_id_token"),
        ({"nbf": {"now": 3600}}, "invalid_id_token"),
        ({"sub": None}, "invalid_id_token"),
        ({"sub": ""}, "invalid_id_token"),
        ({"sub": 7}, "invalid_id_token"),
        ({"sub": "x" * 256}, "invalid_id_token"),
    ],
)
async def test_o2_a_token_of_another_sign_in_client_issuer_or_time_is_refused(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, claims: dict[str, Any], code: str
) -> None:
    connection = await connect(site, secret, provider)
    await tell(claims=claims)
    assert code_of(await signed_in(browser, connection)) == (401, code) and not browser.has("cm_refresh")


async def test_o2_several_audiences_are_taken_where_the_token_was_asked_for_by_us(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str
) -> None:
    connection = await connect(site, secret, provider)
    await tell(claims={"aud": [CLIENT_ID, "another"], "azp": CLIENT_ID})
    assert (await signed_in(browser, connection)).status_code == 303


@pytest.mark.parametrize(
    "told",
    [
        {"signed": "by another key"},
        {"signed": "not at all"},
        {"signed": "with the public key"},
        {"header": {"alg": "RS384"}},
        {"header": {"kid": "../../x"}},
        {"header": {"kid": 7}},
        {"header": {"jwk": {"kty": "oct", "k": "eA"}}},
        {"header": {"jku": "http://127.0.0.1:1/jwks"}},
        {"header": {"x5u": "http://127.0.0.1:1/x"}},
        {"header": {"crit": ["exp"]}},
    ],
)
async def test_o2_a_token_that_the_providers_own_key_did_not_sign_is_refused(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, told: dict[str, Any]
) -> None:
    connection = await connect(site, secret, provider)
    await tell(**told)
    assert code_of(await signed_in(browser, connection)) == (401, "invalid_id_token")


# O3: PKCE.
async def test_o3_every_sign_in_has_a_challenge_of_its_own_by_s256(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str
) -> None:
    connection = await connect(site, secret, provider)
    for _ in range(2):
        await signed_in(browser, connection)
    first, second = (await tell())[-2:]
    assert first["code_challenge_method"] == second["code_challenge_method"] == "S256"
    for name in ("code_challenge", "state", "nonce"):
        assert len(first[name]) == 43 and first[name] != second[name]


async def test_o3_a_provider_without_s256_is_refused_when_it_is_saved(
    site: Site, provider: str, tell: Any, secret: str
) -> None:
    await tell(discovery={"code_challenge_methods_supported": ["plain"]})
    assert "S256" in (await refused(site, secret, {"issuer": provider}))["message"]


# O4: where it leads.
@pytest.mark.parametrize(
    "page",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/auth/logout", "/graphql",
     "/dashboards/../auth", "/%2fevil.example", "/dashboards/%0d%0aSet-Cookie:x=y", "/" + "a" * 600, "dashboards",
     "/dashboards#@evil", "/dashboards?next=//evil"],
)  # fmt: skip
async def test_o4_a_next_page_that_is_none_of_ours_is_refused(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, page: str
) -> None:
    connection = await connect(site, secret, provider)
    answer = await browser.client.get(connection["startUrl"], params={"next": page})
    assert code_of(answer) == (400, "invalid_next")


async def test_o4_the_redirect_address_is_the_connections_own_whatever_the_request_says(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str
) -> None:
    connection = await connect(site, secret, provider)
    for query in ("redirect_uri=http://localhost:80@evil.example/", "redirect_uri=https://evil.example/%23"):
        answer = await browser.client.get(
            f"{connection['startUrl']}?{query}", headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
        )
        sent = parse_qs(urlsplit(answer.headers["location"]).query)
        assert sent["redirect_uri"] == [connection["oidc"]["redirectUri"]]
        assert connection["oidc"]["redirectUri"].startswith(site.url)


# O5: codes and mix-up.
async def test_o5_a_code_that_was_used_before_is_refused(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str
) -> None:
    connection = await connect(site, secret, provider)
    used = parse_qs(urlsplit(place := await back_at_us(browser, connection)).query)["code"][0]
    assert (await browser.get(place)).status_code == 303
    await tell(answer={"code": used})
    assert code_of(await signed_in(browser, connection)) == (401, "invalid_grant")


@pytest.mark.parametrize("issuer", ["https://evil.example", ""])
async def test_o5_an_answer_that_names_another_issuer_is_refused(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, issuer: str
) -> None:
    connection = await connect(site, secret, provider)
    await tell(answer={"iss": issuer})
    assert code_of(await signed_in(browser, connection)) == (401, "issuer_mismatch")


async def test_o5_an_answer_without_issuer_is_refused_where_the_provider_always_says_it(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str
) -> None:
    place = await back_at_us(browser, await connect(site, secret, provider))
    assert code_of(await browser.get(place.replace("&iss=", "&not_iss="))) == (401, "issuer_mismatch")


async def test_o5_a_state_of_one_connection_is_nothing_at_another_of_the_same_tenant(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str
) -> None:
    one, other = await connect(site, secret, provider), await connect(site, secret, provider)
    place = urlsplit(await back_at_us(browser, one))
    elsewhere = f"{other['oidc']['redirectUri']}?{place.query}"
    assert code_of(await browser.get(elsewhere)) == (400, "invalid_state")


async def test_a_parameter_that_is_there_twice_is_refused(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str
) -> None:
    place = await back_at_us(browser, await connect(site, secret, provider))
    assert code_of(await browser.get(f"{place}&code=another")) == (400, "bad_request")


async def test_what_the_provider_refuses_is_told_without_its_words(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str
) -> None:
    place = await back_at_us(browser, await connect(site, secret, provider))
    answer = await browser.get(f"{place}&error=access_denied&error_description=<script>")
    assert code_of(answer) == (403, "sign_in_refused") and "script" not in answer.text


# O6: e-mail.
@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"email": "ada@example.com"}, 303),
        ({"email": "ADA@EXAMPLE.COM"}, 303),
        ({"email": "ada@evil.example"}, 403),
        ({"email": "ada@example.com.evil.example"}, 403),
        ({"email": "ada@evil.example@example.com", "email_verified": False}, 403),
        ({"email_verified": False}, 403),
        ({"email_verified": None}, 403),
        ({"email_verified": "true"}, 403),
        ({"email": None}, 403),
    ],
)
async def test_o6_only_verified_addresses_of_the_tenants_domains_are_taken(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, claims: dict[str, Any], status: int
) -> None:
    connection = await connect(site, secret, provider, allowedDomains=["Example.com"])
    await tell(claims=claims)
    answer = await signed_in(browser, connection)
    assert answer.status_code == status
    assert status == 303 or code_of(answer)[1] == "domain_not_allowed"


async def test_o6_an_address_that_somebody_has_here_gives_nothing_of_that_person(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, tenant: Tenant, servers: Servers,
    settings: Settings,
) -> None:  # fmt: skip
    """nOAuth: the provider's administrator writes the owner's e-mail into a profile of his own."""
    owner = uuid4()
    await rows(servers, settings, "INSERT INTO people (id, email, name) VALUES ($1, $2, 'Owner') RETURNING 1", owner,
               f"{owner}@example.com")  # fmt: skip
    await rows(servers, settings, "INSERT INTO members (tenant_id, person_id, role) VALUES ($1, $2, 'owner') "
               "RETURNING 1", tenant.id, owner)  # fmt: skip
    connection = await connect(site, secret, provider)
    await tell(claims={"email": f"{owner}@example.com", "groups": ["owner", "admin"], "role": "owner"})
    assert (await signed_in(browser, connection)).status_code == 303
    found = dict(await rows(servers, settings, "SELECT person_id, role FROM members WHERE tenant_id = $1", tenant.id))
    assert found.pop(owner) == "owner" and list(found.values()) == ["viewer"]
    assert await rows(servers, settings, "SELECT 1 FROM sessions WHERE person_id = $1", owner) == []


async def test_o6_an_asserted_address_accepts_no_invitation_to_it(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, database: Database, settings: Settings,
    servers: Servers,
) -> None:  # fmt: skip
    """Else a tenant's administrator could enter every tenant that invites anybody, as whoever that is."""
    other = await create_tenant(database, slug=f"o-{uuid4()}", name="Other", tier=Tier.SELF_HOSTED)
    invited = f"{uuid4()}@example.com"
    issued = await invite_member(database, site.settings, Authority.operator(other.id), invited, Role.ADMIN)
    await tell(claims={"email": invited})
    await signed_in(browser, await connect(site, secret, provider))
    tokens = await browser.client.post(f"{site.url}/auth/refresh", headers={"Origin": site.url})
    answer = await browser.client.post(
        f"{site.url}/auth/invitations/accept", json={"token": parse_qs(urlsplit(issued.link).query)["token"][0]},
        headers={"Authorization": f"Bearer {tokens.json()['access_token']}"},
    )  # fmt: skip
    assert code_of(answer) == (401, "invalid_token")
    assert await rows(servers, settings, "SELECT 1 FROM members WHERE tenant_id = $1", other.id) == []


async def test_o6_one_subject_is_two_people_by_two_connections_and_in_two_tenants(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, database: Database, settings: Settings,
    servers: Servers, tenant: Tenant,
) -> None:  # fmt: skip
    other = await create_tenant(database, slug=f"o-{uuid4()}", name="Other", tier=Tier.SELF_HOSTED)
    other_secret = await administrator(database, settings, other)
    for connection in (
        await connect(site, secret, provider),
        await connect(site, secret, provider),
        await connect(site, other_secret, provider),
    ):
        assert (await signed_in(browser, connection)).status_code == 303
    found = await rows(servers, settings, "SELECT tenant_id, person_id FROM members WHERE tenant_id = ANY($1)",
                       [tenant.id, other.id])  # fmt: skip
    assert len(found) == 3 and len({person for _, person in found}) == 3


# O7: the provider's own faults, and providers that are no providers.
@pytest.mark.parametrize("fault", ["slow", "broken", "huge", "redirect"])
async def test_o7_keys_that_do_not_come_are_a_503_and_not_a_wait(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, fault: str
) -> None:
    """Each fault has a fresh key, so that the kept ones do not do."""
    connection = await connect(site, secret, provider)
    place = await back_at_us(browser, connection)
    await tell(jwks=fault, rotates=True)
    answer = await browser.get(place)
    # Kept keys are used on; the new one is not among them.
    assert code_of(answer) in ((503, "provider_unavailable"), (401, "invalid_id_token"))


async def test_o7_a_key_that_was_rotated_in_the_middle_is_fetched_once(
    settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
    provider: str,
    tell: Any,
    browser: Browser,
    secret: str,
) -> None:
    with running_site(settings, tmp_path_factory.mktemp("fresh")) as site:
        connection = await connect(site, secret, provider)
        assert (await signed_in(browser, connection)).status_code == 303
        place = await back_at_us(browser, connection)
        await tell(rotates=True)
        assert (await browser.get(place)).status_code == 303


async def refused(site: Site, secret: str, oidc: dict[str, Any], **changes: Any) -> dict[str, Any]:
    given = {"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET, **oidc}
    asked = {"preset": "OIDC", "name": f"OpenID {uuid4()}", "oidc": given, **changes}
    made: dict[str, Any] = (await site.graphql(secret, CREATE, {"input": asked}))["createSignInConnection"]
    assert made["__typename"] != "CreateSignInConnectionPayload"
    return made


@pytest.mark.parametrize(
    "issuer",
    ["http://example.com", "https://[::1]/", "https://169.254.169.254/latest", "https://10.0.0.1",
     "https://0x7f000001/", "https://2130706433/", "https://user@example.com/", "file:///etc/passwd",
     "gopher://example.com/", "https://example.com:22/", "https://example.com/#x", "https://intranet/",
     "https://example.com/?a=b", "http://127.0.0.1@example.com/", "https://exa mple.com/"],
)  # fmt: skip
async def test_o7_x3_an_issuer_that_points_inside_is_refused_when_it_is_saved(
    site: Site, secret: str, issuer: str
) -> None:
    answer = await refused(site, secret, {"issuer": issuer})
    assert (answer["__typename"], answer["reason"]) == ("ValidationError", "url_not_allowed")


@pytest.mark.parametrize(
    "discovery",
    [{"token_endpoint": "http://10.0.0.1/token"}, {"jwks_uri": "file:///etc/passwd"}, {"issuer": "https://evil.example"},
     {"authorization_endpoint": "javascript:alert(1)"}, {"token_endpoint": 7}],
)  # fmt: skip
async def test_o7_a_discovery_document_that_points_elsewhere_is_refused(
    site: Site, provider: str, tell: Any, secret: str, discovery: dict[str, Any]
) -> None:
    await tell(discovery=discovery)
    answer = await refused(site, secret, {"issuer": provider})
    assert answer["__typename"] == "ValidationError" and answer["reason"] in ("url_not_allowed", "bad_provider")


async def test_a_disabled_connection_signs_nobody_in_and_ends_the_sessions_that_came_by_it(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, tenant: Tenant, servers: Servers,
    settings: Settings,
) -> None:  # fmt: skip
    connection = await connect(site, secret, provider)
    await signed_in(browser, connection)
    place = await back_at_us(browser, connection)
    await site.graphql(secret, UPDATE, {"input": {"id": connection["id"], "isEnabled": False}})
    assert code_of(await browser.get(place)) == (404, "no_such_connection")
    assert code_of(await browser.get(connection["startUrl"])) == (404, "no_such_connection")
    found = await rows(servers, settings, "SELECT revoked_reason FROM sessions WHERE tenant_id = $1", tenant.id)
    assert found == [("connection_disabled",)]


async def test_a_member_that_was_removed_does_not_come_back_by_itself(
    site: Site, provider: str, tell: Any, browser: Browser, secret: str, tenant: Tenant, servers: Servers,
    settings: Settings,
) -> None:  # fmt: skip
    connection = await connect(site, secret, provider)
    await signed_in(browser, connection)
    await rows(servers, settings, "DELETE FROM members WHERE tenant_id = $1 RETURNING 1", tenant.id)
    assert code_of(await signed_in(browser, connection)) == (403, "membership_ended")
