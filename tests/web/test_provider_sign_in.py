"""What sign-in by OpenID and by SAML share, by itself: counting, pages, parameters, the cookie."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request

from core.database import Database
from core.errors import InvalidRequest, PermissionDenied, TooMany
from core.identities import recognise
from core.members import Authority
from core.ratelimit import RateLimiter
from core.settings import Settings
from core.sign_in_connections import OidcConfig, create_connection, new_connection, update_connection
from core.sign_in_rules import Preset, Vouched
from core.tenancy import Tenant
from tests.conftest import Servers
from tests.web.sso_site import rows
from web.auth.provider_sign_in import ProviderSignIn, checked_next, parameters_of


def request(query: str = "", peer: str = "198.51.100.9", cookie: str = "") -> Request:
    headers = [(b"cookie", cookie.encode())] if cookie else []
    return Request({"type": "http", "method": "GET", "path": "/", "query_string": query.encode(), "headers": headers,
                    "client": (peer, 1), "state": {"request_id": "request-1"}})  # fmt: skip


@pytest.fixture
async def limiter(settings: Settings) -> AsyncIterator[RateLimiter]:
    limiter = RateLimiter(settings.redis_url)
    yield limiter
    await limiter.close()


def sign_in(settings: Settings, limiter: Any = None) -> ProviderSignIn:
    services: Any = SimpleNamespace(settings=settings, limiter=limiter)
    return ProviderSignIn(services)


async def test_steps_are_counted_by_network_and_kind(settings: Settings, limiter: RateLimiter) -> None:
    steps = sign_in(settings, limiter)
    for n in range(3):
        await steps.take(request(peer=f"2001:db8::{n}"), "test", 3)
    with pytest.raises(TooMany) as refusal:
        await steps.take(request(peer="2001:db8::ffff"), "test", 3)
    assert refusal.value.retry_after > 0
    await steps.take(request(peer="2001:db8:0:1::1"), "test", 3)
    await steps.take(request(peer="2001:db8::1"), "other", 3)


@pytest.mark.parametrize(
    "page", ["/", "/?a=b", "/dashboards", "/dashboards/", "/dashboards/a-1/x_2", "/settings?t=a.b"]
)
def test_pages_of_ours_are_led_to(page: str) -> None:
    assert checked_next(page) == page


@pytest.mark.parametrize("page", ["", "//", "/\\x", "https://x", "/auth/logout", "/v1/events", "/dashboards//x",
                                  "/dashboards/..", "/?next=//x", "/\n", "/settings\n", "/?" + "a" * 512])  # fmt: skip
def test_o4_nothing_else_is(page: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        checked_next(page)
    assert refusal.value.code == "invalid_next"


def test_a_parameter_is_there_once_and_unknown_ones_are_left() -> None:
    assert parameters_of(request("a=1&b=2&c="), {"a", "c"}) == {"a": "1", "c": ""}
    assert parameters_of(request("a=1&b=1&b=2"), {"a"}) == {"a": "1"}
    for query in ("a=1&a=1", "a=" + "x" * 9000):
        with pytest.raises(InvalidRequest):
            parameters_of(request(query), {"a"})


async def test_no_session_is_left_by_a_connection_that_was_disabled_meanwhile(
    database: Database, settings: Settings, tenant: Tenant, servers: Servers
) -> None:
    config = OidcConfig("https://login.example.com", "us")
    made = new_connection(tenant, preset=Preset.OIDC, name="Ours", config=config, now=datetime.now(UTC))
    operator = Authority.operator(tenant.id)
    connection = await create_connection(database, operator, made)
    steps = ProviderSignIn(cast(Any, SimpleNamespace(settings=settings, database=database)))
    vouched = Vouched(config.issuer, "ada-7", None, False, "Ada", {})
    async with database.as_tenant(tenant.id, is_write=True) as session:
        person_id = await recognise(session, operator.author, connection, vouched)
    assert (await steps.finished(request(), connection, person_id, "/")).status_code == 303
    await update_connection(database, operator, connection.id, lambda before: replace(before, is_enabled=False))
    with pytest.raises(PermissionDenied) as refusal:
        await steps.finished(request(), connection, person_id, "/")
    assert refusal.value.code == "connection_disabled"
    reasons = await rows(servers, settings, "SELECT revoked_reason FROM sessions WHERE tenant_id = $1", tenant.id)
    assert reasons == [("connection_disabled",)] * 2


def test_o1_over_https_the_cookie_is_one_that_no_neighbour_can_set() -> None:
    secure = sign_in(Settings(public_url="https://cm.example"))
    header = secure.sent_to("https://idp.example/", "b" * 43).headers["set-cookie"]
    assert header.startswith("__Host-cm_sign_in=") and "Domain" not in header
    for part in ("HttpOnly", "Secure", "SameSite=lax", "Path=/", "Max-Age=600"):
        assert part in header
    assert secure.browser_of(request(cookie=f"__Host-cm_sign_in={'b' * 43}")) == "b" * 43
    for cookie in (f"cm_sign_in={'b' * 43}", "__Host-cm_sign_in=short", "__Host-cm_sign_in=" + "b" * 5000, ""):
        assert secure.browser_of(request(cookie=cookie)) == ""
