"""Sign-in by a SAML provider, whole: pysaml2's own provider, a real web process, a browser's cookies; and what of the
table's rows S1 to S12 is about more than one document (docs/sso.md)."""

from __future__ import annotations

import asyncio
import base64
import re
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx2
import pytest

from core.accounts import create_tenant
from core.database import Database
from core.settings import Settings
from core.tenancy import Tenant, Tier
from tests.conftest import Servers, free_port
from tests.web.saml_documents import Answer, Signer, in_base64, make_signer
from tests.web.sso_site import Browser, Site, administrator, code_of, rows, running, running_site
from web.auth.saml_pool import QUEUE, WORKERS

CREATE = """mutation($input: CreateSignInConnectionInput!) { createSignInConnection(input: $input) { __typename
  ... on CreateSignInConnectionPayload { connection { id startUrl saml { entityId acsUrl metadataUrl
    requiresSignedResponse certificates { fingerprint } } } }
  ... on Error { message path } ... on ValidationError { reason } } }"""
SPENT = (403, "saml_in_response_to")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory, xmlsec1: str) -> Signer:
    return make_signer(tmp_path_factory.mktemp("idp") / "own", xmlsec1)


@pytest.fixture(scope="module")
def idp(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Iterator[str]:
    base = f"http://127.0.0.1:{(port := free_port())}"
    log = tmp_path_factory.mktemp("idp") / "log"
    command = [sys.executable, "tests/web/saml_idp.py", str(port), str(signer.folder), signer.xmlsec1]
    with running(command, base, log):
        yield base


@pytest.fixture(scope="module")
def site(settings: Settings, tmp_path_factory: pytest.TempPathFactory, xmlsec1: str) -> Iterator[Site]:
    with running_site(settings, tmp_path_factory.mktemp("site"), xmlsec1=xmlsec1) as running_one:
        yield running_one


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    browser = Browser()
    yield browser
    await browser.close()


@pytest.fixture
async def secret(database: Database, settings: Settings, tenant: Tenant) -> str:
    return await administrator(database, settings, tenant)


@dataclass(frozen=True, slots=True)
class Connected:
    """A tenant's connection to the provider."""

    site: Site
    idp: str
    signer: Signer
    connection: dict[str, Any]

    @property
    def acs(self) -> str:
        return str(self.connection["saml"]["acsUrl"])

    async def asked(self, browser: Browser, next_page: str = "/") -> httpx2.Response:
        """The browser on its way to the provider."""
        return await browser.get(f"{self.connection['startUrl']}&next={next_page}")

    async def form(self, browser: Browser, next_page: str = "/") -> dict[str, str]:
        """The form that the provider answers with."""
        away = await self.asked(browser, next_page)
        assert away.status_code == 303, away.text
        page = await browser.get(away.headers["location"])
        found = dict(re.findall(r'name="(SAMLResponse|RelayState)" value="([^"]*)"', page.text))
        return {name: unescape(value) for name, value in found.items()}

    async def answer(self, browser: Browser, **parts: Any) -> Answer:
        """An answer of our own making to a request of this browser."""
        away = await self.asked(browser)
        return Answer(
            signer=self.signer, idp=f"{self.idp}/metadata", audience=self.connection["saml"]["metadataUrl"],
            acs_url=self.acs, request_id=request_id(away), **parts,
        )  # fmt: skip

    async def post(self, browser: Browser, document: str) -> httpx2.Response:
        return await browser.post(self.acs, {"SAMLResponse": in_base64(document)})


def request_id(away: httpx2.Response) -> str:
    packed = parse_qs(urlsplit(away.headers["location"]).query)["SAMLRequest"][0]
    text = zlib.decompress(base64.b64decode(packed), -15).decode()
    found = re.search(r' ID="([^"]+)"', text)
    assert found
    return found[1]


async def connect(site: Site, secret: str, idp: str, signer: Signer, **changes: Any) -> Connected:
    """A connection to the provider, made by the tenant's administrator, and trusted by the provider."""
    saml = {"metadataXml": signer.metadata(f"{idp}/metadata", f"{idp}/sso"), **changes.pop("saml", {})}
    asked = {"preset": "SAML", "name": f"SAML {uuid4()}", "saml": saml, **changes}
    made = (await site.graphql(secret, CREATE, {"input": asked}))["createSignInConnection"]
    assert made["__typename"] == "CreateSignInConnectionPayload", made
    async with httpx2.AsyncClient(timeout=20) as client:
        metadata = await client.get(made["connection"]["saml"]["metadataUrl"])
        assert metadata.status_code == 200, metadata.text
        await client.post(f"{idp}/control", json={"trusted": [metadata.text]})
    return Connected(site, idp, signer, made["connection"])


async def finished(browser: Browser, site: Site, answer: httpx2.Response) -> httpx2.Response:
    assert answer.status_code == 303, answer.text
    return await browser.get(site.url + answer.headers["location"])


async def test_a_first_sign_in_makes_a_person_of_the_tenant_alone_and_a_locked_session(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str, tenant: Tenant, servers: Servers,
    settings: Settings,
) -> None:  # fmt: skip
    connected = await connect(site, secret, idp, signer)
    done = await finished(browser, site, await browser.post(connected.acs, await connected.form(browser, "/settings")))
    assert (done.status_code, done.headers["location"]) == (303, "/settings") and browser.has("cm_refresh")
    found = await rows(
        servers, settings,
        "SELECT m.role, i.issuer, i.subject, p.email, p.asserted_email, s.is_locked, s.method FROM members m "
        "JOIN people p ON p.id = m.person_id JOIN sessions s ON s.person_id = p.id "
        "JOIN sign_in_identities i ON i.person_id = p.id WHERE m.tenant_id = $1", tenant.id,
    )  # fmt: skip
    assert found == [("viewer", f"{idp}/metadata", "ada-7", None, "ada@example.com", True, "saml")]
    await finished(browser, site, await browser.post(connected.acs, await connected.form(browser)))
    assert len(await rows(servers, settings, "SELECT 1 FROM members WHERE tenant_id = $1", tenant.id)) == 1


async def test_who_is_sent_by_another_site_is_asked_before_anything_begins(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str, tenant: Tenant
) -> None:
    connected = await connect(site, secret, idp, signer)
    start = f"{connected.connection['startUrl']}&next=/dashboards/a"
    page = await browser.client.get(start, headers={"Sec-Fetch-Site": "cross-site"})
    assert page.status_code == 200 and "set-cookie" not in page.headers and tenant.slug in page.text
    (link,) = re.findall(r'<a href="([^"]+)">', page.text)
    away = await browser.client.get(site.url + unescape(link), headers={"Sec-Fetch-Site": "same-origin"})
    assert away.status_code == 303 and away.headers["location"].startswith(idp)


async def test_okta_signs_response_and_assertion_and_must(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str
) -> None:
    connected = await connect(site, secret, idp, signer, preset="OKTA_SAML")
    assert connected.connection["saml"]["requiresSignedResponse"] is True
    one = await connected.answer(browser)
    assert code_of(await connected.post(browser, one.document())) == (403, "saml_invalid_signature")
    both = replace(one, signs_response=True)
    assert (await finished(browser, site, await connected.post(browser, both.document()))).status_code == 303


async def test_entra_knows_people_by_directory_and_object(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str, tenant: Tenant, servers: Servers,
    settings: Settings,
) -> None:  # fmt: skip
    connected = await connect(site, secret, idp, signer, preset="ENTRA_SAML")
    bare = await connected.answer(browser)
    assert code_of(await connected.post(browser, bare.document())) == (403, "saml_subject")
    claims = "http://schemas.microsoft.com/identity/claims/"
    attributes = "".join(
        f'<saml:Attribute Name="{claims}{name}"><saml:AttributeValue>{value}</saml:AttributeValue></saml:Attribute>'
        for name, value in (("tenantid", "d-1"), ("objectidentifier", "o-1"), ("displayname", "Ada"))
    )
    answer = replace(bare, attributes=attributes)
    assert (await finished(browser, site, await connected.post(browser, answer.document()))).status_code == 303
    found = await rows(servers, settings, "SELECT subject FROM sign_in_identities WHERE tenant_id = $1", tenant.id)
    assert found == [("d-1/o-1",)]


# S1, S3: whose certificate.
async def test_s1_another_tenants_provider_signs_in_nobody_here(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str, database: Database, settings: Settings,
    tmp_path_factory: pytest.TempPathFactory, xmlsec1: str,
) -> None:  # fmt: skip
    """Even one that calls itself by the same name."""
    theirs = make_signer(tmp_path_factory.mktemp("theirs") / "key", xmlsec1)
    other = await create_tenant(database, slug=f"o-{uuid4()}", name="Other", tier=Tier.SELF_HOSTED)
    await connect(site, await administrator(database, settings, other), idp, theirs)
    connected = await connect(site, secret, idp, signer)
    answer = replace(await connected.answer(browser), signer=theirs)
    assert code_of(await connected.post(browser, answer.document())) == (403, "saml_invalid_signature")


async def test_s3_a_certificate_that_ended_signs_in_nobody(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str, servers: Servers, settings: Settings,
    tmp_path_factory: pytest.TempPathFactory, xmlsec1: str,
) -> None:  # fmt: skip
    old = make_signer(tmp_path_factory.mktemp("old") / "key", xmlsec1, begins=-7200, ends=-3600)
    saml = {"metadataXml": old.metadata(f"{idp}/metadata", f"{idp}/sso")}
    asked = {"preset": "SAML", "name": "Old", "saml": saml}
    made = (await site.graphql(secret, CREATE, {"input": asked}))["createSignInConnection"]
    assert (made["__typename"], made["reason"]) == ("ValidationError", "saml_invalid_metadata")
    # One that was valid when it was saved.
    connected = await connect(site, secret, idp, signer)
    answer = replace(await connected.answer(browser), signer=old)
    pins = "UPDATE sign_in_connections SET config = jsonb_set(config, '{certificates}', $1::text::jsonb) RETURNING 1"
    await rows(servers, settings, pins, f'["{old.certificate}"]')
    assert code_of(await connected.post(browser, answer.document())) == (403, "saml_invalid_signature")


# S4, S11: forms.
@pytest.mark.parametrize(
    ("form", "refused"),
    [
        ({"SAMLRequest": "x"}, (400, "saml_invalid_document")),
        ({"SAMLResponse": "%%%"}, (400, "saml_invalid_document")),
        ({"SAMLResponse": "PHNhbWw+"}, (400, "saml_invalid_document")),
        ({"SAMLResponse": in_base64("<a/>")}, SPENT),
        ({"SAMLResponse": in_base64(b"<a>" + b" " * 200_000 + b"</a>")}, (413, "saml_invalid_document")),
        ({"SAMLResponse": "A" * 400_000}, (413, "form_too_large")),
        ({f"f{n}": "" for n in range(20_000)}, (413, "form_too_large")),
    ],
)  # fmt: skip
async def test_s4_s11_forms_that_hold_no_answer_are_refused_before_anything_is_read(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str, form: dict[str, str], refused: tuple[int, str]
) -> None:
    connected = await connect(site, secret, idp, signer)
    assert code_of(await browser.post(connected.acs, form)) == refused


async def test_s4_a_document_with_an_entity_is_refused_at_the_door(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str
) -> None:
    connected = await connect(site, secret, idp, signer)
    document = (await connected.answer(browser)).document()
    bomb = '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>' + document.replace("ada-7", "&b;")
    assert code_of(await connected.post(browser, bomb)) == (400, "saml_invalid_document")


@pytest.mark.parametrize("state", ["https://evil.example/", "javascript:alert(1)", "x" * 10_000, "//evil.example"])
async def test_s11_relay_state_leads_nowhere(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str, state: str
) -> None:
    connected = await connect(site, secret, idp, signer)
    form = {**await connected.form(browser, "/questions"), "RelayState": state}
    done = await finished(browser, site, await browser.post(connected.acs, form))
    assert done.headers["location"] == "/questions"


async def test_s11_another_content_type_is_refused(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str
) -> None:
    connected = await connect(site, secret, idp, signer)
    answer = await browser.client.post(connected.acs, files={"SAMLResponse": b"PHg+"})
    assert code_of(answer) == (415, "unsupported_media_type")


# S6, S7, S8: which request, which tenant, once.
async def test_s6_s7_an_answer_for_one_tenant_is_nothing_at_another(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str, database: Database, settings: Settings
) -> None:
    other = await create_tenant(database, slug=f"o-{uuid4()}", name="Other", tier=Tier.SELF_HOSTED)
    elsewhere = await connect(site, await administrator(database, settings, other), idp, signer)
    connected = await connect(site, secret, idp, signer)
    document = (await connected.answer(browser)).document()
    assert code_of(await elsewhere.post(browser, document)) == SPENT
    theirs = replace(await connected.answer(browser), acs_url=elsewhere.acs)
    assert code_of(await connected.post(browser, theirs.document())) == (403, "saml_recipient")


async def test_s7_an_answer_that_nobody_asked_for_is_refused(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str
) -> None:
    connected = await connect(site, secret, idp, signer)
    unasked = replace(await connected.answer(browser), request_id="id-of-my-own")
    assert code_of(await connected.post(browser, unasked.document())) == SPENT
    assert code_of(await connected.post(browser, replace(unasked, in_response_to=None).document())) == SPENT


async def test_s7_a_request_is_answered_once_also_by_two_answers_at_once(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str
) -> None:
    connected = await connect(site, secret, idp, signer)
    answer = await connected.answer(browser)
    documents = [answer.document() for _ in range(4)]
    answers = await asyncio.gather(*(connected.post(browser, document) for document in documents))
    assert sorted(code_of(one)[0] for one in answers) == [303, 403, 403, 403]
    assert {code_of(one) for one in answers if one.status_code == 403} == {SPENT}


async def test_s7_an_answer_is_good_in_the_browser_that_asked_alone(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str
) -> None:
    """Login CSRF: an enemy has his own good answer posted by somebody else's browser."""
    connected = await connect(site, secret, idp, signer)
    document = (await connected.answer(browser)).document()
    victim = Browser()
    posted = await connected.post(victim, document)
    assert code_of(await finished(victim, site, posted)) == SPENT and not victim.has("cm_refresh")
    # With a cookie of its own it is no better, and the ticket is spent.
    await connected.asked(victim)
    assert code_of(await finished(victim, site, posted)) == SPENT and not victim.has("cm_refresh")
    assert code_of(await finished(browser, site, posted)) == SPENT
    await victim.close()


async def test_s7_a_request_of_ten_minutes_ago_is_not_answered(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str, servers: Servers, settings: Settings
) -> None:
    connected = await connect(site, secret, idp, signer)
    answer = await connected.answer(browser)
    await rows(servers, settings, "UPDATE sign_in_attempts SET expires_at = now() - interval '1 s' RETURNING 1")
    assert code_of(await connected.post(browser, answer.document())) == SPENT


async def test_s8_an_assertion_is_taken_once_whatever_it_is_wrapped_in(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str, servers: Servers, settings: Settings
) -> None:
    connected = await connect(site, secret, idp, signer)
    answer = await connected.answer(browser, assertion_id="a-once")
    document = answer.document()
    assert (await finished(browser, site, await connected.post(browser, document))).status_code == 303
    assert code_of(await connected.post(browser, document)) == SPENT
    # The request is awaited again, as if two had had one id: the assertion itself is known.
    kept = (
        "INSERT INTO sign_in_attempts SELECT tenant_id, 'saml', sha256($1::bytea), connection_id, ''::bytea, '/', NULL,"
        " now() + interval '1 minute' FROM saml_assertions WHERE id = sha256('a-once') RETURNING 1"
    )
    assert await rows(servers, settings, kept, answer.request_id.encode()) == [(1,)]
    assert code_of(await connected.post(browser, document)) == (403, "saml_replay")


# S10: what it says of people.
async def test_s10_no_attribute_makes_an_owner_and_only_the_tenants_rules_make_anything_else(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str, tenant: Tenant, servers: Servers,
    settings: Settings,
) -> None:  # fmt: skip
    rules = [{"attribute": "groups", "value": "Metrics Editors", "role": "EDITOR"},
             {"attribute": "groups", "value": "Metrics Admins", "role": "ADMIN"}]  # fmt: skip
    connected = await connect(site, secret, idp, signer, roleRules=rules)
    flood = [f"g{n}" for n in range(2000)]
    for groups, role in (
        (["Owner", "owner", "OWNER", "metrics admins"], "viewer"),
        (["Metrics Editors"], "editor"),
        (["Metrics Admins", "Metrics Editors"], "admin"),
        ([*flood, "Metrics Admins"], "viewer"),
        ([], "viewer"),
    ):
        values = "".join(f"<saml:AttributeValue>{group}</saml:AttributeValue>" for group in groups)
        attributes = (
            f'<saml:Attribute Name="groups">{values}</saml:Attribute>'
            '<saml:Attribute Name="role"><saml:AttributeValue>owner</saml:AttributeValue></saml:Attribute>'
        )
        answer = await connected.answer(browser, attributes=attributes)
        await finished(browser, site, await connected.post(browser, answer.document()))
        assert await rows(servers, settings, "SELECT role FROM members WHERE tenant_id = $1", tenant.id) == [(role,)]


async def test_s10_an_owners_role_is_not_the_providers_to_take(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str, tenant: Tenant, servers: Servers,
    settings: Settings,
) -> None:  # fmt: skip
    rules = [{"attribute": "groups", "value": "x", "role": "ADMIN"}]
    connected = await connect(site, secret, idp, signer, roleRules=rules)
    await finished(browser, site, await browser.post(connected.acs, await connected.form(browser)))
    await rows(servers, settings, "UPDATE members SET role = 'owner' WHERE tenant_id = $1 RETURNING 1", tenant.id)
    await finished(browser, site, await browser.post(connected.acs, await connected.form(browser)))
    assert await rows(servers, settings, "SELECT role FROM members WHERE tenant_id = $1", tenant.id) == [("owner",)]


async def test_s10_a_rule_that_would_make_owners_is_refused(site: Site, idp: str, signer: Signer, secret: str) -> None:
    saml = {"metadataXml": signer.metadata(f"{idp}/metadata", f"{idp}/sso")}
    for change in ({"defaultRole": "OWNER"}, {"roleRules": [{"attribute": "a", "value": "b", "role": "OWNER"}]}):
        asked = {"preset": "SAML", "name": "Owners", "saml": saml, **change}
        made = (await site.graphql(secret, CREATE, {"input": asked}))["createSignInConnection"]
        assert made["__typename"] == "ValidationError" and "owner" in made["message"]


# S12: many at once.
async def test_s12_a_hundred_answers_at_once_are_bounded_and_the_rest_is_told_to_come_back(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str
) -> None:
    connected = await connect(site, secret, idp, signer)
    # A document that costs both processes: all is good but the signature.
    document = (await connected.answer(browser)).document().replace("ada-7", "eve-7")
    browsers = [Browser() for _ in range(100)]
    answers = await asyncio.gather(*(connected.post(each, document) for each in browsers))
    codes = [code_of(answer) for answer in answers]
    assert set(codes) <= {(403, "saml_invalid_signature"), (503, "saml_busy")}
    assert codes.count((403, "saml_invalid_signature")) >= WORKERS
    assert codes.count((503, "saml_busy")) >= 100 - 3 * (WORKERS + QUEUE)
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
    # And then it goes on; the request was not spent by any of them.
    for each in browsers:
        await each.close()
    good = await connected.answer(browser)
    assert (await finished(browser, site, await connected.post(browser, good.document()))).status_code == 303


async def test_the_ways_to_sign_in_are_told_and_a_tenant_that_there_is_not_has_none(
    site: Site, idp: str, signer: Signer, browser: Browser, secret: str, tenant: Tenant
) -> None:
    connected = await connect(site, secret, idp, signer, name="Our Okta")
    told = (await browser.get(f"{site.url}/auth/connections/{tenant.slug}")).json()
    assert [way["name"] for way in told["connections"]] == ["Our Okta"]
    assert told["connections"][0]["url"] == connected.connection["startUrl"]
    assert (await browser.get(f"{site.url}/auth/connections/nobody")).json() == {"connections": []}
    # Our metadata is there before the provider's is; and says nothing of whether there is such a tenant.
    known, unknown = [(await browser.get(f"{site.url}/auth/saml/{slug}/metadata")).text for slug in
                      (tenant.slug, "nobody")]  # fmt: skip
    assert tenant.slug in known and known.replace(tenant.slug, "nobody") == unknown
    assert code_of(await browser.get(f"{site.url}/auth/saml/nobody/login")) == (404, "no_such_connection")


async def test_without_xmlsec1_saml_says_so(
    settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
    browser: Browser,
    idp: str,
    signer: Signer,
    secret: str,
) -> None:
    with running_site(settings, tmp_path_factory.mktemp("bare"), xmlsec1="") as bare:
        answer = await (await connect(bare, secret, idp, signer)).asked(browser)
    assert code_of(answer) == (503, "saml_unavailable") and "make services" in answer.text
